"""Which client may speak where: the embedded broker (amqtt) and the same fence written for mosquitto.

A client is its certificate's common name. A box publishes below `sgw/1/+/+/+/NAME/up` and reads below
`sgw/1/+/+/+/NAME/dn`; headquarters' own client, whose name no box can bear (it has a dot), does everything. Whether tenant
and shop in a topic are the box's is checked by ingest, which knows them.

amqtt asks for certificates but does not insist, iterates over tables that change meanwhile, gives new clients other clients'
retained messages, and lets a CONNECT take over a session before it is authenticated. So: certificates are required here,
tables are copied, retained messages are checked, sessions are always clean, and client ids are random. Nothing relies on
the broker's memory: rows are acknowledged by headquarters, not by it.
"""

import contextlib
import logging
import ssl
from collections.abc import ItemsView, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amqtt.broker import Broker as AmqttBroker
from amqtt.contexts import Action, ListenerConfig
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session
from msgspec import Struct

from cloud_bridge.mqtt import TlsFiles
from cloud_bridge.topics import LEVEL, ROOT

OWN_NAME: Final = "hq.ingest"
SESSION_EXPIRY_S: Final = 60  # a refused client that asked for a lasting session leaves one behind; not for long
LEVELS: Final = 8  # sgw 1 TENANT SHARD STORE GATEWAY up|dn LEAF
GATEWAY_LEVEL: Final = 5
WAY_LEVEL: Final = 6
FAREWELL: Final = ("manifest", "chunk")  # what a revoked box may still hear: that it is revoked


class BrokerAddress(Struct, frozen=True):
    """Where the broker is, and how headquarters' own client enters."""

    host: str
    port: int
    tls: TlsFiles | None
    server_name: str = ""
    others: tuple[tuple[str, int], ...] = ()  # of a cluster's other servers


class BrokerFiles(Struct, frozen=True):
    """PEM files of a broker."""

    ca: str
    cert: str
    key: str


class Fence:
    """Boxes whose certificate counts no more. They may come in to hear that they are revoked, however late, and say nothing.

    A broker of ours asks here each time; one that runs elsewhere does not, so there a revoked box may still publish to its own
    topics, where ingest takes nothing from it.
    """

    def __init__(self, revoked: frozenset[str]) -> None:
        self.revoked = revoked
        self.broker: EmbeddedBroker | None = None

    async def drop(self) -> None:
        """Cut the connections that revoked boxes still have."""
        if self.broker is not None:
            await self.broker.drop(self.revoked)


def allowed(name: str, topic: str, *, publishing: bool) -> bool:
    """Whether the client of that name may publish to, or read from, a topic or filter."""
    if name == OWN_NAME:
        return True
    levels = topic.split("/")
    if len(levels) != LEVELS or "/".join(levels[:2]) != ROOT or not LEVEL.fullmatch(name):
        return False
    return levels[GATEWAY_LEVEL] == name and levels[WAY_LEVEL] == ("up" if publishing else "dn")


def certificate_name(session: Session) -> str | None:
    """Common name of the client's verified certificate; None if it showed none."""
    tls = session.ssl_object
    shown = tls.getpeercert() if tls is not None else None
    for part in (shown or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return None


class CertificateAuth(BaseAuthPlugin):  # type: ignore[misc]  # amqtt has no types
    """Lets in whoever has a certificate of ours and asks for a clean session."""

    @dataclass
    class Config:
        """Nothing to set."""

    async def authenticate(self, *, session: Session) -> bool:
        """Whether this client may connect."""
        return certificate_name(session) is not None and bool(session.clean_session)


class OwnTree(BaseTopicPlugin):  # type: ignore[misc]  # amqtt has no types
    """Keeps each box inside its own topics."""

    @dataclass
    class Config:
        """Nothing to set."""

    async def topic_filtering(self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None) -> bool:
        """Whether the client may do that there."""
        name = certificate_name(session) if session is not None else None
        if name is None or topic is None or not allowed(name, topic, publishing=action == Action.PUBLISH):
            return False
        if name not in self.context._broker_instance.fence.revoked:
            return True
        # A bridge asks for all its topics at once and leaves if one is refused: it may ask, and what it may not hear is kept back.
        return action == Action.SUBSCRIBE or (action == Action.RECEIVE and topic.rpartition("/")[2] in FAREWELL)


class _SteadyTable(dict[str, list[tuple[Session, int]]]):
    """A dict that may change while amqtt awaits inside a loop over it."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().keys()))

    def items(self) -> ItemsView[str, list[tuple[Session, int]]]:  # type: ignore[override]  # dict's own view type has no name
        return dict(super().items()).items()


class _StrictBroker(AmqttBroker):  # type: ignore[misc]  # amqtt has no types
    def __init__(self, config: dict[str, Any], fence: Fence) -> None:
        super().__init__(config)
        self.fence = fence
        self._subscriptions = _SteadyTable()

    async def _publish_retained_messages_for_subscription(self, subscription: tuple[str, int], session: Session) -> None:
        # amqtt hands a new client the retained messages of everybody's subscriptions, not only of its own.
        if await self._topic_filtering(session, subscription[0], Action.SUBSCRIBE):
            await super()._publish_retained_messages_for_subscription(subscription, session)

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        context: ssl.SSLContext = AmqttBroker._create_ssl_context(listener)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class EmbeddedBroker:
    """amqtt in this process, for a demo and for tests; a chain runs its own broker."""

    def __init__(self, host: str, port: int, files: BrokerFiles, fence: Fence) -> None:
        fence.broker = self
        for name, level in (("transitions", logging.WARNING), ("amqtt", logging.CRITICAL)):
            logging.getLogger(name).setLevel(level)  # amqtt logs an error for every client that goes without goodbye
        here = __name__
        self._broker = _StrictBroker(
            {
                "listeners": {
                    "default": {
                        "type": "tcp", "bind": f"{host}:{port}", "ssl": True,
                        "cafile": files.ca, "certfile": files.cert, "keyfile": files.key,
                    }
                },
                "session_expiry_interval": SESSION_EXPIRY_S,
                "plugins": {f"{here}.{CertificateAuth.__name__}": {}, f"{here}.{OwnTree.__name__}": {}},
            },
            fence,
        )  # fmt: skip

    async def start(self) -> None:
        """Listen."""
        await self._broker.start()

    async def drop(self, names: frozenset[str]) -> None:
        """Cut the connections of these clients."""
        for session, handler in list(self._broker.sessions.values()):
            if session.transitions.is_connected() and certificate_name(session) in names and handler.writer is not None:
                with contextlib.suppress(OSError):  # it was speaking just then: TLS calls that an error
                    await handler.writer.close()

    async def stop(self) -> None:
        """Stop listening and drop every client."""
        await self._broker.shutdown()


def mosquitto_conf(folder: Path, host: str, port: int, files: BrokerFiles) -> Path:
    """Write `mosquitto.conf` and its ACL for mosquitto 2 into `folder`: the same fence as the embedded broker's.

    Returns:
        The configuration's path, for `mosquitto -c`.
    """
    acl = folder / "mosquitto.acl"
    acl.write_text(
        f"user {OWN_NAME}\ntopic readwrite {ROOT}/#\n\n"
        f"pattern write {ROOT}/+/+/+/%u/up/+\npattern read {ROOT}/+/+/+/%u/dn/+\n",
        encoding="ascii",
    )  # fmt: skip
    conf = folder / "mosquitto.conf"
    lines = [
        "per_listener_settings false",
        f"listener {port} {host}",
        f"cafile {files.ca}",
        f"certfile {files.cert}",
        f"keyfile {files.key}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        f"acl_file {acl}",
        "max_inflight_messages 200",
        "max_queued_messages 2000",
        "message_size_limit 1048576",
        "persistence false",  # the boxes resend what headquarters has not committed
    ]
    conf.write_text("\n".join(lines) + "\n", encoding="ascii")
    return conf
