"""The holder's secret: who has the link holds the voucher, nobody else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import holder
from gateway.errors import MalformedFrame

SECRETS = st.binary(min_size=16, max_size=16)


@given(SECRETS, SECRETS, st.text(max_size=40))
def test_only_the_voucher_whose_link_it_is_is_held(secret: bytes, other: bytes, text: str) -> None:
    page, _, shown = holder.link("https://hq.example/", "5-00000000000002a", secret).partition("#")
    kept = holder.kept("5-00000000000002a", secret)
    assert page == "https://hq.example/v/5-00000000000002a"
    assert holder.holds("5-00000000000002a", shown, kept)
    assert not holder.holds("00000000000002a", shown, kept)
    assert holder.holds("5-00000000000002a", other.hex(), kept) == (other == secret)
    assert holder.holds("5-00000000000002a", text, kept) == (text == shown)


@given(SECRETS)
def test_what_is_kept_does_not_tell_the_secret(secret: bytes) -> None:
    kept = holder.kept("00000000000002a", secret)
    assert len(kept) == 32
    assert secret not in kept


@pytest.mark.parametrize("text", ["", "00", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "٠" * 32])
def test_there_is_one_spelling_of_a_secret(text: str) -> None:
    with pytest.raises(MalformedFrame):
        holder.read(text)


def test_a_short_secret_is_none() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        holder.link("https://hq.example", "00000000000002a", b"short")
