"""Definitions, baskets and facts as tests write them down."""

import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from gateway.rules.basket import Basket, Facts, Line
from gateway.rules.campaign import price
from gateway.rules.definitions import Campaign, CampaignError, read_campaign
from gateway.rules.priced import Priced

STORE: Final = 7
TAIPEI: Final = "Asia/Taipei"
BOGO: Final = {"kind": "buy_one_get_one"}


def definition(rule: dict[str, Any], campaign: int = 1, **more: Any) -> bytes:
    plain = {
        "campaign": campaign, "version": 1, "title_zh": "活動", "title_en": "Offer", "currency": "TWD", "rounding": "half_up", "rule": rule,
    }  # fmt: skip
    return msgspec.json.encode(plain | more)


def offer(rule: dict[str, Any], campaign: int = 1, **more: Any) -> Campaign:
    read = read_campaign(definition(rule, campaign, **more))
    assert isinstance(read, Campaign), read
    return read


def problem(rule: dict[str, Any], **more: Any) -> CampaignError:
    read = read_campaign(definition(rule, **more))
    assert isinstance(read, CampaignError), read
    return read


def basket(*lines: tuple[str, int, int], currency: Any = "TWD") -> Basket:
    """Of (sku, quantity, unit price)."""
    return Basket(currency, tuple(Line(f"L{at}", sku, number, minor) for at, (sku, number, minor) in enumerate(lines)))


def at(text: str, timezone: str = TAIPEI) -> int:
    """A moment on a shop's clock, in µs."""
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone)).timestamp() * 1_000_000)


def facts(when: str = "2026-11-22 12:00", until: str | None = "", timezone: str = TAIPEI, **more: Any) -> Facts:
    """A moment that is known, or from `when` to `until`; None: nobody knows how late."""
    latest_us = None if until is None else at(until or when, timezone)
    known: dict[str, Any] = {"store": STORE, "timezone": timezone, "earliest_us": at(when, timezone), "latest_us": latest_us}
    return Facts(**known | more)


def priced(bought: Basket, *campaigns: Campaign, **more: Any) -> Priced:
    return price(bought, campaigns, facts(**more))


def reasons(found: Priced) -> dict[int, str]:
    return {one.campaign: one.reason for one in found.refused}
