"""The mark: how far the ledger has come, beside the file, written after each commit and never waited for.

SQLite takes the first bad frame of its log for the place where the power went, and forgets what comes after it. After a kill,
or on a card that rots, that would be acknowledged rows. The mark is written once the commit's fsync has returned, so a ledger
that ends before its mark has lost something; a mark that a power cut left behind, or tore, is only older and says nothing.

Layout: three slots of 512 bytes, none of which a torn write can share. First the file's key, a second copy; then the mark, in
turn in the second and the third.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from gateway.chain import MAC_B, mac

SLOT_B: Final = 512
KEY_B: Final = 32


class Mark(Struct, frozen=True, array_like=True):
    """The youngest epoch and its heads."""

    number: int
    nonce: str
    parent: str | None
    parent_heads: dict[int, tuple[int, str]]
    opened_us: int
    written: int  # counts marks
    heads: dict[int, tuple[int, bytes]]  # lane to (last seq, chain head)


_decoder = msgspec.msgpack.Decoder(Mark)
_encode = msgspec.msgpack.Encoder().encode


class MarkFile:
    """Open for writing; made if it is not there."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._key = key
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        slot = key + mac(key, "mark key")
        if os.pread(self._descriptor, len(slot), 0) != slot:
            os.pwrite(self._descriptor, slot.ljust(SLOT_B, b"\0"), 0)
            os.fsync(self._descriptor)

    def write(self, mark: Mark) -> None:
        """Without an fsync: it may come late or never, and then says less."""
        packed = _encode(mark)
        slot = len(packed).to_bytes(2, "big") + packed
        slot += mac(self._key, "mark", slot)
        if len(slot) <= SLOT_B:
            with contextlib.suppress(OSError):  # the rows are on the disk whatever becomes of their mark
                os.pwrite(self._descriptor, slot, SLOT_B * (1 + mark.written % 2))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def read_marks(path: Path, key: bytes | None) -> tuple[bytes | None, Mark | None]:
    """The key, if this file holds a whole one (else the one that is given), and the latest whole mark."""
    try:
        raw = path.read_bytes()
    except OSError:
        return key, None
    copy = raw[:KEY_B]
    if len(copy) == KEY_B and mac(copy, "mark key") == raw[KEY_B : KEY_B + MAC_B]:
        key = key or copy
    if key is None:
        return None, None
    marks = [mark for at in (1, 2) if (mark := _slot(raw[at * SLOT_B : (at + 1) * SLOT_B], key)) is not None]
    return key, max(marks, key=lambda mark: (mark.number, mark.written), default=None)


def _slot(raw: bytes, key: bytes) -> Mark | None:
    size = 2 + int.from_bytes(raw[:2], "big")
    if len(raw) < size + MAC_B or mac(key, "mark", raw[:size]) != raw[size : size + MAC_B]:
        return None
    try:
        return _decoder.decode(raw[2:size])
    except msgspec.DecodeError:
        return None
