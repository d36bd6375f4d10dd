"""The fence of `broker.py` written for brokers that run as processes of their own: mosquitto 2, and a cluster of nats-servers.

mosquitto knows its client by the certificate's common name and needs no list of boxes. NATS has no such pattern: its users are
listed, so the list is written anew when a box is enrolled or revoked, and the servers are told to read it again (SIGHUP).
Its MQTT gateway maps `/` to `.`, and a QoS 1 subscription is a JetStream consumer whose deliveries need a permission too.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq.broker import OWN_NAME, BrokerFiles, mosquitto_conf
from cloud_bridge.hq.commands import boxes_command
from cloud_bridge.topics import LEVEL, ROOT
from provisioning.authority import Authority

MAX_PAYLOAD_B: Final = 1_048_576
SUBJECT: Final = ROOT.replace("/", ".")
NATS_OWN: Final = ["$MQTT.sub.>", "$MQTT.JSA.>"]  # deliveries and answers of JetStream to an MQTT client
USERS_FILE: Final = "users.json"
NODES: Final = 3


class NatsNode(Struct, frozen=True):
    """Where one server of a cluster listens."""

    name: str
    host: str
    mqtt: int
    client: int
    cluster: int


def mosquitto(folder: Path, host: str, port: int, files: BrokerFiles, revoked: Iterable[str] = ()) -> Path:
    """Write a configuration for mosquitto 2 and its list of who may speak where; `mosquitto -c` takes what is returned.

    After a box was revoked: write it anew and send SIGHUP. It may still come in, to hear that it is revoked, and says nothing more.
    """
    conf = mosquitto_conf(folder, host, port, files)
    denied = "".join(f"\nuser {name}\ntopic deny {ROOT}/+/+/+/{name}/up/+\n" for name in sorted(revoked) if LEVEL.fullmatch(name))
    acl = folder / "mosquitto.acl"
    acl.write_text(denied + "\n" + acl.read_text(encoding="ascii") if denied else acl.read_text(encoding="ascii"), encoding="ascii")
    if os.geteuid() == 0:  # else it would drop to a user that cannot read the key
        conf.write_text(conf.read_text(encoding="ascii") + "user root\n", encoding="ascii")
    return conf


def nats_users(folder: Path, boxes: Iterable[str], revoked: Iterable[str] = ()) -> Path:
    """Write who may speak where, for every server of a cluster. A box that is not in the list cannot connect; a revoked one only hears."""
    own = {"user": f"CN={OWN_NAME}", "permissions": {"publish": [f"{SUBJECT}.>"], "subscribe": [f"{SUBJECT}.>", *NATS_OWN]}}
    silent = frozenset(revoked)
    users = [own, *(_nats_user(name, name in silent) for name in sorted({*boxes, *silent}) if LEVEL.fullmatch(name))]
    path = folder / USERS_FILE
    path.write_text(f"users: {json.dumps(users, indent=1)}\n", encoding="ascii")
    return path


def nats_conf(folder: Path, node: NatsNode, cluster: Sequence[NatsNode], files: BrokerFiles) -> Path:
    """Write the configuration of one server beside `nats_users`' list; `nats-server -c` takes what is returned."""
    text = _NATS.format(
        name=node.name, host=node.host, client=node.client, cluster=node.cluster, mqtt=node.mqtt, payload=MAX_PAYLOAD_B,
        store=json.dumps(str(folder / f"{node.name}.store")), ca=json.dumps(files.ca), cert=json.dumps(files.cert),
        key=json.dumps(files.key), users=USERS_FILE, replicas=len(cluster),
        routes=json.dumps([f"nats://{other.host}:{other.cluster}" for other in cluster]),
    )  # fmt: skip
    path = folder / f"{node.name}.conf"
    path.write_text(text, encoding="ascii")
    return path


def write(data_dir: Path, kind: str, folder: Path, listen: tuple[str, int], names: list[str]) -> list[Path]:
    """Write all that a broker of this chain needs into a folder, and again when boxes came or were revoked.

    A server's certificate that is there already stays; headquarters' own authority issues a missing one.

    Returns:
        The configuration files; for NATS one for each of three servers, on consecutive ports.

    Raises:
        ConfigError: Headquarters never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    boxes = boxes_command(data_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority.open(data_dir / "authority")
    files = BrokerFiles(*(str(folder / name) for name in ("ca.crt", "server.crt", "server.key")))
    if not Path(files.cert).exists():
        authority.issue_server(folder, names)
    Path(files.ca).write_text(authority.ca_pem, encoding="ascii")
    if kind == "mosquitto":
        return [mosquitto(folder, *listen, files, [box["gateway"] for box in boxes if box["revoked"]])]
    nats_users(folder, [box["gateway"] for box in boxes], [box["gateway"] for box in boxes if box["revoked"]])
    host, port = listen
    nodes = [NatsNode(f"n{place + 1}", host, port + place, port + 10 + place, port + 20 + place) for place in range(NODES)]
    return [nats_conf(folder, node, nodes, files) for node in nodes]


_NATS: Final = """\
server_name: {name}
listen: "{host}:{client}"
max_payload: {payload}
jetstream {{ store_dir: {store}, max_memory_store: 67108864, max_file_store: 1073741824 }}
cluster {{ name: sgw, listen: "{host}:{cluster}", routes: {routes} }}
mqtt {{
  listen: "{host}:{mqtt}"
  stream_replicas: {replicas}
  tls {{ cert_file: {cert}, key_file: {key}, ca_file: {ca}, verify_and_map: true }}
}}
authorization {{ include "{users}" }}
"""


def _nats_user(name: str, silent: bool) -> dict[str, Any]:
    mine = f"{SUBJECT}.*.*.*.{name}"
    publish = {"deny": [">"]} if silent else [f"{mine}.up.*"]
    return {"user": f"CN={name}", "permissions": {"publish": publish, "subscribe": [f"{mine}.dn.*", *NATS_OWN]}}
