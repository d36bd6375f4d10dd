"""What headquarters keeps no longer, because nothing can ask about it any more: answers to claims, the journal's old lines, old deeds.

How long a claim's answer has to stay. It is there so that a box that asks again gets the same bytes, and with them the same decision. A
box may ask again for as long as it may be offline; and what it was given is good until its end, and may be reversed for a day. So an
answer goes when all of this is so:

1. Its end, the longest reversal and the longest time offline are past. Its end is the voucher's, if that has ended: from there on a new
   decision is a refusal, too. Of a voucher that goes on it is the end of what was given, or when it was refused.
2. Of a voucher that goes on: the box has told, in a row that is here, that the claim is over. It never asks with it again.
3. If something was given: the box has promised (`SettledThrough`) never again to honour what ends by then, or was declared destroyed. A
   box that neither came back nor was declared destroyed keeps its answers here.

Of the journal goes what a later line replaces, and what ended as in 1 once every kept backup has it, too. Settlement, exposure and
reports read none of these: they sum over `uses`, `assigned` and the rows, which are never trimmed. What went is counted in `trimmed`.

Work is done in small steps, each a transaction of some milliseconds, so that rows of shops do not wait.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from cloud_bridge.hq import assignments
from cloud_bridge.hq.backups import Backups
from cloud_bridge.hq.journal import Journal
from cloud_bridge.hq.store import Connection, Store, StoreAway, StoredRow
from gateway.clock import Clock
from gateway.errors import MalformedFrame
from gateway.events import AssignmentTaken, ClaimSettled
from gateway.signed import CLAIMED_TAG, Claimed, unseal

log = logging.getLogger(__name__)

LOOK_S: Final = 60.0
REST_S: Final = 3_600.0  # after all were looked at: what may not go now may not go for long
STEP: Final = 100  # claims looked at in one transaction: their seals are checked, some 0.2 ms each
MOST_STEPS: Final = 50  # of one look
REVERSAL_S: Final = 86_400  # the longest a shop can be told to allow: 1440 minutes, or 86,400 s of a campaign's limit
DAY_S: Final = 86_400
GROWN: Final = 2_000  # lines; and as many as are kept: then the journal is written anew
BEGINNING: Final = (-1, "")


class Bounds(Struct, frozen=True):
    """How long things are kept, seconds."""

    offline_s: int  # the longest a box may be away; 0: nothing is trimmed
    deeds_s: int  # 0: for ever

    @property
    def after_s(self) -> int:
        """How long after an end something may still be asked about."""
        return REVERSAL_S + self.offline_s


class Looked(Struct, frozen=True):
    """How far a step came, and what it took away."""

    place: tuple[int, str]  # time and identifier of the last claim it looked at
    trimmed: int
    done: bool


def ended(db: Connection, row: StoredRow, event: ClaimSettled | AssignmentTaken) -> None:
    """Effect of a row: a claim is over, its box says."""
    del row
    if event.claim_id is not None:
        sql = "INSERT INTO claims_ended SELECT claim_id FROM claims WHERE claim_id = ? ON CONFLICT (claim_id) DO NOTHING"
        db.execute(sql, (event.claim_id,))


def step(db: Connection, place: tuple[int, str], bounds: Bounds, root: Ed25519PublicKey, now_us: int) -> Looked:
    """Look at the next claims, oldest first, and take away those that nothing can ask about."""
    oldest_us = now_us - bounds.after_s * 1_000_000
    found = db.execute(
        "SELECT claim_id, gateway, voucher_id, reply, at_us FROM claims WHERE at_us < ? AND (at_us > ? OR at_us = ? AND claim_id > ?)"
        " ORDER BY at_us, claim_id LIMIT ?",
        (oldest_us, place[0], place[0], place[1], STEP),
    ).fetchall()
    gone = [claim_id for claim_id, *said in found if _is_past(db, claim_id, said, bounds, root, now_us // 1_000_000)]
    for table in ("claims", "claims_ended"):
        db.executemany(f"DELETE FROM {table} WHERE claim_id = ?", [(claim_id,) for claim_id in gone])  # noqa: S608 - our own names
    count(db, "claims", len(gone), now_us)
    last = (found[-1][4], found[-1][0]) if found else place
    return Looked(last, len(gone), len(found) < STEP)


def count(db: Connection, name: str, n: int, now_us: int) -> None:
    """Keep the total of what went."""
    if n:
        db.put("trimmed", [(name, n, now_us)], "(name) DO UPDATE SET n = trimmed.n + excluded.n, at_us = excluded.at_us")


def totals(db: Connection) -> dict[str, Any]:
    """What is kept of claims' answers, and how much went of everything."""
    kept = db.execute("SELECT count(*) FROM claims").fetchone()[0]
    return {"claims_kept": int(kept)} | {f"{name}_trimmed": int(n) for name, n in db.execute("SELECT name, n FROM trimmed").fetchall()}


def over(db: Connection, told: Sequence[tuple[str, int]], before_s: int) -> dict[str, int]:
    """Of vouchers with the journal's word of each: those that ended before a time, with the word the database has, if that is no older."""
    found = {}
    for voucher_id, word in told:
        row = assignments.find(db, voucher_id)
        if row is not None and row.not_after_s < before_s and row.stand.told >= word:
            found[voucher_id] = row.stand.told
    return found


class Trimming:
    """The loop."""

    def __init__(self, store: Store, journal: Journal, backups: Backups, root: Ed25519PublicKey, clock: Clock, bounds: Bounds) -> None:
        self._store = store
        self._journal = journal
        self._backups = backups
        self._root = root
        self._clock = clock
        self._bounds = bounds
        self._place = BEGINNING
        self._rests_until_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except StoreAway as error:
                log.warning("nothing is trimmed now: %s", error)

    async def look(self) -> None:
        """Do what is due, up to so many steps."""
        now_us = self._clock.now().wall_us
        if self._bounds.deeds_s:
            await self._store.write(partial(_forget_deeds, before_us=now_us - self._bounds.deeds_s * 1_000_000, now_us=now_us))
        if not self._bounds.offline_s:
            return
        if time.monotonic() >= self._rests_until_s:
            await self._trim_claims(now_us)
        if self._journal.growth >= GROWN and self._journal.growth >= len(self._journal.told()):
            await self.compact(now_us)

    async def _trim_claims(self, now_us: int) -> None:
        for _ in range(MOST_STEPS):
            work = partial(step, place=self._place, bounds=self._bounds, root=self._root, now_us=now_us)
            looked = await self._store.write(work)
            self._place = looked.place
            if looked.done:
                self._place, self._rests_until_s = BEGINNING, time.monotonic() + REST_S
                return

    async def compact(self, now_us: int) -> int:
        """Write the journal anew; how many lines went."""
        through, ends = self._backups.journalled(), dict[str, int]()
        before_s = now_us // 1_000_000 - self._bounds.after_s
        for some in _by(self._journal.told().items(), STEP):
            ends |= await self._store.read(partial(over, told=some, before_s=before_s))
        went = await self._journal.compact(ends, through, now_us - self._bounds.after_s * 1_000_000)
        await self._store.write(partial(count, name="journal", n=went, now_us=now_us))
        return went


def _is_past(db: Connection, claim_id: str, said: Sequence[Any], bounds: Bounds, root: Ed25519PublicKey, now_s: int) -> bool:
    gateway, voucher_id, reply, at_us = said
    try:
        given = unseal(CLAIMED_TAG, bytes(reply), [root], Claimed).grant
    except MalformedFrame:
        return False  # of another root: nobody here can say what it gave
    row = assignments.find(db, voucher_id)
    if row is None or row.not_after_s + bounds.after_s >= now_s:
        end_s = at_us // 1_000_000 if given is None else max(given.not_after_s, at_us // 1_000_000)
        if end_s + bounds.after_s >= now_s:
            return False
        if db.execute("SELECT 1 FROM claims_ended WHERE claim_id = ?", (claim_id,)).fetchone() is None:
            return False
    if given is None or assignments.is_destroyed(db, gateway):
        return True
    return assignments.settled_s(db, gateway) >= given.not_after_s


def _forget_deeds(db: Connection, before_us: int, now_us: int) -> None:
    found = db.execute("SELECT id FROM deeds WHERE at_us < ? ORDER BY at_us LIMIT ?", (before_us, STEP)).fetchall()
    db.executemany("DELETE FROM deeds WHERE id = ?", found)
    count(db, "deeds", len(found), now_us)


def _by(items: Any, size: int) -> Iterator[list[tuple[str, int]]]:
    walk = iter(items)
    while some := list(islice(walk, size)):
        yield some
