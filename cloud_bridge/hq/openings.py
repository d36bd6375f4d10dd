"""Openings: headquarters' word on starts that cannot be believed from their own disk, and the alarms that tell of such starts.

A box whose start is not admitted says so in every beat and batch, and gets an opening for it: what was used and handed over, as far
as headquarters knows. A box whose disk is an old image may not know it; headquarters does, when two starts continue the same one,
when it holds more of a start than its child claims to continue, or other rows under the same numbers. That is an alarm, and every
start of that box needs an opening until one that was pressed after the alarm has been applied: a child inherits what its parent
should never have been given. Rows are taken and acknowledged all the while.

What is kept in memory saves questions to the database, and is nothing but a copy of it.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct

from cloud_bridge.envelope import Header
from cloud_bridge.hq import assignments, limited, registry, risks, shapes
from cloud_bridge.hq.documents import KEPT_DAYS, Press
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Connection, Store, StoredRow
from cloud_bridge.hq.streams import Heads, Streams
from gateway.events import EpochAdmitted, Lane
from gateway.signed import AssignmentStand, Beat, Opening, OrderStand, UsedVoucher

KINDS: Final = ("two_children", "second_root", "new_ledger", "mark_above_claim", "other_rows")
LOOK_AGAIN_S: Final = 2.0  # at a box that waits for its opening
APPLIED_WITHIN_US: Final = 5_000_000  # a box says for so long that it is not admitted although it has just been opened
MOST_SHOWN: Final = 20


class Said(Struct, frozen=True):
    """What a box says of its present start."""

    epoch: str
    proven: bool
    parent: str | None
    parent_heads: Heads


class Pressed(Struct, frozen=True):
    """The last opening of a box."""

    number: int
    epoch: str
    pressed_us: int
    counted: str
    applied_us: int


async def _nobody_minds(gateway: str, pressed: Pressed) -> None:
    del gateway, pressed


class Openings:
    """Watches what boxes say of their starts, and presses what they need."""

    def __init__(self, store: Store, press: Press) -> None:
        self._store = store
        self._press = press
        self._heard: dict[str, tuple[str, bool]] = {}  # box to its start, and whether it is admitted
        self._in_need: set[str] = set()
        self._looked_s: dict[str, float] = {}
        self._numbers: dict[tuple[str, str], int] = {}  # box and start to the opening that was pressed for it
        self._differed: set[tuple[str, str, int]] = set()
        self.leaving: Callable[[str, Pressed], Awaitable[None]] = _nobody_minds  # before a box is told of an opening
        self._claims: dict[tuple[str, str], list[tuple[str, Heads]]] = {}  # box and start to its children, and what they claim

    def number(self, gateway: str, epoch: str) -> int:
        """The opening a start has to wait for; 0: none."""
        return self._numbers.get((gateway, epoch), 0)

    def unproven(self, gateway: str) -> bool:
        """Whether the box says that it is not admitted now."""
        return not self._heard.get(gateway, ("", True))[1]

    def proven(self, gateway: str, epoch: str) -> bool:
        """Whether the box has said, since headquarters runs, that this very start is admitted."""
        return self._heard.get(gateway) == (epoch, True)

    async def heed_beat(self, row: BoxRow, beat: Beat, now_us: int) -> bool:
        """Take what a beat says; whether the box has a new document to fetch."""
        return await self._heed(row, Said(beat.epoch, beat.proven, beat.parent, beat.parent_heads), now_us)

    async def heed_batch(self, row: BoxRow, header: Header, mark: int, diverged: bool, now_us: int) -> bool:
        """Take what a batch says and how far its lane has come; whether the box has a new document to fetch."""
        stream = row.gateway, header.epoch, header.lane
        if diverged and stream not in self._differed:
            at = (header.lane, 0, mark)
            await self._store.write(
                partial(_raise, gateway=row.gateway, kind="other_rows", epoch=header.epoch, other="", at=at, now_us=now_us)
            )
            self._differed.add(stream)
            self._alarm(row.gateway)
        if header.epoch != header.current:
            return await self._heed_past(row, header, mark, now_us)
        return await self._heed(row, Said(header.epoch, header.proven, header.parent, header.parent_heads), now_us)

    async def _heed(self, row: BoxRow, said: Said, now_us: int) -> bool:
        is_news = self._heard.get(row.gateway) != (said.epoch, said.proven)
        is_due = row.gateway in self._in_need and time.monotonic() - self._looked_s.get(row.gateway, 0.0) > LOOK_AGAIN_S
        if not (is_news or is_due):
            return False
        needs, pressed, is_new = await self._store.write(partial(judge, press=self._press, row=row, said=said, now_us=now_us))
        self._heard[row.gateway] = said.epoch, said.proven
        self._looked_s[row.gateway] = time.monotonic()
        if is_new and pressed is not None:
            await self.leaving(row.gateway, pressed)
        if needs:
            self._in_need.add(row.gateway)
        else:
            self._in_need.discard(row.gateway)
        if pressed is not None and pressed.epoch == said.epoch:
            self._numbers[row.gateway, said.epoch] = pressed.number
        if said.parent is not None:
            self._claims.pop((row.gateway, said.parent), None)
        return is_new

    async def _heed_past(self, row: BoxRow, header: Header, mark: int, now_us: int) -> bool:
        """Rows of an earlier start came: does headquarters hold more of it than its child claims?"""
        past = row.gateway, header.epoch
        if past not in self._claims:
            self._claims[past] = await self._store.read(partial(_children, gateway=row.gateway, epoch=header.epoch))
        for child, heads in self._claims[past]:
            claimed = heads.get(header.lane, (0, ""))[0]
            if mark > claimed:
                at = (header.lane, claimed, mark)
                work = partial(_raise, gateway=row.gateway, kind="mark_above_claim", epoch=child, other=header.epoch, at=at, now_us=now_us)
                await self._store.write(work)
                self._alarm(row.gateway)
        return False

    def _alarm(self, gateway: str) -> None:
        """Look at that box as soon as it is heard of again."""
        self._in_need.add(gateway)
        self._looked_s.pop(gateway, None)


def judge(db: Connection, press: Press, row: BoxRow, said: Said, now_us: int) -> tuple[bool, Pressed | None, bool]:
    """Look for alarms in what a box says of its start, and press an opening if it needs one.

    Returns:
        Whether it needs one, the last that was pressed, and whether that was now.
    """
    _look(db, row, said, now_us)
    alarmed_us = db.execute("SELECT max(at_us) FROM alarms WHERE gateway = ? AND settled_us = 0", (row.gateway,)).fetchone()[0]
    last = last_pressed(db, row.gateway)
    lacks = _lacks_members(db, row.gateway, last)
    if said.proven and alarmed_us is None and not lacks and not _is_behind(db, row.gateway, said, last):
        return False, last, False
    if last is not None and last.epoch == said.epoch and not lacks and _will_do(db, row, said, last, alarmed_us, now_us):
        return True, last, False
    return True, press_opening(db, press, row, said.epoch, now_us), True


def _is_behind(db: Connection, gateway: str, said: Said, last: Pressed | None) -> bool:
    """Whether the newest opening went to another start and was never taken: till this one has its own, nothing it writes frees."""
    if last is None or last.applied_us or last.epoch == said.epoch:
        return False
    return db.execute("SELECT 1 FROM holdings WHERE gateway = ? AND live = 1 LIMIT 1", (gateway,)).fetchone() is not None


def _lacks_members(db: Connection, gateway: str, last: Pressed | None) -> bool:
    """Whether the box lives on an opening of an earlier release, which said nothing of members, although some used something there."""
    if last is None or not last.applied_us:
        return False
    if db.execute("SELECT 1 FROM openings_counting WHERE gateway = ? AND number = ?", (gateway, last.number)).fetchone() is not None:
        return False
    return db.execute("SELECT 1 FROM bindings WHERE gateway = ? LIMIT 1", (gateway,)).fetchone() is not None


def last_pressed(db: Connection, gateway: str) -> Pressed | None:
    """The last opening of a box."""
    found = db.execute(
        "SELECT number, epoch, pressed_us, counted, applied_us FROM openings WHERE gateway = ? ORDER BY number DESC LIMIT 1", (gateway,)
    ).fetchone()
    return Pressed(*found) if found else None


def _will_do(db: Connection, row: BoxRow, said: Said, last: Pressed, alarmed_us: int | None, now_us: int) -> bool:
    """Whether the box only has to fetch what was pressed."""
    if alarmed_us is not None and alarmed_us > last.pressed_us:
        return False
    if last.applied_us:  # it was doubted again since
        return said.proven or now_us - last.applied_us < APPLIED_WITHIN_US
    # It may have been refused, because it did not cover what is damaged: by now headquarters may have heard of that.
    return now_us - last.pressed_us < APPLIED_WITHIN_US or last.counted == _counted(_marks(db, row.gateway))


def _look(db: Connection, row: BoxRow, said: Said, now_us: int) -> None:
    streams, gateway = Streams(db), row.gateway
    streams.descend(gateway, said.epoch, said.parent, said.parent_heads, now_us)
    if said.parent is None:
        roots = "SELECT epoch FROM epochs WHERE gateway = ? AND parent IS NULL AND epoch <> ?"
        for (other,) in db.execute(roots, (gateway, said.epoch)).fetchall():
            kind = "new_ledger" if _enrolled_since(db, gateway, other) else "second_root"
            _raise(db, gateway, kind, said.epoch, other, (Lane.MONEY, 0, 0), now_us)
        return
    siblings = "SELECT epoch FROM epochs WHERE gateway = ? AND parent = ? AND epoch <> ?"
    for (other,) in db.execute(siblings, (gateway, said.parent, said.epoch)).fetchall():
        _raise(db, gateway, "two_children", said.epoch, other, (Lane.MONEY, 0, 0), now_us)
    for lane in Lane:
        parent, claimed = streams.known(gateway, said.parent, lane), said.parent_heads.get(lane, (0, ""))[0]
        if parent is not None and parent.mark > claimed:
            _raise(db, gateway, "mark_above_claim", said.epoch, said.parent, (lane, claimed, parent.mark), now_us)


def _enrolled_since(db: Connection, gateway: str, root: str) -> bool:
    found = db.execute(
        "SELECT b.enrolled_us > e.first_us FROM boxes b JOIN epochs e USING (gateway) WHERE b.gateway = ? AND e.epoch = ?", (gateway, root)
    ).fetchone()
    return bool(found and found[0])


def _raise(db: Connection, gateway: str, kind: str, epoch: str, other: str, at: tuple[int, int, int], now_us: int) -> None:
    db.execute(
        "INSERT INTO alarms (gateway, kind, epoch, other, lane, claimed, mark, at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (gateway, kind, epoch, other, lane) DO NOTHING",
        (gateway, kind, epoch, other, *at, now_us),
    )


def _children(db: Connection, gateway: str, epoch: str) -> list[tuple[str, Heads]]:
    found = db.execute("SELECT epoch, parent_heads FROM epochs WHERE gateway = ? AND parent = ?", (gateway, epoch)).fetchall()
    return [(child, msgspec.json.decode(heads, type=Heads)) for child, heads in found]


# ---------------------------------------------------------------- pressing


def press_opening(db: Connection, press: Press, row: BoxRow, epoch: str, now_us: int) -> Pressed:
    """Make the next opening of a box, for one start."""
    marks = _marks(db, row.gateway)
    oldest_s = now_us // 1_000_000 - KEPT_DAYS * 86_400
    given = shapes.given(db, row.gateway, row.timezone)
    used, stands = _used(db, row.gateway, oldest_s), _stands(db, row.gateway, oldest_s)
    counted = limited.of_box(db, row.gateway, row.timezone), risks.taken_by_members(db, row.gateway, now_us)
    opening = Opening(epoch, marks, used, stands, given, *_assigned(db, row.gateway), *counted)
    number = press.seal_opening(db, row, opening, now_us)
    db.execute("INSERT INTO openings_counting VALUES (?, ?) ON CONFLICT (gateway, number) DO NOTHING", (row.gateway, number))
    values = (row.gateway, number, epoch, now_us, _counted(marks))
    db.execute("INSERT INTO openings (gateway, number, epoch, pressed_us, counted) VALUES (?, ?, ?, ?, ?)", values)
    return Pressed(number, epoch, now_us, _counted(marks), 0)


def _assigned(db: Connection, gateway: str) -> tuple[list[AssignmentStand], int]:
    return assignments.told(db, gateway), assignments.settled_s(db, gateway)


def _marks(db: Connection, gateway: str) -> dict[str, int]:
    counted = "SELECT epoch, mark FROM marks WHERE gateway = ? AND lane = ? AND mark > 0 ORDER BY epoch"
    return dict(db.execute(counted, (gateway, int(Lane.MONEY))).fetchall())


def _counted(marks: dict[str, int]) -> str:
    return msgspec.json.encode(marks).decode("ascii")


def _used(db: Connection, gateway: str, oldest_s: int) -> list[UsedVoucher]:
    """Vouchers used at a box, less what was reversed; those left out that have run out long ago."""
    found = db.execute(
        "SELECT u.voucher_id, u.at_us, u.station, u.staff, u.units, u.amount_minor FROM uses u LEFT JOIN vouchers v"  # noqa: S608 - our own names
        f" ON v.voucher_id = u.voucher_id WHERE u.gateway = ? AND {shapes.NET} AND (v.not_after_s IS NULL OR v.not_after_s >= ?)"
        " ORDER BY u.at_us, u.id",
        (gateway, oldest_s),
    ).fetchall()
    known: dict[str, UsedVoucher] = {}
    for voucher_id, at_us, station, staff, units, minor in found:
        before = known.get(voucher_id, UsedVoucher(voucher_id, 0, at_us, station, staff))
        last = UsedVoucher(voucher_id, 0, at_us, station, staff) if units > 0 else before
        known[voucher_id] = msgspec.structs.replace(last, uses=before.uses + units, spent_minor=before.spent_minor + minor)
    return list(known.values())


def _stands(db: Connection, gateway: str, oldest_s: int) -> list[OrderStand]:
    found = db.execute(
        "SELECT e.order_id, e.state, e.bank, e.compartment, e.at_us FROM order_events e LEFT JOIN orders o ON o.order_id = e.order_id"
        " WHERE e.gateway = ? AND (o.not_after_s IS NULL OR o.not_after_s >= ?) ORDER BY e.id",
        (gateway, oldest_s),
    ).fetchall()
    return list({row[0]: OrderStand(*row) for row in found}.values())


# ---------------------------------------------------------------- what came of it


def admitted(db: Connection, row: StoredRow, event: EpochAdmitted) -> None:
    """Effect of a row: a start was admitted; if by an opening, what was raised before that was pressed is settled."""
    if event.opening is None:
        return
    values = (row.received_us, row.gateway, event.opening, event.epoch)
    db.execute("UPDATE openings SET applied_us = ? WHERE gateway = ? AND number = ? AND epoch = ? AND applied_us = 0", values)
    db.execute(
        "UPDATE alarms SET settled_us = ? WHERE gateway = ? AND settled_us = 0"
        " AND at_us <= (SELECT pressed_us FROM openings WHERE gateway = ? AND number = ? AND epoch = ?)",
        (row.received_us, row.gateway, row.gateway, event.opening, event.epoch),
    )


def describe(db: Connection, gateway: str, unproven: bool, now_us: int) -> dict[str, Any]:
    """What headquarters' people should know of a box's start: alarms, the last opening, and what may be lost meanwhile."""
    found = db.execute(
        "SELECT kind, epoch, other, lane, claimed, mark, at_us, settled_us FROM alarms WHERE gateway = ? ORDER BY id DESC LIMIT ?",
        (gateway, MOST_SHOWN),
    ).fetchall()
    names = ("kind", "epoch", "other", "lane", "claimed", "mark", "at_us", "settled_us")
    alarms = [dict(zip(names, alarm, strict=True)) for alarm in found]
    last = last_pressed(db, gateway)
    is_open = not unproven and all(alarm["settled_us"] for alarm in alarms)
    return {
        "admitted": not unproven, "alarms": alarms, "exposure": None if is_open else _exposed(db, gateway, now_us),
        "overused": _overused(db, gateway),
        "opening": None if last is None else {
            "number": last.number, "epoch": last.epoch, "pressed_us": last.pressed_us, "applied_us": last.applied_us,
        },
    }  # fmt: skip


# Of each voucher: uses left (of a face value: 1 while anything is left), and what they are worth.
_STANDS: Final = (
    "SELECT v.gateway, v.revoked, v.not_after_s, v.value_minor, coalesce(s.partial, 0) AS partial, coalesce(s.practice, 0) AS practice,"  # noqa: S608 - our own names
    " v.uses - coalesce(n.units, 0) AS uses_left, v.value_minor - coalesce(n.minor, 0) AS minor_left FROM vouchers v"
    " LEFT JOIN voucher_shapes s ON s.voucher_id = v.voucher_id LEFT JOIN"
    " (SELECT voucher_id, CAST(sum(units) AS BIGINT) AS units, CAST(sum(amount_minor) AS BIGINT) AS minor FROM uses"
    f" WHERE {shapes.NET} GROUP BY voucher_id) AS n ON n.voucher_id = v.voucher_id WHERE v.gateway = ?"
)
_SUMS: Final = "SELECT count(*), CAST(coalesce(sum(n), 0) AS BIGINT), CAST(coalesce(sum(worth), 0) AS BIGINT)"


def _exposed(db: Connection, gateway: str, now_us: int) -> dict[str, int]:
    """Uses that the box could still give away: of its vouchers that are neither used up, revoked nor run out."""
    found = db.execute(
        f"{_SUMS} FROM (SELECT CASE partial WHEN 1 THEN CASE WHEN minor_left > 0 THEN 1 ELSE 0 END ELSE uses_left END AS n,"  # noqa: S608 - our own names
        f" CASE partial WHEN 1 THEN minor_left ELSE uses_left * value_minor END AS worth FROM ({_STANDS}) AS stands"
        " WHERE revoked = 0 AND practice = 0 AND not_after_s >= ?) AS open_ WHERE n > 0",
        (gateway, now_us // 1_000_000),
    ).fetchone()
    return {"vouchers": found[0], "uses": found[1], "value_minor": found[2]}


def _overused(db: Connection, gateway: str) -> dict[str, int]:
    """Uses beyond what a voucher allows: what an old image has cost."""
    found = db.execute(
        f"{_SUMS} FROM (SELECT CASE partial WHEN 1 THEN CASE WHEN minor_left < 0 THEN 1 ELSE 0 END ELSE -uses_left END AS n,"  # noqa: S608 - our own names
        f" CASE partial WHEN 1 THEN -minor_left ELSE -uses_left * value_minor END AS worth FROM ({_STANDS}) AS stands) AS over_"
        " WHERE n > 0",
        (gateway,),
    ).fetchone()
    return {"vouchers": found[0], "uses": found[1], "value_minor": found[2]}


def alarmed(db: Connection) -> int:
    """How many alarms no opening has settled yet, of all boxes."""
    gateways = [row.gateway for row in registry.boxes(db)]
    found = dict(db.execute("SELECT gateway, count(*) FROM alarms WHERE settled_us = 0 GROUP BY gateway").fetchall())
    return sum(found.get(gateway, 0) for gateway in gateways)
