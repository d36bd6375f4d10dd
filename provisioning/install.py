"""Makes a machine a shop's box: users, folders, units, rules, and the instances that gateway.toml names. Starts nothing unless told.

What is there already and right is kept, so it may be run again after every change of gateway.toml and after every update. With
another root it prepares an image: users are made in it, the rest is made at its first boot.

Everything it writes lies under /etc; the program itself is where it was installed (`program`).
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct
from rich.table import Table

from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError

USUAL_PROGRAM: Final = "/opt/store-gateway/bin/store-gateway"  # as the unit files in systemd/ have it
CONFIG: Final = "etc/store-gateway/gateway.toml"
STATE: Final = "/var/lib/store-gateway"
RUN: Final = "/run/store-gateway"
UNITS: Final = "etc/systemd/system"
ADDRESS: Final = f"{UNITS}/store-core.socket.d/10-address.conf"
MONITORS: Final = f"{UNITS}/bluetooth.service.d/10-store.conf"
STEPS_SINCE: Final = 254  # systemd's first release with RestartSteps=
# The units' sandbox shows none of these.
HIDDEN: Final = tuple(Path("/", *parts) for parts in (("home",), ("root",), ("run", "user"), ("tmp",), ("var", "tmp")))
ALWAYS: Final = ("store-enroll.service", "store-core.service", "store-core.socket", "store-bridge.service")
FIXED: Final = ("store.target", "store.slice", "store-ble@.service", "store-scanner@.service", "store-locker@.service", *ALWAYS)
OTHERS: Final = {
    "sysusers.conf": "etc/sysusers.d/store-gateway.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/store-gateway.conf",
    "udev.rules": "etc/udev/rules.d/70-store-gateway.rules",
    "journald.conf": "etc/systemd/journald.conf.d/10-store.conf",
    "watchdog.conf": "etc/systemd/system.conf.d/10-store.conf",
}
# One library of each extra.
LIBRARIES: Final = {"ble": "bleak", "bridge": "paho", "kiosk": "uvicorn", "locker": "serial", "members": "nacl", "scanner": "cv2"}
BLUETOOTHD: Final = "usr/libexec/bluetooth/bluetoothd"
INSTANCE: Final = re.compile(r"store-(ble|scanner|locker)@.+\.service")

Outcome = Literal["made", "changed", "kept", "removed", "done", "at first boot"]


class Step(Struct, frozen=True):
    """One thing that was seen to."""

    what: str
    outcome: Outcome


class Options(Struct, frozen=True):
    """What to install where.

    Args:
        root: The machine, or the folder of an image.
        program: Where `store-gateway` is on that machine; empty: this very one, or in an image the usual place.
        now: Also start the shop.
        dry_run: Only say what would be done.
    """

    root: Path = Path("/")
    program: str = ""
    now: bool = False
    dry_run: bool = False

    @property
    def here(self) -> bool:
        """Whether this machine is meant, and not an image."""
        return self.root.resolve() == Path("/")


def install(options: Options, user_id: int | None = None) -> list[Step]:
    """Do it; every step is listed, those that had nothing to do too.

    Raises:
        ConfigError: This machine or its configuration cannot be used so; nothing was done.
    """
    if not options.dry_run:
        check_machine(options, os.geteuid() if user_id is None else user_id)
    program = find_program(options)
    there = (options.root / CONFIG).exists()
    config = check_config(load(options.root / CONFIG if there else source("gateway.toml")))
    if options.here and not options.program:
        check_libraries(config)
    writer = Writer(options.root, options.dry_run)
    before = os.umask(0o022)  # systemd and the units' users read what is written here
    try:
        if not there:
            writer.write(CONFIG, _text("gateway.toml"))
        for path, text in files(options.root, config, program):
            writer.write(path, text)
        _enable(writer, config)
        return writer.steps + (_apply(options, writer.steps) if options.here else _apply_to_image(options))
    finally:
        os.umask(before)


def as_table(steps: list[Step], dry_run: bool) -> Table:
    """The list for people."""
    table = Table("what", "would be" if dry_run else "is")
    for step in steps:
        table.add_row(step.what, step.outcome)
    return table


def next_step(steps: list[Step], started: bool) -> str:
    """What the installer does now."""
    if Step(f"/{CONFIG}", "made") in steps:
        return f"Next: say in /{CONFIG} who this box is and what hangs on it, then run this again."
    return "Next: `systemctl status 'store*'`." if started else "Next: enrol the box, then `systemctl start store.target`, or boot."


# ---------------------------------------------------------------- what is wrong here


def check_machine(options: Options, user_id: int) -> None:
    """Whether anything can be installed there.

    Raises:
        ConfigError: With the next step.
    """
    if not options.root.is_dir():
        raise ConfigError(f"there is no folder {options.root}", "Give --root the folder of an image, or leave it out")
    if not options.here:
        if options.now:
            raise ConfigError("an image cannot be started", "Leave --now out; it starts when it boots")
        return
    if user_id != 0:
        raise ConfigError("installing needs root", "Run it again with sudo, or look first with --dry-run")
    if not (options.root / "run/systemd/system").is_dir():
        raise ConfigError("this machine was not started by systemd", "Use --root to prepare an image, or `make store` to try a store here")


def find_program(options: Options) -> str:
    """Where the units find `store-gateway`.

    Raises:
        ConfigError: Not there, or where the units' sandbox cannot see it.
    """
    beside = str(Path(sys.executable).parent / "store-gateway")
    program = options.program or (beside if options.here else USUAL_PROGRAM)
    next_step = f"Install the wheels with Debian's own python3 into {Path(USUAL_PROGRAM).parents[1]} and run it from there"
    if not program.startswith("/") or re.search(r"[\s%\"'\\$;]", program):
        raise ConfigError(f"{program} is no path for a unit", "Give --program a whole path without blanks")
    inside = options.root / program.lstrip("/")
    if options.here and not inside.exists():
        raise ConfigError(f"there is no {program}", next_step)
    interpreter = str(Path(sys.executable).resolve()) if options.here and not options.program else program
    for path in (program, interpreter):
        if any(Path(path).is_relative_to(hidden) for hidden in HIDDEN):
            raise ConfigError(f"the units cannot see {path}", next_step)
    return program


def check_config(config: GatewayConfig) -> GatewayConfig:
    """Whether units can run with it.

    Raises:
        ConfigError: Folders that the sandbox does not open, or a device that only a laptop has.
    """
    if config.paths.state != STATE or config.paths.run != RUN:
        raise ConfigError(f"the units may write in {STATE} and {RUN} only", "Set `state` and `run` in [paths] to these")
    for scanner in config.scanners:
        if scanner.source == "virtual":
            raise ConfigError(f"scanner {scanner.name} is virtual", "Name a real device in `source`; `make store` runs virtual ones")
    if config.core.port == 0:
        raise ConfigError("`port` 0 in [core] is no address to tell customers", "Name one, such as 8080")
    return config


def check_libraries(config: GatewayConfig) -> None:
    """Whether the units will find what they import: a wheel installed without its extras starts, and fails, for ever.

    Raises:
        ConfigError: Something is missing.
    """
    wanted = {
        "bridge": True,
        "kiosk": True,
        "ble": bool(config.ble.sensors),
        "scanner": bool(config.scanners),
        "locker": bool(config.lockers),
        "members": False,  # only headquarters knows whether the chain has members; a box without the extra says so when asked
    }
    missing = [extra for extra, needed in wanted.items() if needed and importlib.util.find_spec(LIBRARIES[extra]) is None]
    if missing:
        extras = ",".join(sorted(LIBRARIES))
        raise ConfigError(
            f"this installation lacks the libraries of {', '.join(missing)}", f'Install the wheel as "store-gateway[{extras}]"'
        )


# ---------------------------------------------------------------- what is to be there


def source(name: str) -> Path:
    """A file of `systemd/`: beside this package in a checkout, inside it in a wheel.

    Raises:
        ConfigError: Not there.
    """
    for folder in (Path(__file__).parent / "systemd", Path(__file__).parents[1] / "systemd"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"this installation lacks systemd/{name}", "Install the wheel again")


def files(root: Path, config: GatewayConfig, program: str) -> Iterator[tuple[str, str]]:
    """Every file but the configuration: its path under the root and its text."""
    for unit in FIXED:
        yield f"{UNITS}/{unit}", _text(unit).replace(USUAL_PROGRAM, program)
    host = f"[{config.core.host}]" if ":" in config.core.host else config.core.host
    listen = f"# From [core] of gateway.toml.\n[Socket]\nListenStream=\nListenStream={host}:{config.core.port}\n"
    yield ADDRESS, listen
    for name, path in OTHERS.items():
        yield path, _text(name)
    if systemd_version(root) >= STEPS_SINCE:
        yield f"{UNITS}/store-.service.d/10-restart-steps.conf", _text("restart-steps.conf")
    if config.ble.sensors and config.ble.radio == "bluez" and (root / BLUETOOTHD).exists():
        yield MONITORS, _text("bluetooth.conf")


def systemd_version(root: Path) -> int:
    """The release of systemd under that root by its library's name; 0: not there."""
    libraries = [*root.glob("usr/lib/systemd/libsystemd-shared-*.so"), *root.glob("usr/lib/*/systemd/libsystemd-shared-*.so")]
    return max((int(found.group(1)) for path in libraries if (found := re.search(r"-shared-(\d+)", path.name))), default=0)


def instances(config: GatewayConfig) -> list[str]:
    """The units that gateway.toml names."""
    radios = [f"store-ble@{config.ble.name}.service"] if config.ble.sensors else []
    scanners = [f"store-scanner@{scanner.name}.service" for scanner in config.scanners]
    return [*radios, *scanners, *(f"store-locker@{locker.name}.service" for locker in config.lockers)]


def _text(name: str) -> str:
    return source(name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- doing it


class Writer:
    """Writes under a root what differs, and keeps the list of what it did."""

    def __init__(self, root: Path, dry_run: bool) -> None:
        self._root = root
        self._dry_run = dry_run
        self.steps: list[Step] = []

    def write(self, path: str, text: str) -> None:
        """Have a file with this text, whole or not at all."""
        target = self._root / path
        there = target.read_text(encoding="utf-8", errors="replace") if target.is_file() else None
        self.steps.append(Step(f"/{path}", "kept" if there == text else "made" if there is None else "changed"))
        if there == text or self._dry_run:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.new")
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.replace(target)

    def link(self, path: str, target: str) -> None:
        """Have a symbolic link."""
        link = self._root / path
        right = link.is_symlink() and str(link.readlink()) == target
        self.steps.append(Step(f"/{path}", "kept" if right else "made"))
        if right or self._dry_run:
            return
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    def unlink_others(self, folder: str, wanted: set[str]) -> None:
        """Take away the links of instances that gateway.toml no longer names."""
        for link in sorted((self._root / folder).glob("store-*@*.service")):
            if INSTANCE.fullmatch(link.name) and link.name not in wanted:
                self.steps.append(Step(f"/{folder}/{link.name}", "removed"))
                if not self._dry_run:
                    link.unlink()


def _enable(writer: Writer, config: GatewayConfig) -> None:
    """What `systemctl enable` does with the [Install] sections, also for an image of another machine."""
    wanted = instances(config)
    writer.link(f"{UNITS}/multi-user.target.wants/store.target", f"/{UNITS}/store.target")
    for unit in ALWAYS:
        writer.link(f"{UNITS}/store.target.wants/{unit}", f"/{UNITS}/{unit}")
    for unit in wanted:
        template = re.sub(r"@.*(?=\.service)", "@", unit)
        writer.link(f"{UNITS}/store.target.wants/{unit}", f"/{UNITS}/{template}")
    writer.unlink_others(f"{UNITS}/store.target.wants", set(wanted))


def _apply_to_image(options: Options) -> list[Step]:
    """Have users in it; its first boot does the rest."""
    command = ["systemd-sysusers", f"--root={options.root}", str(options.root / OTHERS["sysusers.conf"])]
    made = shutil.which(command[0]) is not None and os.geteuid() == 0
    if made and not options.dry_run:
        _call(command)
    return [Step("users and groups", "done" if made else "at first boot"), Step(f"{STATE}, {RUN}", "at first boot")]


def _apply(options: Options, written: list[Step]) -> list[Step]:
    """Have users and folders, and systemd told."""
    commands = [
        ("users and groups", ["systemd-sysusers", f"/{OTHERS['sysusers.conf']}"]),
        (f"{STATE}, {RUN}", ["systemd-tmpfiles", "--create", f"/{OTHERS['tmpfiles.conf']}"]),
        ("systemd's list of units", ["systemctl", "daemon-reload"]),
        ("udev's list of rules", ["udevadm", "control", "--reload"]),
    ]
    if options.now:
        commands += starting(written)
    for _, command in [] if options.dry_run else commands:
        _call(command)
    return [Step(what, "done") for what, _ in commands]


def starting(written: list[Step]) -> list[tuple[str, list[str]]]:
    """What brings a shop, running or not, to what was written: each with the command that does it."""
    commands = []
    gone = [Path(step.what).name for step in written if step.outcome == "removed"]
    if gone:
        commands.append(("instances that are no longer named end", ["systemctl", "stop", *gone]))
    if Step(f"/{ADDRESS}", "changed") in written:  # a socket in use cannot move
        commands.append(("the doors close, to open at their new address", ["systemctl", "stop", "store-core.service", "store-core.socket"]))
    if any(step.what == f"/{MONITORS}" and step.outcome in ("made", "changed") for step in written):
        commands.append(("bluetoothd starts anew, with monitors", ["systemctl", "try-restart", "bluetooth.service"]))
    # Only what runs already; core's customers wait in its socket meanwhile.
    commands.append(("running units start anew", ["systemctl", "try-restart", "store-*.service"]))
    commands.append(("the shop is started", ["systemctl", "start", "store.target"]))
    return commands


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"`{' '.join(command)}` did not run: {error}", "Mend that, then run the installation again") from error
    if done.returncode != 0:
        raise ConfigError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-400:]}", "Mend that, then run the installation again")
