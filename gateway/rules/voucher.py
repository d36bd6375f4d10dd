"""Whether a voucher may be used now: class `store_bound`, decided by its one owner store, line up or down.

Pure. What was used is `Used`, rebuilt from lane 0 of the ledger along its chain and from HQ's opening, if there was one: the
opening counts every row up to its marks, and each row beyond them is added. "Unused" is answered from nothing else.
A clock nobody trusts never stops the shop: a voucher counts as expired only if even the earliest possible time is past its
end, and as not yet valid only if even the latest possible time is before its start.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from gateway.events import VoucherRedeemed
from gateway.rules.answers import Before
from gateway.rules.marks import NOWHERE, RowPlace, beyond
from gateway.signed import UsedVoucher, Voucher
from gateway.token import Claims, TokenKind, VoucherClass, voucher_ref

REDEEMABLE_HERE: Final = (VoucherClass.STORE_BOUND,)
ASSIGNED: Final = (VoucherClass.GRANTED, VoucherClass.HQ_LIVE)  # decided by `gateway.rules.assignment`


class Used:
    """Every use of every voucher this store has decided on, and those only HQ knows of."""

    def __init__(self) -> None:
        self._uses: dict[str, list[tuple[Before, RowPlace]]] = {}
        self._known: dict[str, UsedVoucher] = {}  # what HQ has counted
        self._marks: Mapping[int, int] = {}

    def fold(self, event: VoucherRedeemed, place: RowPlace = NOWHERE) -> None:
        """Take a use, from the past or just decided."""
        before = Before(event.event_time.wall_us, event.station, event.read_point, event.staff)
        self._uses.setdefault(event.voucher_id, []).append((before, place))

    def adopt(self, known: Iterable[UsedVoucher], marks: Mapping[int, int]) -> None:
        """Take HQ's count, which holds every row of this ledger up to `marks` (epoch number to seq). It replaces an earlier one."""
        self._known, self._marks = {one.voucher_id: one for one in known}, marks

    def uses(self, voucher_id: str) -> int:
        """How often it was used."""
        own = self._uses.get(voucher_id, ())
        known = self._known.get(voucher_id)
        if known is None:
            return len(own)
        return max(len(own), known.uses + sum(beyond(place, self._marks) for _, place in own))

    def last(self, voucher_id: str) -> Before | None:
        """The latest use."""
        uses = [before for before, _ in self._uses.get(voucher_id, ())[-1:]]
        known = self._known.get(voucher_id)
        if known is not None:
            uses.append(Before(known.at_us, known.station, "", known.staff))
        return max(uses, key=lambda before: before.at_us, default=None)


class Terms(Struct, frozen=True):
    """What binds a voucher here, from its token or from HQ's list."""

    voucher_id: str
    campaign: int
    issuer: int
    uses: int
    not_before_s: int
    not_after_s: int
    store: int


def terms_of(claims: Claims) -> Terms:
    """The terms a verified token carries."""
    return Terms(
        voucher_ref(claims.identifier), claims.campaign, claims.issuer, claims.uses, claims.not_before_s, claims.not_after_s, claims.store
    )


def listed_terms(voucher: Voucher, store: int) -> Terms:
    """The terms of a voucher HQ has listed for this store: what a typed code resolves to."""
    return Terms(voucher.voucher_id, voucher.campaign, voucher.issuer, voucher.uses, voucher.not_before_s, voucher.not_after_s, store)


def refusal_of_token(claims: Claims, store: int) -> str | None:
    """Why a verified token cannot be decided here at all; None: it can."""
    if claims.kind is not TokenKind.VOUCHER or claims.voucher_class not in REDEEMABLE_HERE:
        return "class_unsupported"
    return None if claims.store == store else "other_store"


def refusal(terms: Terms, used: Used, listed: Mapping[str, Voucher], earliest_us: int, latest_us: int | None) -> str | None:
    """Why this voucher may not be used now; None: it may.

    What was used is asked first: a second scan is told when and where, whatever else has changed since.
    """
    if used.uses(terms.voucher_id) >= terms.uses:
        return "already_redeemed"
    entry = listed.get(terms.voucher_id)
    if entry is not None and entry.revoked:
        return "revoked"
    if earliest_us > terms.not_after_s * 1_000_000:
        return "expired"
    if latest_us is not None and latest_us < terms.not_before_s * 1_000_000:
        return "not_yet"
    return None
