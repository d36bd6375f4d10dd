"""The check-in code of a station's screen: another one each half minute, only where the configuration asks for it.

Core signs it with the box's own key. What it says of the time is the box's clock, whatever that is worth: headquarters knows from the
box's beats how far that clock is off, and corrects it.
"""

from typing import Final

from gateway import checkin
from gateway.checkin import ROTATES_S, CheckIn
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.core.passes import Signer

MICROS: Final = 1_000_000
LATEST_S: Final = 2**32 - 1


class CheckIns:
    """Makes the codes.

    Args:
        signer: None: headquarters has not told where phones reach it, and no code is ever made.
    """

    def __init__(self, config: GatewayConfig, signer: Signer | None, clock: Clock) -> None:
        self._gateway = config.store.gateway
        self._stations = frozenset(station.name for station in config.stations if station.checkin)
        self._signer = signer
        self._clock = clock

    def address(self, station: str) -> str:
        """What the code says now; empty: none is shown here."""
        if station not in self._stations or self._signer is None or not self._signer.page:
            return ""
        made_s = self._clock.now().wall_us // MICROS // ROTATES_S * ROTATES_S
        if not 0 <= made_s <= LATEST_S:
            return ""  # no clock that anybody could correct
        return checkin.address(self._signer.page, CheckIn(gateway=self._gateway, station=station, made_s=made_s), self._signer.key)
