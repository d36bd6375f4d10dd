"""A real broker as processes of its own beside the virtual store: one mosquitto, or a cluster of three nats-servers.

What an operator does by hand is done here: headquarters' authority issues the server's certificate, the broker's configuration
and fence are written, and headquarters is told where the broker listens.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from cloud_bridge.hq import brokers
from cloud_bridge.hq.broker import BrokerFiles
from cloud_bridge.ports import free_port
from gateway.errors import ConfigError
from provisioning.authority import Authority
from virtual_store.plan import GATEWAY, Plan

HOST: Final = "127.0.0.1"
PROGRAMS: Final = {"mosquitto": "mosquitto", "nats": "nats-server"}
NODES: Final = 3


class OwnBroker(Struct, frozen=True):
    """How to start it, and what headquarters is told."""

    commands: dict[str, list[str]]  # by process name
    table: str  # for `hq.toml`

    @classmethod
    def prepare(cls, plan: Plan) -> Self:
        """Write its files below headquarters' folder.

        Raises:
            ConfigError: No such broker, or it is not installed.
        """
        return cls.of(plan.broker, plan.hq_dir, plan.hq_dir / "own-broker", plan.ports.broker, [GATEWAY])

    @classmethod
    def of(cls, kind: str, hq_dir: Path, folder: Path, port: int, boxes: list[str]) -> Self:
        """Write its files into a folder; `boxes` are those that NATS must know by name.

        Raises:
            ConfigError: No such broker, or it is not installed.
        """
        program = installed(kind)
        hq_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        authority = Authority.open(hq_dir / "authority")
        (folder / "ca.crt").write_text(authority.ca_pem, encoding="ascii")
        cert, key = authority.issue_server(folder, ["localhost", HOST])
        files = BrokerFiles(str(folder / "ca.crt"), str(cert), str(key))
        if kind == "mosquitto":
            conf = brokers.mosquitto(folder, HOST, port, files)
            return cls({"broker": [program, "-c", str(conf)]}, _table(port, []))
        ports = _kept_ports(folder, port)
        nodes = [brokers.NatsNode(f"n{number}", HOST, *three) for number, three in enumerate(ports, 1)]
        brokers.nats_users(folder, boxes)
        confs = {node.name: brokers.nats_conf(folder, node, nodes, files) for node in nodes}
        commands = {f"broker-{name}": [program, "-c", str(conf)] for name, conf in confs.items()}
        return cls(commands, _table(port, [node.mqtt for node in nodes[1:]]))


def installed(kind: str) -> str:
    """Where the broker's program is.

    Raises:
        ConfigError: Nobody knows that broker, or it is not installed.
    """
    if kind not in PROGRAMS:
        raise ConfigError(f"no broker is called `{kind}`", f"Take amqtt, {' or '.join(PROGRAMS)}")
    found = shutil.which(PROGRAMS[kind], path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise ConfigError(f"{PROGRAMS[kind]} is not installed", f"Run: apt-get install {PROGRAMS[kind]}")
    return found


def _kept_ports(folder: Path, port: int) -> list[tuple[int, int, int]]:
    """For each server its MQTT, client and cluster port: a cluster that comes back finds its members where they were."""
    kept = folder / "ports.json"
    if not kept.exists():
        ports = [free_port() for _ in range(3 * NODES - 1)]
        kept.write_text(json.dumps([ports[number * 3 : number * 3 + 3] for number in range(NODES - 1)] + [ports[-2:]]))
    first, second, (client, cluster) = json.loads(kept.read_text())
    return [(port, client, cluster), tuple(first), tuple(second)]


def _table(port: int, others: list[int]) -> str:
    addresses = json.dumps([f"{HOST}:{other}" for other in others])
    return f'\n[external]\nhost = "{HOST}"\nport = {port}\nserver_name = "localhost"\nothers = {addresses}\n'
