"""How headquarters is started, and where it can be found afterwards.

Ports that were left to chance are chosen once and written to `ports.json`, so that shops find headquarters again after it
was killed. `addresses.json` appears when everything listens, whole or not at all.
"""

import re
import secrets
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from cloud_bridge.mqtt import TlsFiles
from cloud_bridge.ports import free_port
from gateway.errors import ConfigError
from provisioning.authority import write_private

LOOPBACK = "127.0.0.1"
PUBLIC_URL: Final = re.compile(r"https?://(?:[a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)


class ExternalBroker(Struct, frozen=True, kw_only=True):
    """A broker that runs elsewhere, such as mosquitto with `mosquitto_conf`'s configuration."""

    host: str
    port: int
    server_name: str = ""
    tls: TlsFiles | None = None  # None: headquarters' own authority issues a client certificate
    others: tuple[str, ...] = ()  # "host:port" of a cluster's other servers

    @property
    def other_addresses(self) -> tuple[tuple[str, int], ...]:
        """Of a cluster's other servers.

        Raises:
            ConfigError: One is not "host:port".
        """
        found = [(host, port) for host, _, port in (text.rpartition(":") for text in self.others)]
        for host, port in found:
            if not host or not port.isascii() or not port.isdigit():
                raise ConfigError(f"`{host}:{port}` is not the address of a broker", 'Write others = ["host:port"]')
        return tuple((host, int(port)) for host, port in found)


class HqOptions(Struct, frozen=True, kw_only=True):
    """How to start headquarters. Port 0: a free one, the same again at the next start."""

    data_dir: str
    http_host: str = LOOPBACK
    http_port: int = 0
    broker_host: str = LOOPBACK
    broker_port: int = 0
    relay_ports: dict[str, int] = field(default_factory=dict)  # shop to port
    camera_control: str | None = None  # socket of a virtual camera that can be shown codes
    external: ExternalBroker | None = None  # None: a broker in this process
    database: str = ""  # "postgresql://…"; empty: hq.db, an SQLite file in the data folder
    keep_backups: int = 7  # of `hq backup`; shops keep their money rows until the lowest of these has them
    longest_offline_days: int = 90  # a box is back by then; so much longer is kept what it may still ask about. 0: nothing is trimmed
    deeds_days: int = 400  # how long the office's journal says who did what; 0: for ever
    names: tuple[str, ...] = ()  # other host names the pages may be asked for by, and the certificates of broker and door bear
    enrol_host: str = LOOPBACK  # where the HTTPS door for new boxes listens
    enrol_port: int = 0
    enrol_name: str = ""  # the host that labels tell boxes; empty: the first of `names`, else `enrol_host`
    public_url: str = ""  # where shoppers' phones reach `/v/` and `/g/`, such as "https://hq.example"; empty: the pages' own address

    def public(self, http_port: int) -> "HqOptions":
        """The same with `public_url` filled in.

        Raises:
            ConfigError: It is not an http address of a host, without a path.
        """
        wanted = self.public_url or f"http://{self.names[0] if self.names else self.http_host}:{http_port}"
        if not PUBLIC_URL.fullmatch(wanted.rstrip("/")):
            raise ConfigError(f"`{wanted}` is not an address phones can open", 'Write public_url = "https://hq.example"')
        return msgspec.structs.replace(self, public_url=wanted.rstrip("/"))

    @property
    def public_host(self) -> str:
        """The host of `public_url`, as browsers name it."""
        host = self.public_url.partition("://")[2].lower()
        return host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host

    @property
    def door_name(self) -> str:
        """The host that labels name; the door's certificate bears it."""
        return self.enrol_name or (self.names[0] if self.names else self.enrol_host)


class Addresses(Struct, frozen=True, kw_only=True):
    """`addresses.json`: where headquarters listens."""

    http: str
    login: str
    admin_token: str
    broker_host: str
    broker_port: int
    relays: dict[str, int]
    others: tuple[str, ...] = ()  # "host:port" of a cluster's other brokers
    door: str = ""  # host:port of the HTTPS door for boxes


class _Ports(Struct):
    http: int = 0
    broker: int = 0
    door: int = 0
    relays: dict[str, int] = field(default_factory=dict)


class Ports:
    """Which ports to take."""

    def __init__(self, options: HqOptions) -> None:
        self._options = options
        self._path = Path(options.data_dir) / "ports.json"
        self._kept = self._read()
        self._kept.http = options.http_port or self._kept.http or free_port()
        self._kept.broker = options.broker_port or self._kept.broker or free_port()
        self._kept.door = options.enrol_port or self._kept.door or free_port()
        self._write()

    @property
    def http(self) -> int:
        """Of pages and API."""
        return self._kept.http

    @property
    def broker(self) -> int:
        """Of the embedded broker."""
        return self._kept.broker

    @property
    def door(self) -> int:
        """Of the HTTPS door for boxes."""
        return self._kept.door

    def relay(self, store: str) -> int:
        """Of a shop's relay."""
        port = self._options.relay_ports.get(store) or self._kept.relays.get(store) or free_port()
        if self._kept.relays.get(store) != port:
            self._kept.relays[store] = port
            self._write()
        return port

    def _read(self) -> _Ports:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Ports)
        except FileNotFoundError:
            return _Ports()
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(f"cannot read {self._path}: {error}", "Remove it: new ports will be chosen") from error

    def _write(self) -> None:
        write_private(self._path, msgspec.json.encode(self._kept))


def admin_token(data_dir: Path) -> str:
    """The token that opens headquarters' pages; made on the first start."""
    path = data_dir / "admin.token"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24).encode("ascii"))
    return path.read_text(encoding="ascii").strip()


def write_addresses(data_dir: Path, addresses: Addresses) -> None:
    """Say where headquarters listens."""
    write_private(data_dir / "addresses.json", msgspec.json.format(msgspec.json.encode(addresses), indent=2))


def read_addresses(data_dir: Path) -> Addresses:
    """Where headquarters listens.

    Raises:
        ConfigError: It has never been ready with that folder.
    """
    try:
        return msgspec.json.decode((data_dir / "addresses.json").read_bytes(), type=Addresses)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"headquarters has not started with {data_dir}", "Start it first") from error
