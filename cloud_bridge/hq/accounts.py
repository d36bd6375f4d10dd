"""Members' points: what sales and first visits earn, credited once each, by the row it came from.

What rows say is only written down when they arrive. `resolve` and `settle` do the rest a moment later, for many at once, since shops are
told of each change: a sale of a member nobody knew waits until somebody with that number is made, a first visit until every shop has
told of the time before. An entry of the account bears its row's name as its key, so whatever is tried again credits nothing twice.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq import assignments, consents, limited, members, owing, rates, returns
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import MemberBound, MemberRecognised, PointsAccrued, RevisitAsked
from gateway.phones import sale_ref
from gateway.rules.revisit import DAY_US, SAME_VISIT_US
from gateway.token import points_ref

MOST_AT_ONCE: Final = 200  # sales of one look
MOST_HASHES: Final = 200_000  # of one look: less than a second
Found = dict[tuple[str, str], str]  # gateway and sale to member


class Waiting(Struct, frozen=True):
    """A sale whose points are not credited yet."""

    gateway: str
    sale_id: str
    member_ref: str | None
    member_code: str | None
    phone_ref: str | None
    region: str
    tried: int


# ---------------------------------------------------------------- as rows arrive


def bound(db: Connection, row: StoredRow, event: MemberBound) -> None:
    """A member was joined to a redemption. One that is only held is nobody's business here yet."""
    at_us = event.event_time.wall_us
    if consents.is_withdrawn(db, event.member_ref, at_us):
        return  # the shop had not heard of it
    saw(db, row, event.member_ref, at_us)
    if event.redemption_id is not None:
        db.execute(
            "INSERT INTO bindings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, redemption_id) DO NOTHING",
            (
                row.gateway, event.redemption_id, event.member_ref, event.voucher_id, event.campaign, event.units, event.how, at_us,
                row.received_us,
            ),
        )  # fmt: skip
        limited.used(db, event)


def recognised(db: Connection, row: StoredRow, event: MemberRecognised) -> None:
    """A member's code was shown."""
    saw(db, row, event.member_ref, event.event_time.wall_us)


def accrued(db: Connection, row: StoredRow, event: PointsAccrued) -> None:
    """A sale earns points: if the sale counts, which a receipt that an old disk took twice does not."""
    if db.execute("SELECT 1 FROM sales WHERE gateway = ? AND sale_id = ?", (row.gateway, event.sale_id)).fetchone():
        db.execute(
            "INSERT INTO accruals VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', -1, ?, ?) ON CONFLICT (gateway, sale_id) DO NOTHING",
            (
                row.gateway, event.sale_id, event.member_ref, event.member_code, event.phone_ref, event.spent_minor, event.currency,
                event.event_time.wall_us, row.received_us,
            ),
        )  # fmt: skip
        rates.note(db, row.gateway, event)


def asked(db: Connection, row: StoredRow, event: RevisitAsked) -> None:
    """A shop asks whether it was a member's first visit in so many days."""
    db.execute(
        "INSERT INTO revisits VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', 0, ?, ?) ON CONFLICT (gateway, revisit_id) DO NOTHING",
        (
            row.gateway, event.revisit_id, event.campaign, event.version, event.days, event.points, event.member_ref,
            event.event_time.wall_us, row.received_us,
        ),
    )  # fmt: skip


def saw(db: Connection, row: StoredRow, member_ref: str, at_us: int) -> None:
    """A member was in a shop."""
    sql = "INSERT INTO member_visits VALUES (?, ?, ?, ?) ON CONFLICT (member_ref, gateway, at_us) DO NOTHING"
    db.execute(sql, (member_ref, row.gateway, at_us, row.received_us))


# ---------------------------------------------------------------- a moment later: sales


def newest(db: Connection) -> int:
    """The latest change of members."""
    return int(db.execute("SELECT coalesce(max(change), 0) FROM members").fetchone()[0])


def waiting(db: Connection, through: int) -> list[Waiting]:
    """Sales to be looked at: those for which members have changed since they were looked at last."""
    sql = (
        "SELECT a.gateway, a.sale_id, a.member_ref, a.member_code, a.phone_ref, b.timezone, a.tried FROM accruals a"
        " JOIN boxes b ON b.gateway = a.gateway WHERE a.state = 'waiting' AND a.tried < ? ORDER BY a.tried, a.at_us LIMIT ?"
    )
    return [
        Waiting(gateway, sale, ref, code, phone, members.REGIONS.get(timezone, members.ELSEWHERE), tried)
        for gateway, sale, ref, code, phone, timezone, tried in db.execute(sql, (through, MOST_AT_ONCE)).fetchall()
    ]


def resolve(db: Connection, sales: Iterable[Waiting]) -> tuple[list[Waiting], Found]:
    """Whose some sales are; with it, those that were looked at: hashing stops after so many."""
    looked, found, hashes = list[Waiting](), Found(), 0
    known: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for sale in sales:
        if hashes > MOST_HASHES:
            break
        looked.append(sale)
        ref = sale.member_ref or _of_code(db, sale.member_code)
        if ref is None and sale.phone_ref is not None:
            changed = known.setdefault((sale.region, sale.tried), []) or _with_numbers(db, sale.region, sale.tried)
            known[sale.region, sale.tried] = changed
            hashes += len(changed)
            ref = next((member for member, key in changed if sale_ref(key, sale.sale_id) == sale.phone_ref), None)
        if ref is not None:
            found[sale.gateway, sale.sale_id] = ref
    return looked, found


def credit(db: Connection, looked: Iterable[Waiting], found: Found, through: int, now_us: int) -> set[str]:
    """Credit sales to whoever they were found to be of; the regions whose members changed."""
    regions = set()
    for sale in looked:
        place = sale.gateway, sale.sale_id
        ref = found.get(place)
        open_ = db.execute(
            "SELECT spent_minor, currency, at_us FROM accruals WHERE gateway = ? AND sale_id = ? AND state = 'waiting'", place
        ).fetchone()
        if open_ is None:
            continue
        if ref is not None and consents.is_withdrawn(db, ref, open_[2]):
            db.execute(
                "UPDATE accruals SET state = 'declined', member_ref = NULL, phone_ref = NULL WHERE gateway = ? AND sale_id = ?", place
            )
            continue
        points = rates.of_sale(db, *place, open_[1]).earned(open_[0] - returns.returned_minor(db, *place))
        if ref is None or not _enter(db, (sale.gateway, "sale", sale.sale_id), ref, points, open_[2], now_us):
            db.execute("UPDATE accruals SET tried = ? WHERE gateway = ? AND sale_id = ?", (through, *place))
            continue
        done = "UPDATE accruals SET state = 'credited', member_ref = ?, phone_ref = NULL WHERE gateway = ? AND sale_id = ?"
        db.execute(done, (ref, *place))
        db.execute("UPDATE sales SET member_ref = ? WHERE gateway = ? AND sale_id = ? AND member_ref IS NULL", (ref, *place))
        visit = "INSERT INTO member_visits VALUES (?, ?, ?, ?) ON CONFLICT (member_ref, gateway, at_us) DO NOTHING"
        db.execute(visit, (ref, sale.gateway, open_[2], now_us))
        regions.add(sale.region)
    return regions


def _of_code(db: Connection, code: str | None) -> str | None:
    found = db.execute("SELECT member_ref FROM members WHERE code = ?", (code,)).fetchone() if code is not None else None
    return None if found is None else str(found[0])


def _with_numbers(db: Connection, region: str, after: int) -> list[tuple[str, str]]:
    sql = "SELECT member_ref, phone_key FROM members WHERE region = ? AND change > ? AND phone_key IS NOT NULL"
    return [(ref, key) for ref, key in db.execute(sql, (region, after)).fetchall()]


def _enter(db: Connection, source: tuple[str, str, str], member_ref: str, points: int, at_us: int, now_us: int) -> bool:
    """Write an entry of the account and what shops show, once; False: there is no such member (any more)."""
    try:
        members.one(db, member_ref)
    except RefusedAsk:
        return False
    sql = "INSERT INTO point_entries VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, source, source_id) DO NOTHING"
    if db.execute(sql, (*source, member_ref, points, at_us, now_us)).rowcount and points:
        owes = owing.owed(db, member_ref)
        before = owing.net(db, member_ref) if owes else 0
        if not owes:
            members.move_points(db, member_ref, points)
        earned = db.execute("SELECT CAST(sum(points) AS BIGINT) FROM point_entries WHERE member_ref = ?", (member_ref,)).fetchone()[0]
        _whose(db, assignments.earn(db, member_ref, int(earned), now_us), member_ref)
        if owes:  # the account has paid of its debt what it could
            owing.pay(db, member_ref)
            owing.show(db, member_ref, before)
    return True


def _whose(db: Connection, voucher_id: str, member_ref: str) -> None:
    db.execute("INSERT INTO point_accounts VALUES (?, ?, 0) ON CONFLICT (voucher_id) DO NOTHING", (voucher_id, member_ref))


def reopen(db: Connection, voucher_ids: set[str], now_us: int) -> None:
    """After a restore: open the accounts among these, of members who are known. Shops hold shares of them: an account that rows opened
    anew would lend those once more."""
    refs = db.execute("SELECT member_ref FROM members").fetchall() if voucher_ids else []
    for (member_ref,) in refs:
        if points_ref(member_ref) in voucher_ids:
            _whose(db, assignments.open_points(db, member_ref, now_us), member_ref)


# ---------------------------------------------------------------- spent


def moved(db: Connection, voucher_id: str, points: int) -> None:
    """Effect of a row about a balance: if it is a member's points, shops are shown so many more, or less."""
    found = db.execute("SELECT member_ref FROM point_accounts WHERE voucher_id = ?", (voucher_id,)).fetchone()
    if found is not None:
        member_ref = str(found[0])
        if owing.owed(db, member_ref):
            owing.show(db, member_ref, owing.net(db, member_ref) - points)
        else:
            members.move_points(db, member_ref, points)
        db.execute("UPDATE point_accounts SET untold = 1 WHERE voucher_id = ?", (voucher_id,))


def untold(db: Connection) -> bool:
    """Whether shops have to hear of points that were spent or came back, or of uses that members are limited in."""
    return limited.untold(db) or db.execute("SELECT 1 FROM point_accounts WHERE untold = 1 LIMIT 1").fetchone() is not None


def tell(db: Connection) -> set[str]:
    """The regions whose shops hear of them now."""
    sql = "SELECT DISTINCT m.region FROM point_accounts p JOIN members m ON m.member_ref = p.member_ref WHERE p.untold = 1"
    regions = {str(region) for (region,) in db.execute(sql).fetchall()}
    db.execute("UPDATE point_accounts SET untold = 0 WHERE untold = 1")
    return regions | limited.tell(db)


# ---------------------------------------------------------------- a moment later: first visits


def is_due(db: Connection, through_us: int) -> bool:
    """Whether there is a first visit to be answered."""
    return db.execute("SELECT 1 FROM revisits WHERE state = 'pending' AND at_us <= ? LIMIT 1", (through_us,)).fetchone() is not None


def settle(db: Connection, through_us: int, now_us: int) -> set[str]:
    """Answer every first visit up to the moment through which all shops have told everything; the regions whose members changed."""
    sql = (
        "SELECT gateway, revisit_id, days, points, member_ref, at_us FROM revisits WHERE state = 'pending' AND at_us <= ?"
        " ORDER BY at_us, gateway LIMIT ?"
    )
    regions = set()
    for gateway, revisit_id, days, points, member_ref, at_us in db.execute(sql, (through_us, MOST_AT_ONCE)).fetchall():
        state = "not_first" if _was_there(db, member_ref, gateway, at_us, days) else "granted"
        if state == "granted" and not _enter(db, (gateway, "revisit", revisit_id), member_ref, points, at_us, now_us):
            state = "no_member"
        done = "UPDATE revisits SET state = ?, settled_us = ? WHERE gateway = ? AND revisit_id = ?"
        db.execute(done, (state, now_us, gateway, revisit_id))
        if state == "granted":
            regions.add(members.one(db, member_ref).region)
    return regions


def _was_there(db: Connection, member_ref: str, gateway: str, at_us: int, days: int) -> bool:
    """Whether a member was in any shop in the days before; the same visit does not count, nor what two shops asked in one moment twice."""
    sql = (
        "SELECT 1 FROM member_visits WHERE member_ref = ? AND at_us >= ? AND (at_us < ? OR (at_us = ? AND gateway < ?))"
        " AND NOT (gateway = ? AND at_us > ?) LIMIT 1"
    )
    values = (member_ref, at_us - days * DAY_US, at_us, at_us, gateway, gateway, at_us - SAME_VISIT_US)
    return db.execute(sql, values).fetchone() is not None


# ---------------------------------------------------------------- looking


def account(db: Connection, member_ref: str) -> dict[str, Any]:
    """A member's entries, newest first, and what still waits."""
    names = ("gateway", "source", "source_id", "points", "at_us", "credited_us")
    sql = f"SELECT {', '.join(names)} FROM point_entries WHERE member_ref = ? ORDER BY credited_us DESC, source_id LIMIT 500"  # noqa: S608
    entries = [dict(zip(names, row, strict=True)) for row in db.execute(sql, (member_ref,)).fetchall()]
    sums = "SELECT CAST(coalesce(sum(points), 0) AS BIGINT) FROM point_entries WHERE member_ref = ?"
    open_ = "SELECT count(*) FROM accruals WHERE member_ref = ? AND state = 'waiting'"
    pending = "SELECT count(*) FROM revisits WHERE member_ref = ? AND state = 'pending'"
    earned, waiting_sales, revisits = (int(db.execute(one, (member_ref,)).fetchone()[0]) for one in (sums, open_, pending))
    return {
        "member_ref": member_ref, "account": points_ref(member_ref), "earned": earned, "entries": entries, "waiting_sales": waiting_sales,
        "pending_revisits": revisits, "owed": owing.owed(db, member_ref),
    }  # fmt: skip


def uses(db: Connection, member_ref: str) -> list[dict[str, Any]]:
    """How often a member used each campaign in each shop, less what was reversed: what one shop's limit does not see of another."""
    sql = (
        "SELECT n.campaign, b.store, CAST(sum(n.units) AS BIGINT) FROM bindings n JOIN boxes b ON b.gateway = n.gateway"
        " WHERE n.member_ref = ? AND NOT EXISTS (SELECT 1 FROM uses r WHERE r.redemption_id = n.redemption_id AND r.redemption_id <> ''"
        " AND r.gateway = n.gateway AND r.kind = 'reversed') GROUP BY n.campaign, b.store ORDER BY n.campaign, b.store"
    )
    found = db.execute(sql, (member_ref,)).fetchall()
    return [{"campaign": campaign, "store": store, "units": units} for campaign, store, units in found]


def revisits(db: Connection, state: str) -> list[dict[str, Any]]:
    """First visits that shops asked about, newest first."""
    names = ("store", "revisit_id", "campaign", "version", "days", "points", "member_ref", "state", "at_us", "settled_us")
    sql = (
        "SELECT b.store, r.revisit_id, r.campaign, r.version, r.days, r.points, r.member_ref, r.state, r.at_us, r.settled_us"
        " FROM revisits r"
        " JOIN boxes b ON b.gateway = r.gateway WHERE ? = '' OR r.state = ? ORDER BY r.at_us DESC, r.revisit_id LIMIT 500"
    )
    return [dict(zip(names, row, strict=True)) for row in db.execute(sql, (state, state)).fetchall()]
