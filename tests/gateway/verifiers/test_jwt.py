"""JWT: only EdDSA, only the key headquarters lists, no name twice, no header that brings a key."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedFrame
from gateway.token import BadSignature
from gateway.verifiers import jwt, verify
from gateway.verifiers.keyring import reason_of
from tests.conftest import STRANGER_KEY
from tests.gateway.verifiers.issuers import END_S, JWT_CLAIMS, JWT_SECRET, a_jwt, jwt_key, ring

KEYS = ring(jwt_key())
GOOD = {"alg": "EdDSA", "kid": "k1", "typ": "JWT"}
CLAIMS = json.dumps(JWT_CLAIMS)


def part(raw: bytes | str | dict[str, Any]) -> str:
    raw = json.dumps(raw) if isinstance(raw, dict) else raw
    return base64.urlsafe_b64encode(raw.encode() if isinstance(raw, str) else raw).decode().rstrip("=")


def sealed(header: bytes | str | dict[str, Any], claims: bytes | str | dict[str, Any] = CLAIMS) -> str:
    """Rightly signed, whatever it says."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(JWT_SECRET.sign(signed.encode()))}"


BAD_HEADERS: dict[str, Any] = {
    "none": GOOD | {"alg": "none"},
    "None": GOOD | {"alg": "None"},
    "HS256": GOOD | {"alg": "HS256"},
    "ES256": GOOD | {"alg": "ES256"},
    "lower case": GOOD | {"alg": "eddsa"},
    "no algorithm": {"kid": "k1"},
    "an algorithm that is a list": GOOD | {"alg": ["EdDSA"]},
    "critical": GOOD | {"crit": ["exp"]},
    "not encoded": GOOD | {"b64": False},
    "a key of its own": GOOD | {"jwk": {"kty": "OKP"}},
    "an address of keys": GOOD | {"jku": "https://evil.example"},
    "a certificate": GOOD | {"x5c": []},
    "zipped": GOOD | {"zip": "DEF"},
    "another type": GOOD | {"typ": "at+jwt"},
    "no key named": {"alg": "EdDSA"},
    "a number for a key": GOOD | {"kid": 1},
    "a name twice": '{"alg":"none","alg":"EdDSA","kid":"k1"}',
    "no object": "[]",
    "no JSON": "{",
    "NaN": '{"alg":"EdDSA","kid":"k1","typ":NaN}',
    "deep": "[" * 1_400,
    "not UTF-8": b'{"alg":"EdDSA","kid":"\xff"}',
}


@pytest.mark.parametrize("header", [GOOD, {"alg": "Ed25519", "kid": "k1"}, {"kid": "k1", "alg": "EdDSA"}], ids=str)
def test_headers_that_are_understood_are_taken(header: dict[str, Any]) -> None:
    assert verify(sealed(header), KEYS).terms == verify(a_jwt(), KEYS).terms


@pytest.mark.parametrize("about", BAD_HEADERS)
def test_headers_that_are_not_understood_are_refused_though_rightly_signed(about: str) -> None:
    with pytest.raises(MalformedFrame) as caught:
        verify(sealed(BAD_HEADERS[about]), KEYS)
    assert reason_of(caught.value) == "unreadable"


def test_an_unsigned_one_is_refused() -> None:
    first, middle, _ = sealed(GOOD | {"alg": "none"}).split(".")
    for text in (f"{first}.{middle}.", f"{part(GOOD)}.{middle}."):
        with pytest.raises(MalformedFrame):
            jwt.verify(text, KEYS)


BAD_CLAIMS: dict[str, Any] = {
    "no issuer": {name: value for name, value in JWT_CLAIMS.items() if name != "iss"},
    "no end": {name: value for name, value in JWT_CLAIMS.items() if name != "exp"},
    "no name": {name: value for name, value in JWT_CLAIMS.items() if name != "jti"},
    "an end as text": JWT_CLAIMS | {"exp": str(END_S)},
    "an end in parts of seconds": JWT_CLAIMS | {"exp": END_S + 0.5},
    "an end that is true": JWT_CLAIMS | {"exp": True},
    "an end before all time": JWT_CLAIMS | {"exp": -1},
    "no end, null": JWT_CLAIMS | {"exp": None},
    "an end beyond all time": JWT_CLAIMS | {"exp": 10**19},
    "an endless number": CLAIMS[:-1] + ', "nbf": ' + "9" * 400 + "}",
    "a name twice": CLAIMS[:-1] + f', "exp": {END_S + 1}' + "}",
    "an empty name": JWT_CLAIMS | {"jti": ""},
    "a long name": JWT_CLAIMS | {"jti": "x" * 129},
    "no uses": JWT_CLAIMS | {"uses": 0},
    "many uses": JWT_CLAIMS | {"uses": 256},
    "a shop below nought": JWT_CLAIMS | {"store": -1},
    "an audience of numbers": JWT_CLAIMS | {"aud": [1]},
    "an audience that is an object": JWT_CLAIMS | {"aud": {}},
    "no object": "7",
    "Infinity": "Infinity",
}


@pytest.mark.parametrize("about", BAD_CLAIMS)
def test_claims_out_of_their_range_are_refused_though_rightly_signed(about: str) -> None:
    with pytest.raises(MalformedFrame) as caught:
        verify(sealed(GOOD, BAD_CLAIMS[about]), KEYS)
    assert reason_of(caught.value) == "unreadable"


def test_claims_nobody_here_knows_are_left_alone() -> None:
    assert verify(a_jwt(sub="somebody", nested={"a": [1.5, None, True]}), KEYS).terms == verify(a_jwt(), KEYS).terms


def test_a_code_for_another_audience_is_refused() -> None:
    assert verify(a_jwt(aud="shops"), ring(jwt_key(audience="shops"))).terms.store == 7
    for audience in ("web", ["web", "app"]):
        with pytest.raises(MalformedFrame) as caught:
            verify(a_jwt(aud=audience), ring(jwt_key(audience="shops")))
        assert reason_of(caught.value) == "unknown_issuer"


def test_a_strangers_signature_does_not_verify() -> None:
    with pytest.raises(BadSignature):
        verify(jwt.sign(JWT_CLAIMS, "k1", STRANGER_KEY), KEYS)


def test_there_is_one_spelling_of_a_jwt() -> None:
    text = a_jwt()
    last = text[-1]
    twin = next(letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter != last)
    for other in (
        text + "=",
        text + ".",
        text.replace(".", "..", 1),
        text[:-1] + twin,
        text + "A" * 3_000,
        text.replace("-", "+").replace("_", "/") + "+",
    ):
        with pytest.raises(MalformedFrame):
            jwt.verify(other, KEYS)


@given(st.integers(0, len(a_jwt()) - 1), st.characters(codec="ascii"))
def test_no_changed_letter_verifies(place: int, letter: str) -> None:
    text = a_jwt()
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(MalformedFrame):
            jwt.verify(changed, KEYS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)
CLAIM_NAMES = st.sampled_from(["iss", "jti", "exp", "nbf", "iat", "aud", "store", "uses", "campaign", "item"])


@given(st.dictionaries(CLAIM_NAMES, JSON))
def test_any_claims_rightly_signed_are_terms_or_malformed(claims: dict[str, Any]) -> None:
    text = jwt.sign(JWT_CLAIMS | claims, "k1", JWT_SECRET)
    try:
        terms = jwt.verify(text, KEYS).terms
    except MalformedFrame:
        return
    assert 1 <= terms.uses <= 255 and 0 < terms.not_after_s < 2**32 and terms.issuer == 5


@given(st.text(max_size=300) | st.lists(st.binary(max_size=100).map(part), min_size=3, max_size=3).map(".".join))
def test_any_text_is_a_jwt_or_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame):
        jwt.verify(text, KEYS)
