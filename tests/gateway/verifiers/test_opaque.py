"""Codes without signature: known by their hash, however they are typed, and never as two vouchers at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codes import recognise
from gateway.signed import Voucher
from gateway.verifiers import opaque

CODES = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=4, max_size=32)


def listed(voucher_id: str, *codes: str) -> Voucher:
    return Voucher(voucher_id, 1, "", "", 0, 1, codes=[opaque.digest_of(code) for code in codes])


def typed(text: str) -> str:
    return recognise(text.encode()).typed


@given(CODES)
def test_how_it_is_typed_does_not_matter(code: str) -> None:
    codes = opaque.index([listed("v1", code)])
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in code)
    for text in (
        code,
        code.lower(),
        wide,
        wide.lower(),
        f" {code[:2]}-{code[2:]}\r\n",
        " ".join(code),
        f"{code[:2]}　{code[2:]}",
        "－".join(code),
    ):
        if typed(text):  # a card-like number is dropped before any list is looked at
            assert opaque.find(typed(text), codes) == "v1", text


@given(CODES, CODES)
def test_another_code_stands_for_nothing(code: str, other: str) -> None:
    assert opaque.find(typed(other), opaque.index([listed("v1", code)])) == ("v1" if other == code and typed(code) else None)


@given(CODES)
def test_the_list_does_not_hold_the_code(code: str) -> None:
    assert code not in listed("v1", code).codes[0].upper() or len(code) < 8
    assert len(opaque.digest_of(code)) == 32


def test_a_code_two_vouchers_claim_stands_for_none() -> None:
    codes = opaque.index([listed("v1", "SAME", "ONE"), listed("v2", "SAME", "TWO"), listed("v1", "ONE")])
    assert {code: opaque.find(code, codes) for code in ("SAME", "ONE", "TWO")} == {"SAME": None, "ONE": "v1", "TWO": "v2"}


@pytest.mark.parametrize("code", ["", " - ", "x" * 129])
def test_what_no_list_may_hold_has_no_digest(code: str) -> None:
    with pytest.raises(ValueError, match="128 letters"):
        opaque.digest_of(code)
    assert opaque.find(typed(code), {"anything": "v1"}) is None


@given(st.binary(max_size=400))
def test_any_bytes_stand_for_a_voucher_or_nothing(payload: bytes) -> None:
    assert opaque.find(recognise(payload).typed, {"0" * 32: "v1"}) is None
