"""What each issuer owes each shop for a day: uses, less what was taken back, and their face value; and how complete that is.

Every number is a sum over `uses`, which is written in the transaction that stores the ledger's rows: what is settled is what the
ledger says, to the row. A day is the shop's own; a reversal counts on the day it was made. Of our own vouchers the face value is
known: of one that is spent in parts what was spent, of any other its value for each use. What another issuer signed into a code
stays with the issuer: such uses are counted, without a value.

What shops took on trust and came too late is listed beside that, with who bears it (`losses`): it stands in what is owed as well, so
of a loss the issuer bears nothing is to be done, and any other is to be taken off of what the issuer pays.

A day is `final` when every box was heard from after it ended, nothing of its money lane is waiting, and no row of it lacks its time.
"""

import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq import registry, risks
from cloud_bridge.hq.books import books
from cloud_bridge.hq.ready import zone
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.events import Lane, RedemptionReversed, VoucherRedeemed
from gateway.token import HOME_ISSUER

MONEY_ROWS: Final = (VoucherRedeemed.__name__, RedemptionReversed.__name__)
MICROS: Final = 1_000_000


class Owed(Struct, frozen=True, kw_only=True):
    """What one issuer owes one shop, or, as a total, all shops (`store` empty)."""

    issuer: int
    store: str = ""
    gateway: str = ""
    redemptions: int = 0  # rows
    uses: int = 0
    reversals: int = 0  # rows
    reversed_uses: int = 0
    net_uses: int = 0
    face_minor: int = 0  # net, in the currency's minor unit
    unvalued_uses: int = 0  # net uses of which headquarters does not know the value

    def plus(self, other: "Owed") -> "Owed":
        """Both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMMED}
        return msgspec.structs.replace(self, **sums)


SUMMED: Final = ("redemptions", "uses", "reversals", "reversed_uses", "net_uses", "face_minor", "unvalued_uses")


class Lanes(Struct, frozen=True, kw_only=True):
    """How far a box's money lane has come: why the day is not final, or nothing."""

    store: str
    gateway: str
    through: str  # start and last row that arrived without a gap, such as `3-ab:120`
    heard_us: int  # 0: never
    waiting: int  # rows the box has and headquarters has not, of whichever day
    undated: int  # rows counted on a day that an unbelieved clock made up
    quarantined: int  # rows nobody here can read
    declared: int  # rows lost for good, as the box said
    provisional: str  # empty: final


class Loss(Struct, frozen=True, kw_only=True):
    """What one shop took on trust and somebody else had taken before."""

    issuer: int
    store: str
    gateway: str
    bearer: str  # "issuer", "retailer" or "shop"
    redemptions: int
    uses: int
    loss_minor: int


class Settlement(Struct, frozen=True, kw_only=True):
    """A day."""

    day: str
    issuer: int | None  # None: all
    currency: str  # of the chain: vouchers name none
    made_us: int
    provisional: bool
    owed: list[Owed]
    totals: list[Owed]
    boxes: list[Lanes]
    losses: list[Loss] = []


def settle(db: Connection, day: str, issuer: int | None, currency: str, now_us: int) -> Settlement:
    """Settle a day, all of it of one moment.

    Raises:
        RefusedAsk: There is no such day.
    """
    try:
        date = datetime.date.fromisoformat(day)
        rows = registry.boxes(db)
        bounds = {row.gateway: _bounds(date, row.timezone) for row in rows}
    except (ValueError, OverflowError) as error:
        raise RefusedAsk(422, f"there is no day {day}", "Write it as 2026-11-22") from error
    owed = [one for row in rows for one in _owed(db, row, bounds[row.gateway]) if issuer in (None, one.issuer)]
    totals: dict[int, Owed] = {}
    for one in owed:
        totals[one.issuer] = totals.get(one.issuer, Owed(issuer=one.issuer)).plus(one)
    lost = [one for row in rows for one in _lost(db, row, bounds[row.gateway]) if issuer in (None, one.issuer)]
    lanes = _lanes(db, rows, {gateway: end_us for gateway, (_, end_us) in bounds.items()}, now_us)
    return Settlement(
        day=day, issuer=issuer, currency=currency, made_us=now_us, provisional=any(one.provisional for one in lanes), owed=owed,
        totals=[totals[number] for number in sorted(totals)], boxes=lanes, losses=lost,
    )  # fmt: skip


def issuer_of(voucher_id: str) -> int:
    """Whose a voucher is, by its reference as `gateway.token.voucher_ref` writes it."""
    named, found, _ = voucher_id.partition("-")
    return int(named) if found and named.isascii() and named.isdigit() else HOME_ISSUER


def _bounds(date: datetime.date, timezone: str) -> tuple[int, int]:
    begins = datetime.datetime.combine(date, datetime.time(), zone(timezone))
    ends = datetime.datetime.combine(date + datetime.timedelta(days=1), datetime.time(), zone(timezone))
    return int(begins.timestamp() * MICROS), int(ends.timestamp() * MICROS)


# Points are no uses: however many are spent, a points account was used once.
_TIMES: Final = "CASE WHEN b.unit = 'points' AND u.units <> 0 THEN CASE WHEN u.units > 0 THEN 1 ELSE -1 END ELSE u.units END"


def _owed(db: Connection, row: BoxRow, bounds: tuple[int, int]) -> list[Owed]:
    found = db.execute(
        f"SELECT u.voucher_id, u.kind, {_TIMES}, u.amount_minor, coalesce(v.value_minor, a.value_minor) FROM uses u"  # noqa: S608 - ours
        " LEFT JOIN vouchers v ON v.voucher_id = u.voucher_id LEFT JOIN assigned a ON a.voucher_id = u.voucher_id"
        " LEFT JOIN balances b ON b.voucher_id = u.voucher_id"
        " WHERE u.gateway = ? AND u.at_us >= ? AND u.at_us < ? AND u.kind IN ('redeemed', 'reversed') AND u.voucher_id IS NOT NULL",
        (row.gateway, *bounds),
    )
    by_issuer: dict[int, Owed] = {}
    for voucher_id, kind, units, amount_minor, value_minor in found:
        issuer = issuer_of(voucher_id)
        known = by_issuer.get(issuer, Owed(issuer=issuer, store=row.store, gateway=row.gateway))
        by_issuer[issuer] = known.plus(_one(issuer, kind, units, amount_minor, value_minor))
    return [by_issuer[number] for number in sorted(by_issuer)]


def _lost(db: Connection, row: BoxRow, bounds: tuple[int, int]) -> list[Loss]:
    found = db.execute(
        f"SELECT u.voucher_id, u.bearer, u.units - u.good, {risks.LOSS} FROM uses x JOIN shared_uses u"  # noqa: S608 - our own names
        " ON u.gateway = x.gateway AND u.redemption_id = x.redemption_id WHERE x.gateway = ? AND x.at_us >= ?"
        " AND x.at_us < ? AND x.kind = 'redeemed' AND u.kind = 'risk'"
        " AND u.reversed = 0 AND u.good < u.units ORDER BY u.id",
        (row.gateway, *bounds),
    ).fetchall()
    sums: dict[tuple[int, str], tuple[int, int, int]] = {}
    for voucher_id, bearer, uses, loss_minor in found:
        key = issuer_of(voucher_id), bearer
        rows, units, minor = sums.get(key, (0, 0, 0))
        sums[key] = rows + 1, units + uses, minor + loss_minor
    return [
        Loss(issuer=key[0], store=row.store, gateway=row.gateway, bearer=key[1], redemptions=one[0], uses=one[1], loss_minor=one[2])
        for key, one in sorted(sums.items())
    ]


def _one(issuer: int, kind: str, units: int, amount_minor: int, value_minor: int | None) -> Owed:
    face = amount_minor or units * (value_minor or 0)
    unvalued = units if value_minor is None and not amount_minor else 0
    if kind == "redeemed":
        return Owed(issuer=issuer, redemptions=1, uses=units, net_uses=units, face_minor=face, unvalued_uses=unvalued)
    counts = int(units != 0 or amount_minor != 0)  # a reversal told again takes nothing back
    return Owed(issuer=issuer, reversals=counts, reversed_uses=-units, net_uses=units, face_minor=face, unvalued_uses=unvalued)


def _lanes(db: Connection, rows: list[BoxRow], ends_us: dict[str, int], now_us: int) -> list[Lanes]:
    marks: dict[str, list[Any]] = {}
    for entry in books(db):
        if entry.lane == Lane.MONEY:
            marks.setdefault(entry.gateway, []).append(entry)
    beats = {
        gateway: (heard_us, epoch, msgspec.json.decode(last, type=dict[int, int]).get(Lane.MONEY, 0))
        for gateway, heard_us, epoch, last in db.execute("SELECT gateway, heard_us, epoch, last FROM beats").fetchall()
    }
    kinds = ", ".join("?" * len(MONEY_ROWS))
    counted = f"SELECT gateway, count(*) FROM undated WHERE type IN ({kinds}) GROUP BY gateway"  # noqa: S608 - question marks
    undated = dict(db.execute(counted, MONEY_ROWS).fetchall())
    return [_lane(row, marks.get(row.gateway, []), beats.get(row.gateway), undated.get(row.gateway, 0), ends_us, now_us) for row in rows]


def _lane(
    row: BoxRow, entries: list[Any], beat: tuple[int, str, int] | None, undated: int, ends_us: dict[str, int], now_us: int
) -> Lanes:  # fmt: skip
    heard_us, epoch, last = beat or (0, "", 0)
    arrived = {entry.epoch: entry.received + entry.declared for entry in entries}
    waiting = sum(entry.waiting for entry in entries if entry.epoch != epoch)
    waiting += max([last - arrived.get(epoch, 0), *(entry.waiting for entry in entries if entry.epoch == epoch)], default=0)
    waiting = max(0, waiting)
    quarantined, declared = sum(entry.quarantined for entry in entries), sum(entry.declared for entry in entries)
    why = (
        "day_not_over" if now_us < ends_us[row.gateway] else "never_heard" if beat is None
        else "not_heard_since" if heard_us < ends_us[row.gateway] else "waiting" if waiting
        else "undated" if undated else "quarantined" if quarantined else ""
    )  # fmt: skip
    return Lanes(
        store=row.store, gateway=row.gateway, through=" ".join(f"{name}:{count}" for name, count in sorted(arrived.items())),
        heard_us=heard_us, waiting=waiting, undated=undated, quarantined=quarantined, declared=declared, provisional=why,
    )  # fmt: skip
