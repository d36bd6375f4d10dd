"""What boxes' rows do to vouchers more than one shop may decide on: settle what was taken on trust, count open codes.

Headquarters' order is the order in which rows arrive, and is the `id` of `shared_uses`. What comes while a voucher is good for it is
good, the rest is loss; what comes free later heals the oldest loss. Rules: `gateway.rules.risk`. Runs in the transaction that takes
the row, so an acknowledged row is a settled one.
"""

from typing import Final

import msgspec

from cloud_bridge.hq import assignments, news
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.anywhere import RiskTerms
from gateway.events import OpenCodeUsed, RedemptionReversed, Released, RiskTaken, SettledThrough
from gateway.rules import risk
from gateway.rules.assigning import Stand

_decode = msgspec.json.Decoder(RiskTerms).decode
MOST_UNITS: Final = 1 << 16
MOST_MINOR: Final = 1 << 44  # with so many units still a number every database can add up
NOBODY: Final = "retailer"  # bears what was taken under terms nobody knows
_LOST: Final = "SELECT id, units - good, gateway FROM shared_uses WHERE voucher_id = ? AND kind = 'risk' AND reversed = 0 AND good < units"


def taken(db: Connection, row: StoredRow, event: RiskTaken) -> None:
    """Effect of a row: a voucher was used that any shop may decide on."""
    _refuse_odd(event.units, event.exposure_minor)
    if _is_known(db, row.gateway, event.redemption_id):
        return
    voucher, good = assignments.find(db, event.voucher_id), event.units
    if not event.number:
        settled = risk.settle(assignments.RULES, voucher.stand, row.gateway, row.epoch, event.units) if voucher is not None else None
        good = 0 if settled is None else settled.good
        if settled is not None:
            assignments.keep(db, settled.stand)
    found = db.execute("SELECT said FROM risk_terms WHERE campaign = ? AND version = ?", (event.campaign, event.terms)).fetchone()
    bearer = terms_of(found[0]).bearer if found is not None else NOBODY
    values = ("risk", event.campaign, bearer, event.number, event.units, good, event.exposure_minor, event.device)
    _note(db, row, event.redemption_id, event.voucher_id, values, event.event_time.wall_us)
    if good < event.units:
        _conflict(db, event.voucher_id, voucher.not_after_s if voucher is not None else 0, voucher.stand if voucher is not None else None)


def code_used(db: Connection, row: StoredRow, event: OpenCodeUsed) -> None:
    """Effect of a row: an open code was used, under a number that the use beside it was counted under."""
    _refuse_odd(event.units, 0)
    if not _is_known(db, row.gateway, event.redemption_id):
        values = ("code", 0, "", event.number, event.units, event.units, 0, "")
        _note(db, row, event.redemption_id, event.voucher_id, values, event.event_time.wall_us)


def taken_back(db: Connection, row: StoredRow, event: RedemptionReversed) -> None:
    """Effect of a row: a use was reversed. What it took on trust, or of a quota, is free again."""
    found = db.execute(
        "SELECT id, epoch, voucher_id, kind, number, good FROM shared_uses WHERE gateway = ? AND redemption_id = ? AND reversed = 0",
        (row.gateway, event.redemption_id),
    ).fetchone()
    if found is None:
        return
    place, epoch, voucher_id, kind, number, good = found
    db.execute("UPDATE shared_uses SET reversed = 1 WHERE id = ?", (place,))
    voucher = assignments.find(db, voucher_id)
    if voucher is None:
        return
    if not event.number:  # what names its number returned to it by itself
        mine = voucher.stand.kept_by(row.gateway)
        if kind == "code" and mine is not None and mine.number == number:
            assignments.keep(db, assignments.RULES.use(voucher.stand, row.gateway, number, epoch, -good))
        else:
            assignments.keep(db, risk.give_back(voucher.stand, good))
    heal(db, voucher_id)


def released(db: Connection, row: StoredRow, event: Released) -> None:
    """Effect of a row: a box gave a number back; somebody may have taken that voucher on trust meanwhile."""
    assignments.released(db, row, event)
    heal(db, event.voucher_id)


def settled(db: Connection, row: StoredRow, event: SettledThrough) -> None:
    """Effect of a row: what a box held has ended."""
    assignments.settled(db, row, event)
    lost = "SELECT DISTINCT voucher_id FROM shared_uses WHERE kind = 'risk' AND reversed = 0 AND good < units ORDER BY voucher_id"
    for (voucher_id,) in db.execute(lost).fetchall():
        heal(db, voucher_id)


def heal(db: Connection, voucher_id: str) -> None:
    """Give what came free to the oldest loss of a voucher."""
    for place, lost, gateway in db.execute(f"{_LOST} ORDER BY id", (voucher_id,)).fetchall():
        voucher = assignments.find(db, voucher_id)
        healed = risk.heal(voucher.stand, lost) if voucher is not None else None
        if healed is not None and healed.good:
            assignments.keep(db, healed.stand)
            db.execute("UPDATE shared_uses SET good = good + ? WHERE id = ?", (healed.good, place))
            news.tell(db, [gateway])


def terms_of(said: str) -> RiskTerms:
    """Terms, as they are stored."""
    return _decode(said)


def _refuse_odd(units: int, exposure_minor: int) -> None:
    """A row nobody can settle goes to quarantine.

    Raises:
        OverflowError: A number no shop can mean.
    """
    if not 1 <= units <= MOST_UNITS or not 0 <= exposure_minor <= MOST_MINOR:
        raise OverflowError("a number out of its range")


def _is_known(db: Connection, gateway: str, redemption_id: str) -> bool:
    sql = "SELECT 1 FROM shared_uses WHERE gateway = ? AND redemption_id = ?"
    return db.execute(sql, (gateway, redemption_id)).fetchone() is not None


def _note(db: Connection, row: StoredRow, redemption_id: str, voucher_id: str, values: tuple[object, ...], at_us: int) -> None:
    db.execute(
        "INSERT INTO shared_uses (gateway, epoch, redemption_id, voucher_id, kind, campaign, bearer, number, units, good, exposure_minor,"
        " device, at_us, received_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.gateway, row.epoch, redemption_id, voucher_id, *values, at_us, row.received_us),
    )


def _conflict(db: Connection, voucher_id: str, not_after_s: int, stand: Stand | None) -> None:
    """Both shops hear of it, and every other takes this voucher on trust no more."""
    involved = db.execute("SELECT DISTINCT gateway FROM shared_uses WHERE voucher_id = ?", (voucher_id,)).fetchall()
    news.tell(db, [gateway for (gateway,) in involved] + ([kept.gateway for kept in stand.kept] if stand is not None else []))
    news.deny(db, voucher_id, not_after_s)
