"""Batches: read without anything told before, refused when they are not what a box sends."""

import struct
import time
from typing import Any

import msgspec
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from cloud_bridge.envelope import (
    CHUNK_B,
    MAX_BATCH_B,
    MAX_BATCH_ROWS,
    MAX_BATCH_UNPACKED_B,
    Chunk,
    Header,
    Piece,
    read_row,
    seal_blocks,
    unseal_batch,
)
from gateway.columns import MAX_EVENTS_B, Tombstone, pack_columns, pack_plain, pack_tombstone
from gateway.errors import MalformedFrame
from gateway.events import Instant, LineChanged, Row, TimeTrust, VoucherRedeemed
from gateway.signed import ACK_TAG, BATCH_TAG, seal
from tests.conftest import STRANGER_KEY, fixed_key
from tests.gateway.traffic import traffic_rows

BOX_KEY = fixed_key(3)
AT = Instant(1_790_000_000_000_000, 5, "b", TimeTrust.SYNCED)
EVENTS: list[Row] = [VoucherRedeemed("r", "v", 1, 1, "門口", "kiosk", None, 1, AT), LineChanged(True, AT)]
TEXTS = [msgspec.json.encode(event) for event in EVENTS]


class Block(Struct, frozen=True):
    first: int
    last: int
    section: bytes


def header(first: int, last: int, **changes: Any) -> Header:
    heads = {0: (9, "ab" * 16), 1: (3, "cd" * 16)}
    whole = Header(
        gateway="box-7", epoch="3-0011aabb", proven=False, parent="2-ccddeeff", parent_heads=heads, lane=0, first=first, last=last,
        head="ef" * 16, current="3-0011aabb", last_seqs={0: 12}, cursors={0: 4}, sent_us=AT.wall_us,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def rows_of(count: int, at: int = 0) -> list[tuple[int, bytes]]:
    return [(AT.wall_us + n, TEXTS[n % 2]) for n in range(at, at + count)]


def message(*blocks: Block, key: Any = BOX_KEY, **changes: Any) -> bytes:
    return seal_blocks(header(blocks[0].first if blocks else 1, blocks[-1].last if blocks else 0, **changes), blocks, key)


def refused(sealed: bytes, why: str | None = None) -> None:
    with pytest.raises(MalformedFrame, match=why):
        unseal_batch(sealed, BOX_KEY.public_key())


@given(
    st.integers(1, 2**62 - 100), st.lists(st.tuples(st.integers(1, 9), st.sampled_from([pack_plain, pack_columns])), min_size=1, max_size=5)
)
def test_a_batch_comes_back_whole(first: int, sizes: list[tuple[int, Any]]) -> None:
    blocks, pieces, at = [], [], first
    for size, pack in sizes:
        rows = rows_of(size, at % 7)
        blocks.append(Block(at, at + size - 1, pack(rows)))
        pieces.append(Piece(at, at + size - 1, rows))
        at += size
    found = unseal_batch(message(*blocks), BOX_KEY.public_key())
    assert found.header == header(first, at - 1)
    assert found.pieces == pieces


def test_a_tombstone_travels_among_rows_and_may_stand_for_millions() -> None:
    tombstone = Tombstone(3, 5_000_000, "disk_full", [])
    blocks = [Block(1, 2, pack_plain(rows_of(2))), Block(3, 5_000_000, pack_tombstone(tombstone))]
    found = unseal_batch(message(*blocks), BOX_KEY.public_key())
    assert [piece.content for piece in found.pieces] == [rows_of(2), tombstone]


@pytest.mark.parametrize(
    "spans",
    [
        [], [(0, 1)], [(1, 2), (4, 5)], [(1, 2), (2, 3)], [(3, 4), (1, 2)], [(2, 1)], [(1, 2), (3, 5)],
        [(1, 1_000), (1_001, 2_000), (2_001, 2_001)],
    ],
)  # fmt: skip
def test_blocks_that_are_not_in_order_are_no_batch(spans: list[tuple[int, int]]) -> None:
    blocks = [Block(first, last, pack_plain(rows_of(min(max(last - first + 1, 0), 1_000) if last != 5 else 1))) for first, last in spans]
    refused(message(*blocks))


def test_a_header_that_says_other_numbers_is_no_batch() -> None:
    for changes in ({"first": 2}, {"last": 5}, {"last": 3}, {"first": 0}):
        lie = msgspec.structs.replace(header(1, 4), **changes)
        refused(seal_blocks(lie, [Block(1, 4, pack_plain(rows_of(4)))], BOX_KEY))


def test_the_most_rows_are_a_batch() -> None:
    half = MAX_BATCH_ROWS // 2
    sealed = message(Block(1, half, pack_columns(rows_of(half))), Block(half + 1, 2 * half, pack_plain(rows_of(half))))
    assert (
        sum(len(piece.content) for piece in unseal_batch(sealed, BOX_KEY.public_key()).pieces if not isinstance(piece.content, Tombstone))
        == 2 * half
    )


def test_a_batch_of_another_box_is_not_believed() -> None:
    refused(message(Block(1, 1, pack_plain(rows_of(1))), key=STRANGER_KEY), "nobody known")


def test_another_message_of_the_same_box_is_no_batch() -> None:
    refused(seal(ACK_TAG, header(1, 1), BOX_KEY), "not a batch of this version")
    sealed = message(Block(1, 1, pack_plain(rows_of(1))))
    refused(b"SGR1" + sealed[4:], "not a batch of this version")


def sealed_bytes(unpacked: bytes) -> bytes:
    body = zstd.compress(unpacked, 3)
    return BATCH_TAG + BOX_KEY.sign(BATCH_TAG + body) + body


def test_what_is_too_large_is_refused_before_and_after_unpacking() -> None:
    refused(bytes(MAX_BATCH_B + 1), "a batch of")
    bomb = sealed_bytes(bytes(64 * 1024 * 1024))
    assert len(bomb) < MAX_BATCH_B
    refused(bomb, f"unpacks to more than {MAX_BATCH_UNPACKED_B}")


def test_sections_that_swell_are_refused_in_time() -> None:
    """Columns may stand for far more than they weigh: what they would become is bounded by the message, not by the block."""
    fat = pack_columns([(1, b'{"a":"' + b"x" * (MAX_EVENTS_B // 1_000 - 20) + b'"}')] * 1_000)
    assert len(fat) < 20_000
    began_s = time.monotonic()
    refused(message(*[Block(1 + 1_000 * n, 1_000 + 1_000 * n, fat) for n in range(2)]), "too much")
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize(
    "unpacked",
    [
        b"", b"\0\0", struct.pack(">I", 5) + b"{}", struct.pack(">I", 2) + b"{}", struct.pack(">I", 1 << 31),
        struct.pack(">I", 20_000) + bytes(20_000), struct.pack(">I", 2_000) + b"[" * 2_000,
    ],
)  # fmt: skip
def test_a_signed_message_of_another_shape_is_malformed(unpacked: bytes) -> None:
    refused(sealed_bytes(unpacked))


@pytest.mark.parametrize("cut", [1, 7, 19, 20, 21, 30])
def test_a_section_cut_short_is_malformed(cut: int) -> None:
    text = msgspec.json.encode(header(1, 1))
    section = pack_plain(rows_of(1))
    whole = struct.pack(">I", len(text)) + text + struct.pack(">IQQ", len(section), 1, 1) + section
    assert len(unseal_batch(sealed_bytes(whole), BOX_KEY.public_key()).pieces) == 1
    refused(sealed_bytes(whole[:-cut]))
    refused(sealed_bytes(whole + bytes(cut)))


def test_an_event_nobody_knows_spoils_only_its_own_row() -> None:
    rows = [*rows_of(1), (5, b'{"type":"Undreamt","of":1}'), *rows_of(1)]
    (piece,) = unseal_batch(message(Block(1, 3, pack_plain(rows))), BOX_KEY.public_key()).pieces
    assert not isinstance(piece.content, Tombstone)
    assert read_row(piece.content[0][1]) == read_row(piece.content[2][1]) == EVENTS[0]
    with pytest.raises(msgspec.DecodeError):
        read_row(piece.content[1][1])


@given(st.binary(max_size=300))
def test_any_bytes_are_malformed(sealed: bytes) -> None:
    refused(sealed)


@given(st.binary(max_size=300))
def test_any_signed_bytes_are_malformed(unpacked: bytes) -> None:
    refused(sealed_bytes(unpacked))


def test_a_full_message_of_real_traffic_is_small() -> None:
    rows = traffic_rows(2_000)
    blocks = [Block(1, 1_000, pack_columns(rows[:1_000])), Block(1_001, 2_000, pack_columns(rows[1_000:]))]
    assert len(message(*blocks)) / 2_000 <= 21


def test_a_chunk_survives_its_journey_and_fits_a_message() -> None:
    chunk = Chunk("vouchers", 3, 0, CHUNK_B, bytes(range(256)) * (CHUNK_B // 256))
    sent = msgspec.json.encode(chunk)
    assert msgspec.json.decode(sent, type=Chunk) == chunk
    assert len(sent) < MAX_BATCH_B
