"""Goods that came back: what counts of each return, and the points that go with it. Inside the caller's transaction.

A box never takes more back than was sold; one with an old image of its disk may have forgotten that it did. So what counts is reckoned
here again, against everything that came back of the sale: pieces and money beyond that are `over_minor`, for people to look at.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from cloud_bridge.hq import members, owing, rates
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import ReturnedLine, SaleReturned
from gateway.rules.returned import SaleLeft, after, till_of

MOST_AT_ONCE: Final = 200
Counted = list[tuple[int, str, int, int]]  # line, SKU, quantity, price


def returned(db: Connection, row: StoredRow, event: SaleReturned) -> None:
    """Effect of a row: once for each return, and once for each refund slip of a till."""
    till = till_of(event.device, event.staff)
    place = "SELECT return_id FROM sale_returns WHERE gateway = ? AND (return_id = ? OR (till = ? AND refund_id = ?))"
    before = db.execute(place, (row.gateway, event.return_id, till, event.refund_id)).fetchone()
    if before is not None and before[0] == event.return_id:
        return
    sale = _left(db, row.gateway, event.sale_id)
    counted = _counted(sale, event.lines) if sale is not None and before is None else []
    minor = sum(price for *_, price in counted)
    db.execute(
        "INSERT INTO sale_returns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        (
            row.gateway, event.return_id, event.sale_id, till, event.refund_id, event.station, event.staff,
            msgspec.json.encode(counted).decode("utf-8"), minor, event.total_minor - minor,
            "unknown_sale" if sale is None else "waiting", event.event_time.wall_us, row.received_us,
        ),
    )  # fmt: skip


def is_due(db: Connection) -> bool:
    """Whether points of a return have to be looked at, or a debt can be paid."""
    waiting = db.execute("SELECT 1 FROM sale_returns WHERE state = 'waiting' LIMIT 1").fetchone() is not None
    return waiting or bool(owing.payable(db))


def settle(db: Connection, now_us: int) -> set[str]:
    """Take the points of what came back; the regions whose members changed. A sale that is not credited yet will be, for what was kept."""
    sql = "SELECT gateway, return_id, sale_id, at_us FROM sale_returns WHERE state = 'waiting' ORDER BY received_us, return_id LIMIT ?"
    regions = set()
    for gateway, return_id, sale_id, at_us in db.execute(sql, (MOST_AT_ONCE,)).fetchall():
        found = db.execute(
            "SELECT member_ref, spent_minor, currency FROM accruals WHERE gateway = ? AND sale_id = ? AND state = 'credited'",
            (gateway, sale_id),
        ).fetchone()
        back = 0
        if found is not None and found[0] is not None and _is_member(db, found[0]):
            net_minor = found[1] - returned_minor(db, gateway, sale_id)
            due = rates.of_sale(db, gateway, sale_id, found[2]).earned(net_minor)
            back = max(0, _credited(db, gateway, sale_id) - due)
        if back:
            _take(db, (gateway, "return", return_id), found[0], back, at_us, now_us)
            regions.add(members.one(db, found[0]).region)
        done = "UPDATE sale_returns SET state = 'settled', points = ? WHERE gateway = ? AND return_id = ?"
        db.execute(done, (back, gateway, return_id))
    return regions | _paid(db)


def returned_minor(db: Connection, gateway: str, sale_id: str) -> int:
    """What was paid back of a sale, as far as it counts."""
    sql = "SELECT CAST(coalesce(sum(minor), 0) AS BIGINT) FROM sale_returns WHERE gateway = ? AND sale_id = ?"
    return int(db.execute(sql, (gateway, sale_id)).fetchone()[0])


def listed(db: Connection, store: str) -> list[dict[str, Any]]:
    """What came back, newest first."""
    names = (
        "store", "return_id", "sale_id", "receipt_id", "refund_id", "station", "staff", "minor", "over_minor", "state", "points", "at_us",
        "lines",
    )  # fmt: skip
    sql = (
        "SELECT b.store, r.return_id, r.sale_id, coalesce(s.receipt_id, ''), r.refund_id, r.station, r.staff, r.minor, r.over_minor,"
        " r.state, r.points, r.at_us, r.lines FROM sale_returns r JOIN boxes b ON b.gateway = r.gateway"
        " LEFT JOIN sales s ON s.gateway = r.gateway AND s.sale_id = r.sale_id WHERE ? = '' OR b.store = ?"
        " ORDER BY r.at_us DESC, r.return_id LIMIT 500"
    )
    found = db.execute(sql, (store, store)).fetchall()
    return [dict(zip(names, row, strict=True)) | {"lines": msgspec.json.decode(row[-1])} for row in found]


def _left(db: Connection, gateway: str, sale_id: str) -> SaleLeft | None:
    """What is left of a sale after all that came back before."""
    found = db.execute(
        "SELECT receipt_id, till, currency, lines FROM sales WHERE gateway = ? AND sale_id = ?", (gateway, sale_id)
    ).fetchone()
    if found is None:
        return None
    lines = msgspec.json.decode(found[3], type=list[tuple[str, int, int]])
    sale = SaleLeft(sale_id, found[0], found[1], found[2], lines, [], None)
    for (text,) in db.execute("SELECT lines FROM sale_returns WHERE gateway = ? AND sale_id = ?", (gateway, sale_id)).fetchall():
        sale = after(sale, [ReturnedLine(*one) for one in msgspec.json.decode(text, type=Counted)])
    return sale


def _counted(sale: SaleLeft, back: Sequence[ReturnedLine]) -> Counted:
    counted: Counted = []
    for line in back:
        if 1 <= line.line <= len(sale.lines) and sale.lines[line.line - 1][0] == line.sku:
            _, quantity, price_minor = sale.lines[line.line - 1]
            counted.append((line.line, line.sku, min(line.quantity, quantity), min(line.price_minor, price_minor)))
            sale = after(sale, [line])
    return counted


def _credited(db: Connection, gateway: str, sale_id: str) -> int:
    """Points a sale stands for now, by its own entry and those of its returns."""
    sql = (
        "SELECT CAST(coalesce(sum(points), 0) AS BIGINT) FROM point_entries WHERE gateway = ? AND ((source = 'sale' AND source_id = ?)"
        " OR (source = 'return' AND source_id IN (SELECT return_id FROM sale_returns WHERE gateway = ? AND sale_id = ?)))"
    )
    return int(db.execute(sql, (gateway, sale_id, gateway, sale_id)).fetchone()[0])


def _take(db: Connection, source: tuple[str, str, str], member_ref: str, points: int, at_us: int, now_us: int) -> None:
    before = owing.net(db, member_ref)
    sql = "INSERT INTO point_entries VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, source, source_id) DO NOTHING"
    if db.execute(sql, (*source, member_ref, -points, at_us, now_us)).rowcount:
        owing.pay(db, member_ref)
        owing.show(db, member_ref, before)


def _paid(db: Connection) -> set[str]:
    """Debts that what shops gave back pays: shops show the same as before."""
    for member_ref in owing.payable(db):
        owing.pay(db, member_ref)
    return set()


def _is_member(db: Connection, member_ref: str) -> bool:
    return db.execute("SELECT 1 FROM members WHERE member_ref = ?", (member_ref,)).fetchone() is not None
