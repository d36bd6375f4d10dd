"""The check-in code: signed by one box for one station, the only spelling of itself, and nothing else reads as one."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from gateway import checkin
from gateway.checkin import MAX_TEXT, CheckIn
from gateway.errors import MalformedFrame
from gateway.token import BadSignature, UnknownKey
from tests.conftest import STRANGER_KEY, TOKEN_KEY

HERE = CheckIn(gateway="gw-1", station="counter", made_s=1_795_312_800)
NAMES = st.text(max_size=16).filter(lambda name: len(name.encode("utf-8", "replace")) <= 64 and name.isprintable())


def key_of(gateway: str) -> Ed25519PublicKey | None:
    return TOKEN_KEY.public_key() if gateway == "gw-1" else None


@given(st.builds(CheckIn, gateway=NAMES, station=NAMES, made_s=st.integers(0, 2**32 - 1)))
def test_what_is_packed_is_read_back(one: CheckIn) -> None:
    text = checkin.address("https://hq.example", one, TOKEN_KEY)
    assert text.startswith("HTTPS://HQ.EXAMPLE/C/")
    assert checkin.unpack(text)[0] == one
    assert len(text.rpartition("/")[2]) <= MAX_TEXT


def test_only_its_own_box_signs_it() -> None:
    good = checkin.address("https://hq.example/", HERE, TOKEN_KEY)
    assert checkin.verify(good, key_of) == HERE
    assert checkin.verify(good.rpartition("/")[2].lower(), key_of) == HERE
    with pytest.raises(BadSignature):
        checkin.verify(checkin.address("https://hq.example", HERE, STRANGER_KEY), key_of)
    with pytest.raises(UnknownKey):
        checkin.verify(checkin.address("https://hq.example", CheckIn(gateway="gw-2", station="x", made_s=1), TOKEN_KEY), key_of)


@given(st.text(max_size=400) | st.binary(max_size=300).map(lambda raw: __import__("base64").b32encode(raw).decode().rstrip("=")))
def test_any_text_is_read_or_malformed(text: str) -> None:
    try:
        found, _, _ = checkin.unpack(text)
    except MalformedFrame:
        return
    assert checkin.pack(found) == checkin.unpack(text)[1]


@given(st.data())
def test_nothing_changed_in_it_is_believed(data: st.DataObject) -> None:
    text = checkin.address("", HERE, TOKEN_KEY).rpartition("/")[2]
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(MalformedFrame):
            checkin.verify(changed, key_of)


@pytest.mark.parametrize("one", [CheckIn(gateway="x" * 65, station="a", made_s=1), CheckIn(gateway="x", station="a", made_s=2**32)])
def test_what_does_not_fit_is_refused_before_it_is_signed(one: CheckIn) -> None:
    with pytest.raises(ValueError):
        checkin.address("https://hq.example", one, TOKEN_KEY)
