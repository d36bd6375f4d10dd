"""Bytes of CU16 boards: what goes out is what three public programs agree on, what comes in can be anything."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.errors import MalformedFrame
from gateway.events import DoorState
from gateway.locker import cu16
from gateway.locker.driver import SteadyDoors

STATUSES = st.builds(cu16.Status, st.integers(0, cu16.MAX_BOARD), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))


@pytest.mark.parametrize(
    ("frame", "golden"),
    [
        (cu16.status_request(0), "02 00 30 03 35"),
        (cu16.status_request(1), "02 10 30 03 45"),  # one public program ships 3E here
        (cu16.unlock_request(0, 1), "02 00 31 03 36"),
        (cu16.unlock_request(0, 16), "02 0F 31 03 45"),
        (cu16.unlock_request(1, 3), "02 12 31 03 48"),
        (cu16.pack_request(cu16.Request(0, 0, cu16.Op.UNLOCK_ALL)), "02 00 33 03 38"),
    ],
)
def test_requests_are_the_bytes_real_boards_obey(frame: bytes, golden: str) -> None:
    assert frame == bytes.fromhex(golden)


def test_a_status_reply_is_read_bit_by_bit() -> None:
    status = cu16.parse_status(bytes.fromhex("02 10 35 FE 7F 01 80 03 48"), board=1)
    doors = status.doors(16)
    assert [n for n, door in doors.items() if door is DoorState.OPEN] == [1, 16]
    assert status.items == 0x8001


def test_locks_that_are_not_wired_are_not_spoken_of() -> None:
    assert cu16.Status(0, 0b0001).doors(3) == {1: DoorState.CLOSED, 2: DoorState.OPEN, 3: DoorState.OPEN}


@pytest.mark.parametrize("compartment", [-1, 0, 17, 300])
def test_a_compartment_that_does_not_exist_never_becomes_a_frame(compartment: int) -> None:
    with pytest.raises(ValueError, match="no lock"):
        cu16.unlock_request(0, compartment)


@pytest.mark.parametrize("board", [-1, 15, 16])
def test_the_whole_bus_cannot_be_addressed_by_mistake(board: int) -> None:
    with pytest.raises(ValueError, match="no lock"):
        cu16.status_request(board)


@given(st.binary(max_size=40))
def test_any_bytes_give_a_status_or_a_refusal(frame: bytes) -> None:
    for parse in (lambda data: cu16.parse_status(data, 0), cu16.parse_request):
        try:
            parse(frame)
        except MalformedFrame:
            continue
        assert len(frame) in (cu16.STATUS_B, cu16.REQUEST_B)


@given(STATUSES)
def test_a_status_survives_the_wire(status: cu16.Status) -> None:
    assert cu16.parse_status(cu16.pack_status(status), status.board) == status


@given(st.integers(0, cu16.MAX_BOARD), st.integers(0, 15), st.sampled_from([cu16.Op.STATUS, cu16.Op.UNLOCK]))
def test_a_board_understands_every_request(board: int, lock: int, op: cu16.Op) -> None:
    request = cu16.Request(board, lock, op)
    assert cu16.request_reader().feed(cu16.pack_request(request)) == [request]


@given(STATUSES, st.integers(0, cu16.STATUS_B - 1), st.integers(1, 255))
def test_one_changed_byte_is_always_noticed(status: cu16.Status, at: int, flip: int) -> None:
    frame = bytearray(cu16.pack_status(status))
    frame[at] ^= flip
    with pytest.raises(MalformedFrame):
        cu16.parse_status(bytes(frame), status.board)


@given(STATUSES, st.integers(0, cu16.MAX_BOARD))
def test_another_boards_answer_is_not_ours(status: cu16.Status, asked: int) -> None:
    found = cu16.status_reader(asked).feed(cu16.pack_status(status))
    assert found == ([status] if status.board == asked else [])


@given(STATUSES, st.binary(max_size=30).map(lambda noise: noise.replace(b"\x02", b"")), st.integers(0, cu16.STATUS_B - 1))
def test_an_answer_is_found_behind_noise_echo_and_a_torn_frame(status: cu16.Status, noise: bytes, torn_at: int) -> None:
    frame = cu16.pack_status(status)
    reader = cu16.status_reader(status.board)
    echo = cu16.status_request(status.board)
    assert status in reader.feed(noise + echo + frame[:torn_at] + frame + noise)


@given(st.lists(STATUSES.map(cu16.pack_status) | st.binary(max_size=12), max_size=6), st.data())
def test_the_pieces_a_stream_comes_in_change_nothing(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    whole = cu16.status_reader(0).feed(stream)
    reader, found = cu16.status_reader(0), []
    rest = stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += reader.feed(rest[:size])
        rest = rest[size:]
    assert found == whole


def test_a_reader_keeps_less_than_a_frame_of_an_endless_stream() -> None:
    reader = cu16.status_reader(0)
    for _ in range(1_000):
        assert reader.feed(b"\x02" * 100) == []
    assert len(reader._kept) < cu16.STATUS_B


def test_garbled_answers_do_not_move_a_door_in_the_mind() -> None:
    """40,000 reads with two to five bytes changed at random; a single read would have been wrong many times."""
    chance = random.Random(16)
    now = SystemClock().now()
    truth = cu16.Status(0, 0xA5C3)
    steady = SteadyDoors()
    for _ in range(2):
        steady.see(truth.doors(16), now)
    wrong_reads = wrong_beliefs = 0
    for _ in range(40_000):
        frame = bytearray(cu16.pack_status(truth))
        for at in chance.sample(range(cu16.STATUS_B), chance.randint(2, 5)):
            frame[at] = chance.randrange(256)
        for status in cu16.status_reader(0).feed(bytes(frame)):
            wrong_reads += status.doors(16) != truth.doors(16)
            sight = steady.see(status.doors(16), now)
            wrong_beliefs += sight is not None and bool(sight.changed)
    assert wrong_reads >= 10  # else this test shows nothing
    assert wrong_beliefs <= 40_000 * 1e-4
