"""What a screen shows when a voucher needs a pass from the shopper's phone: an address at headquarters that says which start asks.

Core signs it with the box's own key, which it holds already for the marks of its witnesses (docs/adr/0022). From the running start it
goes back, by what each start said of its parent, to the last one of which headquarters has acknowledged money rows.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from gateway import asking
from gateway.asking import HEAD_B, MAX_ANCESTORS, Ancestor, Asking
from gateway.chain import Epoch
from gateway.clock import Clock
from gateway.events import Lane, TimeTrust
from gateway.ledger import Ledger

NO_CLOCK_S: Final = 0  # headquarters then judges by the start alone
NO_HEAD: Final = "0" * (2 * HEAD_B)


class Signer(Struct, frozen=True):
    """The box's key, and where shoppers' phones reach headquarters."""

    page: str
    key: Ed25519PrivateKey


class Passes:
    """Makes the addresses.

    Args:
        epochs: The starts this ledger holds, the running one among them.
        signer: None: no address is ever made.
    """

    def __init__(self, gateway: str, signer: Signer | None, clock: Clock, ledger: Ledger, epochs: list[Epoch]) -> None:
        self._gateway = gateway
        self._signer = signer
        self._clock = clock
        self._ledger = ledger
        self._epochs = {epoch.name: epoch for epoch in (*epochs, ledger.epoch)}

    def address(self, voucher_id: str) -> str:
        """What the QR code says; empty: headquarters has not told where phones reach it, or too many starts went by unheard."""
        line = self._unheard()
        if self._signer is None or not self._signer.page or line is None:
            return ""
        now = self._clock.now()
        asked_s = NO_CLOCK_S if now.trust is TimeTrust.UNTRUSTED else now.wall_us // 1_000_000
        asked = Asking(gateway=self._gateway, epoch=self._ledger.epoch.name, voucher_id=voucher_id, asked_s=asked_s, ancestors=line)
        return asking.address(self._signer.page, asked, self._signer.key)

    def _unheard(self) -> tuple[Ancestor, ...] | None:
        """The starts before this one, youngest first, to the first that headquarters has heard of; None: too many."""
        found, epoch = list[Ancestor](), self._ledger.epoch
        while not self._is_heard(epoch) and epoch.parent is not None:
            if len(found) == MAX_ANCESTORS:
                return None
            seq, head = epoch.parent_heads.get(Lane.MONEY, (0, ""))
            found.append(Ancestor(epoch.parent, seq, head[: 2 * HEAD_B] or NO_HEAD))
            if epoch.parent not in self._epochs:
                break  # the ledger has given up what is that old
            epoch = self._epochs[epoch.parent]
        return tuple(found)

    def _is_heard(self, epoch: Epoch) -> bool:
        return self._ledger.cursors.get(epoch.number, {}).get(Lane.MONEY, 0) > 0
