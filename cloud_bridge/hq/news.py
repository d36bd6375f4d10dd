"""Which boxes are to be told something new of what any shop may honour. Written in the transaction that makes it new."""

from collections.abc import Iterable

from cloud_bridge.hq.store import Connection


def tell(db: Connection, gateways: Iterable[str]) -> None:
    """These boxes have something to hear."""
    rows = [(gateway, 0, 1) for gateway in sorted(set(gateways))]
    db.put("anywhere_told", rows, "(gateway) DO UPDATE SET wanted = 1")


def tell_all(db: Connection) -> None:
    """Every box has."""
    tell(db, [gateway for (gateway,) in db.execute("SELECT gateway FROM boxes WHERE public IS NOT NULL").fetchall()])


def deny(db: Connection, voucher_id: str, not_after_s: int) -> None:
    """Nobody is to take this voucher on trust any more."""
    sql = "INSERT INTO not_on_trust VALUES (?, ?) ON CONFLICT (voucher_id) DO NOTHING"
    if db.execute(sql, (voucher_id, not_after_s)).rowcount:
        tell_all(db)
