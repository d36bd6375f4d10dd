"""The other opinion on campaigns: written from docs/campaigns.md alone, by trying everything, and slow. Shares no code with the engine.

It reads definitions and facts as plain JSON values. Pieces are given to promotions by listing every way to give them and taking the
best by the stated order; shares by trying every way to round them; windows by looking at the shop's clock minute by minute.
"""

import datetime
import decimal
import functools
import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

MINUTE_US: Final = 60_000_000
DAY_US: Final = 1440 * MINUTE_US
LONGEST_US: Final = 31 * DAY_US
MODES: Final = {"half_up": decimal.ROUND_HALF_UP, "down": decimal.ROUND_DOWN, "half_even": decimal.ROUND_HALF_EVEN}
NOT_TOLD: Final = ("item_missing", "other_currency", "campaign_elsewhere", "campaign_ended", "campaign_not_begun")
OF_ITEMS: Final = ("buy_one_get_one", "nth_at_percent", "item_voucher")
Found = dict[str, Any]


def judge(basket: Found, campaigns: list[Found], facts: Found) -> Found:
    """What a basket comes to."""
    till = Till(basket, campaigns, facts)
    waiting = list(till.uses())
    while waiting:
        first = min(waiting, key=in_order)
        waiting.remove(first)
        till.attempt(*first)
    return till.told()


def in_order(use: tuple[Found, Found | None]) -> tuple[int, int, int, int, str]:
    """Face values last; else by priority; items before basket; by number; by voucher."""
    campaign, voucher = use
    kind = campaign["rule"]["kind"]
    return (
        1 if kind == "face_value" else 0, campaign.get("priority", 0), 0 if kind in OF_ITEMS else 1, campaign["campaign"],
        voucher["voucher_id"] if voucher else "",
    )  # fmt: skip


class Till:
    """A basket on the counter."""

    def __init__(self, basket: Found, campaigns: list[Found], facts: Found) -> None:
        self.basket, self.campaigns, self.facts = basket, campaigns, facts
        self.pieces = {line["line_id"]: line["quantity"] for line in basket["lines"]}  # not taken up
        self.pay = {line["line_id"]: line["quantity"] * line["unit_minor"] for line in basket["lines"]}
        self.off = dict.fromkeys(self.pay, 0)
        self.voucher = dict.fromkeys(self.pay, 0)
        self.used: list[Found] = []
        self.refused: list[Found] = []

    def uses(self) -> Iterator[tuple[Found, Found | None]]:
        for campaign in self.campaigns:
            trigger = campaign.get("trigger", "automatic")
            if trigger == "automatic" or (trigger == "code" and campaign["code"] in self.facts["codes"]):
                yield campaign, None
            for voucher in self.facts["vouchers"]:
                if trigger == "voucher" and voucher["campaign"] == campaign["campaign"]:
                    yield campaign, voucher

    def attempt(self, campaign: Found, voucher: Found | None) -> None:
        barred = self.barred(campaign)
        found: Found = self.weigh(campaign, voucher) if barred is None else {"reason": barred}
        same = {
            "campaign": campaign["campaign"], "version": campaign["version"], "kind": campaign["rule"]["kind"],
            "voucher_id": voucher["voucher_id"] if voucher else "",
        }  # fmt: skip
        if "reason" not in found and not found.get("gifts") and sum(found["shares"].values()) == 0:
            found = {"reason": "nothing_to_take_off"}
        unasked = campaign.get("trigger", "automatic") == "automatic" and found.get("reason") in NOT_TOLD
        if "reason" in found and not unasked:
            rest = {"code": campaign.get("code") or "", "gap_minor": 0, "gap_quantity": 0, "by": self.instead(campaign, found["reason"])}
            self.refused.append(same | rest | found)
        elif "reason" not in found:
            self.take(campaign, same, found)

    def instead(self, campaign: Found, reason: str) -> int:
        used = [one["campaign"] for one in self.used if one["group"] == campaign.get("group")]
        return int(used[0]) if reason == "not_combinable" else 0

    def take(self, campaign: Found, same: Found, found: Found) -> None:
        face = campaign["rule"]["kind"] == "face_value"
        for line_id, minor in found["shares"].items():
            self.pay[line_id] -= minor
            (self.voucher if face else self.off)[line_id] += minor
        for line_id, number in found.get("taken", {}).items():
            self.pieces[line_id] -= number
        told = {"minor": sum(found["shares"].values()), "left_minor": found.get("left"), "gifts": found.get("gifts", [])}
        told["shares"] = [{"line_id": name, "minor": minor} for name, minor in sorted(found["shares"].items()) if minor]
        told["taken"] = [{"line_id": name, "quantity": number} for name, number in sorted(found.get("taken", {}).items()) if number]
        self.used.append(same | told | {"group": campaign.get("group", "")})

    def told(self) -> Found:
        lines = [
            {
                "line_id": one["line_id"], "amount_minor": one["quantity"] * one["unit_minor"], "off_minor": self.off[one["line_id"]],
                "voucher_minor": self.voucher[one["line_id"]], "to_pay_minor": self.pay[one["line_id"]],
            }
            for one in sorted(self.basket["lines"], key=lambda one: str(one["line_id"]))
        ]  # fmt: skip
        sums = {name: sum(line[name] for line in lines) for name in ("amount_minor", "off_minor", "voucher_minor", "to_pay_minor")}
        adjustments = [{name: value for name, value in one.items() if name != "group"} for one in self.used]
        money = {"currency": self.basket["currency"], "decimals": {"TWD": 0, "HKD": 2}[self.basket["currency"]]}
        return money | sums | {"lines": lines, "adjustments": adjustments, "refused": self.refused + self.strange()}

    def strange(self) -> list[Found]:
        empty = {"version": 0, "kind": "", "code": "", "voucher_id": "", "gap_minor": 0, "gap_quantity": 0, "by": 0}
        codes = sorted({code for code in self.facts["codes"] if not any(one.get("code") == code for one in self.campaigns)})
        known = {one["campaign"] for one in self.campaigns if one.get("trigger") == "voucher"}
        shown = sorted((one["campaign"], one["voucher_id"]) for one in self.facts["vouchers"] if one["campaign"] not in known)
        found = [empty | {"campaign": 0, "code": code, "reason": "unknown_code"} for code in codes]
        return found + [empty | {"campaign": one, "voucher_id": name, "reason": "unknown_campaign"} for one, name in shown]

    # ------------------------------------------------------------ whatever is in the basket

    def barred(self, campaign: Found) -> str | None:
        if campaign.get("withdrawn"):
            return "campaign_ended"
        if campaign.get("stores") and self.facts["store"] not in campaign["stores"]:
            return "campaign_elsewhere"
        if campaign["currency"] != self.basket["currency"]:
            return "other_currency"
        closed = Calendar(campaign, self.facts).closed() or self.limited(campaign)
        if closed is None and campaign.get("group") and any(one["group"] == campaign["group"] for one in self.used):
            return "not_combinable"
        return closed

    def limited(self, campaign: Found) -> str | None:
        limits = campaign.get("limits", {})
        here = sum(one["campaign"] == campaign["campaign"] for one in self.used)
        (count,) = [one for one in self.facts["counts"] if one["campaign"] == campaign["campaign"]] or [{}]
        if ("per_member" in limits or "per_member_day" in limits) and not self.facts["member"]:
            return "member_missing"
        if count.get("member", 0) + here >= limits.get("per_member", 1 << 60):
            return "limit_member"
        if ("per_day" in limits or "per_member_day" in limits) and not Calendar(campaign, self.facts).one_day():
            return "time_untrusted"
        if count.get("member_today", 0) + here >= limits.get("per_member_day", 1 << 60):
            return "limit_member_day"
        return "limit_day" if count.get("today", 0) + here >= limits.get("per_day", 1 << 60) else None

    # ------------------------------------------------------------ what the rules say

    def weigh(self, campaign: Found, voucher: Found | None) -> Found:
        rule, mode = campaign["rule"], MODES[campaign["rounding"]]
        lines = [line for line in self.basket["lines"] if counts(line, rule.get("items", {}))]
        if rule["kind"] == "buy_one_get_one":
            return self.grouped(lines, 2, 1, 100, rule.get("max_pairs", 1), mode)
        if rule["kind"] == "nth_at_percent":
            return self.grouped(lines, rule["n"], 1, rule["percent_off"], rule.get("max_groups", 1), mode)
        if rule["kind"] == "item_voucher":
            number = rule.get("quantity", 1)
            return self.grouped(lines, number, number, rule.get("percent_off", 100), 1, mode)
        return self.of_basket(rule, lines, mode, voucher["balance_minor"] if voucher else 0)

    def grouped(self, lines: list[Found], size: int, given: int, percent: int, most: int, mode: str) -> Found:
        lines = [line for line in lines if line["unit_minor"] > 0]
        ways: list[Ways] = []
        for groups in range(most, 0, -1):
            ways = list(every_way([self.pieces[line["line_id"]] for line in lines], groups * given, groups * (size - given)))
            if ways:
                break
        if not ways:
            there = sum(line["quantity"] for line in lines)
            if there >= size:
                return {"reason": "items_taken"}
            return {"reason": "item_missing" if there == 0 else "not_enough_items", "gap_quantity": size - there}
        keys = [(line["unit_minor"], line["sku"], line["line_id"]) for line in lines]
        reduced, others = min(
            ways, key=lambda way: [sorted(itertools.chain(*([k] * n for k, n in zip(keys, part, strict=True)))) for part in way]
        )
        shares = {}
        for line, number in zip(lines, reduced, strict=True):
            off = number * (line["unit_minor"] - to_pay(line["unit_minor"], percent, mode))
            shares[line["line_id"]] = min(off, self.pay[line["line_id"]])
        return {"shares": shares, "taken": {line["line_id"]: a + b for line, a, b in zip(lines, reduced, others, strict=True)}}

    def of_basket(self, rule: Found, lines: list[Found], mode: str, balance: int) -> Found:
        there = sum(self.pay[line["line_id"]] for line in lines)
        if rule["kind"] == "face_value":
            if balance == 0 or not lines:
                return {"reason": "balance_empty"} if balance == 0 else {"reason": "item_missing", "gap_quantity": 1}
            return {"shares": self.shared(min(balance, there), lines), "left": max(0, balance - there)}
        if there < rule["minimum_minor"]:
            return {"reason": "minimum_not_reached", "gap_minor": rule["minimum_minor"] - there}
        times = max(n for n in range(1, rule.get("max_times", 1) + 1) if n == 1 or n * rule["minimum_minor"] <= there)
        if rule["kind"] == "gift_with_purchase":
            return {"shares": {}, "gifts": [{"sku": rule["gift_sku"], "quantity": rule.get("gift_quantity", 1) * times}]}
        if "percent_off" in rule:
            off = min(there - to_pay(there, rule["percent_off"], mode), rule.get("max_off_minor", 1 << 60))
        else:
            off = min(there, rule["off_minor"] * times)
        return {"shares": self.shared(off, lines)}

    def shared(self, minor: int, lines: list[Found]) -> dict[str, int]:
        """Of all ways to round the exact shares up or down, the one nearest to them; of equal ones those earlier in the order get more."""
        ordered = sorted(lines, key=lambda line: (line["sku"], line["line_id"]))
        weights = [self.pay[line["line_id"]] for line in ordered]
        total = sum(weights) or 1
        choices = [{minor * weight // total, -(-minor * weight // total)} for weight in weights]
        fitting = [way for way in itertools.product(*choices) if sum(way) == (minor if sum(weights) else 0)]
        best = min(
            fitting,
            key=lambda way: (
                sum((share * total - minor * weight) ** 2 for share, weight in zip(way, weights, strict=True)), [-share for share in way],
            ),
        )  # fmt: skip
        return {line["line_id"]: share for line, share in zip(ordered, best, strict=True)}


Ways = tuple[tuple[int, ...], tuple[int, ...]]


def every_way(pieces: list[int], reduced: int, others: int) -> Iterator[Ways]:
    """Every way to take so many reduced and so many other pieces from lines with so many."""
    if not pieces:
        if reduced == others == 0:
            yield (), ()
        return
    for first in range(min(pieces[0], reduced) + 1):
        for second in range(min(pieces[0] - first, others) + 1):
            for rest in every_way(pieces[1:], reduced - first, others - second):
                yield (first, *rest[0]), (second, *rest[1])


def counts(line: Found, items: Found) -> bool:
    """Whether a line is one of the items."""
    if line["sku"] in items.get("except_skus", []):
        return False
    if not items.get("skus") and not items.get("categories"):
        return True
    return line["sku"] in items.get("skus", []) or line.get("category") in items.get("categories", [])


def to_pay(minor: int, percent: int, mode: str) -> int:
    """What is left of an amount, rounded as stated."""
    return int((Decimal(minor) * (100 - percent) / 100).quantize(Decimal(1), rounding=mode))


class Calendar:
    """A campaign's window and what is known of the time."""

    def __init__(self, campaign: Found, facts: Found) -> None:
        self.window, grace = campaign.get("window", {}), campaign.get("grace", {})
        self.zone = ZoneInfo(facts["timezone"])
        self.earliest: int = facts["earliest_us"]
        self.latest: int | None = facts["latest_us"]
        if self.latest is None and grace.get("unknown_s") is not None:
            self.latest = self.earliest + grace["unknown_s"] * 1_000_000
        self.around: int = grace.get("around_s", 0) * 1_000_000

    def local(self, wall_us: int) -> datetime.datetime:
        """What the shop's clock shows."""
        return shown(self.zone, wall_us)

    def one_day(self) -> bool:
        """Whether the date is known."""
        return self.latest is not None and self.local(self.earliest).date() == self.local(self.latest).date()

    def closed(self) -> str | None:
        """Why it is not open."""
        window = self.window
        if self.latest is not None and "first_day" in window and self.local(self.latest).date() < day_of(window["first_day"]):
            return "campaign_not_begun"
        if "last_day" in window and all(self.local(self.earliest + n * 15 * MINUTE_US) >= self.end() for n in range(13)):
            return "campaign_ended"  # a clock that is put back may show an open hour once more
        if not (window.get("weekdays") or window.get("hours") or window.get("excluded_days")):
            return self.judged(self.plain_gaps())
        if self.latest is None or self.latest - self.earliest > LONGEST_US:
            return "time_untrusted"
        return self.judged(self.gaps())

    def end(self) -> datetime.datetime:
        """When the last day's last hour ends, on the shop's clock."""
        midnight = datetime.datetime.combine(day_of(self.window["last_day"]), datetime.time())
        ends = [minutes(one["end"]) + (1440 if minutes(one["end"]) < minutes(one["begin"]) else 0) for one in self.window.get("hours", [])]
        return midnight + datetime.timedelta(minutes=max(ends, default=1440))

    def plain_gaps(self) -> list[tuple[int, int]]:
        """From first to last day only: (last open moment before, first open moment after) of each stretch in which it is closed."""
        gaps = []
        if "first_day" in self.window:
            gaps.append((-(1 << 70), self.first_showing(datetime.datetime.combine(day_of(self.window["first_day"]), datetime.time()))))
        if "last_day" in self.window:
            gaps.append((self.first_showing(self.end()) - 1, 1 << 70))
        return gaps

    def first_showing(self, wanted: datetime.datetime) -> int:
        """The first moment at which the shop's clock shows that or later."""
        naive = int(wanted.replace(tzinfo=datetime.UTC).timestamp()) * 1_000_000
        steps = range(-96, 96)  # zones are whole quarters of an hour away from UTC
        return next(naive + n * 15 * MINUTE_US for n in steps if self.local(naive + n * 15 * MINUTE_US) >= wanted)

    def gaps(self) -> list[tuple[int, int]]:
        """The same, by looking at every minute that may play a part."""
        assert self.latest is not None
        last_open, gaps = -(1 << 70), []
        begin = (self.earliest - self.around) // MINUTE_US * MINUTE_US
        for minute in range(max(0, begin), self.latest + self.around + 1, MINUTE_US):
            if self.shows(self.local(minute)):
                if minute > last_open + 1:
                    gaps.append((last_open, minute))
                last_open = minute + MINUTE_US - 1
        return [*gaps, (last_open, 1 << 70)]

    def judged(self, gaps: list[tuple[int, int]]) -> str | None:
        latest = (1 << 69) if self.latest is None else self.latest
        if any(before < self.earliest and latest < after for before, after in gaps):
            return "outside_window"
        if not any(max(self.earliest, before + 1) <= min(latest, after - 1) for before, after in gaps):
            return None
        around = self.around
        far = any(max(self.earliest, before + around + 1) <= min(latest, after - around - 1) for before, after in gaps)
        return "time_untrusted" if far else None

    def shows(self, now: datetime.datetime) -> bool:
        """Whether the window is open when the shop's clock shows that."""
        minute, today, yesterday = now.hour * 60 + now.minute, now.date(), now.date() - datetime.timedelta(days=1)
        if not self.window.get("hours"):
            return self.is_day(today)
        for hours in self.window["hours"]:
            begin, end = minutes(hours["begin"]), minutes(hours["end"])
            overnight = end < begin
            if self.is_day(today) and minute >= begin and (overnight or minute < end):
                return True
            if overnight and self.is_day(yesterday) and minute < end:
                return True
        return False

    def is_day(self, day: datetime.date) -> bool:
        """Whether a date is one of the window's."""
        text = day.isoformat()
        if not self.window.get("first_day", "") <= text <= self.window.get("last_day", "9") or text in self.window.get("excluded_days", []):
            return False
        return not self.window.get("weekdays") or day.weekday() + 1 in self.window["weekdays"] or text in self.window.get("extra_days", [])


@functools.lru_cache(maxsize=20_000)
def shown(zone: ZoneInfo, wall_us: int) -> datetime.datetime:
    """What a clock in a zone shows."""
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=wall_us)
    return moment.astimezone(zone).replace(tzinfo=None)


def day_of(text: str) -> datetime.date:
    """A date."""
    return datetime.date.fromisoformat(text)


def minutes(text: str) -> int:
    """Of a day."""
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)
