"""Grants: what was signed comes back, fits a small QR code, and is nothing else."""

import base45
import msgspec
import pytest
import segno
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import grant, token
from gateway.codes import GRANT_PREFIX, CodeKind, recognise
from gateway.errors import MalformedFrame
from gateway.grant import MAX_LIFE_S, Grant
from gateway.token import BadSignature, Claims, TokenKind, UnknownKey
from scripts.vectors import LARGEST
from tests.conftest import STRANGER_KEY, TOKEN_KEY

KEYS = {1: TOKEN_KEY.public_key()}
U32 = st.integers(0, 2**32 - 1)


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    not_after_s = draw(st.integers(1, 2**32 - 1))
    life_s = draw(st.integers(1, min(MAX_LIFE_S, not_after_s)))
    return Grant(
        key_id=1, issuer=draw(st.integers(0, 2**16 - 1)), identifier=draw(st.integers(0, 2**60 - 1)), assignment=draw(U32),
        box=draw(st.integers(0, 2**40 - 1)), epoch=draw(U32), left=draw(U32), is_amount=draw(st.booleans()),
        issued_s=not_after_s - life_s, not_after_s=not_after_s,
    )  # fmt: skip


ONE = Grant(
    key_id=1, issuer=1, identifier=42, assignment=3, box=grant.box_digest("box-7"), issued_s=1_800_000_000, not_after_s=1_800_086_400
)
ONE_TEXT = grant.sign(ONE, TOKEN_KEY)


@given(grants())
def test_what_was_signed_comes_back(one: Grant) -> None:
    text = grant.sign(one, TOKEN_KEY)
    assert grant.verify(text, KEYS) == one
    assert recognise(text.encode()).kind is CodeKind.GRANT


@given(grants())
@example(LARGEST)
@settings(max_examples=20)
def test_a_grant_fits_a_qr_code_of_version_6_at_level_m(one: Grant) -> None:
    code = segno.make_qr(grant.sign(one, TOKEN_KEY), error="m", boost_error=False)
    assert isinstance(code.version, int) and code.version <= 6
    assert code.mode == "alphanumeric"
    assert grant.CLAIMS.size <= 38


def test_the_prefix_is_the_one_codes_are_recognised_by() -> None:
    assert grant.PREFIX == GRANT_PREFIX


@given(st.integers(0, grant.TEXT_LETTERS - 1), st.characters(codec="utf-8"))
def test_no_changed_letter_verifies(place: int, letter: str) -> None:
    changed = ONE_TEXT[:place] + letter + ONE_TEXT[place + 1 :]
    if changed != ONE_TEXT:
        with pytest.raises(MalformedFrame):
            grant.verify(changed, KEYS)


@given(grants())
def test_a_strangers_signature_does_not_verify(one: Grant) -> None:
    with pytest.raises(BadSignature):
        grant.verify(grant.sign(one, STRANGER_KEY), KEYS)
    with pytest.raises(UnknownKey):
        grant.verify(grant.sign(one, STRANGER_KEY), {2: STRANGER_KEY.public_key()})


@given(st.text(max_size=300) | st.binary(min_size=100, max_size=100).map(lambda raw: "G1:" + base45.b45encode(raw).decode()))
def test_any_text_is_a_grant_or_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame):
        grant.verify(text, KEYS)


@given(st.binary(min_size=36, max_size=36))
def test_no_tokens_signature_is_good_for_a_grant(packed: bytes) -> None:
    """The same keys sign both, and both have 36 bytes of claims."""
    forged = "G1:" + base45.b45encode(packed + TOKEN_KEY.sign(packed)).decode()
    with pytest.raises(MalformedFrame):
        grant.verify(forged, KEYS)


def test_no_grants_signature_is_good_for_a_token() -> None:
    claims = Claims(kind=TokenKind.VOUCHER, key_id=1, issuer=1, identifier=42, not_after_s=1)
    packed = token.unpack(token.sign(claims, TOKEN_KEY))[1]
    forged = "V1:" + base45.b45encode(packed + TOKEN_KEY.sign(grant.TAG + packed)).decode()
    with pytest.raises(BadSignature):
        token.verify(forged, KEYS)


@pytest.mark.parametrize(
    "changes",
    [
        {"identifier": 2**60}, {"assignment": 2**32}, {"box": 2**40}, {"epoch": -1}, {"left": 2**32}, {"key_id": 2**16}, {"issuer": -1},
        {"issued_s": 1_800_086_400}, {"issued_s": 1_800_086_400 - MAX_LIFE_S - 1},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_not_signed(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"."):
        grant.sign(msgspec.structs.replace(ONE, **changes), TOKEN_KEY)


@given(st.text(max_size=64))
def test_a_start_is_never_called_nothing(epoch: str) -> None:
    assert 0 < grant.epoch_digest(epoch) < 2**32
    assert 0 <= grant.box_digest(epoch) < 2**40


def test_boxes_and_starts_are_told_apart() -> None:
    assert len({grant.box_digest(f"box-{number}") for number in range(20_000)}) == 20_000
    assert grant.epoch_digest("12-00c0ffee") != grant.epoch_digest("12-00c0ffed")
