"""When a voucher may be used: what was used comes first, then its windows, at whatever the clock is worth."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Instant, TimeTrust, VoucherRedeemed
from gateway.rules.voucher import Terms, Used, listed_terms, refusal, refusal_of_token, terms_of
from gateway.signed import Voucher
from gateway.token import MAX_IDENTIFIER, Claims, TokenKind, VoucherClass, voucher_ref

START_S, END_S = 1_790_000_000, 1_790_086_400
START_US, END_US = START_S * 1_000_000, END_S * 1_000_000
ID = voucher_ref(1, 42)
CLAIMS = Claims(
    kind=TokenKind.VOUCHER, key_id=1, issuer=1, identifier=42, campaign=5, store=7, not_before_s=START_S, not_after_s=END_S, uses=1
)
LISTED = Voucher(ID, 5, "咖啡", "Coffee", START_S, END_S)


def terms(uses: int = 1) -> Terms:
    return Terms(ID, 5, 1, uses, START_S, END_S, 7)


def used(times: int, voucher_id: str = ID) -> Used:
    found = Used()
    for number in range(1, times + 1):
        at = Instant(START_US + number, 0, "b", TimeTrust.HOLDOVER)
        found.fold(VoucherRedeemed(f"r{number}", voucher_id, 5, 1, f"station-{number}", "scanner@counter", None, number, at))
    return found


@pytest.mark.parametrize(
    ("earliest_us", "latest_us", "reason"),
    [
        (START_US, START_US, None),
        (START_US - 1, START_US - 1, "not_yet"),
        (END_US, END_US, None),
        (END_US + 1, END_US + 1, "expired"),
        (START_US - 1, START_US, None),  # it may have begun
        (END_US, END_US + 1, None),  # it may not have ended
        (0, None, None),  # nobody knows how late it is: the shop goes on serving
        (END_US, None, None),
        (END_US + 1, None, "expired"),  # even the earliest possible time is past its end
    ],
)
def test_a_window_is_judged_by_the_bounds_of_the_clock(earliest_us: int, latest_us: int | None, reason: str | None) -> None:
    assert refusal(terms(), Used(), {}, earliest_us, latest_us) == reason


@given(st.integers(0, END_US * 2), st.integers(0, END_US * 2))
def test_inside_its_window_a_voucher_is_never_refused_by_the_clock(earliest_us: int, span_us: int) -> None:
    latest_us = earliest_us + span_us
    if earliest_us <= END_US and latest_us >= START_US:
        assert refusal(terms(), Used(), {}, earliest_us, latest_us) is None
    else:
        assert refusal(terms(), Used(), {}, earliest_us, latest_us) in ("expired", "not_yet")


@given(st.integers(1, 255), st.integers(0, 300))
def test_a_voucher_of_n_uses_is_used_n_times(uses: int, times: int) -> None:
    done = "already_redeemed" if uses == 1 else "exhausted"
    assert refusal(terms(uses), used(times), {}, START_US, START_US) == (done if times >= uses else None)


def test_what_was_used_is_told_before_anything_else() -> None:
    revoked = {ID: Voucher(ID, 5, "", "", START_S, END_S, revoked=True)}
    assert refusal(terms(), used(1), revoked, END_US + 1, END_US + 1) == "already_redeemed"
    assert refusal(terms(), Used(), revoked, END_US + 1, END_US + 1) == "revoked"
    assert refusal(terms(), Used(), {}, END_US + 1, END_US + 1) == "expired"


def test_the_use_of_one_voucher_is_no_use_of_another() -> None:
    assert refusal(terms(), used(3, voucher_ref(1, 43)), {}, START_US, START_US) is None


def test_the_last_use_says_when_and_where() -> None:
    found = used(2)
    last = found.last(ID)
    assert last is not None
    assert (last.at_us, last.station, last.read_point) == (START_US + 2, "station-2", "scanner@counter")
    assert found.last(voucher_ref(1, 43)) is None
    assert found.uses(voucher_ref(1, 43)) == 0


@pytest.mark.parametrize(
    ("voucher_class", "store", "reason"),
    [
        (VoucherClass.STORE_BOUND, 7, None),
        (VoucherClass.STORE_BOUND, 8, "other_store"),
        (VoucherClass.STORE_BOUND, 0, "other_store"),  # bound to a store, yet to none
        *((other, 7, "class_unsupported") for other in VoucherClass if other is not VoucherClass.STORE_BOUND),
    ],
)
def test_only_what_is_bound_to_this_store_is_decided_here(voucher_class: VoucherClass, store: int, reason: str | None) -> None:
    assert refusal_of_token(voucher_class, msgspec.structs.replace(terms(), store=store), 7) == reason


def use_of(voucher_id: str, issuer: int) -> VoucherRedeemed:
    return VoucherRedeemed("r", voucher_id, 5, issuer, "counter", "kiosk", None, 1, Instant(START_US, 0, "b", TimeTrust.HOLDOVER))


@given(st.integers(1, 2**16 - 1), st.integers(1, 2**16 - 1), st.integers(0, MAX_IDENTIFIER))
def test_equal_numbers_of_two_issuers_are_two_vouchers(one: int, other: int, identifier: int) -> None:
    found = Used()
    found.fold(use_of(voucher_ref(one, identifier), one))
    assert found.uses(voucher_ref(one, identifier)) == 1
    assert found.uses(voucher_ref(other, identifier)) == (1 if one == other else 0)


@pytest.mark.parametrize("issuer", [1, 5])
def test_a_row_of_an_old_release_counts_for_its_own_issuer(issuer: int) -> None:
    found = Used()
    found.fold(use_of("00000000000002a", issuer))
    assert {other: found.uses(voucher_ref(other, 42)) for other in (1, 5)} == {1: int(issuer == 1), 5: int(issuer == 5)}


def test_a_token_and_its_listing_bind_alike() -> None:
    assert terms_of(CLAIMS) == listed_terms(LISTED, 7) == terms()
