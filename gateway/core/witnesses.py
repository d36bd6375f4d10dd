"""Off-disk witnesses: paired tablets, phones and tills keep the newest mark they were shown, and present it when they come back.

A mark names the last committed row of lane 0 and its chain head, with the epochs before it, under a MAC that binds it to its
device: no page can make one, or present another's. What a lying device can do is to withhold its mark, or to show an older one
of its own: the store then waits for it, or hears nothing new; it can deny service until HQ's opening, and nothing else.

A witness replaces its mark only by one that descends from it: same epoch and no lower row, or an epoch whose past names it.
That a device saw the box since HQ last acknowledged is a row (`DeviceSeen` with a mark); only those are waited for. While HQ
answers, it is the witness itself, and nothing is written.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from gateway.chain import Epoch, decode_event
from gateway.clock import Clock
from gateway.columns import Tombstone, unpack
from gateway.events import DeviceSeen, Lane, Row
from gateway.ledger import Ledger, LedgerReader

MAX_MARK_B: Final = 4_096
RECENT_EPOCHS: Final = 8  # in each mark; a mark that is older than those is answered by one that names its epoch too
MAC_B: Final = 16
ROWS_AT_ONCE: Final = 2_000


class Word(StrEnum):
    """What a presented mark says."""

    VOUCHES = "vouches"  # its row is in this ledger
    CONTRADICTS = "contradicts"  # it is not
    NOTHING = "nothing"  # no mark, or none of ours


class Mark(Struct, frozen=True):
    """What a witness keeps. A page reads `epoch`, `seq` and `past` to know which mark descends from which."""

    box: str
    epoch: str
    seq: int
    head: str
    past: dict[str, int]  # epoch to its last row of lane 0


class Heard(Struct, frozen=True):
    """What a device presented, judged."""

    word: Word
    mark: Mark | None = None

    @staticmethod
    def nothing() -> "Heard":
        """No mark of ours."""
        return Heard(Word.NOTHING)


class Witnesses:
    """Marks of this box.

    Args:
        secret: Key of the MACs; the same after a restart.
        epochs: Every epoch of the ledger, oldest first.
        commit: Appends rows.
        line_up: Whether HQ answers now.
    """

    def __init__(
        self, gateway: str, secret: bytes, ledger: Ledger, epochs: list[Epoch], clock: Clock,
        commit: Callable[[list[Row]], object], line_up: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._key = hashlib.blake2b(b"store-gateway marks", key=secret[:64], digest_size=32).digest()
        self._ledger = ledger
        self._clock = clock
        self._commit = commit
        self._line_up = line_up
        self._past = {epoch.parent: epoch.parent_heads.get(Lane.MONEY, (0, ""))[0] for epoch in epochs if epoch.parent is not None}
        self._closed: dict[str, int] = {}
        self._present: set[str] = set()  # devices that have shown in this life that they keep marks
        self._since_ack: set[str] = set()
        self._made = (-1, "", b"", "")  # the newest mark: its row, head, body, and that as text

    def expect(self, seen: frozenset[str]) -> None:
        """Those whose sight since the last acknowledgement is written down already."""
        self._since_ack = set(seen)

    def close_epoch(self, epoch: str, seq: int) -> None:
        """An opening has closed what lay beyond: a witness of that is contradicted no more, and may go on."""
        self._closed[epoch] = max(seq, self._closed.get(epoch, 0))

    def acked(self) -> None:
        """HQ has acknowledged: it knows what the devices know."""
        self._since_ack.clear()

    def mark(self, device_id: str, older: Mark | None = None) -> str:
        """The mark a device should keep now; with `older`, one that descends from it wherever that is true."""
        seq, head = self._committed()
        if older is None:
            self._saw(device_id, seq)
            body, text = self._newest(seq, head)
            return f"{text}.{_text(self._mac(device_id, body))}"
        past = dict(list(self._past.items())[-RECENT_EPOCHS:])
        if older.epoch in self._past:
            past[older.epoch] = self._past[older.epoch]
        if self._is_closed(older):
            past[older.epoch] = max(older.seq, past.get(older.epoch, 0))
        self._saw(device_id, seq)
        return self._sealed(device_id, msgspec.json.encode(Mark(self._gateway, self._ledger.epoch.name, seq, head, past)))

    def _newest(self, seq: int, head: str) -> tuple[bytes, str]:
        """What every device may keep now: the same for all that were answered by one commit, so it is made once."""
        if self._made[:2] != (seq, head):
            past = dict(list(self._past.items())[-RECENT_EPOCHS:])
            body = msgspec.json.encode(Mark(self._gateway, self._ledger.epoch.name, seq, head, past))
            self._made = seq, head, body, _text(body)
        return self._made[2:]

    def hear(self, device_id: str, text: str) -> Heard:
        """Judge what a device presents."""
        mark = self._read(device_id, text)
        if mark is None:
            return Heard.nothing()
        self._present.add(device_id)
        if self._knows(mark):
            return Heard(Word.VOUCHES, mark)
        return Heard(Word.VOUCHES if self._is_closed(mark) else Word.CONTRADICTS, mark)

    def last_of(self, epoch: str) -> int | None:
        """The last row of lane 0 of an epoch, the running one included; None: not of this ledger."""
        return self._committed()[0] if epoch == self._ledger.epoch.name else self._past.get(epoch)

    def _knows(self, mark: Mark) -> bool:
        last = self.last_of(mark.epoch)
        number = self._ledger.epoch_number(mark.epoch)
        if last is None or number is None or mark.seq > last:
            return False
        head = self._ledger.head_at(number, Lane.MONEY, mark.seq)
        return head is None or head == mark.head  # trimmed or set aside: the epoch's nonce and its length have to do

    def _is_closed(self, mark: Mark) -> bool:
        return mark.seq <= self._closed.get(mark.epoch, -1)

    def _saw(self, device_id: str, seq: int) -> None:
        if device_id in self._present and device_id not in self._since_ack and not self._line_up():
            self._since_ack.add(device_id)
            self._commit([DeviceSeen(device_id, self._clock.now(), seq)])

    def _committed(self) -> tuple[int, str]:
        seq, head = self._ledger.head.get(Lane.MONEY, (0, b""))
        return seq, head.hex()

    def _sealed(self, device_id: str, body: bytes) -> str:
        return f"{_text(body)}.{_text(self._mac(device_id, body))}"

    def _read(self, device_id: str, text: str) -> Mark | None:
        body_text, _, mac_text = text.partition(".")
        try:
            body, mac = _bytes(body_text), _bytes(mac_text)
            if len(text) > MAX_MARK_B or not hmac.compare_digest(mac, self._mac(device_id, body)):
                return None
            return msgspec.json.decode(body, type=Mark)
        except (ValueError, binascii.Error):
            return None

    def _mac(self, device_id: str, body: bytes) -> bytes:
        return hashlib.blake2b(device_id.encode() + b"\0" + body, key=self._key, digest_size=MAC_B).digest()


def unacknowledged(reader: LedgerReader, ledger: Ledger) -> frozenset[str]:
    """Devices that are written down as witnesses in rows HQ has not acknowledged."""
    found = set[str]()
    for epoch, lanes in ledger.reach.items():
        after, upto = ledger.cursors.get(epoch, {}).get(Lane.HEALTH, 0), lanes.get(Lane.HEALTH, 0)
        while after < upto and (blocks := reader.blocks(epoch, Lane.HEALTH, after, upto, ROWS_AT_ONCE)):
            for block in blocks:
                rows = unpack(block.section, block.first, block.last - block.first + 1)
                seen = [] if isinstance(rows, Tombstone) else [decode_event(event) for _, event in rows if b'"DeviceSeen"' in event]
                found |= {row.device_id for row in seen if isinstance(row, DeviceSeen) and row.mark is not None}
            after = blocks[-1].last
    return frozenset(found)


def _text(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    if "=" in text:
        raise ValueError("padding is not written")  # one mark, one spelling
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
