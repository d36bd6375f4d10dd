"""What a verdict does: the intent that is written with it, and after its commit the screen it is shown on and the door it opens.

A door is opened by a pulse, and a pulse needs an intent on the disk; so an intent is decided here, committed with the verdict it
belongs to, and pulsed only then. What cannot be reached, such as a locker whose driver is away, is refused before anything is written.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.clock import Clock
from gateway.config import StationTable
from gateway.core.binding import Binding
from gateway.core.judge import Judge
from gateway.core.lockers import Lockers
from gateway.core.showing import Showing
from gateway.core.stations import Stations
from gateway.core.verdict import Asked, Verdict
from gateway.events import CodePresented, ParcelCollected
from gateway.rules import answers, pickup

SHOPPER: Final = "shopper"


class Deeds:
    """The part of the desk that lets verdicts happen.

    Args:
        reached: Whether a unit is connected, by its name such as `locker@main`.
    """

    def __init__(
        self, judge: Judge, binding: Binding, showing: Showing, lockers: Lockers, stations: Stations, clock: Clock,
        tables: Sequence[StationTable], reached: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._judge = judge
        self._binding = binding
        self._showing = showing
        self._lockers = lockers
        self._stations = stations
        self._clock = clock
        self._tables = tables
        self._reached = reached

    # ------------------------------------------------------------ before the commit

    def of_code(self, code: CodePresented, station: str, staff: str | None, asked: Asked) -> Verdict:
        """What becomes of a presented code, with the intent to open a door if one is to be opened."""
        rung = self._showing.rung(code, station, staff, asked.device) if asked.is_plain else None
        if rung is not None:
            return rung
        verdict = self._binding.judged(code, station, staff, asked, self._judge.code)
        place = verdict.place
        if place is not None and not self._reached(f"locker@{place[0]}"):
            return self._judge.refuse("locker_unavailable", code, station, staff, self._clock, verdict.answer.reference)
        return verdict if place is None else self._with_intent(verdict, place, "pickup", staff or SHOPPER, station)

    def of_parcel(self, order_id: str, staff: str, station: str, bank: str | None, place: pickup.Place | None) -> Verdict:
        """What becomes of a parcel that is to be put into a compartment, with the intent to open it."""
        verdict = self._judge.stage(order_id, bank, place, station, self._clock.now().wall_us)
        return verdict if verdict.place is None else self._with_intent(verdict, verdict.place, "deposit", staff, station)

    def _with_intent(self, verdict: Verdict, place: pickup.Place, purpose: str, actor: str, station: str) -> Verdict:
        if not self._reached(f"locker@{place[0]}"):
            now = self._clock.now()
            refused = answers.refusal("locker_unavailable", now.wall_us, reference=verdict.answer.reference)
            return Verdict(answer=refused, station=station, rows=[])
        intent = self._lockers.intend(place, purpose, verdict.answer.reference, actor, station, self._clock.now())
        verdict.rows.append(intent)
        verdict.intent = intent
        return verdict

    def waits(self, verdict: Verdict) -> "tuple[asyncio.Future[str], Callable[[str], Verdict]] | None":
        """What a verdict waits for. Pending is a state of the screen, never an answer: nothing of it is stored."""
        if verdict.wait is None or verdict.again is None:
            return None
        self._stations.show(verdict.station, verdict.answer)
        return verdict.wait, verdict.again

    # ------------------------------------------------------------ after it

    def act(self, verdict: Verdict) -> None:
        """The screen, and the pulse."""
        if not verdict.silent:
            self._stations.show(verdict.station, verdict.answer)
        if verdict.intent is not None:
            self._lockers.pulse(verdict.intent)

    def collected(self, row: ParcelCollected) -> None:
        """Say so on the screens beside that locker."""
        number = self._judge.order_number(row.order_id)
        answer = answers.decision(
            "collected", self._clock.now().wall_us, reference=row.order_id, order_number=number, compartment=row.compartment
        )
        for station in self._tables:
            if row.bank in station.lockers:
                self._stations.show(station.name, answer)
