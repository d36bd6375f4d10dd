"""A wrapped secret is for one box and one purpose."""

import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway import phones
from gateway.errors import MalformedFrame
from gateway.wrapped import unwrap, wrap

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))


@given(st.binary(max_size=64), st.binary(max_size=20).filter(lambda purpose: b"\0" not in purpose))
def test_the_box_reads_it_and_nobody_else_does(secret: bytes, purpose: bytes) -> None:
    text = wrap(secret, KEY.public_key(), purpose)
    assert unwrap(text, KEY, purpose) == secret
    assert wrap(secret, KEY.public_key(), purpose) != text, "equal secrets do not look equal"
    for key, other in ((OTHER, purpose), (KEY, purpose + b"x")):
        with pytest.raises(MalformedFrame):
            unwrap(text, key, other)


@given(st.integers(0, 79), st.integers(1, 255))
def test_a_changed_byte_is_found(at: int, flip: int) -> None:
    raw = bytearray.fromhex(wrap(b"s" * 32, KEY.public_key(), b"p"))
    raw[at] ^= flip
    with pytest.raises(MalformedFrame):
        unwrap(raw.hex(), KEY, b"p")


@given(st.one_of(st.text(max_size=200), st.binary(max_size=400).map(bytes.hex)))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedFrame):
        unwrap(text, KEY, b"p")


def test_a_box_without_the_libraries_for_members_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = wrap(b"s", KEY.public_key(), b"p")
    for name in ("nacl.signing", "nacl.exceptions", "phonenumbers"):
        monkeypatch.setitem(sys.modules, name, None)
    for asked in (lambda: unwrap(sealed, KEY, b"p"), lambda: phones.e164("0912345678", "TW")):
        with pytest.raises(MalformedFrame, match="on this box") as refused:
            asked()
        assert "store-gateway[members]" in refused.value.hint
    assert not phones.is_number("0912345678", "TW")
