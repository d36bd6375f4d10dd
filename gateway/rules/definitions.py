"""What a campaign is: its definition as headquarters publishes it, and the one reader of it. Pure and total.

A definition is read whole or refused whole, with a `CampaignError` that says why: a kind or field nobody here knows is never
guessed, and the definitions beside it are served all the same. Fields at their defaults are not written, so a release that adds
one locks out the boxes of the release before only where it is used. `docs/campaigns.md` shows an example of each kind.
"""

import datetime
import difflib
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

MOST_B: Final = 64 * 1024  # of one definition
KINDS: Final = ("buy_one_get_one", "nth_at_percent", "minimum_spend", "gift_with_purchase", "item_voucher", "face_value", "revisit")

Minor = Annotated[int, Meta(ge=1, le=10**12, description="Of the currency's smallest unit: TWD has no decimals, HKD has two.")]
Times = Annotated[int, Meta(ge=1, le=999)]
Percent = Annotated[int, Meta(ge=1, le=100)]
Sku = Annotated[str, Meta(pattern=r"^[!-~]{1,64}(?!\n)$")]
Category = Annotated[str, Meta(min_length=1, max_length=40)]
Code = Annotated[str, Meta(pattern=r"^[0-9A-Z_-]{2,40}(?!\n)$")]
ClockTime = Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)(?!\n)$")]
Weekday = Annotated[int, Meta(ge=1, le=7, description="1 is Monday, 7 is Sunday.")]
Days = Annotated[tuple[datetime.date, ...], Meta(max_length=400)]
CampaignId = Annotated[int, Meta(ge=1, le=2**32 - 1)]


class Definition(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A part of a definition: no other fields than these."""


# ---------------------------------------------------------------- what it gives


class Items(Definition, frozen=True):
    """Which lines count: those of the named SKUs and categories, all if none is named; never those of `except_skus`."""

    skus: Annotated[tuple[Sku, ...], Meta(max_length=2000)] = ()
    categories: Annotated[tuple[Category, ...], Meta(max_length=100)] = ()
    except_skus: Annotated[tuple[Sku, ...], Meta(max_length=2000)] = ()


class BuyOneGetOne(Definition, frozen=True, tag_field="kind", tag="buy_one_get_one"):
    """Of each pair of items the cheaper one is free."""

    items: Items = Items()
    max_pairs: Times = 1


class NthAtPercent(Definition, frozen=True, tag_field="kind", tag="nth_at_percent"):
    """Of each `n` items the cheapest one has `percent_off`: n 2 and 50 is the second at half price."""

    n: Annotated[int, Meta(ge=2, le=99)]
    percent_off: Percent
    items: Items = Items()
    max_groups: Times = 1


class MinimumSpend(Definition, frozen=True, tag_field="kind", tag="minimum_spend"):
    """From `minimum_minor` on, `off_minor` for each full minimum (at most `max_times`), or `percent_off` of all of it."""

    minimum_minor: Minor
    off_minor: Minor | None = None
    percent_off: Percent | None = None
    max_off_minor: Minor | None = None  # with `percent_off` only
    max_times: Times = 1  # with `off_minor` only
    items: Items = Items()


class GiftWithPurchase(Definition, frozen=True, tag_field="kind", tag="gift_with_purchase"):
    """From `minimum_minor` on, so many pieces of a gift for each full minimum, at most `max_times`. Stock is decided elsewhere."""

    minimum_minor: Minor
    gift_sku: Sku
    gift_quantity: Times = 1
    max_times: Times = 1
    items: Items = Items()


class ItemVoucher(Definition, frozen=True, tag_field="kind", tag="item_voucher"):
    """So many of the items, the cheapest in the basket, with `percent_off`: 100 is free."""

    items: Items
    quantity: Times = 1
    percent_off: Percent = 100


class FaceValue(Definition, frozen=True, tag_field="kind", tag="face_value"):
    """Pays for the items as far as its balance reaches; what is left stays on the voucher."""

    items: Items = Items()


class Revisit(Definition, frozen=True, tag_field="kind", tag="revisit"):
    """Points for a member's first visit to any shop in so many days. A shop answers `pending`; headquarters settles it, once."""

    days: Annotated[int, Meta(ge=1, le=3650)]
    points: Annotated[int, Meta(ge=1, le=10**6)]


Rule = BuyOneGetOne | NthAtPercent | MinimumSpend | GiftWithPurchase | ItemVoucher | FaceValue | Revisit
Rounding = Literal["half_up", "down", "half_even"]
Currency = Literal["TWD", "HKD"]


# ---------------------------------------------------------------- when it is open


class Hours(Definition, frozen=True):
    """From a time of day until another, the end not included. `begin` after `end` goes on over midnight: it is still that day."""

    begin: ClockTime
    end: ClockTime


class Window(Definition, frozen=True):
    """When a campaign is open, by the shop's calendar and clock. What is not named restricts nothing.

    `extra_days` count although their day of the week is not named, as make-up workdays (補班日) do; `excluded_days` never count.
    """

    first_day: datetime.date | None = None
    last_day: datetime.date | None = None
    weekdays: Annotated[tuple[Weekday, ...], Meta(max_length=7)] = ()
    hours: Annotated[tuple[Hours, ...], Meta(max_length=8)] = ()
    extra_days: Days = ()
    excluded_days: Days = ()


class Grace(Definition, frozen=True):
    """What a campaign risks while the shop is not sure of the time.

    `around_s`: a window that cannot be decided counts as open if every possible moment is in it or at most so far from it.
    `unknown_s`: if nobody knows how late it is at most, it is taken to be at most so long after the earliest possible moment.
    Without it such a clock opens no window that ends.
    """

    around_s: Annotated[int, Meta(ge=0, le=7 * 86_400)] = 0
    unknown_s: Annotated[int, Meta(ge=0, le=31 * 86_400)] | None = None


class Limits(Definition, frozen=True):
    """How often it may be used: by one member in all or on one day, by everybody in this shop on one day."""

    per_member: Times | None = None
    per_member_day: Times | None = None
    per_day: Annotated[int, Meta(ge=1, le=10**6)] | None = None


# ---------------------------------------------------------------- the whole


class Campaign(Definition, frozen=True):
    """A campaign. What is rounded is what remains to be paid; `priority` and then the number decide which one comes first."""

    campaign: CampaignId  # as in signed codes
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    title_zh: Annotated[str, Meta(min_length=1, max_length=80)]
    title_en: Annotated[str, Meta(min_length=1, max_length=80)]
    currency: Currency
    rounding: Rounding
    rule: Rule
    trigger: Literal["automatic", "code", "voucher"] = "automatic"
    code: Code | None = None  # with trigger "code"
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    group: Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{0,40}(?!\n)$")] = ""  # of one group at most one is used on a basket
    window: Window = Window()
    grace: Grace = Grace()
    limits: Limits = Limits()
    stores: Annotated[tuple[Annotated[int, Meta(ge=1, le=2**32 - 1)], ...], Meta(max_length=10_000)] = ()  # numbers; none: every shop
    withdrawn: bool = False  # ends it before its last day

    @property
    def kind(self) -> str:
        """Of its rule: one of `KINDS`."""
        return str(self.rule.__struct_config__.tag)

    def is_for(self, store: int) -> bool:
        """Whether it concerns a shop."""
        return not self.stores or store in self.stores


class CampaignError(Struct, frozen=True):
    """A definition that is refused, and why."""

    place: int  # in the list it came in
    campaign: int | None  # as far as it could be read
    problem: str
    hint: str


class Campaigns(Struct, frozen=True):
    """What a list of definitions came to: the ones to serve, by number, and the ones refused."""

    good: tuple[Campaign, ...] = ()
    problems: tuple[CampaignError, ...] = ()


class _Kind(Struct):
    kind: str = ""


class _Head(Struct):
    """What can be told of a definition that cannot be read."""

    campaign: int | None = None
    rule: _Kind | None = None


_campaign: Final = msgspec.json.Decoder(Campaign)
_head: Final = msgspec.json.Decoder(_Head)
encode_campaign: Final = msgspec.json.Encoder().encode


def read_campaign(definition: bytes) -> Campaign | CampaignError:
    """Read one definition: JSON of untrusted content and length."""
    if len(definition) > MOST_B:
        return CampaignError(0, None, f"a definition of more than {MOST_B} bytes", "Make several campaigns of it")
    try:
        campaign = _campaign.decode(definition)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return _unread(definition, str(error))
    problem = next(_contradictions(campaign), None)
    return campaign if problem is None else CampaignError(0, campaign.campaign, *problem)


def read_campaigns(definitions: Iterable[bytes]) -> Campaigns:
    """Read a list of definitions. Of two with one number the higher version is served."""
    good: dict[int, Campaign] = {}
    problems = []
    for place, definition in enumerate(definitions):
        read = read_campaign(definition)
        if isinstance(read, CampaignError):
            problems.append(msgspec.structs.replace(read, place=place))
            continue
        held = good.get(read.campaign)
        if held is not None:
            twice = f"campaign {read.campaign} stands there twice"
            problems.append(CampaignError(place, read.campaign, twice, "The higher version is served"))
        if held is None or read.version > held.version:
            good[read.campaign] = read
    return Campaigns(tuple(good[number] for number in sorted(good)), tuple(problems))


def _unread(definition: bytes, why: str) -> CampaignError:
    try:
        head = _head.decode(definition)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return CampaignError(0, None, why, "docs/campaigns.md shows an example of each kind")
    kind = head.rule.kind if head.rule else ""
    if kind and kind not in KINDS:
        nearest = difflib.get_close_matches(kind[:40], KINDS, n=1)
        hint = f"Did you mean `{nearest[0]}`?" if nearest else "This release is too old for it: update it"
        return CampaignError(0, head.campaign, f"nobody here knows campaigns of kind `{kind[:40]}`", hint)
    return CampaignError(0, head.campaign, why, "docs/campaigns.md lists every field; if this one is newer, update this release")


def _contradictions(campaign: Campaign) -> Iterator[tuple[str, str]]:
    """What no single field can say: problem and hint of each."""
    yield from _of_trigger(campaign)
    if isinstance(campaign.rule, MinimumSpend):
        yield from _of_spend(campaign.rule)
    yield from _of_window(campaign.window)


def _of_trigger(campaign: Campaign) -> Iterator[tuple[str, str]]:
    if (campaign.trigger == "code") != (campaign.code is not None):
        yield "a code goes with the trigger `code`, and only with it", "Set both or neither"
    if isinstance(campaign.rule, FaceValue) and campaign.trigger != "voucher":
        yield "face_value needs the trigger `voucher`: its balance is a voucher's", "Set the trigger"
    if isinstance(campaign.rule, Revisit) and (campaign.trigger != "automatic" or campaign.limits != Limits() or campaign.group):
        yield "revisit comes by itself and is limited by its days", "Leave out `trigger`, `limits` and `group`"


def _of_spend(rule: MinimumSpend) -> Iterator[tuple[str, str]]:
    if (rule.off_minor is None) == (rule.percent_off is None):
        yield "minimum_spend takes off either `off_minor` or `percent_off`", "Set one of them"
    if rule.percent_off is None and rule.max_off_minor is not None:
        yield "`max_off_minor` goes with `percent_off`", "Leave it out"
    if rule.percent_off is not None and rule.max_times != 1:
        yield "`max_times` goes with `off_minor`", "Leave it out"


def _of_window(window: Window) -> Iterator[tuple[str, str]]:
    if window.first_day and window.last_day and window.first_day > window.last_day:
        yield "`last_day` lies before `first_day`", "Swap them"
    if set(window.extra_days) & set(window.excluded_days):
        yield "a day is both extra and excluded", "Name it once"
    if any(hours.begin == hours.end or hours.begin == "24:00" for hours in window.hours):
        yield "hours begin at most at 23:59 and do not end where they begin", "The whole day is from 00:00 to 24:00"
    if any(day.year < 2000 or day.year > 2199 for day in _days(window)):
        yield "a day lies outside the years 2000 to 2199", "Mend the year"


def _days(window: Window) -> tuple[datetime.date, ...]:
    ends = tuple(day for day in (window.first_day, window.last_day) if day is not None)
    return ends + window.extra_days + window.excluded_days
