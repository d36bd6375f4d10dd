"""What the unit states, from bytes, and what it never does."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.ble.__main__ import run
from gateway.ble.advert import Heard, parse
from gateway.ble.driver import followed, open_radio, sensor_zones
from gateway.ble.virtual import Recording, VirtualRadio, Walkers, ibeacon, iphone, random_address
from gateway.clock import SystemClock
from gateway.config import BleTable, GatewayConfig, SensorTable, TagTable
from gateway.errors import ConfigError
from gateway.events import DeviceChanged, Event, OccupancyEstimated, Stated, SubjectKind, VisitEnded, VisitStarted
from gateway.link import LinkServer

UUID = "d0d2ce249efc11e582c41c6a7a17ef38"


def stay(unit: Any, seconds: float, ad: bytes = b"", sensor: str = "hci0", address: str = "C0:00:00:00:00:01", rssi: int = -60) -> None:
    """Let time pass; the transmitter, if any, sends four times a second."""
    for _ in range(int(seconds * 4)):
        unit.clock.t_s += 0.25
        if ad:
            unit.driver.hear(Heard(unit.clock.t_s, sensor, address, rssi, parse(ad)))
        unit.driver.tick()


def live(unit: Any, walkers: Walkers, seconds: float) -> list[str]:
    """Run the made-up shop through the unit; gives every address that was on the air."""
    addresses = set()
    for _ in range(int(seconds * 10)):
        unit.clock.t_s += 0.1
        for reception in walkers.advance(unit.clock.t_s):
            addresses.add(reception.address)
            unit.driver.hear(reception.heard(reception.t_s))
        unit.driver.tick()
    return sorted(addresses)


def walkers_of(config: GatewayConfig, seed: int = 7) -> Walkers:
    subjects = {tag.subject: identity for identity, tag in followed(config.ble).items()}
    return Walkers(sensor_zones(config.ble), subjects, away_s=config.ble.exit_after_s + 2, seed=seed)


def test_a_tag_that_stays_and_goes_is_one_visit_with_its_dwell(unit: Any) -> None:
    came_s = unit.clock.t_s
    stay(unit, 30, ibeacon(UUID, 1, 1))
    stay(unit, 20)
    (started,), (ended,) = unit.events(VisitStarted), unit.events(VisitEnded)
    assert started.visit_id == ended.visit_id and len(started.visit_id) == 32
    assert (started.subject, started.zone, started.subject_kind) == ("trolley-1", "door", SubjectKind.TAG)
    assert ended.dwell_s == pytest.approx(29.75)
    assert started.event_time.mono_ns == round((came_s + 0.25) * 1e9)
    assert ended.event_time.mono_ns - started.event_time.mono_ns == round(ended.dwell_s * 1e9)
    assert ended.event_time.wall_us - started.event_time.wall_us == round(ended.dwell_s * 1e6)
    exit_stated_s = next(at for at, event in unit.stated if event is ended)
    assert exit_stated_s - came_s == pytest.approx(30 + 12, abs=0.5)


def test_a_members_app_is_told_apart_from_a_tag(unit: Any) -> None:
    stay(unit, 2, ibeacon(UUID, 2, 1))
    assert unit.events(VisitStarted)[0].subject_kind is SubjectKind.MEMBER


def test_nobody_who_is_not_configured_is_followed(unit: Any) -> None:
    stay(unit, 30, ibeacon(UUID, 9, 9))
    stay(unit, 30, iphone(random.Random(1)))
    assert not unit.events(VisitStarted)


def test_a_followed_subject_is_not_counted_as_a_stranger(unit: Any) -> None:
    rng = random.Random(1)
    for _ in range(44):
        unit.clock.t_s += 0.25
        for at in range(20):
            both = ibeacon(UUID, 1, 1) + iphone(rng)[3:]
            unit.driver.hear(Heard(unit.clock.t_s, "hci0", f"C0:{at}", -60, parse(both)))
        unit.driver.tick()
    assert [event.estimate for event in unit.events(OccupancyEstimated)] == [None] * 3


def test_a_restarted_unit_starts_a_new_visit_and_ends_none(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any]) -> None:
    before, after = unit_of(shop()), unit_of(shop())
    stay(before, 10, ibeacon(UUID, 1, 1))
    stay(after, 10, ibeacon(UUID, 1, 1))
    assert not before.events(VisitEnded) and not after.events(VisitEnded)
    assert before.events(VisitStarted)[0].visit_id != after.events(VisitStarted)[0].visit_id


def test_the_radio_coming_and_going_is_stated(unit: Any) -> None:
    unit.driver.changed("up", "scanning")
    unit.driver.changed("down", "bluetoothd is gone")
    stated = [(event.read_point, event.device_state, event.detail) for event in unit.events(DeviceChanged)]
    assert stated == [("ble@radio", "up", "scanning"), ("ble@radio", "down", "bluetoothd is gone")]


def test_a_gappy_radio_does_not_end_visits_in_its_gaps(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any]) -> None:
    unit = unit_of(shop(exit_after_s=3))
    unit.driver.changed("degraded", "no monitor")
    stay(unit, 1, ibeacon(UUID, 1, 1))
    stay(unit, 10.7)
    assert unit.events(VisitStarted) and not unit.events(VisitEnded)
    unit.driver.changed("up", "scanning")
    stay(unit, 1)
    assert unit.events(VisitEnded)


def test_broken_frames_are_counted_and_nothing_else(unit: Any) -> None:
    stay(unit, 1, b"\x05\xff\x4c\x00\x02\x15")
    assert unit.driver.unreadable == 4
    assert not unit.stated


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_virtual_shop_is_alive_within_a_minute(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any], seed: int) -> None:
    config = shop()
    unit = unit_of(config)
    live(unit, walkers_of(config, seed), 60)
    stated_at = {kind: [at - 1000 for at, event in unit.stated if isinstance(event, kind)] for kind in (VisitStarted, VisitEnded)}
    assert stated_at[VisitStarted][0] < 2
    assert stated_at[VisitEnded][0] < 20
    assert len(stated_at[VisitStarted]) >= 5 and len(stated_at[VisitEnded]) >= 3
    assert len(unit.events(OccupancyEstimated)) == 3 * 5
    assert any(event.estimate is not None for event in unit.events(OccupancyEstimated))


def test_the_virtual_shop_goes_on_for_ever(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any]) -> None:
    config = shop()
    unit = unit_of(config)
    live(unit, walkers_of(config), 900)
    minutes = [int((at - 1000) // 60) for at, event in unit.stated if isinstance(event, VisitEnded)]
    assert all(minutes.count(minute) >= 2 for minute in range(15))


def test_every_visit_that_ends_has_started_once(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any]) -> None:
    config = shop()
    unit = unit_of(config)
    live(unit, walkers_of(config), 600)
    started = {event.visit_id: event for event in unit.events(VisitStarted)}
    ended = {event.visit_id: event for event in unit.events(VisitEnded)}
    assert len(started) == len(unit.events(VisitStarted)) and len(ended) == len(unit.events(VisitEnded))
    assert len(started) - 3 <= len(ended) <= len(started)
    assert all((started[visit].subject, started[visit].zone) == (event.subject, event.zone) for visit, event in ended.items())
    assert all(0 <= event.dwell_s < 120 for event in ended.values())


def test_no_address_and_no_signal_strength_is_stated(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any]) -> None:
    config = shop()
    unit = unit_of(config)
    addresses = live(unit, walkers_of(config), 300)
    everything = b"\n".join(msgspec.json.encode(event) for _, event in unit.stated).upper()
    assert len(addresses) > 40 and len(unit.stated) > 50
    for address in addresses:
        assert address.encode() not in everything
        assert address.replace(":", "").encode() not in everything
    fields = {
        field.name for kind in (VisitStarted, VisitEnded, OccupancyEstimated, DeviceChanged) for field in msgspec.structs.fields(kind)
    }
    assert not {name for name in fields if "rssi" in name or "address" in name or "dbm" in name}


def test_when_sources_stop_visits_end_and_then_nothing_is_stated(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any]) -> None:
    config = shop()
    unit = unit_of(config)
    walkers = walkers_of(config)
    live(unit, walkers, 60)
    unit.paused = True
    walkers.hush(True)
    stopped_s = unit.clock.t_s
    live(unit, walkers, 60)
    late = [(at, event) for at, event in unit.stated if at > stopped_s]
    assert late and all(isinstance(event, VisitEnded) for _, event in late)
    assert all(at <= stopped_s + config.ble.exit_after_s + 0.5 for at, _ in late)
    assert len(unit.events(VisitStarted)) == len(unit.events(VisitEnded))
    unit.paused = False
    walkers.hush(False)
    live(unit, walkers, 15)
    assert {type(event) for at, event in unit.stated if at > stopped_s + 60} >= {VisitStarted, OccupancyEstimated}


class Core:
    def __init__(self) -> None:
        self.stated: list[tuple[str, Stated]] = []
        self.ids: list[str] = []

    def decide(self, unit: str, event_id: str, event: Stated) -> "asyncio.Future[bytes]":
        self.stated.append((unit, event))
        self.ids.append(event_id)
        committed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        committed.set_result(b"")
        return committed

    async def until(self, kind: type[Event], timeout_s: float = 40.0) -> Any:
        async with asyncio.timeout(timeout_s):
            while True:
                for _, event in self.stated:
                    if isinstance(event, kind):
                        return event
                await asyncio.sleep(0.02)

    def kinds(self) -> set[type[Event]]:
        return {type(event) for _, event in self.stated}


async def test_the_whole_unit_states_visits_over_the_link(shop: Callable[..., GatewayConfig]) -> None:
    config = shop()
    core = Core()
    server = LinkServer(config.link_path, SystemClock(), core.decide, lambda _unit, _up: None)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.serve()), group.create_task(run(config, "radio", SystemClock()))]
        await core.until(VisitStarted)
        for task in tasks:
            task.cancel()
    assert {unit for unit, _ in core.stated} == {"ble@radio"}
    assert isinstance(core.stated[0][1], DeviceChanged)
    assert VisitEnded not in core.kinds()


@pytest.mark.slow
async def test_a_recording_is_a_radio_too(shop: Callable[..., GatewayConfig], tmp_path: Path) -> None:
    path = tmp_path / "tag.jsonl"
    line = '{"t_s": %s, "sensor": "hci2", "address": "C0:00:00:00:00:01", "rssi": %s, "hex": "%s"}\n'
    path.write_text("".join(line % (at / 10, (-60, -127)[at % 2], ibeacon(UUID, 1, 2).hex()) for at in range(12)))
    config = shop(radio=f"replay:{path}", exit_after_s=1)
    core = Core()
    server = LinkServer(config.link_path, SystemClock(), core.decide, lambda _unit, _up: None)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.serve()), group.create_task(run(config, "radio", SystemClock()))]
        ended = await core.until(VisitEnded)
        for task in tasks:
            task.cancel()
    assert (ended.subject, ended.zone) == ("trolley-2", "counter")
    assert ended.dwell_s == pytest.approx(1.0, abs=0.01)  # the samples without a signal strength do not count


async def test_another_instance_is_refused(shop: Callable[..., GatewayConfig]) -> None:
    with pytest.raises(ConfigError, match="radio"):
        await run(shop(), "other", SystemClock())


def test_the_configuration_chooses_the_radio(shop: Callable[..., GatewayConfig], tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    assert isinstance(open_radio(shop(), SystemClock()), VirtualRadio)
    assert isinstance(open_radio(shop(f"replay:{tmp_path}/none.jsonl"), SystemClock()), VirtualRadio)
    assert Recording(tmp_path / "none.jsonl").advance(1.0) == []
    assert type(open_radio(shop("bluez"), SystemClock())).__name__ == "BluezRadio"
    with pytest.raises(ConfigError, match="replay:FILE"):
        open_radio(shop("blues"), SystemClock())


def test_a_radio_without_receivers_is_refused() -> None:
    with pytest.raises(ConfigError, match="receiver"):
        sensor_zones(BleTable())
    with pytest.raises(ConfigError, match="same name"):
        sensor_zones(BleTable(sensors=[SensorTable("a", "x"), SensorTable("a", "y")]))


def test_an_identity_that_is_none_or_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="UUID/MAJOR/MINOR"):
        followed(BleTable(tags=[TagTable("t", ibeacon="nonsense")]))
    twice = [TagTable("t", ibeacon=f"{UUID}/1/1"), TagTable("u", ibeacon=f"{UUID.upper()}/1/1")]
    with pytest.raises(ConfigError, match="u and t"):
        followed(BleTable(tags=twice))


def test_random_addresses_have_the_bits_of_their_kind() -> None:
    rng = random.Random(2)
    assert {int(random_address(rng)[:2], 16) >> 6 for _ in range(50)} == {1}
    assert {int(random_address(rng, static=True)[:2], 16) >> 6 for _ in range(50)} == {3}
