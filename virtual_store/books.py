"""Compares what the shop's ledger holds with what HQ's database holds, each read for itself from its own file."""

from pathlib import Path
from typing import Final

from gateway.ledger import LedgerReader

COUNTED: Final = {
    "visits": "VisitEnded",
    "redemptions": "VoucherRedeemed",
    "refusals": "RedemptionRefused",
    "collections": "ParcelCollected",
}


def produced(ledger: Path) -> dict[str, int]:
    """Counts by event type in core's ledger."""
    reader = LedgerReader(ledger)
    try:
        by_type = reader.counts()
    finally:
        reader.close()
    return {name: by_type.get(kind, 0) for name, kind in COUNTED.items()}
