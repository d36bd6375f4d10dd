"""The virtual radio speaks real bytes, and its shop is alive."""

import asyncio
from pathlib import Path

import pytest

from gateway.ble.advert import Heard, IBeacon, Phone, parse
from gateway.ble.virtual import Reception, Recording, VirtualRadio, Walkers, ibeacon
from gateway.clock import SystemClock
from gateway.errors import ConfigError

UUID = "d0d2ce249efc11e582c41c6a7a17ef38"
SENSORS = {"hci0": "door", "hci1": "shelf", "hci2": "counter"}
SUBJECTS = {"tag": (UUID, 1, 1), "member": (UUID, 2, 1)}


def shop(seed: int = 1, phones: int = 24) -> Walkers:
    return Walkers(SENSORS, SUBJECTS, away_s=5.0, phones=phones, seed=seed)


def play(walkers: Walkers, until_s: float, from_s: float = 0.0) -> list[Reception]:
    received = []
    for tenth in range(int(from_s * 10), int(until_s * 10)):
        received += walkers.advance(tenth / 10)
    return received


def test_the_same_seed_is_the_same_shop() -> None:
    assert play(shop(3), 20) == play(shop(3), 20)
    assert play(shop(3), 20) != play(shop(4), 20)


def test_every_advertisement_is_whole_and_of_a_known_kind() -> None:
    kinds = set()
    for reception in play(shop(), 30):
        ad = bytes.fromhex(reception.hex)
        assert len(ad) <= 31
        (sighting,) = parse(ad)
        kinds.add(sighting if isinstance(sighting, Phone) else type(sighting))
        assert -97 <= reception.rssi <= -1
    assert kinds == {IBeacon, Phone("apple"), Phone("samsung"), Phone("google")}


def test_an_advertised_ibeacon_is_the_one_that_was_configured() -> None:
    assert parse(ibeacon(UUID, 0x4C49, 0x4E45)) == (IBeacon(UUID, 0x4C49, 0x4E45, -59),)


def test_only_configured_identities_are_sent() -> None:
    sent = {sighting for reception in play(shop(), 60) for sighting in parse(bytes.fromhex(reception.hex))}
    assert {(one.uuid, one.major, one.minor) for one in sent if isinstance(one, IBeacon)} == set(SUBJECTS.values())


def test_phones_change_their_address_and_tags_do_not() -> None:
    phones: set[str] = set()
    tags: set[str] = set()
    for reception in play(shop(phones=5), 2000):
        (sighting,) = parse(bytes.fromhex(reception.hex))
        (tags if isinstance(sighting, IBeacon) else phones).add(reception.address)
    assert len(tags) == 2
    assert len(phones) > 100
    assert all(int(address[:2], 16) >> 6 == 1 for address in phones)
    assert all(int(address[:2], 16) >> 6 == 3 for address in tags)


def test_who_is_nearer_is_louder() -> None:
    received = [reception for reception in play(shop(phones=0), 400)]
    levels = {sensor: [reception.rssi for reception in received if reception.sensor == sensor] for sensor in SENSORS}
    assert all(max(heard) > -66 and min(heard) < -75 for heard in levels.values())


def test_somebody_is_there_within_two_seconds() -> None:
    assert any(isinstance(parse(bytes.fromhex(reception.hex))[0], IBeacon) for reception in play(shop(), 2))


def test_hushed_walkers_say_nothing_and_come_back() -> None:
    walkers = shop()
    assert play(walkers, 5)
    walkers.hush(True)
    assert play(walkers, 30, from_s=5) == []
    walkers.hush(False)
    assert len(play(walkers, 33, from_s=30)) > 20


def test_a_machine_that_slept_makes_up_no_past() -> None:
    walkers = shop()
    play(walkers, 5)
    assert all(reception.t_s >= 9998 for reception in walkers.advance(10_000.0))


def record(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_recording_is_played_at_its_own_pace(tmp_path: Path) -> None:
    line = '{"t_s": %s, "sensor": "hci0", "address": "C0:00:00:00:00:01", "rssi": -61, "hex": "%s"}'
    hexed = ibeacon(UUID, 1, 1).hex()
    path = record(tmp_path / "walk.jsonl", line % (50.0, hexed), "", line % (50.5, hexed), line % (52, hexed))
    recording = Recording(path)
    assert [reception.t_s for reception in recording.advance(100.0)] == [100.0]
    assert [reception.t_s for reception in recording.advance(101.0)] == [100.5]
    recording.hush(True)
    assert recording.advance(102.0) == []
    recording.hush(False)
    assert recording.advance(1000.0) == []


@pytest.mark.parametrize("line", ["{", '{"t_s": 1}', '{"t_s": 1, "sensor": "a", "address": "b", "rssi": -1, "hex": "0"}'])
def test_a_recording_that_is_none_names_the_line(tmp_path: Path, line: str) -> None:
    good = '{"t_s": 0, "sensor": "a", "address": "b", "rssi": -1, "hex": "00"}'
    with pytest.raises(ConfigError, match=r"walk\.jsonl:2"):
        Recording(record(tmp_path / "walk.jsonl", good, line))


def test_a_recording_that_is_not_there_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Recording(tmp_path / "none")


@pytest.mark.slow
async def test_the_stop_file_silences_the_radio(tmp_path: Path) -> None:
    heard: list[Heard] = []
    changes: list[tuple[str, str]] = []
    stop_file = tmp_path / "sources-stop"
    radio = VirtualRadio(shop(), stop_file, SystemClock())
    async with asyncio.TaskGroup() as group:
        playing = group.create_task(radio.run(heard.append, lambda state, detail: changes.append((state, detail))))
        await asyncio.sleep(0.6)
        assert changes == [("up", "virtual radio")]
        assert len(heard) > 10
        stop_file.touch()
        await asyncio.sleep(0.25)
        heard.clear()
        await asyncio.sleep(0.4)
        assert heard == []
        stop_file.unlink()
        await asyncio.sleep(0.5)
        assert heard
        playing.cancel()
