"""Batches: read without anything told before, refused when they are not what a box sends."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.envelope import (
    CHUNK_B,
    MAX_BATCH_B,
    MAX_BATCH_ROWS,
    MAX_BATCH_UNPACKED_B,
    Batch,
    Chunk,
    WireRow,
    read_row,
    seal_batch,
    unseal_batch,
)
from gateway.errors import MalformedFrame
from gateway.events import Instant, LineChanged, Row, TimeTrust, VoucherRedeemed
from gateway.signed import ACK_TAG, seal
from tests.conftest import STRANGER_KEY, fixed_key

BOX_KEY = fixed_key(3)
AT = Instant(1_790_000_000_000_000, 5, "b", TimeTrust.SYNCED)
EVENTS: list[Row] = [VoucherRedeemed("r", "v", 1, 1, "門口", "kiosk", None, 1, AT), LineChanged(True, AT)]


def wire(seq: int, event: Row = EVENTS[0]) -> WireRow:
    return WireRow(seq, AT.wall_us, msgspec.Raw(msgspec.json.encode(event)))


def batch(rows: list[WireRow]) -> Batch:
    heads = {0: (9, "ab" * 16), 1: (3, "cd" * 16)}
    return Batch("box-7", "3-0011aabb", "2-ccddeeff", heads, 0, rows, "ef" * 16, "3-0011aabb", {0: 12}, {0: 4}, AT.wall_us)


@given(st.integers(1, 2**62), st.lists(st.sampled_from(EVENTS), min_size=1, max_size=30))
def test_a_batch_comes_back_whole(first: int, events: list[Row]) -> None:
    sent = batch([wire(first + place, event) for place, event in enumerate(events)])
    found = unseal_batch(seal_batch(sent, BOX_KEY), BOX_KEY.public_key())
    assert msgspec.structs.replace(found, rows=[]) == msgspec.structs.replace(sent, rows=[])
    assert [read_row(row) for row in found.rows] == events
    assert (found.first_seq, found.last_seq) == (first, first + len(events) - 1)
    assert [bytes(row.event) for row in found.rows] == [bytes(row.event) for row in sent.rows]


@pytest.mark.parametrize(
    "numbers", [[], [0], [-1, 0], [1, 3], [2, 1], [1, 1], [1, 2, 2], list(range(1, MAX_BATCH_ROWS + 2))], ids=lambda found: str(found[:3])
)
def test_rows_that_are_not_in_order_are_no_batch(numbers: list[int]) -> None:
    with pytest.raises(MalformedFrame):
        unseal_batch(seal_batch(batch([wire(number) for number in numbers]), BOX_KEY), BOX_KEY.public_key())


def test_the_most_rows_are_a_batch() -> None:
    message = seal_batch(batch([wire(number) for number in range(1, MAX_BATCH_ROWS + 1)]), BOX_KEY)
    assert len(unseal_batch(message, BOX_KEY.public_key()).rows) == MAX_BATCH_ROWS


def test_a_batch_of_another_box_is_not_believed() -> None:
    with pytest.raises(MalformedFrame):
        unseal_batch(seal_batch(batch([wire(1)]), STRANGER_KEY), BOX_KEY.public_key())


def test_another_message_of_the_same_box_is_no_batch() -> None:
    with pytest.raises(MalformedFrame):
        unseal_batch(seal(ACK_TAG, batch([wire(1)]), BOX_KEY), BOX_KEY.public_key())


def test_what_is_too_large_is_refused_before_and_after_unpacking() -> None:
    with pytest.raises(MalformedFrame, match="a batch of"):
        unseal_batch(bytes(MAX_BATCH_B + 1), BOX_KEY.public_key())
    swollen = seal_batch(batch([wire(1, LineChanged(True, msgspec.structs.replace(AT, boot_id="x" * MAX_BATCH_UNPACKED_B)))]), BOX_KEY)
    assert len(swollen) < MAX_BATCH_B
    with pytest.raises(MalformedFrame, match="unpacks to more"):
        unseal_batch(swollen, BOX_KEY.public_key())


def test_an_event_nobody_knows_spoils_only_its_own_row() -> None:
    rows = [wire(1), WireRow(2, AT.wall_us, msgspec.Raw(b'{"type":"Undreamt","of":1}')), wire(3)]
    found = unseal_batch(seal_batch(batch(rows), BOX_KEY), BOX_KEY.public_key())
    assert read_row(found.rows[0]) == read_row(found.rows[2]) == EVENTS[0]
    with pytest.raises(msgspec.DecodeError):
        read_row(found.rows[1])


@given(st.binary(max_size=300))
def test_any_bytes_are_malformed(message: bytes) -> None:
    with pytest.raises(MalformedFrame):
        unseal_batch(message, BOX_KEY.public_key())


def test_a_chunk_survives_its_journey_and_fits_a_message() -> None:
    chunk = Chunk("vouchers", 3, 0, CHUNK_B, bytes(range(256)) * (CHUNK_B // 256))
    message = msgspec.json.encode(chunk)
    assert msgspec.json.decode(message, type=Chunk) == chunk
    assert len(message) < MAX_BATCH_B
