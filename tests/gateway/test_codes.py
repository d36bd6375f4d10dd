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
    is_cardlike,
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


def test_no_two_letters_look_alike() -> None:
    assert len(CROCKFORD) == len(set(CROCKFORD)) == 32
    assert not set("OILU") & set(CROCKFORD)


@given(IDENTIFIERS, st.data())
def test_a_phones_keyboard_does_not_matter(identifier: int, data: st.DataObject) -> None:
    """Full-width letters, either case, and whatever space or dash an input method of Taiwan's phones puts between."""
    typed = ""
    for letter in short_code(identifier).replace("-", ""):
        as_typed = letter.lower() if data.draw(st.booleans()) else letter
        as_typed = {"0": "o", "1": "l"}.get(letter, letter) if data.draw(st.booleans()) else as_typed
        wide = chr(ord(as_typed) + 0xFEE0) if data.draw(st.booleans()) else as_typed
        typed += wide + data.draw(st.sampled_from(["", "", "", " ", "-", "\u3000", "－", "ー", "─", "–", "－ ", "\u200b", "．", "・"]))
    assert short_identifier(typed) == identifier
    if not is_cardlike(typed):  # headquarters gives out no number that would be
        assert recognise(typed.encode()).text == short_code(identifier).replace("-", "")


@given(IDENTIFIERS, st.integers(0, 13), st.characters())
def test_no_other_character_passes_for_a_letter(identifier: int, place: int, letter: str) -> None:
    code = short_code(identifier).replace("-", "")
    slip = code[:place] + letter + code[place + 1 :]
    try:
        assert short_identifier(slip) == identifier  # the same letter, written otherwise
    except MalformedFrame:
        return
    narrow = chr(ord(letter) - 0xFEE0) if "！" <= letter <= "～" else letter
    assert narrow.upper().translate(str.maketrans("OIL", "011")) == code[place]


@given(IDENTIFIERS, st.integers(0, 13), st.sampled_from(CROCKFORD))
def test_a_letter_too_many_or_too_few_is_found(identifier: int, place: int, letter: str) -> None:
    code = short_code(identifier).replace("-", "")
    for slip in (code[:place] + letter + code[place:], code[:place] + code[place + 1 :]):
        with pytest.raises(MalformedFrame):
            short_identifier(slip)


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


@pytest.mark.parametrize(
    "stripe",
    ["%B4111111111111111^CHEN/MING^2912101", "B4111111111111111^CHEN/MING^2912", ";4111111111111111=29121010000", "4111111111111111=2912"],
)
def test_what_a_magnetic_stripe_says_is_dropped(stripe: str) -> None:
    found = recognise(stripe.encode())
    assert (found.kind, found.text, found.typed) == (CodeKind.CARD, "", "")


@given(st.binary(max_size=200), st.sampled_from(["]X0", "]Q1", "]E0"]))
def test_a_card_comes_before_anything_else(payload: bytes, symbology_id: str) -> None:
    text = payload.decode("utf-8", "replace").strip("\x00\r\n\t ")
    found = recognise(payload, symbology_id)
    assert (found.kind is CodeKind.CARD) == is_cardlike(text, symbology_id)
    assert not is_cardlike(found.typed, symbology_id)  # nor does any list get to see one


@pytest.mark.parametrize("padding", [" " * 500, "-" * 500, "\u3000" * 100])
def test_padding_does_not_hide_a_card(padding: str) -> None:
    assert recognise(f"4111{padding}1111{padding}1111{padding}1111".encode()).kind is CodeKind.CARD


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("V1:", CodeKind.TOKEN),
        ("G1:", CodeKind.GRANT),
        ("CWT:", CodeKind.CWT),
        ("eyJhbGciOiJFZERTQSJ9.e30.AA", CodeKind.JWT),
        ("eyJhbGciOiJFZERTQSJ9.e30", CodeKind.OTHER),
        ("=" * 2 + "a" * 98 + "QA", CodeKind.PRETIX),
        ("a" * 50 + "QA", CodeKind.OTHER),
        ("v1:", CodeKind.OTHER),
        ("https://example.org/", CodeKind.OTHER),
        ("WELCOME10", CodeKind.OTHER),
    ],
)
def test_a_signed_code_is_known_by_its_shape(text: str, kind: CodeKind) -> None:
    assert recognise(text.encode()).kind is kind
