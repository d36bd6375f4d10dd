"""How many points a sale earns: the rates headquarters has published, each version kept, all of them told to shops. In a transaction."""

from typing import Any

import msgspec

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.events import PointsAccrued, RateUsed
from gateway.rules.points import MOST_RATES, PointsRate, RateError, encode_rate, read_rate, stated
from gateway.signed import Document


def publish(db: Connection, rate: PointsRate, now_us: int) -> bool:
    """Put a rate in force from its day on; False: it was published before as it is.

    Raises:
        RefusedAsk: A version that is not above all others.
    """
    newest = int(db.execute("SELECT coalesce(max(version), 0) FROM point_rates").fetchone()[0])
    if rate.version <= newest:
        if _one(db, rate.version) == rate:
            return False
        raise RefusedAsk(409, f"version {newest} is the newest rate", f"Publish this as version {newest + 1}")
    db.execute("INSERT INTO point_rates VALUES (?, ?, ?)", (rate.version, encode_rate(rate).decode("utf-8"), now_us))
    return True


def listed(db: Connection) -> list[dict[str, Any]]:
    """Every rate, newest first."""
    found = db.execute("SELECT definition, published_us FROM point_rates ORDER BY version DESC").fetchall()
    return [{"published_us": at_us, "definition": msgspec.to_builtins(_read(text))} for text, at_us in found]


def added(db: Connection, document: Document) -> Document:
    """A document as it is signed: that of the campaigns tells the rates, too."""
    if document.name != "campaigns":
        return document
    found = db.execute("SELECT definition FROM point_rates ORDER BY version DESC LIMIT ?", (MOST_RATES,)).fetchall()
    return msgspec.structs.replace(document, rates=[msgspec.Raw(text.encode()) for (text,) in found])


def note(db: Connection, gateway: str, event: PointsAccrued) -> None:
    """Keep the rate that an earning row states."""
    if event.rate is not None:
        text = msgspec.json.encode(event.rate).decode("utf-8")
        db.execute("INSERT INTO accrual_rates VALUES (?, ?, ?) ON CONFLICT (gateway, sale_id) DO NOTHING", (gateway, event.sale_id, text))


def of_sale(db: Connection, gateway: str, sale_id: str, currency: str) -> PointsRate:
    """The rate a sale earns by: the version its row states as headquarters published it, else as the row states it."""
    found = db.execute("SELECT rate FROM accrual_rates WHERE gateway = ? AND sale_id = ?", (gateway, sale_id)).fetchone()
    used = msgspec.json.decode(found[0], type=RateUsed) if found else None
    own = _one(db, used.version) if used is not None else None
    return own if own is not None and own.currency == currency else stated(used, currency)


def _one(db: Connection, version: int) -> PointsRate | None:
    found = db.execute("SELECT definition FROM point_rates WHERE version = ?", (version,)).fetchone()
    return _read(found[0]) if found else None


def _read(text: str) -> PointsRate:
    read = read_rate(text.encode())
    if isinstance(read, RateError):
        raise RefusedAsk(500, f"a stored rate cannot be read: {read.problem}", "A newer release wrote it: start that one")
    return read
