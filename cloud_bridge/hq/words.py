"""Rows of the ledger in words a person at headquarters reads, in either language."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq.store import Connection, StoredRow
from gateway.rules.reasons import REASONS

LANGUAGES: Final = ("zh-Hant", "en")
# Every zone every few seconds, every kiosk every few minutes: the pages show them, the feed does not.
QUIET_TYPES: Final = frozenset({"OccupancyEstimated", "DeviceSeen", "ResultShown"})


class Phrase(Struct, frozen=True):
    """One line of the feed."""

    text: str
    mark: str  # a character that stands for the kind
    tone: str  # "good", "bad", "calm" or "warn"


class Named(Struct, frozen=True):
    """What identifiers are called."""

    titles: dict[str, tuple[str, str]]  # voucher to its title, Chinese and English
    numbers: dict[str, str]  # order to its number


@cache
def locale(language: str) -> dict[str, str]:
    """The words of a language."""
    folder, found = Path(__file__).parent / "pages" / "locales", dict[str, str]()
    for name in (f"{language}.json", f"{language}.office.json"):
        found |= json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def names_of(db: Connection, rows: Iterable[StoredRow]) -> Named:
    """What the vouchers and orders in these rows are called."""
    events = [json.loads(row.event) for row in rows]
    titles: dict[str, tuple[str, str]] = {}
    for ref in {event["voucher_id"] for event in events if event.get("voucher_id")}:
        found = db.execute("SELECT title_zh, title_en FROM vouchers WHERE voucher_id = ?", (ref,)).fetchone()
        titles |= {ref: found} if found else {}
    numbers: dict[str, str] = {}
    refs = {event.get("order_id") or event.get("voucher_id") for event in events} - {None}
    for ref in refs:
        found = db.execute("SELECT number FROM orders WHERE order_id = ?", (ref,)).fetchone()
        numbers |= {ref: found[0]} if found else {}
    return Named(titles, numbers)


def say(row: StoredRow, named: Named, language: str) -> Phrase:
    """The row in words."""
    words = locale(language)
    event = json.loads(row.event)
    key = _key(row.type, event)
    mark, tone = MARKS.get(row.type, ("·", "calm"))
    if key in TONES:
        tone = TONES[key]
    return Phrase(words.get(key, words["event.other"]).format_map(_Fields(_fields(row, event, named, language))), mark, tone)


def _key(kind: str, event: dict[str, Any]) -> str:
    parts = {
        "DeviceChanged": event.get("device_state"),
        "LineChanged": "up" if event.get("up") else "down",
        "CompartmentOpenIntended": event.get("purpose"),
        "AuthorizationEnded": event.get("outcome"),
        "MemberConsented": "given" if event.get("given") else "withdrawn",
        "DoorOpened": "forced" if event.get("intent_id") is None else "expected",
    }
    return f"event.{kind}.{parts[kind]}" if kind in parts else f"event.{kind}"


def _fields(row: StoredRow, event: dict[str, Any], named: Named, language: str) -> dict[str, Any]:
    chinese = language == "zh-Hant"
    words = locale(language)
    ref = event.get("voucher_id") or ""
    zh, en = named.titles.get(ref, ("", ""))
    order = named.numbers.get(event.get("order_id") or ref, "")
    reason = REASONS.get(event.get("reason", ""))
    dwell_s = float(event.get("dwell_s") or 0)
    return event | {
        "kind": row.type,
        "title": (zh if chinese else en) or (f"{words['order']} {order}" if order else words["unknown_voucher"]),
        "order": order or words["unknown_order"],
        "why": (reason.text.zh if chinese else reason.text.en) if reason else event.get("reason", ""),
        "dwell": say_duration(dwell_s, language),
        "subject_word": words.get(f"subject.{event.get('subject_kind')}", ""),
    }


def say_duration(seconds: float, language: str) -> str:
    """A duration as people say it."""
    words = locale(language)
    whole = max(0, round(seconds))
    if whole < 60:
        return words["duration.s"].format(n=whole)
    if whole < 3600:
        return words["duration.min"].format(n=whole // 60, s=whole % 60)
    return words["duration.h"].format(n=whole // 3600, m=whole % 3600 // 60)


class _Fields(dict[str, Any]):
    """A row of an older release may lack a field: the sentence is then shorter, not missing."""

    def __missing__(self, key: str) -> str:
        return ""


MARKS: Final[dict[str, tuple[str, str]]] = {
    "VoucherRedeemed": ("✓", "good"),
    "VoucherAuthorized": ("◔", "calm"),
    "AuthorizationEnded": ("◔", "calm"),
    "RedemptionReversed": ("↺", "warn"),
    "RedemptionRefused": ("✕", "bad"),
    "ActionDenied": ("✕", "warn"),
    "SalePosted": ("$", "good"),
    "MemberBound": ("+", "calm"),
    "MemberConsented": ("+", "calm"),
    "SaleReturned": ("↩", "calm"),
    "PointsAccrued": ("+", "calm"),
    "RevisitAsked": ("?", "calm"),
    "MemberRecognised": ("☺", "calm"),
    "MemberLookedUp": ("☺", "calm"),
    "LookupsLocked": ("✕", "warn"),
    "LookupsUnlocked": ("✓", "calm"),
    "ClaimIntended": ("?", "calm"),
    "ClaimSettled": ("?", "calm"),
    "AssignmentTaken": ("⊕", "calm"),
    "Released": ("⊖", "calm"),
    "SettledThrough": ("⊖", "calm"),
    "ResultShown": ("◉", "calm"),
    "UnseenHonoured": ("!", "warn"),
    "TillCodeRung": ("✓", "good"),
    "ParcelCollected": ("▣", "good"),
    "ParcelStaged": ("▣", "calm"),
    "CompartmentOpenIntended": ("▢", "calm"),
    "IntentSettled": ("!", "warn"),
    "DoorOpened": ("▢", "calm"),
    "DoorClosed": ("▢", "calm"),
    "VisitStarted": ("→", "calm"),
    "VisitEnded": ("←", "calm"),
    "DeviceChanged": ("⌁", "calm"),
    "LineChanged": ("⇅", "calm"),
    "EpochOpened": ("◉", "calm"),
    "EpochAdmitted": ("◉", "calm"),
    "EpochDoubted": ("◉", "bad"),
    "RowsDamaged": ("!", "bad"),
    "ClockFixed": ("◷", "calm"),
    "CatalogApplied": ("⤓", "calm"),
    "DevicePaired": ("▤", "calm"),
    "DeviceRevoked": ("▤", "warn"),
    "DeviceSeen": ("▤", "calm"),
}
TONES: Final[dict[str, str]] = {
    "event.DeviceChanged.down": "warn",
    "event.DeviceChanged.degraded": "warn",
    "event.LineChanged.down": "warn",
    "event.DoorOpened.forced": "bad",
}
