"""Topics: one tree for each box, read back as they were written, and nothing else read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.topics import ALL_UP, ROOT, Box, parse_up
from gateway.errors import MalformedFrame

LEVELS = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
BOXES = st.builds(Box, LEVELS, LEVELS, LEVELS, LEVELS)


@given(BOXES, st.sampled_from(["0", "1", "2", "beat", "want"]))
def test_an_upward_topic_is_read_back(box: Box, leaf: str) -> None:
    assert parse_up(box.up(leaf)) == (box, leaf)


@given(BOXES, BOXES)
def test_no_two_boxes_share_a_tree(one: Box, other: Box) -> None:
    if one != other:
        assert not f"{one.prefix}/".startswith(f"{other.prefix}/")


@given(BOXES, st.sampled_from(["ack", "beat", "manifest", "chunk"]))
def test_a_downward_topic_is_no_upward_one(box: Box, leaf: str) -> None:
    with pytest.raises(MalformedFrame):
        parse_up(box.down(leaf))


@given(st.text(max_size=120) | st.lists(st.sampled_from(["sgw", "1", "up", "+", "#", "", "a", "x\n"]), max_size=10).map("/".join))
def test_any_topic_is_read_or_malformed(topic: str) -> None:
    try:
        box, leaf = parse_up(topic)
    except MalformedFrame:
        return
    assert box.up(leaf) == topic


@pytest.mark.parametrize("gateway", ["", "+", "#", "a/b", "名", "x" * 41, "a\n", "a b"])
def test_a_level_no_broker_would_pass_on_is_malformed(gateway: str) -> None:
    with pytest.raises(MalformedFrame):
        parse_up(f"{ROOT}/chain/0/store/{gateway}/up/0")


def test_what_hq_listens_to_covers_every_upward_topic() -> None:
    box = Box("chain", "store", "box")
    wanted, given_ = ALL_UP.split("/"), box.up(0).split("/")
    assert wanted[-1] == "#"
    assert all(want in ("+", level) for want, level in zip(wanted[:-1], given_, strict=False))
