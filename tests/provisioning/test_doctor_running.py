"""The doctor on a box that is just starting, that fails again and again, and whose devices half work."""

import socket
from pathlib import Path

import pytest

from provisioning.checks import systemd
from provisioning.checks.outcome import Box, Outcome
from provisioning.doctor import CHECKS
from tests.provisioning.shop import Shop, pretend, says

CORE, SCANNER, BRIDGE = "store-core.service", "store-scanner@counter.service", "store-bridge.service"
HEALTHY = "active running 0 ''"
FIRST_START = "activating start 0 811"
QUEUED = "inactive dead 0 812"  # it waits for a unit before it
BETWEEN_STARTS = "activating auto-restart 3 ''"
NEXT_START = "activating start 3 813"
NEVER_STARTED = "inactive dead 0 ''"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine that systemd has started."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return tmp_path


def systemctl(root: Path, monkeypatch: pytest.MonkeyPatch, system: str = "running", **standing: str) -> None:
    """A systemctl that knows these; everything else is healthy. Its words are those of systemd 252."""
    cases = "".join(f"*{name}*) set -- {values};; " for name, values in standing.items())
    body = (
        f'[ "$1" = is-system-running ] && echo {system} && exit; shift 2; for unit in "$@"; do (case $unit in '
        f"{cases}*) set -- {HEALTHY};; esac; "
        r"printf 'NRestarts=%s\nActiveState=%s\nSubState=%s\nJob=%s\n\n' $3 $1 $2 $4); done"
    )
    pretend(root, monkeypatch, "systemctl", body)


def test_services_that_systemd_does_not_run(shop: Shop, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop.one("services", tmp_path / "elsewhere").state == "skipped"
    systemctl(root, monkeypatch, bridge="failed failed 0 ''")
    finding = shop.one("services", root)
    assert finding.subject == BRIDGE
    assert says(finding.what, "failed") and says(finding.next_step, "journalctl -u store-bridge")
    systemctl(root, monkeypatch)
    assert shop.one("services", root).state == "ok"


def test_a_systemctl_that_does_not_answer_costs_one_check_only(shop: Shop, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(root, monkeypatch, "systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    assert shop.one("services", root).state == "skipped"
    assert says(shop.one("core", root).what, "does not answer")


@pytest.mark.parametrize("early", [FIRST_START, QUEUED])
def test_what_starts_for_the_first_time_is_waited_for(shop: Shop, root: Path, monkeypatch: pytest.MonkeyPatch, early: str) -> None:
    systemctl(root, monkeypatch, core=early)
    for check in ("core", "link", "services"):
        finding = shop.one(check, root)
        assert finding.state == "warn" and says(finding.what, "is starting") and says(finding.next_step, "Wait a minute"), check


@pytest.mark.parametrize("again", [BETWEEN_STARTS, NEXT_START, NEVER_STARTED])
def test_what_starts_again_and_again_or_not_at_all_is_not_waited_for(
    shop: Shop, root: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    systemctl(root, monkeypatch, core=again)
    assert {shop.one(check, root).state for check in ("core", "link", "services")} == {"fail"}
    assert systemd.states(root, [CORE, BRIDGE]) == {CORE: again.split()[0], BRIDGE: "active"}


def test_a_box_that_has_not_finished_booting_is_waited_for(shop: Shop, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(root, monkeypatch, "starting", core=NEVER_STARTED, bridge="failed failed 0 ''")
    assert {shop.one(check, root).state for check in ("core", "link")} == {"warn"}
    states = {finding.subject: finding.state for finding in shop.ask("services", root=root)}
    assert states == {CORE: "warn", BRIDGE: "fail"}
    assert units(shop, root, connected=False).state == "warn"
    assert units(shop, root, connected=True, device_state="down").state == "warn"
    systemctl(root, monkeypatch)
    assert units(shop, root, connected=True, device_state="down").state == "fail"


def units(shop: Shop, root: Path, connected: bool, device_state: str = "up", detail: str = "") -> Outcome:
    """What is found of the scanner, of which core says this."""
    state = {"connected": connected, "device_state": device_state, "detail": detail}
    told = [{"unit": name, **state} for name in ("scanner@counter", "bridge")]
    box = Box(shop.toml, shop.config, "", {"store": "s1", "units": told}, "", root)
    return next(check for check in CHECKS if check.id == "units").look(box)[0]


def test_a_unit_that_has_not_come_that_far_yet(shop: Shop, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(root, monkeypatch, scanner=FIRST_START)
    finding = units(shop, root, connected=False)
    assert (finding.state, finding.subject) == ("warn", "scanner@counter") and says(finding.what, "is starting")
    systemctl(root, monkeypatch, scanner=BETWEEN_STARTS)
    finding = units(shop, root, connected=False)
    assert finding.state == "fail" and says(finding.next_step, "systemctl restart store-scanner@counter`")


def test_a_device_that_half_works_is_a_warning_and_says_why(shop: Shop, root: Path) -> None:
    found = units(shop, root, connected=True, device_state="degraded", detail="the picture is frozen")
    assert found.state == "warn" and says(found.what, "degraded (the picture is frozen)") and says(found.next_step, "by itself")


def test_a_device_that_does_not_work_fails_and_says_why(shop: Shop, root: Path) -> None:
    found = units(shop, root, connected=True, device_state="down", detail="no camera at /dev/video7")
    assert found.state == "fail" and says(found.what, "down (no camera at /dev/video7)") and says(found.next_step, "cable")
    assert units(shop, root, connected=True).state == "ok"


def test_bluetoothd_is_not_started_by_being_asked(shop: Shop, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop.toml.open("a") as more:
        more.write('[ble]\nradio = "bluez"\n[[ble.sensors]]\nname = "hci0"\nzone = "door"\n')
    systemctl(root, monkeypatch, bluetooth=FIRST_START)
    pretend(tmp_path, monkeypatch, "busctl", f'echo "$@" > {tmp_path}/asked; echo "The name is not activatable" >&2; exit 1')
    finding = shop.one("bluetooth", root)
    assert finding.state == "warn" and says(finding.what, "bluetoothd is starting")
    assert "--auto-start=no" in (tmp_path / "asked").read_text()
    systemctl(root, monkeypatch)
    assert shop.one("bluetooth", root).state == "fail"


@pytest.mark.slow
def test_a_bluetoothd_that_hangs_is_named(shop: Shop, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop.toml.open("a") as more:
        more.write('[ble]\nradio = "bluez"\n[[ble.sensors]]\nname = "hci0"\nzone = "door"\n')
    systemctl(root, monkeypatch)
    address = str(tmp_path / "bus")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(address)
        silent.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={address}")
        assert says(shop.one("bluetooth", root).what, "bluetoothd does not answer")
