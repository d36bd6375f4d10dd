"""The request a kiosk shows a shopper's phone: what was signed comes back, any other text is malformed."""

import base64

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from gateway import asking
from gateway.asking import MAX_ANCESTORS, Ancestor, Asking
from gateway.errors import MalformedFrame
from gateway.token import BadSignature, UnknownKey
from tests.conftest import STRANGER_KEY, TOKEN_KEY

PAGE = "https://hq.example"
NAMES = st.text(max_size=16)  # of up to 64 bytes
U32 = st.integers(0, 2**32 - 1)
ANCESTORS = st.builds(Ancestor, NAMES, U32, st.binary(min_size=8, max_size=8).map(bytes.hex))
ASKINGS = st.builds(
    Asking, gateway=NAMES, epoch=NAMES, voucher_id=NAMES, asked_s=U32, ancestors=st.lists(ANCESTORS, max_size=MAX_ANCESTORS).map(tuple)
)
FULL = Asking(
    gateway="taipei-main-station-1", epoch="1044-5eed5eed", voucher_id="5-00000000000002a", asked_s=1_800_000_000,
    ancestors=tuple(Ancestor(f"{number}-5eed5eed", 90_000, "00112233445566ff") for number in range(1_043, 1_043 - MAX_ANCESTORS, -1)),
)  # fmt: skip


@given(ASKINGS)
def test_what_was_signed_comes_back(one: Asking) -> None:
    address = asking.address(PAGE, one, TOKEN_KEY)
    assert address.startswith("HTTPS://HQ.EXAMPLE/G/")
    for text in (address, address.rpartition("/")[2], address.lower()):
        assert asking.verify(text, lambda gateway: TOKEN_KEY.public_key()) == one


@pytest.mark.parametrize(("starts", "version"), [(0, 8), (1, 10), (3, 12), (MAX_ANCESTORS, 25)])
def test_a_phone_can_read_it_off_the_screen(starts: int, version: int) -> None:
    asked = Asking(
        gateway=FULL.gateway, epoch=FULL.epoch, voucher_id=FULL.voucher_id, asked_s=FULL.asked_s, ancestors=FULL.ancestors[:starts]
    )
    code = segno.make_qr(asking.address(PAGE, asked, TOKEN_KEY), error="l", boost_error=False)
    assert isinstance(code.version, int) and code.version <= version
    assert code.mode == "alphanumeric"


@given(ASKINGS)
def test_only_the_box_itself_can_ask(one: Asking) -> None:
    with pytest.raises(BadSignature):
        asking.verify(asking.address(PAGE, one, STRANGER_KEY), lambda gateway: TOKEN_KEY.public_key())
    with pytest.raises(UnknownKey):
        asking.verify(asking.address(PAGE, one, TOKEN_KEY), lambda gateway: None)


@given(st.text(max_size=300) | st.binary(min_size=65, max_size=400).map(lambda raw: base64.b32encode(raw).decode().rstrip("=")))
def test_any_text_is_a_request_or_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame):
        asking.verify(text, lambda gateway: TOKEN_KEY.public_key())


@given(st.binary(max_size=300))
def test_any_signed_bytes_are_a_request_or_malformed(signed: bytes) -> None:
    """As a box with a true key could send them."""
    text = base64.b32encode(signed + TOKEN_KEY.sign(asking.TAG + signed)).decode().rstrip("=")
    try:
        found = asking.verify(text, lambda gateway: TOKEN_KEY.public_key())
    except MalformedFrame:
        return
    assert asking.pack(found) == signed


def test_no_other_spelling_of_a_request_verifies() -> None:
    text = asking.address(PAGE, FULL, TOKEN_KEY).rpartition("/")[2]
    for other in (text + "=", text + "A", text[:-1], "A" * 4_000, text[:40] + ("A" if text[40] != "A" else "B") + text[41:]):
        with pytest.raises(MalformedFrame):
            asking.verify(other, lambda gateway: TOKEN_KEY.public_key())


@pytest.mark.parametrize(
    "one",
    [
        Asking(gateway="x" * 65, epoch="", asked_s=0),
        Asking(gateway="", epoch="", asked_s=2**32),
        Asking(gateway="", epoch="", asked_s=0, ancestors=(Ancestor("", 0, "00"),)),
        Asking(gateway="", epoch="", asked_s=0, ancestors=(Ancestor("", 0, "00112233445566ff"),) * (MAX_ANCESTORS + 1)),
    ],
)
def test_what_does_not_fit_is_not_signed(one: Asking) -> None:
    with pytest.raises(ValueError, match=r"."):
        asking.address(PAGE, one, TOKEN_KEY)
