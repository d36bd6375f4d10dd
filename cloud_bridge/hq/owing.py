"""Points that were credited and have to come back because goods did: what is free is taken at once, the rest is owed.

An account never falls below what was spent of it or lies with shops in shares. What could not be taken is the member's debt: `earned`
of the account stands above the sum of its entries by so much, so the next points earned pay it first (`Assigner.earn`), and what shops
give back of their shares pays it as soon as it is here. Inside the caller's transaction.
"""

from cloud_bridge.hq import assignments, members
from cloud_bridge.hq.store import Connection
from gateway.token import points_ref


def net(db: Connection, member_ref: str) -> int:
    """Points of an account that are a member's in truth: those nobody spent, wherever they lie, less what is owed; may be below zero."""
    row = assignments.find(db, points_ref(member_ref))
    if row is None:
        return 0
    lent = sum(max(0, kept.units - kept.total_spent) for kept in row.stand.kept)
    return row.stand.left + lent - owed(db, member_ref)


def owed(db: Connection, member_ref: str) -> int:
    """Points to be taken back that are not free."""
    found = db.execute("SELECT points FROM point_debts WHERE member_ref = ?", (member_ref,)).fetchone()
    return int(found[0]) if found else 0


def pay(db: Connection, member_ref: str) -> None:
    """Take back what is free of what came back, and write down what is still owed. Accounts nothing came back of are left alone."""
    returned = "SELECT 1 FROM point_entries WHERE member_ref = ? AND source = 'return' LIMIT 1"
    row = assignments.find(db, points_ref(member_ref))
    if row is None or db.execute(returned, (member_ref,)).fetchone() is None:
        return
    total = int(db.execute("SELECT CAST(sum(points) AS BIGINT) FROM point_entries WHERE member_ref = ?", (member_ref,)).fetchone()[0])
    stand = assignments.RULES.unearn(row.stand, total)
    if stand != row.stand:
        assignments.keep(db, stand)
    if (rest := stand.earned - total) > 0:
        db.put("point_debts", [(member_ref, rest)], "(member_ref) DO UPDATE SET points = excluded.points")
    else:
        db.execute("DELETE FROM point_debts WHERE member_ref = ?", (member_ref,))


def show(db: Connection, member_ref: str, before: int) -> None:
    """Have shops show what an account's change since `before` (its `net` then) comes to: never less than nothing."""
    if change := max(0, net(db, member_ref)) - max(0, before):
        members.move_points(db, member_ref, change)


def payable(db: Connection) -> list[str]:
    """Members who owe something that is free by now."""
    owing = [str(ref) for (ref,) in db.execute("SELECT member_ref FROM point_debts ORDER BY member_ref LIMIT 200").fetchall()]
    rows = {ref: assignments.find(db, points_ref(ref)) for ref in owing}
    return [ref for ref, row in rows.items() if row is not None and row.stand.left > 0]
