"""A machine becomes a box: everything in its place, nothing twice, nothing started, and a next step for whatever is wrong."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import load, parse
from gateway.errors import ConfigError
from provisioning.install import (
    ADDRESS,
    CONFIG,
    LIBRARIES,
    STEPS_SINCE,
    UNITS,
    USUAL_PROGRAM,
    Options,
    Step,
    check_libraries,
    check_machine,
    find_program,
    install,
    next_step,
    source,
    starting,
    systemd_version,
)

SHOP = """
[store]
tenant = "chain"
store = "taipei-1"
number = 7
gateway = "box-7"
[paths]
state = "/var/lib/store-gateway"
run = "/run/store-gateway"
[core]
host = "{host}"
port = 8081
[bridge]
host = "hq.example.com"
[[scanner]]
name = "counter"
source = "{scanner}"
[[locker]]
name = "wall-2"
port = "/dev/serial/by-id/usb-adapter"
[[ble.sensors]]
name = "hci0"
zone = "door"
"""
WANTS = f"{UNITS}/store.target.wants"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image whose gateway.toml is written already."""
    write_config(tmp_path)
    return tmp_path


def write_config(root: Path, host: str = "127.0.0.1", scanner: str = "evdev:/dev/input/by-id/hand", more: str = "") -> None:
    (root / CONFIG).parent.mkdir(parents=True, exist_ok=True)
    (root / CONFIG).write_text(SHOP.format(host=host, scanner=scanner) + more, encoding="utf-8")


def everything(root: Path) -> dict[str, tuple[str, int]]:
    """Every file and link under a root, with its text and the moment it was last written."""
    paths = [path for path in root.rglob("*") if path.is_file() or path.is_symlink()]
    return {str(path): (str(path.readlink()) if path.is_symlink() else path.read_text(), path.lstat().st_mtime_ns) for path in paths}


def outcomes(steps: list[Step]) -> dict[str, str]:
    return {step.what: step.outcome for step in steps}


# ---------------------------------------------------------------- what is there afterwards


def test_the_instances_of_the_configuration_start_at_boot(root: Path) -> None:
    install(Options(root))
    assert {path.name for path in (root / WANTS).iterdir()} == {
        "store-enroll.service", "store-core.service", "store-core.socket", "store-bridge.service",
        "store-scanner@counter.service", "store-locker@wall-2.service", "store-ble@radio.service",
    }  # fmt: skip
    for link in (root / WANTS).iterdir():
        assert (root / str(link.readlink()).lstrip("/")).is_file(), f"{link.name} leads nowhere"
    assert (root / UNITS / "multi-user.target.wants/store.target").is_symlink()


def test_the_links_are_those_that_systemctl_would_make(root: Path) -> None:
    install(Options(root))
    units = ["store.target", *(path.name for path in (root / WANTS).iterdir())]
    said = subprocess.run(["systemctl", f"--root={root}", "is-enabled", *units], capture_output=True, text=True, check=False)
    assert said.stdout.split() == ["enabled"] * len(units), said.stderr
    before = everything(root)
    subprocess.run(["systemctl", f"--root={root}", "enable", *units], capture_output=True, check=True)
    assert {path: text for path, (text, _) in everything(root).items()} == {path: text for path, (text, _) in before.items()}


def test_a_second_run_changes_nothing(root: Path) -> None:
    install(Options(root))
    before = {path: kept for path, kept in everything(root).items() if "/etc/systemd" in path or "store" in path}
    steps = install(Options(root))
    after = everything(root)
    assert {path: after[path] for path in before} == before
    assert {step.outcome for step in steps if step.what.startswith("/etc")} == {"kept"}


def test_an_instance_that_is_no_longer_named_no_longer_starts(root: Path) -> None:
    write_config(root, more='[[scanner]]\nname = "door"\nsource = "v4l2:/dev/video0"\n')
    install(Options(root))
    (root / WANTS / "other.service").symlink_to("/dev/null")
    write_config(root)
    steps = install(Options(root))
    assert outcomes(steps)[f"/{WANTS}/store-scanner@door.service"] == "removed"
    assert not (root / WANTS / "store-scanner@door.service").is_symlink()
    assert (root / WANTS / "other.service").is_symlink(), "what is not ours stays"


def test_core_is_listened_for_where_the_configuration_says(root: Path) -> None:
    install(Options(root))
    assert "ListenStream=\nListenStream=127.0.0.1:8081\n" in (root / ADDRESS).read_text()
    write_config(root, host="::1")
    assert outcomes(install(Options(root)))[f"/{ADDRESS}"] == "changed"
    assert "ListenStream=[::1]:8081\n" in (root / ADDRESS).read_text()


def test_units_start_the_program_that_was_installed(root: Path) -> None:
    install(Options(root, program="/opt/store-gateway/slots/a/bin/store-gateway"))
    starts = [line for line in (root / UNITS / "store-core.service").read_text().splitlines() if line.startswith("ExecStart")]
    assert len(starts) == 2
    assert all("/opt/store-gateway/slots/a/bin/store-gateway " in line and USUAL_PROGRAM not in line for line in starts)


def test_files_are_readable_by_the_units_users(root: Path) -> None:
    before = os.umask(0o077)  # as root's may be
    try:
        install(Options(root))
    finally:
        assert os.umask(before) == 0o077, "left as it was"
    assert stat.S_IMODE((root / UNITS / "store-core.service").stat().st_mode) == 0o644
    for folder in (f"{UNITS}/store.target.wants", f"{UNITS}/store-core.socket.d", "etc/sysusers.d"):
        assert stat.S_IMODE((root / folder).stat().st_mode) == 0o755


@pytest.mark.parametrize(("version", "there"), [(STEPS_SINCE - 2, False), (STEPS_SINCE, True)])
def test_restart_pauses_grow_where_systemd_knows_how(root: Path, version: int, there: bool) -> None:
    library = root / f"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-{version}.so"
    library.parent.mkdir(parents=True)
    library.touch()
    assert systemd_version(root) == version
    install(Options(root))
    assert (root / UNITS / "store-.service.d/10-restart-steps.conf").exists() is there


def test_bluetoothd_is_asked_for_monitors_where_it_is(root: Path) -> None:
    install(Options(root))
    assert not (root / UNITS / "bluetooth.service.d").exists()
    (root / "usr/libexec/bluetooth").mkdir(parents=True)
    (root / "usr/libexec/bluetooth/bluetoothd").touch()
    install(Options(root))
    assert "--experimental" in (root / UNITS / "bluetooth.service.d/10-store.conf").read_text()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("systemd-sysusers") is None, reason="making users in an image needs root and systemd")
def test_an_image_has_the_users_and_its_first_boot_makes_their_folders(root: Path) -> None:
    assert outcomes(install(Options(root)))["users and groups"] == "done"
    users = {line.split(":")[0] for line in (root / "etc/passwd").read_text().splitlines()}
    assert users >= {"store", "store-ble", "store-scanner", "store-locker"}
    groups = {line.split(":")[0]: line.split(":")[3] for line in (root / "etc/group").read_text().splitlines()}
    assert set(groups["store"].split(",")) == {"store-ble", "store-scanner", "store-locker"}
    assert groups["bluetooth"] == "store-ble"
    for folder in ("var/lib", "run"):
        (root / folder).mkdir(parents=True)
    boot = ["systemd-tmpfiles", f"--root={root}", "--create", str(root / "etc/tmpfiles.d/store-gateway.conf")]
    subprocess.run(boot, check=True, capture_output=True)
    assert stat.S_IMODE((root / "var/lib/store-gateway").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "run/store-gateway").stat().st_mode) == 0o750


# ---------------------------------------------------------------- a first run


def test_a_box_without_configuration_gets_one_to_fill_in(tmp_path: Path) -> None:
    steps = install(Options(tmp_path))
    assert load(tmp_path / CONFIG).scanners == []
    assert "say in /etc/store-gateway/gateway.toml" in next_step(steps, False)
    (tmp_path / CONFIG).write_text((tmp_path / CONFIG).read_text().replace('"shop-1"', '"shop-2"'))
    assert "enrol" in next_step(install(Options(tmp_path)), False)
    assert load(tmp_path / CONFIG).store.store == "shop-2", "what was filled in stays"


def test_every_line_of_the_example_that_is_commented_out_can_be_used() -> None:
    lines = source("gateway.toml").read_text(encoding="utf-8").splitlines()
    used = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in lines]
    config = parse("\n".join(used))
    assert config.scanners and config.lockers and config.stations and config.ble.sensors


def test_a_dry_run_writes_nothing_and_says_the_same(root: Path) -> None:
    before = everything(root)
    said = install(Options(root, dry_run=True))
    assert everything(root) == before
    assert outcomes(said) == outcomes(install(Options(root)))


# ---------------------------------------------------------------- a running shop


def test_nothing_is_started_unless_told_and_then_customers_wait_in_the_socket() -> None:
    kept = starting([Step(f"/{ADDRESS}", "kept")])
    assert [command[1:] for _, command in kept] == [["try-restart", "store-*.service"], ["start", "store.target"]]
    moved = starting([Step(f"/{ADDRESS}", "changed"), Step(f"/{WANTS}/store-scanner@door.service", "removed")])
    assert [command[1:] for _, command in moved][:2] == [
        ["stop", "store-scanner@door.service"],
        ["stop", "store-core.service", "store-core.socket"],
    ]


# ---------------------------------------------------------------- what is wrong


def refused(what: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as error:
        what()
    assert error.value.hint
    return str(error.value)


def test_who_may_not_install_is_told_how(tmp_path: Path) -> None:
    assert "sudo" in refused(lambda: check_machine(Options(), 1000))
    assert "Leave --now out" in refused(lambda: check_machine(Options(tmp_path, now=True), 0))
    assert "no folder" in refused(lambda: check_machine(Options(tmp_path / "none"), 0))


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="this machine runs systemd")
def test_a_machine_without_systemd_is_told_what_to_do_instead() -> None:
    assert "make store" in refused(lambda: install(Options(), user_id=0))


@pytest.mark.parametrize("program", [f"/{'home'}/pi/store-gateway", "/tmp/x/store-gateway", "bin/store-gateway", "/opt/a b/c", "/opt/%i"])
def test_a_program_that_the_units_could_not_start_is_refused(tmp_path: Path, program: str) -> None:
    refused(lambda: find_program(Options(tmp_path, program=program)))


def test_a_configuration_that_units_cannot_use_is_refused_before_anything_is_written(root: Path) -> None:
    write_config(root, scanner="virtual")
    assert "make store" in refused(lambda: install(Options(root)))
    text = (root / CONFIG).read_text()
    (root / CONFIG).write_text(text.replace('"virtual"', '"serial:/dev/ttyS1"').replace("/var/lib/store-gateway", "/srv/shop"))
    assert "[paths]" in refused(lambda: install(Options(root)))
    (root / CONFIG).write_text(text.replace("tenant", "tenent"))
    assert "tenant" in refused(lambda: install(Options(root)))
    assert not (root / UNITS).exists()


# ---------------------------------------------------------------- the command


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gateway", "install", *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_the_command_shows_a_table_and_for_programs_json(root: Path) -> None:
    table = command("--root", str(root))
    assert table.returncode == 0
    assert "store.slice" in table.stdout and "made" in table.stdout and "Next:" in table.stdout
    said = json.loads(command("--root", str(root), "--json").stdout)
    assert {"what": f"/{UNITS}/store.target", "outcome": "kept"} in said


@pytest.mark.slow
def test_the_command_says_what_is_wrong_in_one_line(root: Path) -> None:
    write_config(root, scanner="virtual")
    done = command("--root", str(root))
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1 and "virtual" in done.stderr


def test_a_wheel_without_the_libraries_of_a_unit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(SHOP.format(host="127.0.0.1", scanner="evdev:/dev/input/by-id/hand"))
    check_libraries(config)
    monkeypatch.setitem(LIBRARIES, "locker", "not_installed_here")
    with pytest.raises(ConfigError, match="libraries of locker") as refused:
        check_libraries(config)
    assert "store-gateway[ble,bridge,kiosk,locker,members,scanner]" in refused.value.hint


def test_the_docs_have_every_library_installed_that_a_box_may_need() -> None:
    page = (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")
    assert f'pip install --no-index --find-links WHEELS "store-gateway[{",".join(sorted(LIBRARIES))}]"' in page
