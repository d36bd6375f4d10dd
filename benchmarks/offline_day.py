"""A day of twenty shops, each offline for a twentieth of it, with an adversary who copies codes, drops replies and puts old disks back.

Virtual time, an in-memory line, the product's own rules (`gateway.rules.assignment`, `assigning`, `risk`, `voucher`). Every shop loses its
line in spells of two hours, 5 % of the day in all, and the whole chain does for one hour; a shopper's phone has a line 95 % of the time.
One code in a hundred is copied and shown at five places. The adversary drops one message in fifty, before or after its effect,
shows old grants again anywhere, puts back a disk here and there, takes clocks away, and one box is declared destroyed and goes on.

Not counted as double: what was spent on a disk that was put back before headquarters had the row, and what was booked for the
destroyed box. Of class `bounded_risk`, which shops take on trust without a line, every use too many must be booked as a loss, or lie
unsent in the destroyed box below its cap; and no shop may lose more than its cap from one word of headquarters to the next.

Yardsticks in the same run, on the same shoppers: each shop decides for itself (a proxy in each shop), and no grants (what is
assigned by the line alone).
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from msgspec import Struct
from rich.progress import Progress, TaskID

from benchmarks.chain import TERMS, Headquarters, Shop
from gateway.events import RiskTaken, VoucherRedeemed
from gateway.rules.assigning import Asked, Assigner, Stand, Wish
from gateway.rules.assignment import Book
from gateway.signed import Grant

AIMS: Final = {
    "double_spends_granted": ("<=", 0), "double_spends_hq_live": ("<=", 0), "double_spends_leased": ("<=", 0),
    "double_spends_store_bound": ("<=", 0), "honest_served": (">=", 0.99), "exposure_over_cap": ("<=", 1.0),
    "risk_unbooked": ("<=", 0), "risk_loss_over_cap": ("<=", 1.0)
}  # fmt: skip
CLASSES: Final = ("granted", "hq_live", "leased", "store_bound")
RISK: Final = "bounded_risk"
KINDS: Final = (*CLASSES, RISK)
SHARES: Final = (0.4, 0.15, 0.15, 0.15, 0.15)
DEVICES: Final = 4
DAY_S: Final = 50_400  # 08:00 to 22:00
SPELL_S: Final = 7_200
OFFLINE: Final = 0.05
PHONE: Final = 0.95
COPIED: Final = 0.01
COPIES: Final = 5
DROPPED: Final = 0.02
AWAY: Final = 0.15
SETTLE_S: Final = 1_800
TRIES: Final = 3
BALANCE: Final = 500
HOARDED: Final = 40
NOT_DUE: Final = ("refunded", "revoked")  # the holder has had their money back


class Visit(Struct, frozen=True):
    """Somebody shows a code at a shop."""

    at_s: int
    kind: str
    voucher_id: str
    shop: int
    units: int
    honest: bool  # the holder, once; not somebody with a copy


class Day:
    """One run."""

    def __init__(self, seed: int, vouchers: int, shops: int, book: type[Book] = Book, rules: type[Assigner] = Assigner) -> None:
        self.chance = Random(seed)
        self.hq = Headquarters(rules())
        self.shops = [Shop(f"s{number}", book, self.chance) for number in range(shops)]
        self.spells = [self._spell() for _ in range(shops)]
        self.chain_spell = self._spell(3_600, 1.0)
        self.grants: list[Grant] = []
        self.served: Counter[str] = Counter()
        self.shown: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()  # uses if each shop decided for itself
        self.alone_seen: set[tuple[str, int]] = set()
        self.line_only: Counter[str] = Counter()
        self.issued: dict[str, tuple[str, int]] = {}
        self.booked = 0
        self.visits = sorted(self._visits(vouchers), key=lambda visit: visit.at_s)
        self._wanted: list[tuple[str, str, int]] = []  # shop, voucher, number
        self._hoard: list[Grant] = []
        self._settled: Counter[str] = Counter()  # by shop: losses before its window
        self.worst_window = 0  # the most one shop lost between two words of headquarters, in minor units

    def _spell(self, length_s: int = SPELL_S, share: float = OFFLINE * DAY_S / SPELL_S) -> tuple[int, int]:
        if self.chance.random() >= share:
            return (0, 0)
        begins = self.chance.randrange(DAY_S - length_s)
        return begins, begins + length_s

    def _visits(self, vouchers: int) -> list[Visit]:
        found: list[Visit] = []
        for number in range(vouchers):
            kind, voucher_id = self.chance.choices(KINDS, SHARES)[0], f"{number:015x}"
            units, home = BALANCE if kind == "leased" else 1, self.chance.randrange(len(self.shops))
            self.issued[voucher_id] = kind, units
            if kind != "store_bound":
                self.hq.stands[voucher_id] = Stand(voucher_id, units)
            found += self._shown(kind, voucher_id, home)
        return found

    def _shown(self, kind: str, voucher_id: str, home: int) -> list[Visit]:
        amounts = (180, 160, 160) if kind == "leased" else (1,)
        copied = self.chance.random() < COPIED
        found = []
        for units in amounts * COPIES if copied else amounts:
            away = kind != "store_bound" and self.chance.random() < AWAY
            shop = self.chance.randrange(len(self.shops)) if away or (copied and kind != "store_bound") else home
            found.append(Visit(self.chance.randrange(DAY_S), kind, voucher_id, shop, units, not copied))
        return found

    # ------------------------------------------------------------ the day

    def run(self, tell: Callable[[int], None]) -> None:
        """From morning to night, and until every line is mended."""
        slow = 0
        for number, visit in enumerate(self.visits):
            while slow <= visit.at_s:
                self._now_and_then(slow)
                slow += 60
            self._visit(visit)
            if number % 500 == 0:
                tell(number)
        self.spells, self.chain_spell = [(0, 0) for _ in self.shops], (0, 0)
        for minute in range(120):
            self._now_and_then(DAY_S + minute * 60)

    def online(self, shop: int, now_s: int) -> bool:
        """Whether a shop has its line."""
        return not any(begins <= now_s < ends for begins, ends in (self.spells[shop], self.chain_spell))

    def _visit(self, visit: Visit) -> None:
        shop = self.shops[visit.shop]
        online = self.online(visit.shop, visit.at_s)
        if visit.kind == RISK:
            refused = self._trust(visit, shop, online)
        elif visit.kind == "store_bound":
            refused = shop.honour_own(visit.voucher_id, visit.at_s)
        else:
            refused = shop.honour_held(visit.voucher_id, visit.units, visit.at_s)
            if refused in ("needs_grant", "grant_stale", "grant_expired") or (refused == "already_redeemed" and visit.kind == "leased"):
                refused = self._fetch(visit, shop, online)
        if visit.honest and refused not in NOT_DUE and shop.name not in self.hq.destroyed:
            self.shown[visit.kind] += 1
            self.served[visit.kind] += not refused
        self._yardsticks(visit, online, not refused)

    def _trust(self, visit: Visit, shop: Shop, online: bool) -> str:
        """Headquarters is asked; what it does not answer is taken on trust, below the caps."""
        device = f"{shop.name}/{self.chance.randrange(DEVICES)}"
        refused = shop.honour_given(visit.voucher_id, device, visit.at_s)
        if refused in ("", "already_redeemed", "not_admitted") or not online:
            return refused and (refused if refused in ("already_redeemed", "not_admitted") else self._take(visit, shop, device))
        claim_id = f"{self.chance.getrandbits(64):x}"
        for _ in range(TRIES):
            if self.chance.random() < DROPPED:
                continue
            said = self.hq.claim(claim_id, visit.voucher_id, Asked(shop.name, None, 1), visit.at_s)
            if self.chance.random() < DROPPED:
                continue
            if isinstance(said, str):
                return said
            shop.hold(said)
            return shop.honour_given(visit.voucher_id, device, visit.at_s)
        return self._take(visit, shop, device)

    def _take(self, visit: Visit, shop: Shop, device: str) -> str:
        return shop.honour_on_trust(visit.voucher_id, device, visit.at_s)

    def _fetch(self, visit: Visit, shop: Shop, online: bool) -> str:
        """Ask by the shop's line, or by the shopper's phone."""
        asked = Asked(shop.name, None if shop.start.proven else shop.start.name, visit.units if visit.kind == "leased" else 0)
        if not online and visit.kind != "granted":
            return "needs_online"
        if not online and self.chance.random() >= PHONE:
            return "needs_grant"
        claim_id = f"{self.chance.getrandbits(64):x}"
        for _ in range(TRIES):
            if self.chance.random() < DROPPED:
                continue  # the question was lost
            said = self.hq.claim(claim_id, visit.voucher_id, asked, visit.at_s)
            if self.chance.random() < DROPPED:
                continue  # the answer was
            if isinstance(said, str):
                return said
            self.grants.append(said)
            return shop.honour(said, visit.units, visit.at_s)
        return "needs_online"

    def _yardsticks(self, visit: Visit, online: bool, served: bool) -> None:
        if (visit.voucher_id, visit.shop) not in self.alone_seen and visit.kind != "leased":
            self.alone_seen.add((visit.voucher_id, visit.shop))
            self.alone[visit.voucher_id] += 1
        if visit.honest and visit.kind == "granted":
            self.line_only["shown"] += 1
            self.line_only["served"] += served and online

    # ------------------------------------------------------------ every minute

    def _now_and_then(self, now_s: int) -> None:
        for number, shop in enumerate(self.shops):
            if now_s % SETTLE_S == 60 * number and not shop.clock_is_lost:
                shop.settle(now_s - 120)
            if self.online(number, now_s) and shop.name not in self.hq.destroyed and self.chance.random() >= DROPPED:
                self._talk(shop, now_s)
        self._adversary(now_s)
        if now_s == DAY_S // 2:
            self.booked = self.hq.destroy(self.shops[-1].name)

    def _talk(self, shop: Shop, now_s: int) -> None:
        """Rows go up, openings and recalls come down; any of it may be lost."""
        self.hq.take(shop.name, shop.start)
        self.worst_window = max(self.worst_window, self.hq.losses[shop.name] - self._settled[shop.name])
        if self.chance.random() >= DROPPED:
            shop.hear(self.hq.marks)
            self._settled[shop.name] = self.hq.losses[shop.name]
        newest = self.hq.openings.get(shop.name, (0, ""))[0]
        if not shop.start.proven or shop.book.opening < newest:
            opened = self.hq.opening(shop.name, shop.start)
            if self.chance.random() >= DROPPED:
                shop.adopt(opened)
        for wanted in [one for one in self._wanted if one[0] == shop.name]:
            shop.release(wanted[1], wanted[2])
            self._wanted.remove(wanted)

    def _adversary(self, now_s: int) -> None:
        chance = self.chance
        if self.grants and now_s % 120 == 0:  # an old grant, shown again anywhere
            shop = chance.choice(self.shops)
            shop.honour(chance.choice(self.grants[-2_000:]), 1, now_s)
        if now_s % 3_600 == 1_800:
            chance.choice(self.shops).put_back(self.hq.marks)
        if now_s % 1_800 == 900:
            chance.choice(self.shops).restart()
        if now_s % 7_200 == 3_600:
            shop = chance.choice(self.shops)
            shop.clock_is_lost = not shop.clock_is_lost
        if now_s % 300 == 0:  # headquarters' own people: of something that is out, or of anything
            out = [one.voucher_id for one in self.grants[-50:]] if now_s % 900 else []
            voucher_id, wish = chance.choice(out or list(self.hq.stands)), chance.choice((Wish.REFUND, Wish.MOVE))
            self._wanted += [(shop_name, voucher_id, number) for shop_name, number in self.hq.wish(voucher_id, wish)]
        self._drawer(now_s)

    def _drawer(self, now_s: int) -> None:
        """Somebody fetches grants for a box that is about to be declared destroyed; it lies in a drawer, and works."""
        if now_s == DAY_S // 2 - 60:
            fresh = [one for one, stand in self.hq.stands.items() if self.issued[one][0] == "granted" and not stand.number]
            given = [self.hq.give(voucher_id, Asked(self.shops[-1].name), now_s) for voucher_id in fresh[-HOARDED:]]
            self._hoard = [one for one in given if not isinstance(one, str)]
        if now_s >= DAY_S // 2 and self._hoard:
            self.shops[-1].honour(self._hoard.pop(), 1, now_s)

    # ------------------------------------------------------------ the evening

    def summary(self) -> dict[str, float]:
        """What came of it."""
        spent, lost, unsent = Counter[str](), Counter[str](), self._unsent()
        for shop in self.shops:
            for start in shop.starts:
                for row in start.rows:
                    if isinstance(row, VoucherRedeemed | RiskTaken):
                        spent[row.voucher_id] += row.units
            for use in shop.lost:
                lost[use.voucher_id] += use.units
        found: dict[str, float] = {f"double_spends_{kind}": 0 for kind in CLASSES}
        realised = risk_uses = unbooked = 0
        for voucher_id, (kind, units) in self.issued.items():
            stand = self.hq.stands.get(voucher_id)
            exposed, refunded = (stand.exposed, stand.left if stand.ended else 0) if stand is not None else (0, 0)
            over = spent[voucher_id] - lost[voucher_id] + refunded - units
            if kind == RISK:
                risk_uses += max(0, over)
                unbooked += max(0, over - exposed - self.hq.lost_units[voucher_id] - unsent[voucher_id])
                continue
            realised += max(0, min(over, exposed))
            found[f"double_spends_{kind}"] += max(0, over - exposed) > 0
        return found | {
            "honest_served": round(self.served["granted"] / max(1, self.shown["granted"]), 4),
            **{f"honest_served_{kind}": round(self.served[kind] / max(1, self.shown[kind]), 4) for kind in KINDS[1:]},
            "exposure_over_cap": round(realised / self.booked, 3) if self.booked else 0.0,
            "risk_double_spends": risk_uses, "risk_unbooked": unbooked, "risk_lost_minor": sum(self.hq.losses.values()),
            "risk_loss_over_cap": round(max(self.worst_window, unsent.total() * TERMS.worth_minor) / TERMS.per_shop_minor, 3),
            "exposed_units": self.booked, "lost_with_disks": sum(lost.values()),
            "alone_double_spends": sum(max(0, uses - 1) for uses in self.alone.values()),
            "line_only_served": round(self.line_only["served"] / max(1, self.line_only["shown"]), 4),
            "presentations": len(self.visits),
        }  # fmt: skip

    def _unsent(self) -> Counter[str]:
        """What destroyed boxes took on trust and will never tell, by voucher."""
        gone = [shop for shop in self.shops if shop.name in self.hq.destroyed]
        rows = [row for shop in gone for start in shop.starts for row in start.rows[self.hq.marks.get(start.name, 0) :]]
        return Counter(row.voucher_id for row in rows if isinstance(row, RiskTaken) and not row.number)


def measure(seeds: list[int], vouchers: int, shops: int, quiet: bool) -> dict[str, float]:
    """Every seed's day; counts are added up, shares are the worst."""
    total: dict[str, float] = {}
    with Progress(disable=quiet, transient=True) as progress:
        for seed in seeds:
            day = Day(seed, vouchers, shops)
            task = progress.add_task(f"seed {seed}", total=len(day.visits))
            day.run(partial(_show, progress, task))
            for key, value in day.summary().items():
                if key not in total:
                    total[key] = value
                elif "served" in key:
                    total[key] = min(total[key], value)
                else:
                    total[key] = max(total[key], value) if key.endswith("_over_cap") else total[key] + value
    return total


def by_class(found: dict[str, float]) -> dict[str, object]:
    """What the last line says: the numbers, with codes that were used too often as one object by class."""
    doubles = {kind: found[f"double_spends_{kind}"] for kind in CLASSES} | {RISK: found["risk_double_spends"]}
    rest = {name: value for name, value in found.items() if not name.startswith("double_spends_") and name != "risk_double_spends"}
    return {"double_spends": doubles, **rest}


def _show(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def main() -> int:
    """Entry of `python -m benchmarks.offline_day`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offline_day", description=__doc__)
    parser.add_argument("--vouchers", type=int, default=40_000, help="issued for the day")
    parser.add_argument("--shops", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", action="store_true", help="only the summary")
    options = parser.parse_args()
    found = measure(options.seeds, options.vouchers, options.shops, options.json)
    if not options.json:
        print(f"seeds {options.seeds}: {options.vouchers} vouchers a day, {options.shops} shops of 4 kiosks")
        for key, value in found.items():
            sign, aim = AIMS.get(key, ("", 0))
            met = not sign or (value <= aim if sign == "<=" else value >= aim)
            print(f"{key:28} {value:>10g} {f'aim {sign} {aim:g}' if sign else ''}{'' if met else '  MISSED'}")
    print(f"SUMMARY {json.dumps(by_class(found))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
