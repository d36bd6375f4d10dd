"""The box's one configuration file, `gateway.toml`: typed, every key documented here, unknown keys refused.

`docs/configuration.md` is written from these descriptions and a test holds the two together. Paths may be relative to the
file's own folder.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from gateway.errors import ConfigError

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,40}\Z")]
Port = Annotated[int, Meta(ge=0, le=65535)]


class StoreTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Who this box is; HQ's enrolment says the same."""

    tenant: Annotated[Name, Meta(description="The chain, as in MQTT topics.")]
    store: Annotated[Name, Meta(description="The shop, as in MQTT topics.")]
    number: Annotated[int, Meta(ge=1, le=2**32 - 1, description="The shop's number in signed codes.")]
    gateway: Annotated[Name, Meta(description="This box; the common name of its certificate.")]
    name_zh: Annotated[str, Meta(description="The shop's name in Traditional Chinese, as screens show it.")] = ""
    name_en: Annotated[str, Meta(description="The shop's name in English.")] = ""
    timezone: Annotated[str, Meta(description="IANA time zone of the shop; windows and days are counted in it.")] = "Asia/Taipei"


class PathsTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the box keeps things."""

    state: Annotated[str, Meta(description="Folder of the ledger, the keys and spooled documents; must survive a power cut.")]
    run: Annotated[str, Meta(description="Folder of sockets; may be empty at every boot.")]


class CoreTable(Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP doors of core."""

    host: Annotated[str, Meta(description="Address to listen on. The default serves the box's own kiosk only.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="TCP port of kiosk, staff page and POS.")] = 8080


class TillTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Redeeming in two steps, taking back, and how fast a device may ask."""

    hold_s: Annotated[int, Meta(ge=10, le=900, description="How long `authorize` holds a voucher, unless the till asks otherwise.")] = 120
    reverse_minutes: Annotated[
        int, Meta(ge=0, le=1440, description="How long a redemption may be reversed here, unless its campaign says otherwise; 0: never.")
    ] = 10
    requests_per_s: Annotated[
        int, Meta(ge=1, le=100_000, description="Requests a second with one key, after twice as many at once; more get 429.")
    ] = 100
    codes: Annotated[bool, Meta(description="Show a 1D code after each redemption, for a till that has no API but a scanner.")] = False
    code_prefix: Annotated[
        str,
        Meta(pattern=r"^[0-9]{2}\Z", description="First two digits of those codes, as the till knows them; `20` to `29` are the shop's."),
    ] = "29"


class MembersTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Members: how they are found by telephone number, and how long what is known of them counts as fresh."""

    region: Annotated[
        str,
        Meta(pattern=r"^([A-Z]{2})?\Z", description="Country whose telephone numbers are typed without its code; empty: as HQ says."),
    ] = ""
    cache_h: Annotated[
        int, Meta(ge=1, le=720, description="Hours after HQ's last word on members from which points are shown as old, with their time.")
    ] = 24
    wrong_tries: Annotated[
        int, Meta(ge=3, le=1000, description="Numbers of nobody after which a device or person finds no member by number any more.")
    ] = 20
    wrong_window_s: Annotated[int, Meta(ge=60, le=604_800, description="Within so many seconds; earlier ones do not count.")] = 3600
    lookups_per_s: Annotated[int, Meta(ge=1, le=100, description="Look-ups a second with one key; more get 429.")] = 2


class StationTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A place where a customer stands: joins scanners to a screen and to lockers."""

    name: Annotated[Name, Meta(description="The station, as in the kiosk's address `/kiosk/NAME`.")]
    scanners: Annotated[list[str], Meta(description="Scanner instances whose codes belong to this station.")] = field(default_factory=list)
    lockers: Annotated[list[str], Meta(description="Locker instances in sight of this station.")] = field(default_factory=list)
    name_zh: Annotated[str, Meta(description="The station's name in Traditional Chinese.")] = ""
    name_en: Annotated[str, Meta(description="The station's name in English.")] = ""
    checkin: Annotated[bool, Meta(description="Show the check-in QR code here, which headquarters answers with a discount voucher.")] = (
        False
    )


class SensorTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One receiver of advertisements and the zone it stands in."""

    name: Annotated[Name, Meta(description="The receiver: `hci0`, or a name the virtual radio knows.")]
    zone: Annotated[Name, Meta(description="The zone it serves.")]
    name_zh: Annotated[str, Meta(description="The zone's name in Traditional Chinese.")] = ""
    name_en: Annotated[str, Meta(description="The zone's name in English.")] = ""


class TagTable(Struct, frozen=True, forbid_unknown_fields=True):
    """An owned tag, or the rolling identity of consenting members' apps, that may be followed."""

    subject: Annotated[Name, Meta(description="The reference that leaves the radio instead of an identity.")]
    kind: Annotated[str, Meta(pattern=r"^(tag|member)\Z", description="`tag` (owned by the shop) or `member` (with consent).")] = "tag"
    ibeacon: Annotated[str, Meta(description="`UUID/MAJOR/MINOR` of its iBeacon frame.")] = ""


class BleTable(Struct, frozen=True, forbid_unknown_fields=True):
    """The radio unit."""

    radio: Annotated[str, Meta(description="`bluez`, `virtual` (walkers made up) or `replay:FILE` (recorded bytes).")] = "bluez"
    name: Annotated[Name, Meta(description="Instance name.")] = "radio"
    sensors: Annotated[list[SensorTable], Meta(description="Receivers, `[[ble.sensors]]`.")] = field(default_factory=list)
    tags: Annotated[list[TagTable], Meta(description="Who may be followed, `[[ble.tags]]`.")] = field(default_factory=list)
    exit_after_s: Annotated[float, Meta(gt=0, description="Silence that ends a visit; must exceed the gaps of the radio.")] = 12.0
    seed: Annotated[int, Meta(description="Seed of the virtual radio; 0 takes a new one at each start.")] = 0


class ScannerTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One camera or scanner."""

    name: Annotated[Name, Meta(description="Instance name; its unit is `scanner@NAME`.")]
    source: Annotated[
        str,
        Meta(
            description="`v4l2:DEVICE`, `frames:SOCKET` (grey pictures of 640x480 that another program writes there), "
            "`virtual` (a camera that draws what it is shown), `evdev:DEVICE` or `serial:DEVICE`."
        ),
    ]
    frames_per_s: Annotated[float, Meta(gt=0, le=60, description="Frame rate of a camera.")] = 8.0
    seed: Annotated[int, Meta(description="Seed of the virtual camera's noise; 0 takes a new one at each start.")] = 0


class LockerTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One bus of lock boards."""

    name: Annotated[Name, Meta(description="Instance name and bank; its unit is `locker@NAME`.")]
    port: Annotated[str, Meta(description="Serial device; the virtual board keeps a stable link to its pseudo-terminal here.")]
    board: Annotated[str, Meta(pattern=r"^(cu16)\Z", description="Wire protocol of the boards: `cu16`.")] = "cu16"
    baud: Annotated[int, Meta(gt=0, description="Bits per second of the serial line.")] = 19200
    address: Annotated[int, Meta(ge=0, le=14, description="Address of the board on the bus.")] = 0
    compartments: Annotated[int, Meta(ge=1, le=16, description="Compartments wired to the board, numbered from 1.")] = 16
    poll_ms: Annotated[int, Meta(ge=20, le=5000, description="Pause between two looks at the door sensors.")] = 100


class BridgeTable(Struct, frozen=True, forbid_unknown_fields=True):
    """The way to headquarters."""

    host: Annotated[str, Meta(description="HQ's broker.")]
    port: Annotated[Port, Meta(description="Its TLS port.")] = 8883
    server_name: Annotated[str, Meta(description="Name in the broker's certificate; empty takes `host`.")] = ""
    batch_rows: Annotated[int, Meta(ge=1, le=2000, description="About how many rows in one message at most.")] = 2000
    answer_s: Annotated[float, Meta(gt=0, description="Silence of HQ after which the line counts as down.")] = 3.0


class GatewayConfig(
    Struct, frozen=True, forbid_unknown_fields=True, rename={"stations": "station", "scanners": "scanner", "lockers": "locker"}
):
    """The whole file."""

    store: StoreTable
    paths: PathsTable
    bridge: BridgeTable
    core: CoreTable = field(default_factory=CoreTable)
    till: TillTable = field(default_factory=TillTable)
    members: MembersTable = field(default_factory=MembersTable)
    ble: BleTable = field(default_factory=BleTable)
    stations: list[StationTable] = field(default_factory=list)
    scanners: list[ScannerTable] = field(default_factory=list)
    lockers: list[LockerTable] = field(default_factory=list)

    @property
    def state_dir(self) -> Path:
        """Folder of the ledger, keys and spooled documents."""
        return Path(self.paths.state)

    @property
    def link_path(self) -> Path:
        """The socket between core and its drivers."""
        return Path(self.paths.run) / "link.sock"

    @property
    def ledger_path(self) -> Path:
        """The ledger's file."""
        return self.state_dir / "ledger.db"

    @property
    def enrolment_dir(self) -> Path:
        """The box's keys and certificates, and HQ's public keys."""
        return self.state_dir / "enrolment"

    def scanner(self, name: str) -> ScannerTable:
        """The scanner instance of that name.

        Raises:
            ConfigError: There is none.
        """
        return _named(self.scanners, name, "scanner")

    def locker(self, name: str) -> LockerTable:
        """The locker instance of that name.

        Raises:
            ConfigError: There is none.
        """
        return _named(self.lockers, name, "locker")

    def station_of(self, unit: str) -> StationTable | None:
        """The station a scanner or locker unit such as `scanner@counter` belongs to."""
        kind, _, name = unit.partition("@")
        for station in self.stations:
            if name in (station.scanners if kind == "scanner" else station.lockers):
                return station
        return None


Instance = TypeVar("Instance", ScannerTable, LockerTable)


def _named(tables: list[Instance], name: str, kind: str) -> Instance:
    for table in tables:
        if table.name == name:
            return table
    known = ", ".join(table.name for table in tables) or "none"
    raise ConfigError(f"there is no [[{kind}]] named {name}", f"Known: {known}")


SECTION_TYPES: Final[dict[str, type[Struct]]] = {
    "store": StoreTable,
    "paths": PathsTable,
    "core": CoreTable,
    "till": TillTable,
    "members": MembersTable,
    "ble": BleTable,
    "ble.sensors": SensorTable,
    "ble.tags": TagTable,
    "station": StationTable,
    "scanner": ScannerTable,
    "locker": LockerTable,
    "bridge": BridgeTable,
}


def load(path: Path) -> GatewayConfig:
    """Read `gateway.toml`.

    Raises:
        ConfigError: Not there, not TOML, a key nobody knows (the nearest known one is named), or a value of the wrong kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "Name the file with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", "Save it as UTF-8") from error
    config = parse(text, str(path))
    here = path.resolve().parent
    paths = PathsTable(state=str(here / config.paths.state), run=str(here / config.paths.run))
    lockers = [msgspec.structs.replace(locker, port=str(here / locker.port)) for locker in config.lockers]
    return msgspec.structs.replace(config, paths=paths, lockers=lockers)


def parse(text: str, origin: str = "gateway.toml") -> GatewayConfig:
    """Read the text of a `gateway.toml`.

    Raises:
        ConfigError: As `load`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not TOML: {error}", "Mend that line") from error
    _refuse_unknown(table, origin)
    try:
        return msgspec.convert(table, GatewayConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {error}", "`docs/configuration.md` lists every key with its kind") from error


def _refuse_unknown(table: dict[str, Any], origin: str) -> None:
    sections = {name.partition(".")[0] for name in SECTION_TYPES}
    for section, value in table.items():
        if section not in sections:
            raise _unknown(f"[{section}]", section, sections, origin)
        _refuse_unknown_keys(section, value, origin)


def _refuse_unknown_keys(section: str, value: Any, origin: str) -> None:
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, dict):
            continue
        known = {known.encode_name for known in msgspec.structs.fields(SECTION_TYPES[section])}
        for key, inner in entry.items():
            if key not in known:
                raise _unknown(f"`{key}` in [{section}]", key, known, origin)
            if f"{section}.{key}" in SECTION_TYPES:
                _refuse_unknown_keys(f"{section}.{key}", inner, origin)


def _unknown(what: str, key: str, known: set[str], origin: str) -> ConfigError:
    nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
    return ConfigError(f"{origin}: nobody knows {what}", f"Did you mean `{nearest[0]}`?")
