"""Our reader of base45 takes what the library takes, byte for byte, and nothing else."""

import base45
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base45 import LETTERS, from_base45
from gateway.errors import MalformedFrame

TEXTS = st.text(LETTERS.decode(), max_size=400)


@given(st.binary(max_size=400))
def test_what_the_library_writes_is_read(raw: bytes) -> None:
    assert from_base45(base45.b45encode(raw).decode()) == raw


@given(TEXTS | st.text(max_size=60) | st.text(max_size=3).flatmap(lambda odd: TEXTS.map(lambda text: text + odd)))
def test_any_text_is_read_as_the_library_reads_it_or_malformed(text: str) -> None:
    try:
        expected = base45.b45decode(text) if not text.endswith("\n") else None  # the library forgives a line's end; a code has none
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(MalformedFrame):
            from_base45(text)
    else:
        assert from_base45(text) == expected


@pytest.mark.parametrize("text", ["A", "AAAA", "::", ":::", "GGX", "ab", "Ａ", "A\x00", "A\ud800"])
def test_what_holds_too_much_or_another_letter_is_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame):
        from_base45(text)
