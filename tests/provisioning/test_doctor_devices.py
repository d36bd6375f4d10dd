"""The doctor on what is plugged in: real terminals, a real D-Bus, a library that is not there."""

import ctypes.util
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.checks import devices
from provisioning.doctor import look_at
from tests.provisioning.shop import ROOT, Shop, as_nobody, says


def test_a_scanner_that_is_not_plugged_in_and_one_that_is(shop: Shop) -> None:
    assert shop.one("scanners").state == "skipped"  # virtual
    shop.set('source = "virtual"', 'source = "serial:/dev/serial/by-id/usb-none"')
    assert says(shop.one("scanners").what, "no scanner at") and says(shop.one("scanners").next_step, "Plug the scanner in")
    _, line = pty.openpty()
    shop.set("/dev/serial/by-id/usb-none", os.ttyname(line))
    assert shop.one("scanners").state == "ok"
    shop.set(f"serial:{os.ttyname(line)}", f"v4l2:{shop.toml}")
    assert says(shop.one("scanners").what, "is no device")
    shop.set(f"v4l2:{shop.toml}", "carrier-pigeon:1")
    assert says(shop.one("scanners").next_step, "evdev:")


@pytest.mark.skipif(not ROOT, reason="only root may try as somebody else")
def test_a_scanner_that_may_not_be_opened(shop: Shop) -> None:
    _, line = pty.openpty()
    os.chmod(os.ttyname(line), 0o600)
    shop.set('source = "virtual"', f'source = "serial:{os.ttyname(line)}"')
    scanner = next(one for one in as_nobody(shop.toml) if one["id"] == "scanners")
    assert scanner["state"] == "fail" and "usermod -aG dialout" in scanner["next_step"]["en"]


def test_a_lock_board_that_is_not_plugged_in_and_one_that_is(shop: Shop) -> None:
    assert shop.one("lockers").state == "skipped"
    _, line = pty.openpty()
    with shop.toml.open("a") as more:
        more.write('[[locker]]\nname = "wall"\nport = "board"\n')
    assert says(shop.one("lockers").what, "no RS-485 adapter")
    (shop.folder / "board").symlink_to(os.ttyname(line))
    assert shop.one("lockers").state == "ok"


def test_a_library_that_is_missing(shop: Shop) -> None:
    box = look_at(shop.toml)
    assert devices.zbar(box)[0].state == ("ok" if ctypes.util.find_library("zbar") else "warn")
    missing = devices.zbar(box, "libzbar-of-no-release.so.0")[0]
    assert missing.state == "warn" and says(missing.next_step, "apt install libzbar0")


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A private D-Bus in the system's place."""
    address = f"unix:path={tmp_path}/bus"
    line = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address=1"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        assert daemon.stdout is not None and daemon.stdout.readline()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield
        daemon.terminate()


@pytest.mark.usefixtures("bus")
def test_a_bluetoothd_that_is_not_there_and_one_that_is(shop: Shop) -> None:
    assert shop.one("bluetooth").state == "skipped"
    with shop.toml.open("a") as more:
        more.write('[ble]\nradio = "bluez"\n[[ble.sensors]]\nname = "hci0"\nzone = "door"\n')
    assert says(shop.one("bluetooth").what, "bluetoothd does not answer") and says(shop.one("bluetooth").next_step, "apt install bluez")
    stand_in = Path(__file__).parents[1] / "gateway" / "ble" / "bluez_stand_in.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, stand_in], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bluetoothd:
        assert bluetoothd.stdout is not None and bluetoothd.stdout.readline() == b"ready\n"
        assert shop.one("bluetooth").state == "ok", shop.one("bluetooth").what.en
        bluetoothd.kill()
