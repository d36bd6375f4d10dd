"""What each station's screen shows: core holds the session, the page only follows."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.core.views import Screen
from gateway.rules.answers import Answer

SHOWS_S: Final = {
    "redeemed": 8.0, "refused": 8.0, "collected": 6.0, "staged": 6.0, "collecting": 60.0, "staging": 60.0, "pending": 6.0,
    "recognised": 6.0, "joined": 6.0, "not_joined": 4.0, "consent_withdrawn": 6.0,
}  # fmt: skip
TILL_S: Final = 60.0  # until a cashier has scanned the screen
ASKING_S: Final = 90.0  # time to take out a phone, scan the screen and hold the pass before the reader


class Stations:
    """All screens. Results go back to the attract screen by themselves."""

    def __init__(self, names: list[str], changed: Callable[[], None]) -> None:
        self._screens = {name: Screen(station=name, number=0, state="attract") for name in names}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changed = changed

    def screen(self, station: str) -> Screen:
        """What it shows now.

        Raises:
            KeyError: No such station.
        """
        return self._screens[station]

    def all(self) -> list[Screen]:
        """Every screen."""
        return list(self._screens.values())

    def show(self, station: str, answer: Answer) -> None:
        """Show a decision for as long as it takes to read; a station nobody configured shows nothing."""
        if station not in self._screens:
            return
        shows_s = ASKING_S if answer.asking else TILL_S if answer.till_code else SHOWS_S.get(answer.decision, 8.0)
        shows_s = max(shows_s, answer.consent.for_s) if answer.consent is not None else shows_s
        self._put(station, answer.decision, answer, shows_s)
        self._timers[station] = asyncio.get_running_loop().call_later(shows_s, self._put, station, "attract", None, 0.0)

    def _put(self, station: str, state: str, answer: Answer | None, shows_s: float) -> None:
        timer = self._timers.pop(station, None)
        if timer is not None:
            timer.cancel()
        number = self._screens[station].number + 1
        self._screens[station] = Screen(station=station, number=number, state=state, answer=answer, shows_s=shows_s)
        self._changed()
