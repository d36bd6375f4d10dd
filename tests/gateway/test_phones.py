"""A telephone number is the same however it is typed, and its key says nothing without the secret."""

import hashlib
import hmac
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedFrame
from gateway.phones import MAX_TYPED, as_reference, card_key, e164, phone_key, region_secret

TAIWAN = [
    "0912345678", "0912-345-678", "0912 345 678", "(0912) 345678", "+886912345678", "+886 912 345 678", "+886 0912 345 678",
    "０９１２－３４５－６７８", "0912\u3000345\u3000678", "+８８６９１２３４５６７８",
]  # fmt: skip


@pytest.mark.parametrize("typed", TAIWAN)
def test_every_spelling_of_a_number_is_that_number(typed: str) -> None:
    assert e164(typed, "TW") == "+886912345678"


@pytest.mark.parametrize(("typed", "region"), [("9123 4567", "HK"), ("+852 9123 4567", "TW"), ("91234567", "HK"), ("+85291234567", "HK")])
def test_a_hong_kong_number_has_eight_digits(typed: str, region: str) -> None:
    assert e164(typed, region) == "+85291234567"


@pytest.mark.parametrize(
    "typed", ["", "0", "123", "0912-345-67", "0912-345-6789", "tel:0912345678", "0912345678 ext 3", "0912345678;ext=3", "V", "+", "4" * 41]
)  # fmt: skip
def test_what_is_no_number_is_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(MalformedFrame) as refused:
        e164(typed, "TW")
    assert not typed or len(typed) < 4 or typed not in str(refused.value)


@given(st.one_of(st.text(max_size=60), st.text("0123456789+-() ０１２９＋", max_size=24)), st.sampled_from(["TW", "HK", "ZZ", "", "tw"]))
def test_any_text_is_a_number_or_refused(typed: str, region: str) -> None:
    try:
        number = e164(typed, region)
    except MalformedFrame:
        return
    assert number[0] == "+"
    assert number[1:].isascii()
    assert number[1:].isdigit()
    assert 7 <= len(number[1:]) <= 15
    assert len(typed) <= MAX_TYPED
    assert e164(number, "HK") == number, "a number in E.164 is its own spelling in every region"
    digits = "".join(str(unicodedata.digit(letter)) for letter in unicodedata.normalize("NFKC", typed) if letter.isdecimal())
    assert number[-6:] == digits[-6:], "nothing is guessed"


def test_the_key_is_of_the_secret_and_a_card_is_no_number() -> None:
    secret = bytes(range(32))
    whole = hmac.new(secret, b"phone\n+886912345678", hashlib.sha256).hexdigest()
    assert phone_key(secret, "+886912345678") == whole[:32]
    assert phone_key(bytes(32), "+886912345678") != whole[:32]
    assert card_key(secret, "+886912345678") != whole[:32]


def test_regions_have_secrets_of_their_own() -> None:
    assert len({region_secret(chain, region) for chain in (b"a" * 32, b"b" * 32) for region in ("TW", "HK")}) == 4


@given(st.binary(min_size=16, max_size=16))
def test_a_reference_is_26_letters(random: bytes) -> None:
    reference = as_reference(random)
    assert len(reference) == 26
    assert set(reference) <= set("abcdefghijklmnopqrstuvwxyz234567")
