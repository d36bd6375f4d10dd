"""The virtual camera shows what it is told, one after another, and breaks on demand."""

import asyncio
import base64
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segno
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import DeviceError
from gateway.scanner import decode
from gateway.scanner.virtual import GAP_S, VirtualCamera, camera_control, serve_control

FRAME_NS = 125_000_000


def frames(camera: VirtualCamera, hand: Any, count: int) -> list[Any]:
    taken = []
    for _ in range(count):
        hand.now_ns += FRAME_NS
        taken.append(camera.grab())
    return taken


def texts(camera: VirtualCamera, hand: Any, count: int) -> list[str]:
    """What each frame shows, empty for nothing."""
    return ["".join(reading.text for reading in decode.read(frame, 0.0)) for frame in frames(camera, hand, count)]


def test_frames_are_gray_noisy_and_never_the_same_twice(hand: Any) -> None:
    taken = frames(VirtualCamera(8, 4, hand), hand, 20)
    assert all(frame.shape == (480, 640) and frame.dtype == np.uint8 for frame in taken)
    assert all(not np.array_equal(one, two) for one, two in itertools.pairwise(taken))


def test_the_same_seed_draws_the_same_frames(hand: Any) -> None:
    begun_ns, films = hand.now_ns, []
    for _ in range(2):
        hand.now_ns = begun_ns
        camera = VirtualCamera(8, 9, hand)
        camera.obey({"do": "show", "text": "SAME"})
        films.append(frames(camera, hand, 8))
    assert all(np.array_equal(one, two) for one, two in zip(*films, strict=True))


def test_shows_follow_each_other_with_bare_wall_between(hand: Any) -> None:
    camera = VirtualCamera(8, 2, hand)
    for text in ("FIRST", "SECOND"):
        assert camera.obey({"do": "show", "text": text, "seconds": 1.5})["ok"]
    seen = [text for i, text in enumerate(texts(camera, hand, 56)) if i]
    first = [i for i, text in enumerate(seen) if text == "FIRST"]
    second = [i for i, text in enumerate(seen) if text == "SECOND"]
    assert len(first) >= 6 and len(second) >= 6
    assert min(second) - max(first) >= GAP_S * 8
    assert camera.obey({"do": "state"}) == {"ok": True, "plugged": True, "frozen": False, "showing": False, "queued": 0, "shown": 2}


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_any_text_is_drawn_as_it_is_garbled_or_not(text: str) -> None:
    class Still:
        now_ns = 1_000_000_000_000

        def boottime_ns(self) -> int:
            return self.now_ns

    hand = Still()
    camera = VirtualCamera(8, 3, hand)  # type: ignore[arg-type]
    assert camera.obey({"do": "show", "text": text})["ok"]
    found = {reading.payload for frame in frames(camera, hand, 12) for reading in decode.read(frame, 0.01)}
    assert found == {text.encode()}


def test_a_picture_is_shown_as_it_is(hand: Any) -> None:
    png = io.BytesIO()
    segno.make_qr("A PICTURE").save(png, kind="png", scale=8, border=4)
    camera = VirtualCamera(8, 6, hand)
    assert camera.obey({"do": "show_image", "png": base64.b64encode(png.getvalue()).decode()})["ok"]
    assert texts(camera, hand, 20).count("A PICTURE") >= 10


def test_clear_takes_away_what_is_shown_and_what_waits(hand: Any) -> None:
    camera = VirtualCamera(8, 6, hand)
    for text in ("ONE", "TWO"):
        camera.obey({"do": "show", "text": text})
    frames(camera, hand, 6)
    assert camera.obey({"do": "clear"})["queued"] == 0
    assert set(texts(camera, hand, 40)) == {""}


def test_unplugged_it_gives_no_frame_until_it_is_plugged_in(hand: Any) -> None:
    camera = VirtualCamera(8, 6, hand)
    camera.obey({"do": "unplug"})
    for act in (camera.open, camera.grab):
        with pytest.raises(DeviceError):
            act()
    camera.obey({"do": "plug"})
    camera.open()
    assert camera.grab().shape == (480, 640)


def test_frozen_it_gives_one_frame_for_ever(hand: Any) -> None:
    camera = VirtualCamera(8, 6, hand)
    camera.obey({"do": "freeze"})
    camera.obey({"do": "show", "text": "UNSEEN"})
    one, *rest = frames(camera, hand, 10)
    assert all(np.array_equal(one, frame) for frame in rest)


@pytest.mark.parametrize(
    "order",
    [
        None, [], 7, {}, {"do": "dance"}, {"do": "show"}, {"do": "show", "text": 5}, {"do": "show", "text": ""},
        {"do": "show", "text": "\ud800"}, {"do": "show", "text": "x" * 5000}, {"do": "show", "text": "x", "seconds": -1},
        {"do": "show", "text": "x", "seconds": float("nan")}, {"do": "show", "text": "x", "seconds": "2"},
        {"do": "show_image"}, {"do": "show_image", "png": "%%"}, {"do": "show_image", "png": 5}, {"do": "show_image", "png": "AAAA"},
    ],
)  # fmt: skip
def test_a_foolish_order_is_answered_with_what_is_wrong(hand: Any, order: Any) -> None:
    camera = VirtualCamera(8, 6, hand)
    answer = camera.obey(order)
    assert answer["ok"] is False and answer["error"]
    assert camera.obey({"do": "state"})["queued"] == 0


async def test_orders_come_through_the_socket_and_rubbish_is_answered(run_folder: Path, hand: Any) -> None:
    path = run_folder / "camera-door.ctl"
    with pytest.raises(DeviceError):
        await camera_control(path, do="state")
    serving = asyncio.get_running_loop().create_task(serve_control(VirtualCamera(8, 1, hand), path))
    while not path.exists():  # noqa: ASYNC110 - a file cannot ring
        await asyncio.sleep(0.01)
    assert (await camera_control(path, do="show", text="中文 ✓"))["queued"] == 1
    reader, writer = await asyncio.open_unix_connection(path)
    for line in (b"rubbish\n", b"[" * 5000 + b"\n", b'{"do": "state"}\n'):
        writer.write(line)
    answers = [await reader.readline() for _ in range(3)]
    assert [b'"ok": true' in answer for answer in answers] == [False, False, True]
    writer.close()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
