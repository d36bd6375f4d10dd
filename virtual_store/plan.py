"""Where the virtual store lives and what its box is told: folders, ports, `gateway.toml`."""

import socket
from pathlib import Path
from typing import Final

from msgspec import Struct

from cloud_bridge.ports import free_port

TENANT: Final = "demo"
STORE: Final = "tpe-001"
GATEWAY: Final = "gw-tpe-001"
STORE_NUMBER: Final = 101
STATION: Final = "counter"
BANK: Final = "wall"
STORES_CSV: Final = """\
store,number,name_zh,name_en,timezone,gateway
{store},{number},台北一店,Taipei No. 1,Asia/Taipei,{gateway}
"""
CAMERA: Final = "counter"
USUAL_PORTS: Final = {"kiosk": 8080, "hq": 8090, "broker": 8883, "relay": 18883}

GATEWAY_TOML: Final = """\
# Written by the starter of the virtual store. docs/configuration.md explains every key.

[store]
tenant = "{tenant}"
store = "{store}"
number = {number}
gateway = "{gateway}"
name_zh = "台北一店"
name_en = "Taipei No. 1"
timezone = "Asia/Taipei"

[paths]
state = "state"
run = "run"

[core]
port = {kiosk}

[bridge]
host = "127.0.0.1"
port = {relay}
server_name = "localhost"

[[station]]
name = "counter"
name_zh = "服務台"
name_en = "Counter"
scanners = ["counter"]
lockers = ["wall"]

[[station]]
name = "entrance"
name_zh = "入口自助機"
name_en = "Entrance kiosk"

[[scanner]]
name = "counter"
source = "virtual"
seed = {seed}

[[locker]]
name = "wall"
port = "run/board"
compartments = 16

[ble]
name = "radio"
radio = "virtual"
exit_after_s = 6.0
seed = {seed}

[[ble.sensors]]
name = "door"
zone = "entrance"
name_zh = "入口"
name_en = "Entrance"

[[ble.sensors]]
name = "aisle"
zone = "shelves"
name_zh = "貨架區"
name_en = "Shelves"

[[ble.sensors]]
name = "desk"
zone = "counter"
name_zh = "服務台"
name_en = "Counter"
{tags}"""

HQ_TOML: Final = """\
# Written by the starter of the virtual store: headquarters of one shop, with its own broker.
data_dir = "{folder}"
database = "{database}"
http_port = {hq}
broker_port = {broker}
camera_control = "{camera}"

[relay_ports]
{store} = {relay}
"""

TAG_TOML: Final = """
[[ble.tags]]
subject = "{subject}"
kind = "{kind}"
ibeacon = "{uuid}/{major}/{minor}"
"""
CHAIN_UUID: Final = "7b44b47b-52a1-5381-90c2-f09b6838c5d4"
SUBJECTS: Final = [("trolley-1", "tag"), ("trolley-2", "tag"), ("trolley-3", "tag"), ("member-a71c", "member"), ("member-4e02", "member")]


class Ports(Struct, frozen=True):
    """TCP ports of the loopback interface."""

    kiosk: int
    hq: int
    broker: int
    relay: int


class Plan(Struct, frozen=True):
    """The folder of one virtual store, and its ports."""

    folder: Path
    ports: Ports
    seed: int
    broker: str = "amqtt"  # or one of `virtual_store.brokers.PROGRAMS`
    database: str = ""  # headquarters' PostgreSQL; empty: its own SQLite file

    @property
    def gateway_toml(self) -> Path:
        """The box's configuration."""
        return self.folder / "shop" / "gateway.toml"

    @property
    def hq_toml(self) -> Path:
        """Headquarters' options."""
        return self.folder / "hq" / "hq.toml"

    @property
    def hq_dir(self) -> Path:
        """Headquarters' data."""
        return self.folder / "hq"

    @property
    def stores_csv(self) -> Path:
        """What headquarters is told of its shops."""
        return self.folder / "hq" / "stores.csv"

    @property
    def labels_pdf(self) -> Path:
        """The sheet of labels that headquarters would send out."""
        return self.folder / "hq" / "labels.pdf"

    @property
    def kiosk_url(self) -> str:
        """Core's pages."""
        return f"http://127.0.0.1:{self.ports.kiosk}"

    @property
    def camera_control(self) -> Path:
        """Where the virtual camera is told what to see."""
        return self.folder / "shop" / "run" / f"camera-{CAMERA}.ctl"

    def write(self) -> None:
        """Make the folders and the box's configuration."""
        for name in ("state", "run"):
            (self.gateway_toml.parent / name).mkdir(parents=True, exist_ok=True)
        (self.gateway_toml.parent / "run" / "sources-stop").unlink(missing_ok=True)
        tags = "".join(
            TAG_TOML.format(subject=subject, kind=kind, uuid=CHAIN_UUID, major=STORE_NUMBER, minor=number)
            for number, (subject, kind) in enumerate(SUBJECTS, 1)
        )
        text = GATEWAY_TOML.format(
            tenant=TENANT, store=STORE, number=STORE_NUMBER, gateway=GATEWAY, kiosk=self.ports.kiosk, relay=self.ports.relay,
            seed=self.seed, tags=tags,
        )  # fmt: skip
        self.gateway_toml.write_text(text, encoding="utf-8")

    def write_hq(self, broker_table: str = "") -> None:
        """Make headquarters' folder and options; `broker_table` says where a broker of its own process is."""
        self.hq_dir.mkdir(parents=True, exist_ok=True)
        ports = self.ports
        text = HQ_TOML.format(
            folder=self.hq_dir, hq=ports.hq, broker=ports.broker, camera=self.camera_control, store=STORE, relay=ports.relay,
            database=self.database,
        )  # fmt: skip
        self.hq_toml.write_text(text + broker_table, encoding="utf-8")
        self.stores_csv.write_text(STORES_CSV.format(store=STORE, number=STORE_NUMBER, gateway=GATEWAY), encoding="utf-8")


def choose_ports() -> Ports:
    """The usual ports, or free ones where those are taken."""
    return Ports(**{name: usual if _is_free(usual) else free_port() for name, usual in USUAL_PORTS.items()})


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
