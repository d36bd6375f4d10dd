"""Keys: of several issuers, rotated, retired and revoked, and formats of tomorrow."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import grant
from gateway.errors import MalformedFrame
from gateway.grant import Grant
from gateway.rules.reasons import REASONS
from gateway.signed import IssuerKey, TokenKey
from gateway.token import TokenKind, VoucherClass, voucher_ref
from gateway.verifiers import CodeRefused, Keyring, reason_of, verify
from tests.conftest import TOKEN_KEY
from tests.gateway.verifiers.issuers import (
    END_S,
    START_S,
    a_cwt,
    a_jwt,
    a_ticket,
    cwt_key,
    jwt_key,
    own_key,
    own_token,
    pretix_key,
    ring,
)

EVERY: dict[str, tuple[Callable[..., Any], str]] = {
    "own": (own_key, own_token()),
    "jwt": (jwt_key, a_jwt()),
    "cwt": (cwt_key, a_cwt()),
    "pretix": (pretix_key, a_ticket()),
}
EACH = pytest.mark.parametrize("form", EVERY)


def refused(text: str, keys: Keyring) -> str:
    with pytest.raises(MalformedFrame) as caught:
        verify(text, keys)
    reason = reason_of(caught.value)
    assert reason in REASONS
    return reason


@EACH
def test_a_key_in_use_is_good(form: str) -> None:
    key, text = EVERY[form]
    shown = verify(text, ring(key()))
    assert (shown.kind, shown.voucher_class, shown.terms.store) == (TokenKind.VOUCHER, VoucherClass.STORE_BOUND, 7)


@EACH
def test_nothing_a_stolen_key_ever_signed_is_good(form: str) -> None:
    key, text = EVERY[form]
    assert refused(text, ring(key(revoked=True))) == "key_revoked"


@EACH
def test_what_a_retired_key_signed_stays_good_for_as_long_as_headquarters_declares(form: str) -> None:
    key, text = EVERY[form]
    until_s = END_S - 1_000
    assert verify(text, ring(key(retired_s=START_S + 1))).terms == verify(text, ring(key())).terms
    assert verify(text, ring(key(retired_s=START_S + 1, honoured_until_s=until_s))).terms.not_after_s == until_s
    assert verify(text, ring(key(honoured_until_s=2**32 - 1))).terms == verify(text, ring(key())).terms  # never longer than it says


@pytest.mark.parametrize(
    ("key", "text"), [(own_key, own_token(not_before_s=START_S)), (jwt_key, a_jwt()), (cwt_key, a_cwt())], ids=["own", "jwt", "cwt"]
)
def test_a_retired_key_signs_nothing_more(key: Any, text: str) -> None:
    assert refused(text, ring(key(retired_s=START_S - 1))) == "key_retired"


def test_old_and_new_key_of_an_issuer_are_good_side_by_side() -> None:
    both = ring(own_key(1), own_key(2))
    assert verify(own_token(key_id=1), both).terms == verify(own_token(key_id=2), both).terms


def test_a_key_signs_for_its_own_issuer_only() -> None:
    keys = ring(own_key(1, 1), own_key(2, 5))
    assert verify(own_token(5, 2), keys).terms.voucher_id == "5-00000000000002a"
    assert verify(own_token(1, 1), keys).terms.voucher_id == "00000000000002a"
    assert refused(own_token(1, 2), keys) == "forged"  # signed by the chain, said to be of B's key
    assert refused(own_token(5, 1), keys) == "forged"
    same_key = TokenKey(3, 5, own_key().public)
    assert refused(own_token(1, 3), ring(same_key)) == "unknown_issuer"


def test_equal_names_of_two_issuers_are_two_vouchers() -> None:
    five, six = (verify(a_jwt(), ring(jwt_key(issuer=issuer))).terms.voucher_id for issuer in (5, 6))
    assert five != six


def test_one_voucher_may_come_in_several_formats_of_its_issuer() -> None:
    by_jwt = verify(a_jwt(jti="00000000000002a"), ring(jwt_key())).terms
    by_cwt = verify(a_cwt({7: b"00000000000002a"}), ring(cwt_key())).terms
    by_token = verify(own_token(5, 2), ring(own_key(2, 5))).terms
    assert by_jwt.voucher_id == by_cwt.voucher_id == by_token.voucher_id == voucher_ref(5, 42)
    assert verify(a_jwt(), ring(jwt_key())).terms.voucher_id == verify(a_cwt(), ring(cwt_key())).terms.voucher_id


def test_two_issuers_may_call_their_keys_alike() -> None:
    keys = ring(jwt_key(iss="https://a.example", issuer=4), jwt_key())
    assert verify(a_jwt(), keys).terms.issuer == 5
    assert refused(a_jwt(iss="https://a.example"), ring(jwt_key())) == "unknown_issuer"


@EACH
def test_without_keys_nothing_is_good(form: str) -> None:
    assert refused(EVERY[form][1], Keyring()) == "unknown_issuer"


@EACH
def test_formats_of_tomorrow_are_left_aside_and_named(form: str) -> None:
    key, text = EVERY[form]
    keys = ring(key(), IssuerKey(format="hologram", issuer=9, public="not even a key"))
    assert keys.unknown == ["hologram"]
    assert verify(text, keys).terms.store == 7


@EACH
def test_a_document_with_a_broken_key_is_refused_whole(form: str) -> None:
    key = EVERY[form][0]
    with pytest.raises(MalformedFrame):
        ring(key(), IssuerKey(format="jwt", issuer=9, public="zz"))


@EACH
def test_of_another_shop_than_headquarters_says_is_refused(form: str) -> None:
    key, text = EVERY[form]
    if form != "own":
        assert verify(text, ring(key(store=7))).terms.store == 7
    if form in ("jwt", "cwt"):
        assert refused(text, ring(key(store=8))) == "other_store"


def test_what_is_bound_to_no_shop_only_headquarters_decides() -> None:
    for text, key in ((a_jwt(store=0), jwt_key()), (a_cwt({-65538: 0}), cwt_key()), (a_ticket(), pretix_key(store=0))):
        assert verify(text, ring(key)).voucher_class is VoucherClass.HQ_LIVE
    assert verify(a_jwt(store=0), ring(jwt_key(store=7))).voucher_class is VoucherClass.STORE_BOUND


def test_items_become_campaigns_as_headquarters_maps_them() -> None:
    assert verify(a_jwt(item="tea", campaign=99), ring(jwt_key(campaigns={"tea": 4}))).terms.campaign == 4
    assert verify(a_jwt(campaign=99), ring(jwt_key())).terms.campaign == 99
    assert refused(a_jwt(campaign=99), ring(jwt_key(campaigns={"tea": 4}))) == "unknown_item"
    assert refused(a_cwt({-65540: "coffee"}), ring(cwt_key(campaigns={"tea": 4}))) == "unknown_item"


def test_of_keys_that_codes_do_not_name_only_so_many_are_tried() -> None:
    strangers = [pretix_key(public=own_key().public)] * 20
    assert verify(a_ticket(), ring(*strangers, pretix_key())).terms.issuer == 6
    assert refused(a_ticket(), ring(pretix_key(), *strangers)) == "forged"


def test_what_a_token_says_beyond_its_terms_is_there() -> None:
    shown = verify(own_token(value_minor=500, flags=3), ring(own_key()))
    assert shown.claims is not None and shown.grant is None
    assert (shown.claims.value_minor, shown.claims.flags) == (500, 3)


def test_a_grant_is_of_the_class_granted() -> None:
    given = Grant(key_id=1, issuer=1, identifier=42, assignment=3, box=1, left=2, issued_s=START_S, not_after_s=START_S + 60)
    shown = verify(grant.sign(given, TOKEN_KEY), ring(own_key()))
    assert (shown.voucher_class, shown.grant, shown.terms.voucher_id, shown.terms.uses) == (
        VoucherClass.GRANTED,
        given,
        voucher_ref(1, 42),
        2,
    )
    assert refused(grant.sign(given, TOKEN_KEY), ring(own_key(revoked=True))) == "key_revoked"


def test_why_a_code_is_refused_is_said_in_words() -> None:
    assert reason_of(CodeRefused("key_revoked", "")) == "key_revoked"
    assert {"key_revoked", "key_retired", "unknown_item", "ambiguous_code"} <= set(REASONS)


EVERY_KEY = ring(own_key(), jwt_key(), cwt_key(), *[pretix_key(public=own_key().public)] * 15, pretix_key())
STARTS = st.sampled_from(["V1:", "G1:", "CWT:", "eyJhbGciOiJFZERTQSJ9.", "", "QA", "{", "%B"])
BASE45 = st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:", max_size=250)


@given(STARTS, BASE45 | st.text(max_size=250) | st.text("ABCDEFabcdef0123456789+/=-_.", max_size=250), st.sampled_from(["", "QA", "."]))
def test_any_text_is_terms_or_malformed(start: str, middle: str, end: str) -> None:
    assert refused(start + middle + end, EVERY_KEY) in ("unreadable", "forged", "unknown_issuer")


@given(st.sampled_from(list(EVERY)), st.data())
def test_nothing_but_the_code_itself_verifies(form: str, data: st.DataObject) -> None:
    text = EVERY[form][1]
    first, last = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    changed = text[:first] + data.draw(st.text(st.sampled_from(text), max_size=6)) + text[last:]
    if changed != text:
        refused(changed, EVERY_KEY)
