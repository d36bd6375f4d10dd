"""What stands in a box's documents: its vouchers, orders and people, as the shop is told of them. Inside a transaction."""

from typing import Final

import msgspec

from cloud_bridge.hq import issuers, members, shapes
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.signed import Order, Staff, Voucher
from gateway.token import HOME_ISSUER

ISSUER: Final = HOME_ISSUER
MOST_LIVE: Final = 20_000  # vouchers or orders in one document: some 4 MB unpacked, well below the seal's limit


def vouchers(db: Connection, gateway: str, oldest_s: int) -> list[Voucher]:
    """Its list of vouchers, those that ended at `oldest_s` or later.

    Raises:
        RefusedAsk: More than a document holds.
    """
    found = db.execute(
        "SELECT voucher_id, campaign, title_zh, title_en, not_before_s, not_after_s, uses, value_minor, revoked FROM vouchers"
        " WHERE gateway = ? AND not_after_s >= ? AND NOT EXISTS (SELECT 1 FROM unlisted u WHERE u.voucher_id = vouchers.voucher_id)"
        " ORDER BY issued_us LIMIT ?",
        (gateway, oldest_s, MOST_LIVE + 1),
    ).fetchall()
    _refuse_overflow(len(found))
    shaped, codes, owners = shapes.shapes(db, gateway), issuers.codes_of(db, gateway), members.owners(db, gateway)
    return [
        msgspec.structs.replace(
            Voucher(ref, campaign, zh, en, start_s, end_s, ISSUER, uses, value_minor, bool(revoked), codes.get(ref, [])),
            **msgspec.structs.asdict(shaped.get(ref, shapes.ORDINARY)),
            member_ref=owners.get(ref, ""),
        )
        for ref, campaign, zh, en, start_s, end_s, uses, value_minor, revoked in found
    ]


def orders(db: Connection, gateway: str, oldest_s: int) -> list[Order]:
    """Its orders, likewise.

    Raises:
        RefusedAsk: More than a document holds.
    """
    found = db.execute(
        "SELECT order_id, number, customer, parcels, lines, cancelled FROM orders WHERE gateway = ? AND not_after_s >= ?"
        " ORDER BY placed_us LIMIT ?",
        (gateway, oldest_s, MOST_LIVE + 1),
    ).fetchall()
    _refuse_overflow(len(found))
    return [
        Order(order_id, number, customer, parcels, msgspec.json.decode(lines, type=list[str]), bool(cancelled))
        for order_id, number, customer, parcels, lines, cancelled in found
    ]


def staff(db: Connection, gateway: str) -> list[Staff]:
    """Who works there."""
    found = db.execute("SELECT staff_ref, name, pin_hash, roles FROM staff WHERE gateway = ? ORDER BY staff_ref", (gateway,))
    return [Staff(ref, name, pin_hash, msgspec.json.decode(roles, type=list[str])) for ref, name, pin_hash, roles in found]


def _refuse_overflow(count: int) -> None:
    if count > MOST_LIVE:
        raise RefusedAsk(409, f"a shop holds at most {MOST_LIVE} live vouchers or orders", "Wait for old ones to run out")
