"""Sealed messages: what HQ signed and nothing else, in bounded memory."""

import tracemalloc

import msgspec
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedFrame
from gateway.signed import (
    ACK_TAG,
    ANSWER_TAG,
    BATCH_TAG,
    BEAT_TAG,
    DOCUMENT_TAG,
    MANIFEST_TAG,
    Ack,
    BeatAnswered,
    Document,
    TokenKey,
    public_from_hex,
    public_hex,
    seal,
    unpack_limited,
    unseal,
)
from gateway.verifiers import Keyring
from tests.conftest import HQ_KEY, STRANGER_KEY, TOKEN_KEY

TAGS = [ACK_TAG, ANSWER_TAG, BATCH_TAG, BEAT_TAG, DOCUMENT_TAG, MANIFEST_TAG]
KEYS = [HQ_KEY.public_key()]
ACK = Ack("box-7", "3-0011aabb", 0, 17, "ab" * 16, 17, 1_790_000_000_000_000)
SEALED = seal(ACK_TAG, ACK, HQ_KEY)


def raw_seal(tag: bytes, body: bytes) -> bytes:
    return tag + HQ_KEY.sign(tag + body) + body


def test_a_sealed_message_comes_back() -> None:
    assert unseal(ACK_TAG, SEALED, KEYS, Ack) == ACK


def test_any_of_several_keys_may_sign() -> None:
    keys = [STRANGER_KEY.public_key(), HQ_KEY.public_key()]
    assert unseal(ACK_TAG, SEALED, keys, Ack) == ACK


def test_no_changed_bit_is_believed() -> None:
    for place in range(len(SEALED)):
        for bit in range(8):
            changed = bytearray(SEALED)
            changed[place] ^= 1 << bit
            with pytest.raises(MalformedFrame):
                unseal(ACK_TAG, bytes(changed), KEYS, Ack)


def test_nothing_cut_short_or_drawn_out_is_believed() -> None:
    for length in range(len(SEALED)):
        with pytest.raises(MalformedFrame):
            unseal(ACK_TAG, SEALED[:length], KEYS, Ack)
    with pytest.raises(MalformedFrame):
        unseal(ACK_TAG, SEALED + b"\0", KEYS, Ack)


def test_a_stranger_is_not_believed() -> None:
    with pytest.raises(MalformedFrame):
        unseal(ACK_TAG, seal(ACK_TAG, ACK, STRANGER_KEY), KEYS, Ack)
    with pytest.raises(MalformedFrame):
        unseal(ACK_TAG, SEALED, [], Ack)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("other", TAGS)
def test_a_message_of_one_kind_never_passes_for_another(tag: bytes, other: bytes) -> None:
    sealed = seal(tag, ACK, HQ_KEY)
    if tag == other:
        assert unseal(other, sealed, KEYS, Ack) == ACK
        return
    for forged in (sealed, other + sealed[4:]):
        with pytest.raises(MalformedFrame):
            unseal(other, forged, KEYS, Ack)


def test_another_shape_under_a_good_seal_is_malformed() -> None:
    for message in (b"{}", b"[]", b"not json", b'{"gateway":7}', b"\xff\xfe"):
        with pytest.raises(MalformedFrame):
            unseal(ACK_TAG, raw_seal(ACK_TAG, zstd.compress(message)), KEYS, Ack)


def test_nesting_without_end_is_malformed() -> None:
    deep = b'{"gateway":"box-7","more":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(MalformedFrame):
        unseal(ACK_TAG, raw_seal(ACK_TAG, zstd.compress(deep)), KEYS, Ack)


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = zstd.compress(bytes(512 * 1024 * 1024), 3)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(MalformedFrame, match="unpacks to more"):
            unseal(ACK_TAG, raw_seal(ACK_TAG, bomb), KEYS, Ack, limit_b=1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_limit_itself_is_allowed() -> None:
    assert unpack_limited(zstd.compress(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(MalformedFrame):
        unpack_limited(zstd.compress(bytes(1001)), 1000)


def test_a_frame_cut_short_is_malformed_though_signed() -> None:
    body = zstd.compress(msgspec.json.encode(ACK))
    for length in range(1, len(body)):
        with pytest.raises(MalformedFrame):
            unseal(ACK_TAG, raw_seal(ACK_TAG, body[:length]), KEYS, Ack)


@given(st.binary(max_size=400), st.sampled_from(TAGS))
def test_any_bytes_are_malformed(data: bytes, tag: bytes) -> None:
    for sealed in (data, tag + data, raw_seal(tag, data)):
        with pytest.raises(MalformedFrame):
            unseal(tag, sealed, KEYS, BeatAnswered)


def test_a_public_key_travels_as_hex() -> None:
    text = public_hex(TOKEN_KEY.public_key())
    assert public_hex(public_from_hex(text)) == text
    for wrong in ("", "zz" * 32, text[:-2], text + "00"):
        with pytest.raises(MalformedFrame):
            public_from_hex(wrong)


def test_a_document_with_a_broken_key_is_malformed() -> None:
    good = TokenKey(1, 1, public_hex(TOKEN_KEY.public_key()))
    assert set(Keyring(Document("box-7", "keys", 1, 0, keys=[good])).own) == {1}
    with pytest.raises(MalformedFrame):
        Keyring(Document("box-7", "keys", 1, 0, keys=[good, TokenKey(2, 1, "ff")]))
