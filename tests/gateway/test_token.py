"""Signed tokens: what was signed comes back, and nothing else verifies."""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import segno
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import MalformedFrame
from gateway.token import (
    CLAIMS,
    MAX_IDENTIFIER,
    PREFIX,
    TEXT_LETTERS,
    BadSignature,
    Claims,
    TokenKind,
    UnknownKey,
    VoucherClass,
    named_ref,
    qualified,
    sign,
    unpack,
    verify,
    voucher_ref,
)
from tests.conftest import STRANGER_KEY, TOKEN_KEY

VECTORS: Final = Path(__file__).parents[2] / "contract" / "vectors" / "token_v1.json"
BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
KEYS = {1: TOKEN_KEY.public_key()}
U32 = st.integers(0, 2**32 - 1)
CLAIMED = st.builds(
    Claims,
    kind=st.sampled_from(TokenKind), key_id=st.just(1), issuer=st.integers(0, 2**16 - 1), identifier=st.integers(0, MAX_IDENTIFIER),
    campaign=U32, store=U32, not_before_s=U32, not_after_s=U32, voucher_class=st.sampled_from(VoucherClass), uses=st.integers(0, 255),
    value_minor=U32, flags=st.integers(0, 255),
)  # fmt: skip
ONE = Claims(kind=TokenKind.VOUCHER, key_id=1, issuer=1, identifier=42, store=7, not_after_s=2_000_000_000)
ONE_TEXT = sign(ONE, TOKEN_KEY)


@given(CLAIMED)
def test_what_was_signed_comes_back(claims: Claims) -> None:
    text = sign(claims, TOKEN_KEY)
    assert verify(text, KEYS) == claims
    assert len(text) == TEXT_LETTERS


@given(CLAIMED)
@settings(max_examples=20)
def test_a_token_fits_a_qr_code_of_version_6_at_level_m(claims: Claims) -> None:
    code = segno.make_qr(sign(claims, TOKEN_KEY), error="m", boost_error=False)
    assert isinstance(code.version, int) and code.version <= 6
    assert code.mode == "alphanumeric"


@given(st.integers(0, TEXT_LETTERS - 1), st.characters(codec="utf-8"))
@example(3, "0")
def test_no_changed_letter_verifies(place: int, letter: str) -> None:
    changed = ONE_TEXT[:place] + letter + ONE_TEXT[place + 1 :]
    if changed != ONE_TEXT:
        with pytest.raises(MalformedFrame):
            verify(changed, KEYS)


def test_of_thousands_of_changes_within_the_alphabet_none_verifies() -> None:
    for place in range(len(PREFIX), TEXT_LETTERS):
        for letter in BASE45[place % 3 :: 3]:  # 2,250 of them
            changed = ONE_TEXT[:place] + letter + ONE_TEXT[place + 1 :]
            if changed != ONE_TEXT:
                with pytest.raises(MalformedFrame):
                    verify(changed, KEYS)


@given(CLAIMED)
def test_a_strangers_signature_does_not_verify(claims: Claims) -> None:
    with pytest.raises(BadSignature):
        verify(sign(claims, STRANGER_KEY), KEYS)


@given(CLAIMED, CLAIMED)
def test_a_signature_does_not_fit_other_claims(one: Claims, other: Claims) -> None:
    if one == other:
        return
    mixed = sign(other, TOKEN_KEY)[:57] + sign(one, TOKEN_KEY)[57:]  # 3 letters of prefix, 54 of claims
    with pytest.raises(MalformedFrame):
        verify(mixed, KEYS)


def test_a_key_nobody_knows_is_named_as_such() -> None:
    with pytest.raises(UnknownKey):
        verify(ONE_TEXT, {2: TOKEN_KEY.public_key()})


@given(st.text(max_size=300) | st.text(BASE45, min_size=TEXT_LETTERS - 3, max_size=TEXT_LETTERS - 3).map("V1:".__add__))
def test_any_text_is_claims_or_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame):
        verify(text, KEYS)


@given(st.binary(min_size=CLAIMS.size, max_size=CLAIMS.size))
def test_any_claims_are_known_or_malformed(packed: bytes) -> None:
    import base45

    text = "V1:" + base45.b45encode(packed + bytes(64)).decode()
    try:
        claims, _, _ = unpack(text)
    except MalformedFrame:
        return
    assert claims.identifier <= MAX_IDENTIFIER


@pytest.mark.parametrize("text", [ONE_TEXT + " ", " " + ONE_TEXT, ONE_TEXT.lower(), ONE_TEXT[:-1], ONE_TEXT + "0", ""])
def test_there_is_one_spelling_of_a_token(text: str) -> None:
    with pytest.raises(MalformedFrame):
        verify(text, KEYS)


def test_a_reference_is_fifteen_hex_digits_and_names_another_issuer() -> None:
    assert voucher_ref(1, 42) == "00000000000002a"
    assert len(voucher_ref(1, MAX_IDENTIFIER)) == 15
    assert voucher_ref(5, 42) == "5-00000000000002a"


ISSUERS, IDENTIFIERS = st.integers(1, 2**16 - 1), st.integers(0, MAX_IDENTIFIER)


@given(ISSUERS, IDENTIFIERS, ISSUERS, IDENTIFIERS)
def test_no_two_vouchers_share_a_reference(issuer: int, identifier: int, other: int, another: int) -> None:
    same = (issuer, identifier) == (other, another)
    assert (voucher_ref(issuer, identifier) == voucher_ref(other, another)) == same
    assert named_ref(issuer, b"name") != voucher_ref(other, another)
    assert (named_ref(issuer, b"name") == named_ref(other, b"name")) == (issuer == other)


@given(ISSUERS, IDENTIFIERS, st.binary(max_size=40))
def test_a_name_that_is_a_number_is_the_voucher_of_that_number(issuer: int, identifier: int, name: bytes) -> None:
    assert named_ref(issuer, f"{identifier:015x}".encode()) == voucher_ref(issuer, identifier)
    assert qualified(named_ref(issuer, name), issuer) == named_ref(issuer, name)


@given(ISSUERS, IDENTIFIERS)
def test_a_row_of_old_is_read_as_written_now(issuer: int, identifier: int) -> None:
    assert qualified(f"{identifier:015x}", issuer) == voucher_ref(issuer, identifier)
    assert qualified(voucher_ref(issuer, identifier), issuer) == voucher_ref(issuer, identifier)


class Vector(msgspec.Struct, frozen=True):
    """One line of the published vectors."""

    about: str
    claims: dict[str, Any]
    packed: str
    text: str


class Vectors(msgspec.Struct, frozen=True):
    """The published file."""

    note: str
    private_key: str
    public_key: str
    vectors: list[Vector]


PUBLISHED = msgspec.json.decode(VECTORS.read_bytes(), type=Vectors)


@pytest.mark.parametrize("vector", PUBLISHED.vectors, ids=lambda vector: vector.about)
def test_the_published_vectors_hold(vector: Vector) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(PUBLISHED.private_key))
    claims = msgspec.convert(vector.claims, Claims)
    assert key.public_key().public_bytes_raw().hex() == PUBLISHED.public_key
    assert sign(claims, key) == vector.text
    assert unpack(vector.text)[1].hex() == vector.packed
    assert verify(vector.text, {claims.key_id: key.public_key()}) == claims


def test_there_are_vectors_of_both_kinds_and_of_the_bounds() -> None:
    claims = [msgspec.convert(vector.claims, Claims) for vector in PUBLISHED.vectors]
    assert {found.kind for found in claims} == {TokenKind.VOUCHER, TokenKind.PICKUP}  # members came later: `member_v1`
    assert MAX_IDENTIFIER in {found.identifier for found in claims}
    assert 0 in {found.identifier for found in claims}
