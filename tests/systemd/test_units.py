"""The shipped unit files: systemd understands every word, the sandbox is as tight as promised, and nothing a unit needs is shut."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from gateway.errors import CONFIG_EXIT_STATUS
from gateway.units import KINDS
from provisioning.install import CONFIG, RUN, STATE, UNITS, USUAL_PROGRAM, Options, install

SYSTEMD: Final = Path(__file__).parents[2] / "systemd"
SERVICES: Final = sorted(path.name for path in SYSTEMD.glob("*.service"))
DRIVERS: Final = [name for name in SERVICES if "@" in name]
ENROLL: Final = "store-enroll.service"  # ends for good once the box is enrolled
PROMISED_EXPOSURE: Final = 1.2
CONFIG_TEXT: Final = """
[store]
tenant = "chain"
store = "taipei-1"
number = 7
gateway = "box-7"
[paths]
state = "/var/lib/store-gateway"
run = "/run/store-gateway"
[bridge]
host = "hq.example.com"
[[scanner]]
name = "counter"
source = "evdev:/dev/input/by-id/hand"
[[locker]]
name = "wall"
port = "/dev/serial/by-id/adapter"
[[ble.sensors]]
name = "hci0"
zone = "door"
"""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


class Unit(configparser.RawConfigParser):
    """A unit file; a key that stands several times keeps all its values, a line each."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, dict_type=dict, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        merged: dict[str, dict[str, list[str]]] = {}
        section = ""
        for line in (SYSTEMD / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                merged.setdefault(section, {}).setdefault(key, []).append(value)
        self.read_dict({part: {key: "\n".join(values) for key, values in keys.items()} for part, keys in merged.items()})

    def service(self, key: str) -> str:
        return self.get("Service", key, fallback="")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units as the installation writes them, their program replaced by one that every machine has."""
    root = tmp_path_factory.mktemp("image")
    (root / CONFIG).parent.mkdir(parents=True)
    (root / CONFIG).write_text(CONFIG_TEXT, encoding="utf-8")
    install(Options(root, program="/bin/true"))
    return root / UNITS


def analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:", "LC_ALL": "C.UTF-8", "SYSTEMD_LOG_LEVEL": "warning"}
    return subprocess.run(["systemd-analyze", *words], env=environment, capture_output=True, text=True, check=False, timeout=60)


def all_units() -> list[str]:
    return sorted(path.name for path in SYSTEMD.iterdir() if path.suffix in (".service", ".socket", ".slice", ".target"))


def test_there_is_a_unit_for_every_part_of_the_box() -> None:
    assert {"store.target", "store.slice", "store-core.socket"} <= set(all_units())
    started = {re.search(r" run (\w+)", Unit(name).service("ExecStart")).group(1) for name in SERVICES}  # type: ignore[union-attr]
    assert started == {"core", "enroll", "ble", "scanner", "locker", "bridge"} <= set(KINDS)


# ---------------------------------------------------------------- by systemd's own word


@pytest.mark.parametrize("unit", all_units())
def test_systemd_understands_every_word(installed: Path, unit: str) -> None:
    """A misspelt key is told on stderr only."""
    done = analyze(installed, "verify", "--man=no", str(installed / unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_misspelt_word_would_be_noticed(installed: Path, tmp_path: Path) -> None:
    """Guards the test above."""
    text = (installed / "store-core.service").read_text().replace("WatchdogSec=", "WatchDogSec=")
    (tmp_path / "store-core.service").write_text(text)
    assert "WatchDogSec" in analyze(tmp_path, "verify", "--man=no", str(tmp_path / "store-core.service")).stderr


def exposure(folder: Path, unit: str) -> float:
    done = analyze(folder, "security", "--offline=true", "--no-pager", str(folder / unit))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    return float(found.group(1))


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_that_is_broken_into_reaches_little(installed: Path, unit: str) -> None:
    assert exposure(installed, unit) <= PROMISED_EXPOSURE


def test_an_open_unit_would_be_noticed(installed: Path, tmp_path: Path) -> None:
    """Guards the test above."""
    text = (installed / "store-core.service").read_text()
    (tmp_path / "store-core.service").write_text(re.sub(r"(?m)^(Protect|Private|Restrict|System|Capability).*\n", "", text))
    assert exposure(tmp_path, "store-core.service") > 4


# ---------------------------------------------------------------- life


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_watched_and_always_started_again_unless_only_a_person_can_help(name: str) -> None:
    unit = Unit(name)
    again = "on-failure" if name == ENROLL else "always"
    assert (unit.service("Type"), unit.service("NotifyAccess"), unit.service("Restart")) == ("notify", "main", again)
    assert int(unit.service("WatchdogSec").removesuffix("s")) >= 20
    assert unit.service("RestartPreventExitStatus") == str(CONFIG_EXIT_STATUS)
    assert unit.get("Unit", "StartLimitIntervalSec") == "0"
    assert unit.service("Slice") == "store.slice"
    assert unit.get("Install", "WantedBy") == unit.get("Unit", "PartOf") == "store.target"


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_starts_its_own_instance_from_the_one_configuration(name: str) -> None:
    kind = name.removeprefix("store-").removesuffix(".service").replace("@", "@%i")
    assert Unit(name).service("ExecStart") == f"{USUAL_PROGRAM} run {kind} --config /{CONFIG}"


def test_tables_are_brought_up_to_date_before_core_and_core_says_what_is_wrong() -> None:
    assert Unit("store-core.service").service("ExecStartPre") == f"-{USUAL_PROGRAM} migrate --config /{CONFIG}"


def test_core_is_reached_through_its_socket_only() -> None:
    core, socket = Unit("store-core.service"), Unit("store-core.socket")
    assert core.get("Unit", "Requires") == "store-core.socket"
    assert core.service("PrivateNetwork") == "yes"
    assert socket.get("Socket", "ListenStream") == "127.0.0.1:8080"
    assert int(socket.get("Socket", "Backlog")) >= 100


def test_doors_and_sales_come_before_foot_traffic() -> None:
    weights = {name: int(Unit(name).service("CPUWeight")) for name in SERVICES}
    killed_last = sorted(SERVICES, key=lambda name: int(Unit(name).service("OOMScoreAdjust")))
    assert min(weights["store-core.service"], weights["store-locker@.service"]) >= 4 * weights["store-ble@.service"]
    assert killed_last[:2] == ["store-core.service", "store-locker@.service"]
    assert killed_last[-1] == "store-ble@.service"


# ---------------------------------------------------------------- what a unit may, and what it must


@pytest.mark.parametrize("name", SERVICES)
def test_the_sandbox_is_the_same_in_every_unit(name: str) -> None:
    def sandbox(unit: str) -> str:
        return (SYSTEMD / unit).read_text().split("# Sandbox")[1]

    assert sandbox(name) == sandbox("store-core.service")


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_can_still_tell_one_boot_from_another(name: str) -> None:
    """`ProcSubset=pid` would hide the boot id that every event carries."""
    assert Unit(name).service("ProcSubset") in ("", "all")


def test_only_the_way_to_headquarters_has_a_network() -> None:
    for name in SERVICES:
        families = set(Unit(name).service("RestrictAddressFamilies").split())
        if name in ("store-bridge.service", ENROLL):
            assert families == {"AF_UNIX", "AF_INET", "AF_INET6"}
        else:
            assert (families, Unit(name).service("PrivateNetwork")) == ({"AF_UNIX"}, "yes")


def test_only_core_and_bridge_see_the_ledger_and_each_gets_the_papers_it_needs() -> None:
    users = {name: Unit(name).service("User") for name in SERVICES}
    assert users["store-core.service"] == users["store-bridge.service"] == "store"
    assert len({users[name] for name in DRIVERS} | {"store"}) == len(DRIVERS) + 1
    for name in SERVICES:
        unit = Unit(name)
        loaded = dict(line.split(":") for line in unit.service("LoadCredential").split())
        assert all(path == f"{STATE}/enrolment/{paper}" for paper, path in loaded.items())
        if name in DRIVERS:
            assert (loaded, unit.service("ReadWritePaths")) == ({}, "")
    assert set(Unit("store-core.service").service("ReadWritePaths").split()) == {STATE, RUN}


def test_every_unit_reaches_the_link() -> None:
    assert {Unit(name).service("Group") for name in SERVICES} == {"store"}
    assert f"d {RUN}     0750 store store -" in (SYSTEMD / "tmpfiles.conf").read_text()


def test_a_driver_opens_its_own_kind_of_device_and_no_other() -> None:
    allowed = {name: set(re.findall(r"char-(\w+)", Unit(name).service("DeviceAllow"))) for name in SERVICES}
    assert allowed["store-scanner@.service"] == {"81", "13", "166", "188", "4"}  # numbers: true before the first one is plugged in
    assert allowed["store-locker@.service"] == {"188", "166", "204", "4"}
    assert all(not allowed[name] and Unit(name).service("PrivateDevices") == "yes" for name in SERVICES if not allowed[name])
    groups = {name: set(Unit(name).service("SupplementaryGroups").split()) for name in DRIVERS}
    assert groups["store-scanner@.service"] == {"video", "input", "dialout"}
    assert groups["store-ble@.service"] == {"bluetooth"}


# ---------------------------------------------------------------- the other files


def test_users_of_the_units_are_made() -> None:
    made = set(re.findall(r"(?m)^u (\S+)", (SYSTEMD / "sysusers.conf").read_text()))
    assert made == {Unit(name).service("User") for name in SERVICES}


def test_logs_stay_in_memory() -> None:
    text = (SYSTEMD / "journald.conf").read_text()
    assert "Storage=volatile" in text and "RuntimeMaxUse=32M" in text


def test_udev_rules_are_well_formed() -> None:
    """No tool checks them on Debian 12: each is a comma-separated list of KEY, operator, quoted value, with something to assign."""
    word = r'[A-Z]+(?:\{[\w./]+\})?(?:==|!=|\+=|:=|=)"[^"]*"'
    rules = [line for line in (SYSTEMD / "udev.rules").read_text().splitlines() if line and not line.startswith("#")]
    assert len(rules) >= 7
    for rule in rules:
        assert re.fullmatch(rf"{word}(?:, {word})*", rule), rule
        assert re.search(r'[^=!]="', rule) or "+=" in rule, f"{rule} does nothing"


def test_a_lock_board_is_never_asked_whether_it_is_a_modem() -> None:
    assert re.search(r'SUBSYSTEM=="tty".*ENV\{ID_MM_DEVICE_IGNORE\}="1"', (SYSTEMD / "udev.rules").read_text())
