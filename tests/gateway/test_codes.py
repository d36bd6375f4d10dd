"""Recognising codes by shape, and typed codes that find their own slips."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import token
from gateway.codes import (
    CROCKFORD,
    MAX_PAYLOAD_B,
    SHORT_LETTERS,
    TOKEN_PREFIX,
    CodeKind,
    check_letters,
    recognise,
    short_code,
    short_identifier,
)
from gateway.errors import MalformedFrame

IDENTIFIERS = st.integers(0, (1 << 60) - 1)
CARDS = ["4111111111111111", "378282246310005", "30569309025904", "6011000990139424", "4222222222222", "6304000000000000000"]


def test_the_prefix_is_the_tokens() -> None:
    assert TOKEN_PREFIX == token.PREFIX


@given(IDENTIFIERS)
@example(0)
@example((1 << 60) - 1)
def test_a_short_code_comes_back_as_its_identifier(identifier: int) -> None:
    assert short_identifier(short_code(identifier)) == identifier


@pytest.mark.parametrize("identifier", [-1, 1 << 60])
def test_a_short_code_holds_sixty_bits(identifier: int) -> None:
    with pytest.raises(ValueError, match="60 bits"):
        short_code(identifier)


@given(IDENTIFIERS)
def test_how_it_is_typed_does_not_matter(identifier: int) -> None:
    code = short_code(identifier)
    bare = code.replace("-", "")
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in bare)
    careless = bare.replace("0", "o").replace("1", "l").lower()
    for typed in (code, bare, f" {code.lower()}\r\n", code.replace("-", " "), code.replace("-", "–"), wide, careless):
        assert short_identifier(typed) == identifier, typed


@given(IDENTIFIERS, st.integers(0, 13), st.sampled_from(CROCKFORD))
def test_every_single_slip_is_found(identifier: int, place: int, letter: str) -> None:
    code = short_code(identifier).replace("-", "")
    slip = code[:place] + letter + code[place + 1 :]
    if slip == code:
        return
    with pytest.raises(MalformedFrame):
        short_identifier(slip)
    assert recognise(slip.encode()).kind in (CodeKind.MISTYPED, CodeKind.CARD)


def test_every_single_slip_of_one_code_is_found() -> None:
    code = short_code(0x123456789ABCDEF).replace("-", "")
    for place, letter in itertools.product(range(len(code)), CROCKFORD):
        slip = code[:place] + letter + code[place + 1 :]
        assert (recognise(slip.encode()).kind is CodeKind.SHORT) == (slip == code)


@given(IDENTIFIERS)
def test_every_swap_of_neighbours_is_found(identifier: int) -> None:
    code = short_code(identifier).replace("-", "")
    for place in range(len(code) - 1):
        swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
        if swapped != code:
            with pytest.raises(MalformedFrame):
                short_identifier(swapped)


def test_swaps_are_found_because_powers_of_the_base_differ() -> None:
    """Not a sample: for every pair of letters and every place, the swap changes the check value."""
    for place, first, second in itertools.product(range(SHORT_LETTERS - 1), CROCKFORD, CROCKFORD):
        if first != second:
            here, there = list("0" * SHORT_LETTERS), list("0" * SHORT_LETTERS)
            here[place], here[place + 1] = first, second
            there[place], there[place + 1] = second, first
            assert check_letters("".join(here)) != check_letters("".join(there))


@given(st.binary(max_size=200), st.sampled_from(["]X0", "]Q1", "]E0", "", "]C1"]))
@example(b"V1:", "]Q1")
@example(b"\xff" * 14, "]X0")
@example("٤١١١١١١١١١١١١١١١".encode(), "]X0")
def test_any_bytes_have_a_kind(payload: bytes, symbology_id: str) -> None:
    found = recognise(payload, symbology_id)
    assert found.kind in CodeKind
    if found.kind is CodeKind.CARD:
        assert found.text == ""


def test_what_is_longer_than_any_code_is_not_looked_at() -> None:
    found = recognise(b"V1:" + b"0" * MAX_PAYLOAD_B)
    assert (found.kind, found.text) == (CodeKind.OTHER, "")


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_is_dropped_however_it_is_written(card: str) -> None:
    grouped = [card[at : at + 4] for at in range(0, len(card), 4)]
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in card)
    for written in (card, " ".join(grouped), "-".join(grouped), ".".join(grouped), "–".join(grouped), wide, f"{card}\r\n"):
        found = recognise(written.encode())
        assert (found.kind, found.text) == (CodeKind.CARD, ""), written


@pytest.mark.parametrize("symbology_id", ["]E0", "]e0", "]C1", "]d2", "]Q3"])
def test_goods_are_no_cards(symbology_id: str) -> None:
    assert recognise(b"4222222222222", symbology_id).kind is CodeKind.OTHER


def test_a_number_that_fails_luhn_is_no_card() -> None:
    assert recognise(b"4111111111111112").kind is CodeKind.OTHER
