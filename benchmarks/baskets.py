"""Random campaigns, baskets and clocks, small enough that everything about them can be tried, and full of ties.

Prices repeat, things are named twice, clocks stand near the edges of windows and near the hours at which zones change their clocks.
"""

import datetime
import random
from typing import Any, Final
from zoneinfo import ZoneInfo

ZONES: Final = (
    "Asia/Taipei", "Asia/Taipei", "Asia/Hong_Kong", "Europe/London", "America/New_York", "Australia/Lord_Howe", "America/Santiago",
)  # fmt: skip
SKUS: Final = ("A", "B", "C", "D", "GIFT-1")
CATEGORIES: Final = ("飲料", "蛋糕", "禮盒")
PRICES: Final = (0, 1, 33, 50, 80, 85, 85, 99, 99, 100, 250, 333)
GROUPS: Final = ("", "", "", "one", "two")
CODES: Final = ("WELCOME10", "VIP-8", "CAKE", "NOBODY")
STORE: Final = 101
DAY: Final = datetime.timedelta(days=1)
Found = dict[str, Any]


class Maker:
    """Makes them; the same seed makes the same ones."""

    def __init__(self, seed: int, timezone: str | None = None) -> None:
        self.chance = random.Random(seed)
        self._timezone = timezone
        self.next_world()

    def next_world(self) -> None:
        """Another shop, another year, another day near the change of the clocks or not."""
        self.timezone = self._timezone or self.chance.choice(ZONES)
        self.currency = self.chance.choice(("TWD", "HKD"))
        year = self.chance.choice((2026, 2027))
        changes = (datetime.date(year, 3, 28), datetime.date(year, 4, 4), datetime.date(year, 11, 1), datetime.date(year, 10, 3))
        self.today = self.chance.choice((datetime.date(year, 1, 1) + DAY * self.chance.randrange(365), *changes))

    # ------------------------------------------------------------ campaigns

    def campaigns(self, count: int) -> list[Found]:
        """So many, each with another number."""
        numbers = self.chance.sample(range(1, 60), count)
        return [self.campaign(number) for number in numbers]

    def campaign(self, number: int, version: int = 1) -> Found:
        """A definition."""
        chance = self.chance
        rule = self.rule()
        trigger = chance.choice(("automatic", "automatic", "code", "voucher"))
        trigger = "voucher" if rule["kind"] == "face_value" else trigger
        made: Found = {
            "campaign": number, "version": version, "title_zh": f"活動 {number}", "title_en": f"Offer {number}",
            "currency": self.currency if chance.random() < 0.97 else "HKD", "rounding": chance.choice(("half_up", "down", "half_even")),
            "rule": rule, "trigger": trigger, "priority": chance.choice((0, 0, 0, 1, -1, 5)), "group": chance.choice(GROUPS),
            "window": self.window(), "grace": self.grace(), "limits": self.limits(),
        }  # fmt: skip
        if trigger == "code":
            made["code"] = chance.choice(CODES[:3])
        if chance.random() < 0.05:
            made["stores"] = [chance.choice((STORE, STORE + 1))]
        if chance.random() < 0.02:
            made["withdrawn"] = True
        return made

    def rule(self) -> Found:
        """One of any kind."""
        chance, items = self.chance, self.items()
        kind = chance.randrange(6)
        if kind == 0:
            return {"kind": "buy_one_get_one", "items": items, "max_pairs": chance.choice((1, 2, 9))}
        if kind == 1:
            percent = chance.choice((50, 50, 21, 33, 100))
            return {
                "kind": "nth_at_percent", "n": chance.choice((2, 2, 3)), "percent_off": percent, "items": items,
                "max_groups": chance.choice((1, 9)),
            }  # fmt: skip
        if kind == 2:
            return self.spend(items)
        if kind == 3:
            return {
                "kind": "gift_with_purchase", "minimum_minor": self.minimum(), "gift_sku": "GIFT-1", "items": items,
                "gift_quantity": chance.choice((1, 2)), "max_times": chance.choice((1, 3)),
            }  # fmt: skip
        if kind == 4:
            quantity, percent = chance.choice((1, 1, 2)), chance.choice((100, 100, 15))
            return {"kind": "item_voucher", "items": items, "quantity": quantity, "percent_off": percent}
        return {"kind": "face_value", "items": items}

    def spend(self, items: Found) -> Found:
        """A minimum spend, of either sort."""
        made: Found = {"kind": "minimum_spend", "minimum_minor": self.minimum(), "items": items}
        if self.chance.random() < 0.5:
            return made | {"off_minor": self.chance.choice((7, 50, 100, 400)), "max_times": self.chance.choice((1, 1, 3))}
        made["percent_off"] = self.chance.choice((5, 10, 15, 21, 33, 100))
        return made | ({"max_off_minor": self.chance.choice((10, 60))} if self.chance.random() < 0.3 else {})

    def minimum(self) -> int:
        return self.chance.choice((1, 99, 100, 184, 300, 500, 1000))

    def items(self) -> Found:
        """Mostly everything, else some."""
        chance = self.chance
        if chance.random() < 0.4:
            return {}
        made: Found = {}
        if chance.random() < 0.7:
            made["skus"] = chance.sample(SKUS, chance.randint(1, 3))
        if chance.random() < 0.4:
            made["categories"] = [chance.choice(CATEGORIES)]
        if chance.random() < 0.2:
            made["except_skus"] = [chance.choice(SKUS)]
        return made

    def window(self) -> Found:
        """Mostly open about today."""
        chance, made = self.chance, dict[str, Any]()
        if chance.random() < 0.3:
            return made
        if chance.random() < 0.4:
            made["first_day"] = self.near(-20, 2)
        if chance.random() < 0.4:
            made["last_day"] = self.near(-1, 20)
        if chance.random() < 0.25:
            made["weekdays"] = sorted(chance.sample(range(1, 8), chance.randint(1, 6)))
        if chance.random() < 0.25:
            made["hours"] = [self.hours() for _ in range(chance.choice((1, 1, 2)))]
        extra = {self.near(-1, 2) for _ in range(chance.choice((0, 0, 1)))}
        excluded = {self.near(-1, 3) for _ in range(chance.choice((0, 0, 0, 1)))} - extra
        if made.get("first_day", "") > made.get("last_day", "9"):
            del made["first_day"]
        days = {"extra_days": sorted(extra), "excluded_days": sorted(excluded)}
        return made | {name: value for name, value in days.items() if value}

    def hours(self) -> Found:
        times = ("00:00", "01:30", "02:00", "02:30", "09:00", "12:00", "18:00", "22:00", "24:00")
        begin = self.chance.choice(times[:-1])
        return {"begin": begin, "end": self.chance.choice([one for one in times if one != begin])}

    def near(self, low: int, high: int) -> str:
        """A day near today."""
        return (self.today + DAY * self.chance.randint(low, high)).isoformat()

    def grace(self) -> Found:
        made = {}
        if self.chance.random() < 0.3:
            made["around_s"] = self.chance.choice((60, 60, 3600, 3600, 3600, 86_400) if self.chance.random() < 0.2 else (60, 3600))
        if self.chance.random() < 0.5:
            made["unknown_s"] = self.chance.choice((0, 1, 3600, 7200))
        return made

    def limits(self) -> Found:
        names = ("per_member", "per_member_day", "per_day")
        return {name: self.chance.randint(1, 3) for name in names if self.chance.random() < 0.1}

    # ------------------------------------------------------------ baskets and facts

    def basket(self) -> Found:
        """Up to six lines, up to eight pieces."""
        chance, lines, left = self.chance, [], 8
        for number in range(chance.randint(0 if chance.random() < 0.02 else 1, 6)):
            quantity = min(left, chance.choice((1, 1, 1, 2, 3)))
            if quantity == 0:
                break
            left -= quantity
            price = chance.choice(PRICES) if chance.random() < 0.8 else chance.randrange(100_000)
            line = {"line_id": f"L{number}", "sku": chance.choice(SKUS), "quantity": quantity, "unit_minor": price}
            lines.append(line | ({"category": chance.choice(CATEGORIES)} if chance.random() < 0.5 else {}))
        chance.shuffle(lines)
        return {"currency": self.currency, "lines": lines}

    def facts(self, campaigns: list[Found]) -> Found:
        """What is known beside a basket."""
        chance = self.chance
        codes = [code for code in CODES if chance.random() < 0.4]
        by_voucher = [one["campaign"] for one in campaigns if one["trigger"] == "voucher"]
        shown = [one for one in by_voucher for _ in range(chance.choice((0, 1, 1, 2)))] + ([77] if chance.random() < 0.05 else [])
        chance.shuffle(shown)
        balances = (0, 50, 180, 500, 10_000)
        vouchers = [{"voucher_id": f"v{at}", "campaign": one, "balance_minor": chance.choice(balances)} for at, one in enumerate(shown)]
        counts = [
            {
                "campaign": one["campaign"],
                "member": chance.randint(0, 3),
                "member_today": chance.randint(0, 2),
                "today": chance.randint(0, 3),
            }
            for one in campaigns
            if one["limits"] and chance.random() < 0.7
        ]
        return {"codes": codes, "vouchers": vouchers, "member": chance.random() < 0.7, "counts": counts, "at": self.moment()}

    def moment(self) -> Found:
        """Mostly known to the microsecond, often near midnight or another edge; sometimes within bounds, sometimes open-ended."""
        chance = self.chance
        minute = chance.choice((0, 60, 90, 120, 150, 540, 720, 1080, 1320)) if chance.random() < 0.4 else chance.randrange(1440)
        midnight = datetime.datetime.combine(self.today + DAY * chance.choice((-1, 0, 0, 0, 1)), datetime.time(), ZoneInfo(self.timezone))
        earliest_us = int(midnight.timestamp() + minute * 60) * 1_000_000 + chance.choice((-1, 0, 1, chance.randrange(60_000_000)))
        kind = chance.random()
        if kind < 0.8:
            return {"earliest_us": earliest_us, "latest_us": earliest_us}
        if kind < 0.9:
            return {"earliest_us": earliest_us, "latest_us": None}
        longest_s = 35 * 86_400 if kind > 0.9998 else 2 * 86_400 if kind > 0.99 else 7200
        return {"earliest_us": earliest_us, "latest_us": earliest_us + chance.randrange(longest_s * 1_000_000)}
