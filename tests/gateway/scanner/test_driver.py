"""From photons to core: each showing arrives exactly once, to the byte, whatever core and cable do meanwhile."""

import asyncio
import os
import time
import tty
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import segno

from gateway.errors import ConfigError
from gateway.link import LinkClient
from gateway.scanner.decode import Gray
from gateway.scanner.driver import CameraWatch, Desk
from gateway.scanner.virtual import camera_control

SHOW_S = 2.5


async def ready(shop: Any, *controls: Any) -> None:
    await shop.until(lambda: all(path.exists() for path in controls))


@pytest.mark.slow
async def test_a_shown_token_arrives_once_and_to_the_byte(shop: Any, make_token: Callable[[], str]) -> None:
    shop.open()
    control, text = shop.start("counter", "virtual", seed=11), make_token()
    await ready(shop, control)
    await camera_control(control, do="show", text=text)
    await shop.until(lambda: shop.codes() != [])
    await asyncio.sleep(SHOW_S + 0.5)  # the rest of the show gives no second one
    ((unit, event_id, event),) = [stated for stated in shop.stated if stated[2] in shop.codes()]
    assert (unit, event.read_point, event.symbology_id) == ("scanner@counter", "scanner@counter", "]Q1")
    assert event.payload == text.encode() and len(text) == 153
    assert event_id == event.presentation_id and len(event_id) == 32 and int(event_id, 16) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("first_seed", [1, 9, 17, 25])
async def test_every_presentation_is_read_within_its_time_and_once(shop: Any, make_token: Callable[[], str], first_seed: int) -> None:
    """Eight cameras at once: thirty-two seeds in four runs."""
    shop.open()
    names = [f"s{seed}" for seed in range(first_seed, first_seed + 8)]
    controls = [shop.start(name, "virtual", seed=int(name[1:])) for name in names]
    shown = {name: make_token() for name in names}
    await ready(shop, *controls)
    for name, control in zip(names, controls, strict=True):
        await camera_control(control, do="show", text=shown[name], seconds=SHOW_S)
    await asyncio.sleep(SHOW_S + 0.4)
    assert {name: [event.payload.decode() for event in shop.codes(f"@{name}")] for name in names} == {name: [shown[name]] for name in names}


@pytest.mark.slow
async def test_showing_the_same_token_twice_is_two_presentations(shop: Any, make_token: Callable[[], str]) -> None:
    shop.open()
    control, text = shop.start("counter", "virtual", seed=5), make_token()
    await ready(shop, control)
    for _ in range(2):
        await camera_control(control, do="show", text=text, seconds=1.5)
    await shop.until(lambda: len(shop.codes()) == 2)
    await asyncio.sleep(2.0)
    one, two = shop.codes()
    assert one.payload == two.payload == text.encode()
    assert one.presentation_id != two.presentation_id


@pytest.mark.slow
async def test_a_forged_or_garbled_text_comes_through_as_it_is(shop: Any, make_token: Callable[[], str]) -> None:
    shop.open()
    control, text = shop.start("counter", "virtual", seed=6), make_token()
    wrong = [text[:-1] + ("A" if text[-1] != "A" else "B"), text[:80], "V1:ｇａｒｂｌｅｄ\x00\x1f"]
    await ready(shop, control)
    for shown in wrong:
        await camera_control(control, do="show", text=shown, seconds=1.5)
    await shop.until(lambda: len(shop.codes()) == 3)
    assert [event.payload.decode() for event in shop.codes()] == wrong


@pytest.mark.slow
async def test_a_code_shown_while_core_is_away_is_not_lost(shop: Any, make_token: Callable[[], str]) -> None:
    control, text = shop.start("counter", "virtual", seed=7), make_token()
    await ready(shop, control)
    await camera_control(control, do="show", text=text)
    await asyncio.sleep(1.5)
    shop.open()
    await shop.until(lambda: shop.codes() != [])
    assert [event.payload.decode() for event in shop.codes()] == [text]


@pytest.mark.slow
async def test_a_code_core_never_answered_is_stated_again_under_the_same_id(shop: Any, make_token: Callable[[], str]) -> None:
    shop.open()
    shop.answers = False
    control, text = shop.start("counter", "virtual", seed=8), make_token()
    await ready(shop, control)
    await camera_control(control, do="show", text=text)
    await shop.until(lambda: shop.codes() != [])
    await shop.close()
    shop.answers = True
    await asyncio.sleep(1.0)
    shop.open()
    await shop.until(lambda: len(shop.codes()) == 2)
    one, two = shop.codes()
    assert one == two and one.payload == text.encode()


@pytest.mark.slow
async def test_a_pulled_and_a_frozen_camera_are_reported_and_reading_goes_on_after(shop: Any, make_token: Callable[[], str]) -> None:
    shop.open()
    control, text = shop.start("counter", "virtual", seed=9), make_token()
    await ready(shop, control)
    await shop.until(lambda: shop.device_states() == ["up"])
    await camera_control(control, do="unplug")
    await shop.until(lambda: shop.device_states() == ["up", "down"])
    await camera_control(control, do="plug")
    await shop.until(lambda: shop.device_states() == ["up", "down", "up"])
    await camera_control(control, do="freeze")
    await shop.until(lambda: shop.device_states()[3:] == ["degraded"])
    await camera_control(control, do="plug")
    await shop.until(lambda: shop.device_states()[4:] == ["up"])
    await camera_control(control, do="show", text=text)
    await shop.until(lambda: shop.codes() != [])
    assert [event.payload.decode() for event in shop.codes()] == [text]


@pytest.mark.slow
async def test_an_idle_camera_costs_little(shop: Any) -> None:
    shop.open()
    control = shop.start("counter", "virtual", seed=10)
    await ready(shop, control)
    await asyncio.sleep(3.0)
    cpu_s, began_s = time.process_time(), time.monotonic()
    await asyncio.sleep(5.0)
    share = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    assert share < 0.05, f"{share:.1%} of a core"
    assert shop.codes() == []


async def test_a_serial_scanner_states_the_same_event_as_a_camera_and_comes_back(shop: Any) -> None:
    shop.open()
    master, slave = os.openpty()
    tty.setraw(slave)
    device = shop.folder / "by-id-scanner"
    device.symlink_to(os.ttyname(slave))
    shop.start("gun", f"serial:{device}")
    await shop.until(lambda: shop.device_states() == ["up"])
    os.write(master, b"]Q1V1:HELD\r")
    await shop.until(lambda: len(shop.codes()) == 1)
    os.close(slave)
    os.close(master)
    await shop.until(lambda: shop.device_states() == ["up", "down"])
    device.unlink()
    master, slave = os.openpty()
    tty.setraw(slave)
    device.symlink_to(os.ttyname(slave))
    await shop.until(lambda: shop.device_states() == ["up", "down", "up"])
    os.write(master, b"V1:HELD\r")
    await shop.until(lambda: len(shop.codes()) == 2)
    os.close(slave)
    os.close(master)
    assert [(code.symbology_id, code.payload) for code in shop.codes()] == [("]Q1", b"V1:HELD"), ("]X0", b"V1:HELD")]
    assert len({code.presentation_id for code in shop.codes()}) == 2


@pytest.mark.parametrize("source", ["telepathy:/dev/mind", "serial", "evdev:", "v4l2"])
async def test_a_source_nobody_knows_is_a_config_error(shop: Any, source: str) -> None:
    shop.start("odd", source)
    with pytest.raises(ConfigError):
        await shop._tasks[0]
    shop._tasks.clear()


class Torrent:
    """A camera far faster than any decoder, before which one code lies for ever."""

    def __init__(self, code: Gray) -> None:
        self._random = np.random.default_rng(2)
        self._scene = np.full((960, 1280), 140, np.uint8)
        self._scene[100 : 100 + code.shape[0], 200 : 200 + code.shape[1]] = code
        self.grabbed = 0

    def open(self) -> None:
        pass

    def grab(self) -> Gray:
        self.grabbed += 1
        return self._scene ^ self._random.integers(0, 4, (1, 1280), dtype=np.uint8)

    def close(self) -> None:
        pass


async def test_frames_are_dropped_when_they_come_too_fast_and_codes_are_not(shop: Any) -> None:
    shop.open()
    modules = np.array([list(row) for row in segno.make_qr("TORRENT").matrix_iter(scale=6, border=4)])
    torrent = Torrent(np.where(modules > 0, 20, 230).astype(np.uint8))
    link = LinkClient(shop.folder / "link.sock", "scanner@fast", shop.clock)
    watch = CameraWatch(torrent, Desk(link, "scanner@fast", shop.clock), shop.clock)
    running = asyncio.gather(link.run(), watch.run())
    await shop.until(lambda: shop.codes() != [] and watch.dropped_frames > 100)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [event.payload for event in shop.codes()] == [b"TORRENT"]
