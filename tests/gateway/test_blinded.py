"""Keys that are moved on to a new secret without what they were made of: the same as made anew, and nothing for whoever has the old one."""

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import blinded, phones

CHAIN = phones.region_secrets(b"a chain's own key", "TW")
FIRST = CHAIN[: phones.SECRET_B]
NUMBERS = [f"+8869123456{number:02}" for number in range(40)]


def secret(seed: int) -> bytes:
    return phones.exchanged(FIRST, blinded.scalar_of(hmac.digest(CHAIN, bytes([seed]), "sha512")))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=4, unique=True), st.text(max_size=40))
@settings(max_examples=30)
def test_a_key_that_was_moved_on_is_the_key_made_anew(seeds: list[int], letters: str) -> None:
    old, phone, card = FIRST, phones.phone_index(FIRST, NUMBERS[0]), phones.card_index(FIRST, letters)
    for seed in seeds:
        new = secret(seed)
        phone, card, old = phones.mover(old, new)(phone), phones.mover(old, new)(card), new
        assert phone == phones.phone_index(new, NUMBERS[0]) and phones.told_key(phone) == phones.phone_key(new, NUMBERS[0])
        assert card == phones.card_index(new, letters) and phones.told_key(card) == phones.card_key(new, letters)


def test_under_each_secret_every_number_has_a_key_of_its_own_that_no_other_secret_gives() -> None:
    secrets = [FIRST, secret(1), secret(2)]
    keys = {phones.phone_key(one, number) for one in secrets for number in NUMBERS}
    assert len(keys) == len(secrets) * len(NUMBERS) and {len(key) for key in keys} == {2 * phones.KEY_B}
    assert phones.card_key(secret(1), NUMBERS[0]) not in keys


def test_shops_are_told_what_cannot_be_moved_on() -> None:
    told = phones.phone_key(secret(1), NUMBERS[0])
    assert told != phones.phone_index(secret(1), NUMBERS[0])[: len(told)]
    assert phones.mover(FIRST, secret(2))(told) != phones.phone_index(secret(2), NUMBERS[0])


def test_what_makes_a_request_another_one_stays_the_same_over_exchanges() -> None:
    assert {phones.phone_print(one, NUMBERS[0]) for one in (FIRST, secret(1), secret(2))} == {phones.phone_key(FIRST, NUMBERS[0])}


def test_before_the_first_exchange_keys_are_those_of_the_release_before() -> None:
    """As that release's tests had it: databases and shops hold such keys."""
    plain = hmac.digest(phones.region_secret(b"a chain's own key", "TW"), b"phone\n+886912345678", "sha256")[:16].hex()
    assert phones.phone_index(FIRST, "+886912345678") == phones.phone_key(FIRST, "+886912345678") == plain


@pytest.mark.parametrize("length", [0, 16, 32, 64, 65, 66])
def test_a_secret_of_another_shape_is_a_key_of_an_hmac_and_finds_nobody(length: int) -> None:
    odd = bytes(range(1, length + 1))
    assert len(phones.phone_key(odd, NUMBERS[0])) == 32
