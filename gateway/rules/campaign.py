"""The one campaign engine: a basket in, adjustments out, the same at the shop and at headquarters. Pure, whole numbers only.

1. Campaigns come one after the other: face values last, then by `priority` (lower first), then promotions of items before those of
   the basket, then by number, then by voucher. Each sees what those before it have left to pay.
2. A piece is taken up by at most one promotion of items. Pieces are taken cheapest first; of equal ones by SKU, then by line id.
3. Nothing takes more off a line than is left to pay of it. What would take nothing off is not used.
4. What is taken off the basket is shared over its lines by what is left to pay of them: largest remainder, of equal ones by SKU, then by
   line id.
5. Of one `group` one campaign is used, once: the first that can be.
6. Of a campaign that nobody asked for it is not told that it is over or to come, elsewhere, or for items that are not there.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct

from gateway.rules import windows
from gateway.rules.basket import DECIMALS, Basket, Count, Facts, Line, ShownVoucher, allocate, check, remaining
from gateway.rules.definitions import (
    BuyOneGetOne,
    Campaign,
    FaceValue,
    GiftWithPurchase,
    Items,
    ItemVoucher,
    MinimumSpend,
    NthAtPercent,
    Revisit,
    Rounding,
)
from gateway.rules.limits import limited
from gateway.rules.priced import Adjustment, Gift, Pieces, Priced, PricedLine, Refused, Share, refused
from gateway.rules.reasons import Text

UNASKED: Final = frozenset({"campaign_ended", "campaign_not_begun", "campaign_elsewhere", "other_currency", "item_missing"})


class _Use(Struct, frozen=True):
    """One campaign that is to be tried once, with the voucher that brought it."""

    campaign: Campaign
    voucher: ShownVoucher | None = None


class _Open(Struct):
    """A line while campaigns are tried on it."""

    line: Line
    free: int  # pieces that no promotion of items has taken up
    to_pay: int
    off: int = 0
    voucher: int = 0


class _Effect(Struct, kw_only=True):
    """What a rule would do, by line id."""

    shares: dict[str, int] = {}
    taken: dict[str, int] = {}
    gifts: tuple[Gift, ...] = ()
    left: int | None = None


class _No(Struct, frozen=True):
    """Why a rule does nothing."""

    reason: str
    gap_minor: int = 0
    gap_quantity: int = 0


_Outcome = _Effect | _No


def price(basket: Basket, campaigns: Iterable[Campaign], facts: Facts) -> Priced:
    """Try every campaign that concerns a basket: those that come by themselves, by a code, or with a voucher.

    Args:
        basket: Lines in any order; the order changes nothing.
        campaigns: Those in force, each number once, in any order.
        facts: When, where, and what was used before.

    Raises:
        MalformedFrame: As `basket.check`, or a time zone that nobody knows.
    """
    check(basket, facts)
    work = _Work(basket, facts)
    for use in sorted(_uses(campaigns, facts), key=_rank):
        work.attempt(use)
    return work.priced(_unknown(campaigns, facts))


def _uses(campaigns: Iterable[Campaign], facts: Facts) -> Iterable[_Use]:
    for campaign in campaigns:
        if isinstance(campaign.rule, Revisit):
            continue  # it takes nothing off a basket: `gateway.rules.revisit`
        if campaign.trigger == "automatic" or (campaign.trigger == "code" and campaign.code in facts.codes):
            yield _Use(campaign)
        elif campaign.trigger == "voucher":
            yield from (_Use(campaign, shown) for shown in facts.vouchers if shown.campaign == campaign.campaign)


def _rank(use: _Use) -> tuple[bool, int, bool, int, str]:
    rule = use.campaign.rule
    of_basket = not isinstance(rule, BuyOneGetOne | NthAtPercent | ItemVoucher)
    voucher_id = use.voucher.voucher_id if use.voucher else ""
    return isinstance(rule, FaceValue), use.campaign.priority, of_basket, use.campaign.campaign, voucher_id


def _unknown(campaigns: Iterable[Campaign], facts: Facts) -> list[Refused]:
    """Codes and vouchers that no campaign answers to."""
    codes = {campaign.code for campaign in campaigns if campaign.code}
    numbers = {campaign.campaign for campaign in campaigns if campaign.trigger == "voucher"}
    strange = [refused(0, "unknown_code", code=code) for code in sorted(set(facts.codes) - codes)]
    shown = sorted((one.campaign, one.voucher_id) for one in facts.vouchers if one.campaign not in numbers)
    return strange + [refused(number, "unknown_campaign", voucher_id=voucher_id) for number, voucher_id in shown]


class _Work:
    """A basket while it is priced."""

    def __init__(self, basket: Basket, facts: Facts) -> None:
        ordered = sorted(basket.lines, key=lambda line: (line.sku, line.line_id))
        self._lines = [_Open(line, line.quantity, line.quantity * line.unit_minor) for line in ordered]
        self._basket = basket
        self._facts = facts
        self._zone = windows.zone_of(facts.timezone)
        self._counts = {count.campaign: count for count in facts.counts}
        self._used: Counter[int] = Counter()  # campaigns on this basket
        self._groups: dict[str, int] = {}
        self._adjustments: list[Adjustment] = []
        self._refused: list[Refused] = []

    def attempt(self, use: _Use) -> None:
        """Use a campaign, or note why not."""
        campaign = use.campaign
        reason = self._barred(campaign)
        outcome = _No(reason) if reason else self._weighed(use)
        if isinstance(outcome, _Effect):
            self._apply(use, outcome)
            return
        if campaign.trigger == "automatic" and outcome.reason in UNASKED:
            return
        by = self._groups.get(campaign.group, 0) if outcome.reason == "not_combinable" else 0
        self._refused.append(
            refused(
                campaign.campaign, outcome.reason, version=campaign.version, kind=campaign.kind, title=_title(campaign),
                code=campaign.code or "", voucher_id=use.voucher.voucher_id if use.voucher else "", gap_minor=outcome.gap_minor,
                gap_quantity=outcome.gap_quantity, by=by,
            )
        )  # fmt: skip

    def _barred(self, campaign: Campaign) -> str | None:
        """What speaks against it whatever is in the basket, in this order."""
        facts = self._facts
        if campaign.withdrawn:
            return "campaign_ended"
        if not campaign.is_for(facts.store):
            return "campaign_elsewhere"
        if campaign.currency != self._basket.currency:
            return "other_currency"
        reason = windows.closed(campaign.window, campaign.grace, self._zone, facts.earliest_us, facts.latest_us)
        if reason is None:
            reason = self._limited(campaign)
        return reason or ("not_combinable" if campaign.group and campaign.group in self._groups else None)

    def _limited(self, campaign: Campaign) -> str | None:
        here = self._used[campaign.campaign]
        count = self._counts.get(campaign.campaign, Count(campaign.campaign))
        return limited(campaign.limits, count, self._facts.member, lambda: self._day_unknown(campaign), here + 1)

    def _day_unknown(self, campaign: Campaign) -> bool:
        earliest_us = self._facts.earliest_us
        latest_us = windows.latest_of(campaign.grace, earliest_us, self._facts.latest_us)
        return windows.local_day(self._zone, earliest_us, latest_us) is None

    def _weighed(self, use: _Use) -> _Outcome:
        outcome = _RULES[type(use.campaign.rule)](use.campaign.rule, use, self._lines)
        nothing = isinstance(outcome, _Effect) and not outcome.gifts and not any(outcome.shares.values())
        return _No("nothing_to_take_off") if nothing else outcome

    def _apply(self, use: _Use, effect: _Effect) -> None:
        campaign, face = use.campaign, isinstance(use.campaign.rule, FaceValue)
        for open_ in self._lines:
            share = effect.shares.get(open_.line.line_id, 0)
            open_.to_pay -= share
            open_.off += 0 if face else share
            open_.voucher += share if face else 0
            open_.free -= effect.taken.get(open_.line.line_id, 0)
        self._used[campaign.campaign] += 1
        if campaign.group:
            self._groups[campaign.group] = campaign.campaign
        self._adjustments.append(
            Adjustment(
                campaign=campaign.campaign, version=campaign.version, kind=campaign.kind, title=_title(campaign),
                voucher_id=use.voucher.voucher_id if use.voucher else "", minor=sum(effect.shares.values()), left_minor=effect.left,
                shares=tuple(Share(name, minor) for name, minor in sorted(effect.shares.items()) if minor),
                taken=tuple(Pieces(name, number) for name, number in sorted(effect.taken.items()) if number), gifts=effect.gifts,
            )
        )  # fmt: skip

    def priced(self, unknown: list[Refused]) -> Priced:
        """What it has come to."""
        lines = sorted(self._lines, key=lambda open_: open_.line.line_id)
        return Priced(
            currency=self._basket.currency, decimals=DECIMALS[self._basket.currency],
            amount_minor=sum(line.quantity * line.unit_minor for line in self._basket.lines),
            off_minor=sum(open_.off for open_ in lines), voucher_minor=sum(open_.voucher for open_ in lines),
            to_pay_minor=sum(open_.to_pay for open_ in lines),
            lines=tuple(
                PricedLine(one.line.line_id, one.line.quantity * one.line.unit_minor, one.off, one.voucher, one.to_pay) for one in lines
            ),
            adjustments=tuple(self._adjustments), refused=(*self._refused, *unknown),
        )  # fmt: skip


def _title(campaign: Campaign) -> Text:
    return Text(campaign.title_zh, campaign.title_en)


# ---------------------------------------------------------------- the rules


def _eligible(lines: list[_Open], items: Items) -> list[_Open]:
    skus, categories, never = set(items.skus), set(items.categories), set(items.except_skus)
    named = bool(skus or categories)
    return [
        open_
        for open_ in lines
        if open_.line.sku not in never and (not named or open_.line.sku in skus or open_.line.category in categories)
    ]


def _pair(rule: BuyOneGetOne, use: _Use, lines: list[_Open]) -> _Outcome:
    return _grouped(_eligible(lines, rule.items), 2, 1, 100, rule.max_pairs, use.campaign.rounding)


def _nth(rule: NthAtPercent, use: _Use, lines: list[_Open]) -> _Outcome:
    return _grouped(_eligible(lines, rule.items), rule.n, 1, rule.percent_off, rule.max_groups, use.campaign.rounding)


def _item(rule: ItemVoucher, use: _Use, lines: list[_Open]) -> _Outcome:
    return _grouped(_eligible(lines, rule.items), rule.quantity, rule.quantity, rule.percent_off, 1, use.campaign.rounding)


def _grouped(lines: list[_Open], size: int, given: int, percent_off: int, most: int, rounding: Rounding) -> _Outcome:
    """Of each group of `size` pieces `given` have a percentage off: the cheapest of all that are taken up.

    What costs nothing takes no part. A group's other pieces are the next cheapest, so the dearest stay for others.
    """
    costly = [open_ for open_ in lines if open_.line.unit_minor]
    there, free = sum(open_.line.quantity for open_ in costly), sum(open_.free for open_ in costly)
    groups = min(most, free // size)
    if groups == 0:
        if there >= size:
            return _No("items_taken")
        return _No("item_missing" if there == 0 else "not_enough_items", gap_quantity=size - there)
    effect = _Effect()
    reduced, taken = groups * given, groups * size
    for open_ in sorted(costly, key=lambda one: one.line.unit_minor):  # a stable sort: of equal price by SKU, then line id
        cut = min(open_.free, reduced)
        effect.taken[open_.line.line_id] = min(open_.free, taken)
        off = open_.line.unit_minor - remaining(open_.line.unit_minor, percent_off, rounding)
        effect.shares[open_.line.line_id] = min(cut * off, open_.to_pay)
        reduced, taken = reduced - cut, taken - min(open_.free, taken)
    return effect


def _spend(rule: MinimumSpend, use: _Use, lines: list[_Open]) -> _Outcome:
    counted = _eligible(lines, rule.items)
    spent = sum(open_.to_pay for open_ in counted)
    times = min(rule.max_times, spent // rule.minimum_minor)
    if times == 0:
        return _No("minimum_not_reached", gap_minor=rule.minimum_minor - spent)
    off = min((rule.off_minor or 0) * times, spent)
    if rule.percent_off is not None:
        off = spent - remaining(spent, rule.percent_off, use.campaign.rounding)
        off = off if rule.max_off_minor is None else min(off, rule.max_off_minor)
    return _Effect(shares=_shared(off, counted))


def _gift(rule: GiftWithPurchase, use: _Use, lines: list[_Open]) -> _Outcome:
    spent = sum(open_.to_pay for open_ in _eligible(lines, rule.items))
    times = min(rule.max_times, spent // rule.minimum_minor)
    if times == 0:
        return _No("minimum_not_reached", gap_minor=rule.minimum_minor - spent)
    return _Effect(gifts=(Gift(rule.gift_sku, rule.gift_quantity * times),))


def _face(rule: FaceValue, use: _Use, lines: list[_Open]) -> _Outcome:
    payable = _eligible(lines, rule.items)
    to_pay, balance = sum(open_.to_pay for open_ in payable), use.voucher.balance_minor if use.voucher else 0
    if balance == 0:
        return _No("balance_empty")
    if not payable:
        return _No("item_missing", gap_quantity=1)
    spent = min(balance, to_pay)
    return _Effect(shares=_shared(spent, payable), left=balance - spent)


def _shared(minor: int, lines: list[_Open]) -> dict[str, int]:
    shares = allocate(minor, [open_.to_pay for open_ in lines])
    return {open_.line.line_id: share for open_, share in zip(lines, shares, strict=True)}


_RULES: Final[dict[type, Callable[[Any, _Use, list[_Open]], _Outcome]]] = {
    BuyOneGetOne: _pair,
    NthAtPercent: _nth,
    MinimumSpend: _spend,
    GiftWithPurchase: _gift,
    ItemVoucher: _item,
    FaceValue: _face,
}
