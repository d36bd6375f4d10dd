"""Reading only: what the bridge uses, and core at its start. Each call sees one moment of the file."""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from gateway.blocks import Stored, compressed, decompressed, head_of, is_whole, local_of, rows_of, type_of, unpack_numbered
from gateway.chain import CHAIN_START, Epoch, StoredRow, chain, chain_on, decode_event
from gateway.columns import Tombstone, pack_tombstone
from gateway.errors import LedgerError, MalformedFrame
from gateway.events import EpochOpened, Lane, Row
from gateway.ledger import records
from gateway.ledger.connect import DAMAGED_HINT, connect, read_key
from gateway.ledger.records import SELECT_BLOCK, Base
from gateway.ledger.survey import NO_HEAD, TALLY

HQ_LOST: Final = "hq_lost"
LIMIT_ROWS: Final = 1_000


class Block(Struct, frozen=True):
    """Consecutive rows of one lane, as they travel."""

    epoch: int
    lane: int
    first: int
    last: int
    head: bytes
    section: bytes


class LedgerReader:
    """A view of the file that cannot write.

    Raises:
        LedgerError: From every method, when the file cannot be read or is not what was written.
    """

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, read_only=True)
        self._held_key: bytes | None = None

    @property
    def _key(self) -> bytes:
        if self._held_key is None:
            self._held_key = read_key(self._connection)
            if self._held_key is None:
                raise LedgerError("the ledger has no key yet, or lost it", "Start core")
        return self._held_key

    def epochs(self) -> list[Epoch]:
        """All epochs, oldest first."""
        with _reading(self._connection):
            return list(records.epochs(self._connection, None))

    def blocks(self, epoch: int, lane: int, after: int, upto: int, limit_rows: int = LIMIT_ROWS) -> list[Block]:
        """Whole blocks in order, of which the first holds row `after` + 1 and none reaches beyond `upto`.

        As many as hold `limit_rows` rows, and at least one if there is one. In place of rows that are trimmed stands a tombstone.
        """
        with _reading(self._connection):
            found: list[Block] = []
            rows = 0
            for block in self._from(epoch, lane, after):
                rows += block.last - block.first + 1
                if block.last > upto or (found and rows > limit_rows):
                    break
                found.append(Block(epoch, lane, block.first, block.last, block.head, decompressed(block.body)))
            return found

    def rows(self, epoch: int, lane: int, after: int, upto: int, limit: int = 1_000) -> list[StoredRow]:
        """Rows of a lane with after < seq <= upto, in order, at most `limit`; trimmed and lost ones are left out."""
        found: list[StoredRow] = []
        with _reading(self._connection):
            for block in self._from(epoch, lane, after):
                if block.first > upto or len(found) >= limit:
                    break
                before = self._before(block, self._is_linked(epoch))
                found += [row for row in _rows(self._key, before, block) if after < row.seq <= upto]
        return found[:limit]

    def head_at(self, epoch: int, lane: int, seq: int) -> bytes | None:
        """The chain head at a row; None if there is no such row, or nothing of it is left."""
        with _reading(self._connection):
            base = self._base(epoch, lane)
            if seq == base.seq and seq > 0:
                return base.head
            block = next(self._from(epoch, lane, seq - 1), None) if seq > base.seq else None
            if block is None or seq == block.last:
                return block.head if block is not None else None
            rows, before = rows_of(block), self._before(block, self._is_linked(epoch))
            if isinstance(rows, Tombstone) or before is None:
                return None
            return chain_on(self._key, before, (epoch, lane, block.first), rows[: seq - block.first + 1])

    def head_before(self, epoch: int, lane: int, first: int) -> bytes:
        """The chain head before the block that begins there; empty: it begins the lane, or nothing of what was before is left."""
        with _reading(self._connection):
            base = self._base(epoch, lane)
            if first <= 1 or first <= base.seq:
                return b""
            sql = "SELECT last, head FROM block WHERE epoch=? AND lane=? AND first<? ORDER BY first DESC LIMIT 1"
            last, head = self._connection.execute(sql, (epoch, lane, first)).fetchone() or (base.seq, base.head)
            return bytes(head) if last == first - 1 and bytes(head) != NO_HEAD else b""

    def history(self) -> Iterator[tuple[StoredRow, Row]]:
        """Every row of lane 0 that is left, oldest first, each link checked; lost ranges are passed over.

        Raises:
            LedgerError: A row is of a kind this release does not know, or its link is not what was written.
        """
        with _reading(self._connection):
            kept = list(records.kept(self._connection, self._key))
            for epoch in records.epochs(self._connection, self._key):
                for piece in kept:
                    if piece.epoch == epoch.number:
                        for seq, record_us, event in unpack_numbered(decompressed(piece.body)):
                            stored = StoredRow(epoch.number, Lane.MONEY, seq, record_us, type_of(event), event, "", b"")
                            yield stored, _decoded(stored)
                yield from self._checked(epoch)

    def _checked(self, epoch: Epoch) -> Iterator[tuple[StoredRow, Row]]:
        for block in self._stored(epoch.number, Lane.MONEY, self._base(epoch.number, Lane.MONEY).seq):
            head = self._before(block, epoch.linked)
            for stored in _rows(self._key, head, block):
                row = _decoded(stored)
                if stored.seq == 1 and (not isinstance(row, EpochOpened) or row.parent != epoch.parent):
                    raise LedgerError(f"the first row of epoch {epoch.name} is not its opening", DAMAGED_HINT)
                if stored.seq == block.last and stored.mac != block.head:
                    raise LedgerError(f"rows {block.epoch}/{block.lane}/{block.first} do not follow those before them", DAMAGED_HINT)
                yield stored, row

    def documents(self) -> list[records.StoredDocument]:
        """HQ's documents in force."""
        with _reading(self._connection):
            return [document for _, document in records.documents(self._connection, self._key) if document is not None]

    def counts(self) -> dict[str, int]:
        """Rows by type, trimmed ones too."""
        with _reading(self._connection):
            trimmed = records.note(self._connection, read_key(self._connection) or b"", TALLY)  # a file just made has no key
            found = Counter(msgspec.json.decode(trimmed or b"{}", type=dict[str, int]))
            for (kinds,) in self._connection.execute("SELECT kinds FROM block"):
                found.update(msgspec.json.decode(kinds, type=dict[str, int]))
            return dict(found)

    def first_damaged(self) -> tuple[str, int]:
        """Epoch/lane/seq of the youngest epoch's first row that is not what was written, or nothing; how many were looked at."""
        looked_at = 0
        with _reading(self._connection):
            youngest = list(records.epochs(self._connection, None))[-1:]
            for epoch, lane in product(youngest, map(int, Lane)):
                after = self._base(epoch.number, lane).seq
                try:
                    for block in self._stored(epoch.number, lane, after):
                        head = self._before(block, epoch.linked)
                        if head is not None and head_of(self._key, head, block) != block.head:
                            return f"{epoch.number}/{lane}/{block.first}", looked_at
                        looked_at, after = looked_at + block.last - block.first + 1, block.last
                except (LedgerError, MalformedFrame):
                    return f"{epoch.number}/{lane}/{after + 1}", looked_at
        return "", looked_at

    def lanes(self) -> list[tuple[int, int, int, int]]:
        """(epoch, lane, last row, when it was written) of what is left, the youngest epochs first."""
        with _reading(self._connection):
            sql = "SELECT epoch, lane, max(last), max(until_us) FROM block GROUP BY epoch, lane ORDER BY 1 DESC, 2 LIMIT 30"
            return [(epoch, lane, last, until_us) for epoch, lane, last, until_us in self._connection.execute(sql)]

    def prove(self) -> None:
        """A real round trip, nothing more."""
        with _reading(self._connection):
            self._connection.execute("SELECT max(id) FROM block").fetchone()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _from(self, epoch: int, lane: int, after: int) -> Iterator[Stored]:
        """Blocks from the one that holds row `after` + 1; a tombstone first, if that is trimmed."""
        base = self._base(epoch, lane)
        if after < base.seq:
            lost = pack_tombstone(Tombstone(after + 1, base.seq, HQ_LOST, []))
            yield Stored(epoch, lane, after + 1, base.seq, 0, "{}", base.head, compressed(lost), None, b"")
            after = base.seq
        yield from self._stored(epoch, lane, after)

    def _stored(self, epoch: int, lane: int, after: int) -> Iterator[Stored]:
        sql = "SELECT max(first) FROM block WHERE epoch=? AND lane=? AND first<=?"
        (first,) = self._connection.execute(sql, (epoch, lane, after + 1)).fetchone()
        expected = after + 1
        for values in self._connection.execute(
            f"{SELECT_BLOCK} WHERE epoch=? AND lane=? AND first>=? ORDER BY first", (epoch, lane, first or 0)
        ):
            block = Stored(*values)
            if block.last < expected:
                return  # the lane ends before that row
            if not is_whole(self._key, block) or (block.first > expected if first == block.first else block.first != expected):
                raise LedgerError(f"rows {epoch}/{lane}/{block.first} are damaged", DAMAGED_HINT)
            yield block
            expected = block.last + 1

    def _is_linked(self, epoch: int) -> bool:
        found = self._connection.execute("SELECT linked FROM epoch WHERE number=?", (epoch,)).fetchone()
        return bool(found and found[0])

    def _before(self, block: Stored, linked: bool) -> bytes | None:
        """The head before a block; None: it was lost, or its links are not made as ours."""
        if not linked or block.first == 1:
            return CHAIN_START if linked else None
        sql = "SELECT head FROM block WHERE epoch=? AND lane=? AND first<? ORDER BY first DESC"
        found = self._connection.execute(sql, (block.epoch, block.lane, block.first)).fetchone()
        head = bytes(found[0]) if found else self._base(block.epoch, block.lane).head
        return head if head != NO_HEAD else None

    def _base(self, epoch: int, lane: int) -> Base:
        sql = "SELECT seq, head FROM trimmed WHERE epoch=? AND lane=?"
        found = self._connection.execute(sql, (epoch, lane)).fetchone()
        return Base(*found) if found else Base(0, CHAIN_START)


@contextlib.contextmanager
def _reading(connection: sqlite3.Connection) -> Iterator[None]:
    """One read transaction: what is merged or trimmed meanwhile does not confuse it."""
    if connection.in_transaction:
        yield
        return
    try:
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
    except (sqlite3.Error, MalformedFrame, ValueError, TypeError) as error:
        raise LedgerError(f"the ledger's tables cannot be read: {error}", DAMAGED_HINT) from error


def _rows(key: bytes, head: bytes | None, block: Stored) -> Iterator[StoredRow]:
    """The rows of a block; `head` None: the links inside cannot be worked out."""
    rows = rows_of(block)
    if isinstance(rows, Tombstone):
        return
    sources = local_of(key, block).sources
    for seq, (record_us, event) in enumerate(rows, block.first):
        if head is not None:
            head = chain(key, head, (block.epoch, block.lane, seq, record_us), event)
        link = head or (block.head if seq == block.last else b"")
        yield StoredRow(block.epoch, block.lane, seq, record_us, type_of(event), event, sources.get(seq - block.first, ""), link)


def _decoded(stored: StoredRow) -> Row:
    try:
        row: Row = decode_event(stored.event)
    except msgspec.DecodeError as error:
        place = f"{stored.epoch}/{stored.lane}/{stored.seq}"
        raise LedgerError(f"row {place} is of a kind this release does not know", "Install the newer release again") from error
    return row
