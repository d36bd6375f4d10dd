"""CWT: only Ed25519, only the key headquarters lists, only headers that are understood."""

from typing import Any

import base45
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codes import CWT_PREFIX
from gateway.errors import MalformedFrame
from gateway.token import BadSignature
from gateway.verifiers import cbor, cwt, verify
from gateway.verifiers.keyring import reason_of
from tests.conftest import STRANGER_KEY
from tests.gateway.verifiers.issuers import CWT_CLAIMS, CWT_SECRET, END_S, a_cwt, cwt_key, ring

KEYS = ring(cwt_key())
BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def text_of(item: Any) -> str:
    return CWT_PREFIX + str(base45.b45encode(cbor.encode(item)), "ascii")


def sealed(protected: dict[Any, Any], unprotected: dict[Any, Any], payload: bytes = cbor.encode(CWT_CLAIMS), tag: int = 18) -> str:
    """Rightly signed, whatever its headers say."""
    head = cbor.encode(protected)
    signature = CWT_SECRET.sign(cbor.encode(["Signature1", head, b"", payload]))
    return text_of(cbor.Tagged(tag, [head, unprotected, payload, signature]))


GOOD_HEADERS: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
    ({1: -8, 4: b"k1"}, {}), ({1: -8}, {4: b"k1"}), ({1: -19, 4: b"k1"}, {}), ({1: -8, 3: 61, 16: "cwt", 4: b"k1"}, {}),
]  # fmt: skip
BAD_HEADERS: dict[str, tuple[dict[Any, Any], dict[Any, Any]]] = {
    "no algorithm": ({4: b"k1"}, {}),
    "the algorithm unprotected": ({4: b"k1"}, {1: -8}),
    "ES256": ({1: -7, 4: b"k1"}, {}),
    "HMAC": ({1: 5, 4: b"k1"}, {}),
    "an algorithm as text": ({1: "EdDSA", 4: b"k1"}, {}),
    "a critical header": ({1: -8, 2: [99], 4: b"k1"}, {}),
    "an unknown header": ({1: -8, 4: b"k1", 99: 1}, {}),
    "an unknown unprotected header": ({1: -8, 4: b"k1"}, {99: 1}),
    "a key of its own": ({1: -8, 4: b"k1"}, {33: b"cert"}),
    "a key named twice": ({1: -8, 4: b"k1"}, {4: b"k1"}),
    "no key named": ({1: -8}, {}),
    "a key named by text": ({1: -8, 4: "k1"}, {}),
}


@pytest.mark.parametrize("headers", GOOD_HEADERS, ids=str)
def test_headers_that_are_understood_are_taken(headers: tuple[dict[Any, Any], dict[Any, Any]]) -> None:
    assert verify(sealed(*headers), KEYS).terms == verify(a_cwt(), KEYS).terms


@pytest.mark.parametrize("about", BAD_HEADERS)
def test_headers_that_are_not_understood_are_refused_though_rightly_signed(about: str) -> None:
    with pytest.raises(MalformedFrame) as caught:
        verify(sealed(*BAD_HEADERS[about]), KEYS)
    assert reason_of(caught.value) == "unreadable"


def test_a_cwt_may_wear_its_own_tag() -> None:
    inner = cbor.decode(base45.b45decode(a_cwt().removeprefix(CWT_PREFIX)))
    assert verify(text_of(cbor.Tagged(61, inner)), KEYS).terms == verify(a_cwt(), KEYS).terms


@pytest.mark.parametrize("tag", [17, 16, 96, 98, 61])
def test_what_is_no_sign1_is_refused(tag: int) -> None:
    with pytest.raises(MalformedFrame):
        verify(sealed({1: -8, 4: b"k1"}, {}, tag=tag), KEYS)


def test_a_claim_twice_is_refused_though_rightly_signed() -> None:
    once = cbor.encode(CWT_CLAIMS)
    twice = bytes([once[0] + 1]) + once[1:] + cbor.encode(cwt.EXP) + cbor.encode(END_S + 1)
    with pytest.raises(MalformedFrame, match="twice"):
        verify(sealed({1: -8, 4: b"k1"}, {}, twice), KEYS)


@pytest.mark.parametrize(
    "claims",
    [
        {cwt.EXP: "soon"}, {cwt.EXP: -1}, {cwt.EXP: 0}, {cwt.EXP: 2**60}, {cwt.CTI: "text"}, {cwt.CTI: b""}, {cwt.CTI: b"x" * 129},
        {cwt.USES: 0}, {cwt.USES: 256}, {cwt.STORE: -1}, {cwt.CAMPAIGN: 2**32}, {cwt.AUD: 7}, {cwt.AUD: [7]}, {cwt.NBF: b""}, {cwt.ISS: 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_claim_out_of_its_range_is_refused_though_rightly_signed(claims: dict[int, Any]) -> None:
    with pytest.raises(MalformedFrame):
        verify(a_cwt(claims), KEYS)


@pytest.mark.parametrize("claim", [cwt.ISS, cwt.EXP, cwt.CTI])
def test_what_must_be_said_is_said(claim: int) -> None:
    with pytest.raises(MalformedFrame):
        verify(cwt.sign({key: value for key, value in CWT_CLAIMS.items() if key != claim}, b"k1", CWT_SECRET), KEYS)


def test_a_strangers_signature_does_not_verify() -> None:
    with pytest.raises(BadSignature):
        verify(cwt.sign(CWT_CLAIMS, b"k1", STRANGER_KEY), KEYS)


@given(st.integers(0, len(a_cwt()) - 1), st.sampled_from(BASE45))
def test_no_changed_letter_verifies(place: int, letter: str) -> None:
    text = a_cwt()
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(MalformedFrame):
            cwt.verify(changed, KEYS)


@given(st.binary(max_size=300).map(lambda raw: CWT_PREFIX + base45.b45encode(raw).decode()) | st.text(max_size=300).map(CWT_PREFIX.__add__))
def test_any_text_is_a_cwt_or_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame):
        verify(text, KEYS)


@given(st.binary(max_size=60), st.binary(max_size=120))
def test_any_bytes_rightly_signed_are_terms_or_malformed(head: bytes, payload: bytes) -> None:
    signature = CWT_SECRET.sign(cbor.encode(["Signature1", head, b"", payload]))
    with pytest.raises(MalformedFrame):
        verify(text_of(cbor.Tagged(18, [head, {4: b"k1"}, payload, signature])), KEYS)
