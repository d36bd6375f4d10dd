"""Whether a voucher may be used now: class `store_bound`, decided by its one owner store, line up or down.

Pure. What was used, held and given out is `gateway.rules.uses`. A clock nobody trusts never stops the shop: a voucher counts as
expired only if even the earliest possible time is past its end, and as not yet valid only if even the latest possible time is
before its start; a booked slot is judged the same way.

A voucher has one of two shapes: a number of uses (once, four times, for two guests), or a face value that is spent in parts.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from gateway.rules.uses import Used as Used
from gateway.signed import CampaignLimit, Voucher
from gateway.token import Claims, Flag, VoucherClass, voucher_ref

REDEEMABLE_HERE: Final = (VoucherClass.STORE_BOUND,)
ASSIGNED: Final = (VoucherClass.GRANTED, VoucherClass.HQ_LIVE)  # decided by `gateway.rules.assignment`
MICROS: Final = 1_000_000
PARTIAL, PRACTICE = int(Flag.PARTIAL), int(Flag.PRACTICE)  # a flag as an enumeration costs each code a microsecond more


class Terms(Struct, frozen=True):
    """What binds a voucher here, from its token or from HQ's list."""

    voucher_id: str
    campaign: int
    issuer: int
    uses: int
    not_before_s: int
    not_after_s: int
    store: int
    value_minor: int = 0
    partial: bool = False  # `value_minor` is spent in parts
    practice: bool = False


class Want(Struct, frozen=True):
    """How much is asked of a voucher: uses or guests; of a face value an amount in minor units."""

    units: int = 1
    amount_minor: int | None = None
    points: bool = False  # `units` are points of an account


class Left(Struct, frozen=True):
    """What is left of a voucher: uses, or of a face value minor units; None: it is not of that shape."""

    uses: int | None = None
    minor: int | None = None


ONE: Final = Want()


def terms_of(claims: Claims) -> Terms:
    """The terms a verified token carries."""
    return Terms(
        voucher_ref(claims.issuer, claims.identifier), claims.campaign, claims.issuer, claims.uses, claims.not_before_s,
        claims.not_after_s, claims.store, claims.value_minor, claims.flags & PARTIAL != 0, claims.flags & PRACTICE != 0,
    )  # fmt: skip


def listed_terms(voucher: Voucher, store: int) -> Terms:
    """The terms of a voucher HQ has listed for this store: what a typed code resolves to."""
    return Terms(
        voucher.voucher_id, voucher.campaign, voucher.issuer, voucher.uses, voucher.not_before_s, voucher.not_after_s, store,
        voucher.value_minor, voucher.partial, voucher.practice,
    )  # fmt: skip


def refusal_of_token(voucher_class: VoucherClass, terms: Terms, store: int) -> str | None:
    """Why a verified voucher cannot be decided here at all; None: it can."""
    if voucher_class not in REDEEMABLE_HERE:
        return "class_unsupported"
    return None if terms.store == store else "other_store"


def left_of(terms: Terms, used: Used) -> Left:
    """What is left; what other sales hold is not."""
    free = _stand(terms, used)[1]
    return Left(minor=free) if terms.partial else Left(uses=free)


def _stand(terms: Terms, used: Used) -> tuple[int, int]:
    """What is left of it, by its shape: with what other sales hold, and without."""
    spent, held = used.spent(terms.voucher_id), used.held(terms.voucher_id)
    if terms.partial:
        return terms.value_minor - spent.minor, terms.value_minor - spent.minor - held.minor
    return terms.uses - spent.units, terms.uses - spent.units - held.units


def refusal(
    terms: Terms, used: Used, listed: Mapping[str, Voucher], earliest_us: int, latest_us: int | None, want: Want = ONE,
    limit: CampaignLimit | None = None,
) -> str | None:  # fmt: skip
    """Why this voucher may not be used now; None: it may.

    What was used is asked first: a second scan is told when and where, whatever else has changed since.
    """
    if _stand(terms, used)[0] <= 0:
        return "already_redeemed" if terms.uses <= 1 and not terms.partial else "exhausted"
    entry = listed.get(terms.voucher_id)
    if entry is not None and entry.revoked:
        return "revoked"
    return (
        _refusal_of_time(terms, entry, earliest_us, latest_us)
        or refusal_of_amount(terms, used, want)
        or refusal_of_limit(terms.campaign, used, limit, want.units, earliest_us)
    )


def refusal_of_amount(terms: Terms, used: Used, want: Want) -> str | None:
    """Whether as much as is wanted is left, and whether somebody else's sale holds it."""
    if want.points:
        return "no_points"
    if terms.partial is not (want.amount_minor is not None):
        return "amount_needed" if terms.partial else "no_face_value"
    asked = want.units if want.amount_minor is None else want.amount_minor
    left, free = _stand(terms, used)
    if asked <= free:
        return None
    return "held" if asked <= left else "not_enough_left"


def is_left(terms: Terms, used: Used, want: Want) -> bool:
    """Whether as much as is wanted is not used yet, whoever holds it: HQ may know of uses that this disk has forgotten."""
    return (want.units if want.amount_minor is None else want.amount_minor) <= _stand(terms, used)[0]


def refusal_of_limit(campaign: int, used: Used, limit: CampaignLimit | None, units: int, earliest_us: int) -> str | None:
    """Whether the shop has anything left of what the campaign lets it give out."""
    if limit is None:
        return None
    if limit.stock is not None and used.given(campaign) + units > limit.stock:
        return "session_full" if limit.session else "stock_out"
    if limit.daily is not None and used.given(campaign, used.day(earliest_us)) + units > limit.daily:
        return "daily_stock_out"
    return None


def window_of(entry: Voucher | None, earliest_us: int) -> tuple[int, int] | None:
    """The booked slot that is on or comes next, else the last one; None: none is booked."""
    if entry is None or not entry.windows:
        return None
    ordered = sorted(entry.windows)
    return next((window for window in ordered if earliest_us <= window[1] * MICROS), ordered[-1])


def _refusal_of_time(terms: Terms, entry: Voucher | None, earliest_us: int, latest_us: int | None) -> str | None:
    if earliest_us > terms.not_after_s * MICROS:
        return "expired"
    if latest_us is not None and latest_us < terms.not_before_s * MICROS:
        return "not_yet"
    windows = entry.windows if entry is not None else []
    may_be_on = [one for one in windows if earliest_us <= one[1] * MICROS and (latest_us is None or latest_us >= one[0] * MICROS)]
    return "outside_window" if windows and not may_be_on else None
