"""Balances: face value and points that lie with several shops at once, each with its share. Every function runs inside the caller's
transaction.

A share is an assignment (`assignments`): what a shop is lent is nobody else's until the shop spends it, promises that its lease has
settled, or is declared destroyed. So however long lines are down, what all shops together spend never exceeds what was put in.
"""

from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import VoucherRedeemed
from gateway.rules.assigning import Stand
from gateway.rules.balance import MINOR
from gateway.signed import Lend

LEASE_S: Final = 86_400  # a night without a line is survived; what a dark shop holds is missed elsewhere for so long, at least
MOST_TOLD: Final = 200  # steps of a story, the latest


class Lending(Struct, frozen=True):
    """How a balance is lent."""

    unit: str = MINOR
    share: int = 0  # at least so much, while there is as much
    lease_s: int = LEASE_S


def note(db: Connection, voucher_id: str, lending: Lending) -> None:
    """A balance was made."""
    db.execute("INSERT INTO balances VALUES (?, ?, ?, ?)", (voucher_id, lending.unit, lending.share, lending.lease_s))


def lending_of(db: Connection, voucher_id: str) -> Lending:
    """How a balance is lent."""
    found = db.execute("SELECT unit, share, lease_s FROM balances WHERE voucher_id = ?", (voucher_id,)).fetchone()
    return Lending(*found) if found else Lending()


def left(stand: Stand) -> int:
    """What is left of it in the whole chain, as far as headquarters has heard."""
    return stand.left + lent(stand)


def lent(stand: Stand) -> int:
    """What shops hold of it and may not have spent."""
    return sum(max(0, kept.units - kept.total_spent) for kept in stand.kept)


# ---------------------------------------------------------------- ahead of need


def want(db: Connection, lend: Lend) -> None:
    """A share is to lie at a box; a later word replaces an earlier one."""
    db.execute("DELETE FROM lends WHERE gateway = ? AND voucher_id = ?", (lend.gateway, lend.voucher_id))
    db.execute("INSERT INTO lends VALUES (?, ?, ?, ?)", (lend.gateway, lend.voucher_id, lend.units, lend.hq_time_us))


def wanted(db: Connection, gateway: str, now_us: int) -> list[Lend]:
    """What a box is still to be told of."""
    found = db.execute("SELECT voucher_id, units FROM lends WHERE gateway = ? ORDER BY voucher_id", (gateway,)).fetchall()
    return [Lend(gateway, voucher_id, units, now_us) for voucher_id, units in found]


def wanting(db: Connection) -> frozenset[str]:
    """Boxes that are to be told of a share."""
    return frozenset(gateway for (gateway,) in db.execute("SELECT DISTINCT gateway FROM lends").fetchall())


def claimed(db: Connection, gateway: str, voucher_id: str) -> None:
    """A box has claimed: it need not be told again, whatever it was answered."""
    db.execute("DELETE FROM lends WHERE gateway = ? AND voucher_id = ?", (gateway, voucher_id))


# ---------------------------------------------------------------- rows of boxes


def used(db: Connection, row: StoredRow, event: VoucherRedeemed) -> None:
    """Remember a use, for its reversal."""
    values = (row.gateway, event.redemption_id, event.voucher_id, event.number, row.epoch, event.spent)
    db.execute("INSERT INTO assigned_uses VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", values)


def epoch_of(db: Connection, gateway: str, redemption_id: str) -> str | None:
    """The start that spent; None: the use is of a release that did not remember it."""
    sql = "SELECT epoch FROM assigned_uses WHERE gateway = ? AND redemption_id = ?"
    found = db.execute(sql, (gateway, redemption_id)).fetchone()
    return str(found[0]) if found else None


# ---------------------------------------------------------------- looking


def told(db: Connection, voucher_id: str, stand: Stand, put_in: int, is_balance: bool) -> dict[str, Any]:
    """What headquarters' people see beside an assigned voucher: its story, and of a balance where all of it is."""
    story = {"story": _story(db, voucher_id)}
    if not is_balance:
        return story
    lending, sum_in = lending_of(db, voucher_id), put_in + stand.credited
    ahead = db.execute("SELECT gateway, units FROM lends WHERE voucher_id = ? ORDER BY gateway", (voucher_id,)).fetchall()
    return story | {
        "balance": {
            "unit": lending.unit, "put_in": sum_in, "spent": sum_in - left(stand), "lent": lent(stand), "left": stand.left,
            "share": lending.share, "lease_s": lending.lease_s, "to_lend": [{"gateway": box, "units": units} for box, units in ahead],
        }
    }  # fmt: skip


def _story(db: Connection, voucher_id: str) -> list[dict[str, Any]]:
    found = db.execute(
        "SELECT u.kind, u.reason, coalesce(b.store, ''), u.station, u.units, u.amount_minor, u.at_us, u.received_us FROM uses u"
        " LEFT JOIN boxes b ON b.gateway = u.gateway WHERE u.voucher_id = ? ORDER BY u.id DESC LIMIT ?",
        (voucher_id, MOST_TOLD),
    ).fetchall()
    names = ("kind", "reason", "store", "station", "units", "amount_minor", "at_us", "received_us")
    steps = [dict(zip(names, step, strict=True)) for step in found]
    return sorted(steps, key=lambda step: int(step["at_us"]))


def refuse_unless_balance(is_balance: bool, voucher_id: str) -> None:
    """Look whether a voucher is a balance.

    Raises:
        RefusedAsk: It is not.
    """
    if not is_balance:
        raise RefusedAsk(409, f"{voucher_id} is no balance", "Only vouchers of class leased are lent in shares")
