"""What a label says, and that nothing else passes for one."""

import secrets

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedFrame
from provisioning.label import MAX_BOX, MAX_HOST, MAX_LETTERS, PREFIX, Label, read_label, write_label

NAMES = st.text("abcxyzABCXYZ0189_-", min_size=1, max_size=MAX_BOX)
HOSTS = st.from_regex(r"[a-z0-9][a-z0-9.:-]{0,71}", fullmatch=True)


def label(host: str = "enrol.example.com.tw", box: str = "gw-tpe-001", not_after_s: int = 1_800_000_000, port: int = 8443) -> Label:
    return Label(
        host=host, port=port, box=box, authority=b"\x02" + secrets.token_bytes(32), headquarters=secrets.token_bytes(32),
        secret=secrets.token_bytes(16), not_after_s=not_after_s,
    )  # fmt: skip


@given(HOSTS, NAMES, st.integers(0, 2**32 - 1), st.integers(1, 65535))
def test_what_is_written_is_read(host: str, box: str, not_after_s: int, port: int) -> None:
    made = label(host, box, not_after_s, port)
    assert read_label(f" {write_label(made)}\r\n") == made


@given(st.one_of(st.text(max_size=400), st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:", max_size=320).map(lambda t: PREFIX + t)))
def test_any_text_is_a_label_or_refused(text: str) -> None:
    try:
        read_label(text)
    except MalformedFrame:
        return
    raise AssertionError("nobody writes such a label by chance")


@given(st.data())
def test_a_label_with_one_letter_wrong_or_missing_is_refused(data: st.DataObject) -> None:
    text = write_label(label())
    place = data.draw(st.integers(len(PREFIX), len(text) - 1))
    letter = data.draw(st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:").filter(lambda one: one != text[place]))
    for wrong in (text[:place] + letter + text[place + 1 :], text[:place]):
        with pytest.raises(MalformedFrame):
            read_label(wrong)


def test_the_longest_label_is_a_code_a_cheap_camera_reads() -> None:
    longest = write_label(label("h" * MAX_HOST, "g" * MAX_BOX))
    assert len(longest) == MAX_LETTERS
    code = segno.make_qr(longest, error="m", boost_error=False)
    assert (code.version, code.error, code.mode) == (10, "M", "alphanumeric")
    assert int(segno.make_qr(write_label(label()), error="m", boost_error=False).version) <= 8


@pytest.mark.parametrize(("host", "box"), [("h" * 73, "b"), ("a b", "b"), ("", "b"), ("h", ""), ("h", "b/c"), ("h", "b" * 41), ("店", "b")])
def test_names_no_label_can_carry_are_refused(host: str, box: str) -> None:
    with pytest.raises(MalformedFrame):
        write_label(label(host, box))


def test_the_secret_does_not_reach_a_log_by_accident() -> None:
    made = label()
    assert repr(made) == "Label(box='gw-tpe-001')"
    assert made.secret.hex() not in f"{made} {made!r}"
