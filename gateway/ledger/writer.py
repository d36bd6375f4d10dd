"""The thread that commits: takes what waits, writes one block for each lane of it, and says once per commit that it is done.

Works of money are committed as soon as the last commit is over; those that come meanwhile share the next fsync. Foot traffic and
health wait for their second. A failed commit is never tried again: after an fsync error nobody knows what the disk holds. A disk
without room is no such error, since SQLite found out before it synchronised anything: once the reserve is given up, what was
to be written is written as a transaction of its own.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct, field

from gateway.blocks import MAX_BLOCK_ROWS, Local, Stored, StoredAnswer, made, made_tombstone
from gateway.chain import CHAIN_START, chain, encode_event
from gateway.clock import Clock
from gateway.errors import LedgerError
from gateway.events import LANE_OF, Lane, Row
from gateway.ledger.keeping import Keeping
from gateway.ledger.mark import Mark, MarkFile
from gateway.ledger.records import LOCAL_LANE, Base, Cursor, StoredDocument, add_block, set_base, set_cursor, set_document
from gateway.ledger.room import Room, rolled_up
from gateway.meters import Histogram
from gateway.signed import MEMBER_NAMES

SLOW_COMMIT_S: Final = 1.0  # the stated window of foot traffic and health
SLOW_COMMIT_FULL_S: Final = 20.0  # the same on a nearly full disk: a tombstone for each window
MAX_WORKS_A_COMMIT: Final = 512
REST_S: Final = 0.02  # nobody has asked for so long: the log may be folded in
FOLD_FROM_B: Final = 2 * 1024 * 1024
FOLD_IN_NEED_B: Final = 256 * 1024  # on a nearly full disk, whoever waits: the log may not grow
PAGES_A_COMMIT_B: Final = 6 * 1024  # what a commit writes beside its blocks
PATIENCE_MS: Final = 5_000  # what Python's sqlite3 begins with
EMPTYING_MS: Final = 50
BUSY_S: Final = 0.2  # the same after a look that somebody cut short
KEEPING_S: Final = 5.0  # how often somebody looks for old rows while nothing is written
LANE_OF_TYPE: Final = {kind: int(lane) for kind, lane in LANE_OF.items()}


class Work(Struct):
    """What is to be committed as one."""

    done: "asyncio.Future[None]"
    rows: list[Row] = field(default_factory=list)
    source_id: str = ""
    answer: StoredAnswer | None = None
    document: StoredDocument | None = None
    cursors: list[Cursor] = field(default_factory=list)
    bases: list[tuple[int, int, Base]] = field(default_factory=list)
    proof: bool = False  # nothing to write: is the connection alive
    urgent: bool = False  # somebody waits for the fsync


class Draft(Struct):
    """A lane's part of the commit being made."""

    first: int
    head: bytes
    rows: list[tuple[int, bytes]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    local: Local = field(default_factory=Local)


class Writer:
    """Owns the writing connection and the heads. Made on the loop's thread.

    Args:
        settle: Called on the loop after each commit, with its works and how far the lanes now come.
        failed: Called on the loop once: the process must end.
    """

    def __init__(
        self, connection: sqlite3.Connection, key: bytes, clock: Clock, mark: Mark, mark_file: MarkFile, room: Room, keeping: Keeping,
        settle: Callable[[list[Work], dict[int, tuple[int, bytes]]], None], failed: Callable[[LedgerError], None],
    ) -> None:  # fmt: skip
        self._connection = connection
        self._key = key
        self._clock = clock
        self._mark = mark
        self._mark_file = mark_file
        self._room = room
        self._keeping = keeping
        self._settle = settle
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._works: queue.SimpleQueue[list[Work] | None] = queue.SimpleQueue()
        self._written = 0
        self._unfolded_b = 0
        self._forgets = False  # something was overwritten that must be gone from the log, too
        self.heads = mark.heads
        self.commits = Histogram()
        self._thread = threading.Thread(target=self._write_for_ever, name="ledger", daemon=True)
        self._thread.start()

    def put(self, works: list[Work]) -> None:
        """Hand works over; calls keep their order within a durability class."""
        self._works.put(works)

    def close(self) -> None:
        """Commit what waits and end the thread."""
        self._works.put(None)
        self._thread.join(timeout=10)

    # ------------------------------------------------------------ the thread

    def _write_for_ever(self) -> None:
        slow: list[Work] = []
        due_ns = self._in_ns(KEEPING_S)
        open_ = True
        while open_:
            folds = self._unfolded_b > FOLD_FROM_B
            left_s = max(0.0, (due_ns - self._clock.boottime_ns()) / 1e9)
            urgent, more, open_ = self._gather(min(left_s, REST_S if folds else BUSY_S if self._forgets else left_s))
            if more and not slow:
                due_ns = self._in_ns(SLOW_COMMIT_FULL_S if self._room.full else SLOW_COMMIT_S)
            slow += more
            works, is_due = urgent, not open_ or self._clock.boottime_ns() >= due_ns
            if slow and is_due and not self._room.full:
                works, slow = urgent + slow, []
            if works and not self._done(partial(self._commit, works), again=True):
                return
            if self._room.full and not self._done(partial(self._spare, slow if is_due else [])):
                return
            if self._forgets and self._works.empty() and not self._done(self._empty_log):
                return
            if is_due and open_:
                if not self._done(self._keep):
                    return
                due_ns = self._in_ns(KEEPING_S if self._works.empty() else BUSY_S)
            elif folds and not works and not self._done(self._fold):
                return

    def _in_ns(self, seconds: float) -> int:
        return self._clock.boottime_ns() + int(seconds * 1e9)

    def _gather(self, timeout_s: float) -> tuple[list[Work], list[Work], bool]:
        """Wait for work, then take all that is there: (urgent, slow, whether more may come)."""
        urgent: list[Work] = []
        slow: list[Work] = []
        try:
            works = self._works.get(timeout=timeout_s)
            while works is not None:
                for work in works:
                    (urgent if work.urgent else slow).append(work)
                if len(urgent) >= MAX_WORKS_A_COMMIT:
                    return urgent, slow, True
                works = self._works.get_nowait()
            return urgent, slow, False
        except queue.Empty:
            return urgent, slow, True

    def _done(self, step: Callable[[], None], *, again: bool = False) -> bool:
        """Take a step; False: the ledger has failed. Works (`again`) that find the disk full are given the reserve."""
        try:
            try:
                step()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if again:
                    self._room.give_up()
                    with contextlib.suppress(sqlite3.OperationalError):
                        self._fold()  # a log that is folded in begins anew in the room it has
                    step()
        except Exception as error:  # noqa: BLE001 - a thread that died unsaid would leave core mute
            failure = LedgerError(f"the ledger could not commit: {error}", "Look at the disk (`store-gateway doctor`), then start again")
            self._tell(self._failed, failure)
            return False
        return True

    def _keep(self) -> None:
        """Old rows are merged, trimmed or rolled up, piece by piece, until somebody waits."""
        self._room.look()
        while self._works.empty() and (written_b := self._keeping.slice(self._room.full)):
            self._unfolded_b += written_b

    def _spare(self, slow: list[Work]) -> None:
        """On a nearly full disk: the log is kept short, whoever waits, and what is not money waits for room."""
        if self._unfolded_b > FOLD_IN_NEED_B:
            self._fold()
        if slow:
            self._commit(slow)
            slow.clear()

    def _empty_log(self) -> None:
        """Fold the log in and leave nothing in it: it holds pages as they were. While somebody reads that waits for the next look."""
        self._connection.execute(f"PRAGMA busy_timeout={EMPTYING_MS}")
        try:
            self._forgets = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] != 0
        finally:
            self._connection.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")

    def _fold(self) -> None:
        """Fold the log into the file, while nobody waits."""
        self._unfolded_b = 0
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    # ------------------------------------------------------------ one commit

    def _commit(self, works: list[Work]) -> None:
        connection = self._connection
        if all(work.proof for work in works):
            connection.execute("SELECT max(id) FROM block").fetchone()
            self._tell(self._settle, works, self.heads)
            return
        drafts = self._drafts(works)
        blocks = [self._block(lane, draft) for lane, draft in drafts]
        heads = self.heads | {lane: (draft.first + len(draft.rows) - 1, draft.head) for lane, draft in drafts}
        documents = {work.document.name for work in works if work.document is not None}
        if documents:
            connection.execute("PRAGMA secure_delete=ON")  # the list of members before may name somebody who has been erased
        began_ns = self._clock.boottime_ns()
        self._store(blocks, [work for work in works if work.bases or work.cursors or work.document])
        self.commits.observe((self._clock.boottime_ns() - began_ns) / 1e9)
        if documents:
            connection.execute("PRAGMA secure_delete=OFF")
            self._forgets = self._forgets or not documents.isdisjoint(MEMBER_NAMES)
        self._unfolded_b += PAGES_A_COMMIT_B + sum(len(block.body) + len(block.local or b"") for block in blocks)
        if drafts:
            self._say_how_far(heads)
        self._tell(self._settle, works, heads)

    def _store(self, blocks: list[Stored], beside: list[Work]) -> None:
        """One transaction. A statement alone is one; each more is a wait for the interpreter that the loop's thread is using."""
        if len(blocks) == 1 and not beside:
            add_block(self._connection, blocks[0])
            return
        self._connection.execute("BEGIN IMMEDIATE")
        for block in blocks:
            add_block(self._connection, block)
        for work in beside:
            self._records(work)
        self._connection.execute("COMMIT")

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to tell
            self._loop.call_soon_threadsafe(call, *args)

    def _say_how_far(self, heads: dict[int, tuple[int, bytes]]) -> None:
        self.heads = heads
        mark = self._mark
        self._written += 1
        self._mark_file.write(Mark(mark.number, mark.nonce, mark.parent, mark.parent_heads, mark.opened_us, self._written, heads))

    def _drafts(self, works: list[Work]) -> list[tuple[int, Draft]]:
        """What each lane gets; more rows than a block holds become several."""
        drafts = Drafts(self.heads)
        now_us, key, epoch = self._clock.now().wall_us, self._key, self._mark.number
        for work in works:
            source_id = work.source_id
            for row in work.rows:
                kind = type(row)
                lane = LANE_OF_TYPE[kind]
                draft = drafts.of(lane)
                event, at = encode_event(row), len(draft.rows)
                draft.head = chain(key, draft.head, (epoch, lane, draft.first + at, now_us), event)
                draft.rows.append((now_us, event))
                draft.kinds[kind.__name__] += 1
                if source_id:
                    draft.local.sources[at] = source_id
                    source_id = ""
            if work.answer is None:
                continue
            if any(LANE_OF_TYPE[type(row)] == Lane.MONEY for row in work.rows):  # in its row's block: they are one
                drafts.of(Lane.MONEY, or_full=True).local.answers.append(work.answer)
            else:
                draft = drafts.of(LOCAL_LANE)
                draft.head = chain(key, draft.head, (epoch, LOCAL_LANE, draft.first + len(draft.rows), now_us), b"null")
                draft.rows.append((now_us, b"null"))
                draft.local.answers.append(work.answer)
        return drafts.all

    def _block(self, lane: int, draft: Draft) -> Stored:
        place = (self._mark.number, lane, draft.first)
        if lane == Lane.TRAFFIC and self._room.full:
            return made_tombstone(self._key, place[:2], rolled_up(draft.first, draft.rows), draft.rows[-1][0], draft.head)
        return made(self._key, place, draft.rows, draft.head, draft.kinds, draft.local)

    def _records(self, work: Work) -> None:
        for epoch, lane, base in work.bases:
            set_base(self._connection, self._key, epoch, lane, base)
        for cursor in work.cursors:
            set_cursor(self._connection, self._key, cursor)
        if work.document is not None:
            set_document(self._connection, self._key, work.document, self._clock.now().wall_us)


class Drafts:
    """The lanes' parts of one commit."""

    def __init__(self, heads: dict[int, tuple[int, bytes]]) -> None:
        self._heads = heads
        self._open: dict[int, Draft] = {}
        self.all: list[tuple[int, Draft]] = []

    def of(self, lane: int, *, or_full: bool = False) -> Draft:
        """The one that takes the lane's next row, or the one that took the last."""
        draft = self._open.get(lane)
        if draft is not None and (or_full or len(draft.rows) < MAX_BLOCK_ROWS):
            return draft
        last, head = (draft.first + len(draft.rows) - 1, draft.head) if draft is not None else self._heads.get(lane, (0, CHAIN_START))
        draft = self._open[lane] = Draft(last + 1, head)
        self.all.append((lane, draft))
        return draft
