"""Vouchers that headquarters assigns: their stands in the database, moved by claims, by rows of boxes and by headquarters' people.

The rules are `gateway.rules.assigning`; here is where their results are kept. Every function runs inside the caller's transaction.
A stand that changes by something that leaves headquarters is written to the journal by the caller before it is sent.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq import balances, news, once
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import RedemptionReversed, Released, SettledThrough, VoucherRedeemed
from gateway.rules.assigning import ENDED, Asked, Assigner, Credit, Given, Refused, Stand, Wish
from gateway.rules.balance import POINTS
from gateway.signed import AssignmentStand
from gateway.token import VoucherClass, points_ref

GRANT_S: Final = 3_600  # how long what is given holds: so long a box that went dark keeps others waiting, at most
FOR_EVER_S: Final = 2**32 - 1
RULES: Final = Assigner()
SHARED: Final = (VoucherClass.LEASED, VoucherClass.BOUNDED_RISK, VoucherClass.OPEN_CODE)  # several boxes may hold a share
DENIED: Final = (VoucherClass.BOUNDED_RISK, VoucherClass.HQ_LIVE)  # shops may take these on trust: they hear what is cancelled
_decode = msgspec.json.Decoder(Stand).decode


class AssignedRow(Struct, frozen=True):
    """An assigned voucher as headquarters' people see it."""

    voucher_id: str
    voucher_class: int
    campaign: int
    title_zh: str
    title_en: str
    not_after_s: int
    units: int
    value_minor: int
    token: str
    short_code: str
    holder_sha256: str
    issued_us: int
    stand: Stand

    @property
    def is_balance(self) -> bool:
        """Whether it is lent to shops in shares."""
        return self.voucher_class == VoucherClass.LEASED


def insert(db: Connection, row: AssignedRow) -> None:
    """A voucher was issued."""
    values = [getattr(row, name) for name in AssignedRow.__struct_fields__[:-1]]
    db.execute("INSERT INTO assigned VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, _json(row.stand)))


def find(db: Connection, voucher_id: str) -> AssignedRow | None:
    """One voucher; None: there is no such, or it is not of an assigned class."""
    found = db.execute("SELECT * FROM assigned WHERE voucher_id = ?", (voucher_id,)).fetchone()
    return (
        None if found is None else AssignedRow(**dict(zip(AssignedRow.__struct_fields__, (*found[:-1], _decode(found[-1])), strict=True)))
    )


def is_there(db: Connection, voucher_id: str) -> bool:
    """Whether there is such a voucher of an assigned class."""
    return db.execute("SELECT 1 FROM assigned WHERE voucher_id = ?", (voucher_id,)).fetchone() is not None


def holder_hash(voucher_id: str, secret: bytes) -> str:
    """What is stored of the secret in a voucher's link: of this voucher's and of no other's."""
    return hashlib.sha256(b"SGH1 holder\n" + voucher_id.encode() + b"\n" + secret).hexdigest()


# ---------------------------------------------------------------- giving


def give(db: Connection, voucher_id: str, asked: Asked, now_s: int) -> Given | Refused:
    """Assign a voucher to a box, or give what it holds once more."""
    row = find(db, voucher_id)
    if row is None:
        return Refused("unknown_voucher")
    if now_s > row.not_after_s:
        return Refused("expired")
    if is_destroyed(db, asked.gateway):
        return Refused("box_retired")
    lasts_s, units = _lasts_s(db, row), asked.units if row.voucher_class in SHARED else 0
    if row.is_balance:
        lending = balances.lending_of(db, voucher_id)
        lasts_s, units = lending.lease_s, max(1, asked.units, lending.share)
    asked = msgspec.structs.replace(asked, units=units)
    end_s = min(row.not_after_s, max(now_s, settled_s(db, asked.gateway)) + lasts_s)
    given = RULES.give(row.stand, asked, now_s, end_s)
    if isinstance(given, Given):
        _keep(db, given.stand)
    return given


def wish(db: Connection, voucher_id: str, wanted: Wish) -> Stand:
    """Cancel, refund or move it: at once, or as soon as nobody holds it.

    Raises:
        RefusedAsk: There is no such voucher.
    """
    row = find(db, voucher_id)
    if row is None:
        raise RefusedAsk(404, f"there is no assigned voucher {voucher_id}")
    stand = RULES.wished(row.stand, wanted)
    _keep(db, stand)
    if wanted in ENDED and row.voucher_class in DENIED:
        news.deny(db, voucher_id, row.not_after_s)
    elif row.voucher_class == VoucherClass.OPEN_CODE:
        news.tell_all(db)
    return stand


def destroy(db: Connection, gateway: str, now_us: int) -> list[Stand]:
    """A box is declared destroyed: what it holds comes back, and is booked as exposure; the stands that changed."""
    db.execute("INSERT INTO destroyed VALUES (?, ?) ON CONFLICT (gateway) DO NOTHING", (gateway, now_us))
    changed = [RULES.destroyed(stand, gateway) for stand in _held_by(db, gateway)]
    for stand in changed:
        _keep(db, stand)
    return changed


def swap(db: Connection, gateway: str) -> list[Stand]:
    """Another box enrols under the name of one that did before: what the old one holds is booked, and dead for the new one."""
    db.execute("DELETE FROM destroyed WHERE gateway = ?", (gateway,))
    changed = [RULES.destroyed(stand, gateway) for stand in _held_by(db, gateway)] if is_swapped(db, gateway) else []
    for stand in changed:
        _keep(db, stand)
    return changed


def is_swapped(db: Connection, gateway: str) -> bool:
    """Whether boxes of several keys have had this name: then each is given only what names its start."""
    sql = "SELECT count(DISTINCT used_public) FROM labels WHERE gateway = ? AND used_public IS NOT NULL"
    return int(db.execute(sql, (gateway,)).fetchone()[0]) > 1


def recall(db: Connection, journalled: Stand) -> bool:
    """After a restore: whether headquarters had said more of a voucher than the database knows."""
    row = find(db, journalled.voucher_id)
    if row is None or (stand := RULES.recalled(row.stand, journalled)) == row.stand:
        return False
    db.execute("UPDATE holdings SET live = 0 WHERE voucher_id = ?", (stand.voucher_id,))
    _keep(db, stand)
    return True


# ---------------------------------------------------------------- rows of boxes


def used(db: Connection, row: StoredRow, event: VoucherRedeemed) -> None:
    """Effect of a row: units were spent under a number."""
    balances.used(db, row, event)
    _move(db, event.voucher_id, lambda stand: RULES.use(stand, row.gateway, event.number, row.epoch, event.spent))


def taken_back(db: Connection, row: StoredRow, event: RedemptionReversed) -> None:
    """Effect of a row that comes once for each redemption: what was spent under a number is not any more."""
    epoch = balances.epoch_of(db, row.gateway, event.redemption_id) or row.epoch
    _move(db, event.voucher_id, lambda stand: RULES.taken_back(stand, row.gateway, event.number, epoch, event.spent))


def earn(db: Connection, member_ref: str, total: int, now_us: int) -> str:
    """A member has earned so many points in all: their account, which is opened with the first and named by their code alone."""
    voucher_id = open_points(db, member_ref, now_us)
    _move(db, voucher_id, lambda stand: RULES.earn(stand, total))
    return voucher_id


def open_points(db: Connection, member_ref: str, now_us: int) -> str:
    """Open a member's account, if it is not; its reference."""
    voucher_id = points_ref(member_ref)
    if find(db, voucher_id) is None:
        balances.note(db, voucher_id, balances.Lending(POINTS))
        account = AssignedRow(
            voucher_id, VoucherClass.LEASED, 0, "會員點數", "Points", FOR_EVER_S, 0, 0, "", "", "", now_us, Stand(voucher_id, 0)
        )
        insert(db, account)
    return voucher_id


def credit(db: Connection, voucher_id: str, units: int, by: Credit | None = None) -> Stand:
    """Put more into a balance, once for each request: the stand remembers it, and is what headquarters is restored from.

    Raises:
        RefusedAsk: There is no such balance, or it has ended.
    """
    row = find(db, voucher_id)
    if row is None:
        raise RefusedAsk(404, f"there is no assigned voucher {voucher_id}")
    balances.refuse_unless_balance(row.is_balance, voucher_id)
    done = next((one for one in row.stand.credits if by is not None and one.key == by.key), None)
    if done is not None:
        once.refuse_other(by is not None and done.asked == by.asked)
        return row.stand
    if row.stand.ended:
        raise RefusedAsk(409, f"{voucher_id} was {row.stand.ended}", "Issue another one")
    stand = RULES.credit(row.stand, units, by, once.KEPT_US // 1_000_000)
    _keep(db, stand)
    return stand


def released(db: Connection, row: StoredRow, event: Released) -> None:
    """Effect of a row: a box gave a number back."""
    counts = _counts(db, row, event.opening)
    _move(db, event.voucher_id, lambda stand: RULES.released(stand, row.gateway, event.number, counts))


def settled(db: Connection, row: StoredRow, event: SettledThrough) -> None:
    """Effect of a row: a box's promise never again to honour what has ended by then."""
    db.execute(
        "INSERT INTO settled VALUES (?, ?) ON CONFLICT (gateway) DO UPDATE SET through_s ="
        " CASE WHEN excluded.through_s > settled.through_s THEN excluded.through_s ELSE settled.through_s END",
        (row.gateway, event.through_s),
    )
    counts = _counts(db, row, event.opening)
    if counts:
        for stand in _held_by(db, row.gateway, event.through_s):
            _keep(db, RULES.settled(stand, row.gateway, event.through_s, counts))


def _counts(db: Connection, row: StoredRow, opening: int) -> bool:
    """Whether a row frees: the newest opening of its box, and whether anything speaks against the start that wrote it."""
    newest = db.execute("SELECT max(number) FROM openings WHERE gateway = ?", (row.gateway,)).fetchone()[0] or 0
    return RULES.counts(opening, newest, contradicted(db, row.gateway, row.epoch))


def contradicted(db: Connection, gateway: str, epoch: str) -> bool:
    """Whether an alarm of a box is not settled, or a start has a sibling that nobody has looked at yet."""
    alarm = db.execute("SELECT 1 FROM alarms WHERE gateway = ? AND settled_us = 0 LIMIT 1", (gateway,)).fetchone()
    sibling = db.execute(
        "SELECT 1 FROM epochs e JOIN epochs o ON o.gateway = e.gateway AND o.parent = e.parent AND o.epoch <> e.epoch"
        " WHERE e.gateway = ? AND e.epoch = ? AND NOT EXISTS (SELECT 1 FROM alarms a WHERE a.gateway = e.gateway"
        " AND a.kind = 'two_children' AND a.epoch IN (e.epoch, o.epoch) AND a.other IN (e.epoch, o.epoch)) LIMIT 1",
        (gateway, epoch),
    ).fetchone()
    return alarm is not None or sibling is not None


# ---------------------------------------------------------------- looking


def told(db: Connection, gateway: str) -> list[AssignmentStand]:
    """What an opening tells a box of its assignments."""
    through_s = settled_s(db, gateway)
    ids = db.execute(
        "SELECT DISTINCT voucher_id FROM holdings WHERE gateway = ? AND (live = 1 OR latest_s > ?) ORDER BY voucher_id",
        (gateway, through_s),
    ).fetchall()
    rows = [find(db, voucher_id) for (voucher_id,) in ids]
    return [stand for row in rows if row is not None for stand in RULES.told(row.stand, gateway, through_s)]


def settled_s(db: Connection, gateway: str) -> int:
    """The settled mark of a box."""
    found = db.execute("SELECT through_s FROM settled WHERE gateway = ?", (gateway,)).fetchone()
    return int(found[0]) if found else 0


def is_destroyed(db: Connection, gateway: str) -> bool:
    """Whether a box was declared destroyed."""
    return db.execute("SELECT 1 FROM destroyed WHERE gateway = ?", (gateway,)).fetchone() is not None


def wanted_back(db: Connection, gateway: str) -> list[tuple[str, int]]:
    """What headquarters wants a box to release: voucher and number."""
    held = [(stand, stand.kept_by(gateway)) for stand in _held_by(db, gateway) if stand.wish is not Wish.NONE]
    return [(stand.voucher_id, kept.number) for stand, kept in held if kept is not None]


def wanting(db: Connection) -> frozenset[str]:
    """Boxes that headquarters wants something back from."""
    found = db.execute("SELECT DISTINCT gateway FROM holdings WHERE live = 1").fetchall()
    return frozenset(gateway for (gateway,) in found if wanted_back(db, gateway))


def exposure(db: Connection) -> dict[str, Any]:
    """What is out, and what it may have cost: units that boxes hold, and of destroyed boxes; units spent under numbers that were over."""
    totals, boxes = Counter[str](), Counter[str]()
    for text, value_minor in db.execute("SELECT stand, value_minor FROM assigned").fetchall():
        stand: Stand = _decode(text)
        for kept in stand.kept:
            boxes[kept.gateway] += max(0, kept.units - kept.total_spent)
        totals.update(vouchers=1, exposed_units=stand.exposed, exposed_minor=stand.exposed * value_minor, late_units=stand.late)
        totals.update(late_minor=stand.late * value_minor, wished=int(stand.wish is not Wish.NONE))
    return dict(totals) | {"held_units": boxes.total(), "boxes": dict(boxes)}


# ---------------------------------------------------------------- inside


def _held_by(db: Connection, gateway: str, until_s: int | None = None) -> list[Stand]:
    found = db.execute(
        "SELECT a.stand FROM holdings h JOIN assigned a ON a.voucher_id = h.voucher_id WHERE h.gateway = ? AND h.live = 1"
        " AND h.latest_s <= ? ORDER BY a.voucher_id",
        (gateway, until_s if until_s is not None else 1 << 62),
    ).fetchall()
    return [_decode(text) for (text,) in found]


def _move(db: Connection, voucher_id: str, rule: Callable[[Stand], Stand]) -> None:
    row = find(db, voucher_id)
    if row is not None and (stand := rule(row.stand)) != row.stand:
        _keep(db, stand)


def _keep(db: Connection, stand: Stand) -> None:
    db.execute("UPDATE assigned SET stand = ? WHERE voucher_id = ?", (_json(stand), stand.voucher_id))
    rows = [(one.gateway, stand.voucher_id, one.number, one.latest_s, 0) for one in stand.gone]
    rows += [(one.gateway, stand.voucher_id, one.number, one.latest_s, 1) for one in stand.kept]
    db.put("holdings", rows, "(gateway, voucher_id, number) DO UPDATE SET latest_s = excluded.latest_s, live = excluded.live")


def keep(db: Connection, stand: Stand) -> None:
    """A row changed what nobody holds; nothing left headquarters by it."""
    _keep(db, stand)


def _lasts_s(db: Connection, row: AssignedRow) -> int:
    if row.voucher_class != VoucherClass.OPEN_CODE:
        return GRANT_S
    found = db.execute("SELECT lease_s FROM open_codes WHERE voucher_id = ?", (row.voucher_id,)).fetchone()
    return int(found[0]) if found is not None else GRANT_S


def _json(stand: Stand) -> str:
    return msgspec.json.encode(stand).decode("utf-8")
