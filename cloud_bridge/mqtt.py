"""The one door to paho: an MQTT 3.1.1 line with mutual TLS that comes back by itself, spoken to from the loop.

Each connection is a fresh paho client on a daemon thread of its own, since paho's TLS handshake blocks; a new one shares
nothing with the one before, so nothing is resent behind the caller's back: the ledger is the session, not paho's memory.
Everything is handed to the loop. A message is acknowledged to the broker only when its reader says so (`Incoming.ack`).

Between two attempts the line waits a random part of min(cap, base * 2^n) seconds ("full jitter"), or of the time over which
headquarters wants its shops spread if that is longer, so that ten thousand shops do not come back in step.
"""

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import BrokerError, ConfigError
from provisioning.tls import Bounds, DatedContext

log = logging.getLogger(__name__)

CLOSE_S: Final = 1.0  # how long a clean goodbye may take; the thread is a daemon and keeps nobody waiting
MAX_EXPONENT: Final = 16  # 2^16 * base is above any sensible cap


class TlsFiles(Struct, frozen=True):
    """PEM files of a client: the authority it trusts, its certificate and its key. Read anew at each connection."""

    ca: str
    cert: str
    key: str


class Incoming(Struct, frozen=True):
    """A message from the broker. Call `ack` when it is safe to forget: an unacknowledged QoS 1 message comes again."""

    topic: str
    payload: bytes
    ack: Callable[[], None]
    retained: bool = False


class _NamedContext(DatedContext):
    """Checks the certificate against a name other than the address: brokers behind relays have both.

    paho calls `do_handshake` itself, before CONNECT: there the dates are judged, where the caller gave bounds of time.
    """

    server_name: str = ""
    made: ssl.SSLSocket | None = None  # paho forgets to close it when the handshake fails

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        if self.server_name:
            kwargs["server_hostname"] = self.server_name
        self.made = super().wrap_socket(*args, **kwargs)
        return self.made


class _Threaded(Client):
    """paho with a thread that connects, reads and writes, and says when it has ended.

    Its own thread, started by `loop_start`, is the only one that may touch the socket. paho writes from the caller's thread too
    as long as it knows of no thread of its own, also when `loop_forever` runs in one: two packets then end up in each other.
    """

    def live(self, connect: Callable[[], object], over: Callable[[], None]) -> None:
        """Start the thread; `connect` and `over` are called in it."""
        self._connect_first, self._over = connect, over
        self.loop_start()

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        """Run one connection; paho's thread calls it."""
        try:
            self._connect_first()
            return super().loop_forever(timeout, retry_first_connection=False)
        except (OSError, ValueError) as error:  # refused, timed out, no such host, handshake failed
            log.debug("no connection to the broker: %s", error)
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        finally:
            self._over()


class _Connection:
    """One life of a connection; every method but the callbacks runs on the loop."""

    def __init__(self, line: "Mqtt") -> None:
        self._line = line
        self._loop = asyncio.get_running_loop()
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.up = False
        self._closed = False  # read by paho's thread too: a handshake may outlive the loop's patience
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._address = line.addresses[0]
        self._granting: int | None = None
        self._tls = _context(line.tls, line.server_name or self._address[0], line.bounds) if line.tls is not None else None
        self._client = self._new_client()

    def start(self) -> None:
        self._client.live(partial(self._client.connect, *self._address, self._line.keepalive_s), self._over)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> asyncio.Future[None]:
        future = self._loop.create_future()
        sent = self._client.publish(topic, payload, qos, retain)
        if sent.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise BrokerError(f"cannot publish: {sent.rc.name}")
        # on_publish reaches the loop after this returns, so the entry is always there first.
        self._waiting[sent.mid] = future
        return future

    def drop(self) -> None:
        """Cut at once, without a goodbye."""
        held = self._client.socket()
        if isinstance(held, socket.socket):
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which would let paho's thread write its next packet in the clear.
                socket.socket.shutdown(held, socket.SHUT_RDWR)

    async def close(self) -> None:
        """Say goodbye; after a moment, cut."""
        self._closed = True
        self._client.disconnect()
        # Not wait_for: before Python 3.12 it can swallow a cancellation that comes just as it ends.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.ended.wait()
        self.drop()

    def fail_waiting(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BrokerError("the connection to the broker ended first"))
                future.exception()  # nobody need look: the sender resends by its own clock
        self._waiting.clear()

    def _new_client(self) -> _Threaded:
        line = self._line
        client = _Threaded(
            CallbackAPIVersion.VERSION2, line.client_id, clean_session=True, protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        client.max_inflight_messages_set(line.max_inflight)
        client.connect_timeout = line.connect_timeout_s
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    # -- on paho's thread

    def _over(self) -> None:
        if self._tls is not None and self._tls.made is not None:
            self._tls.made.close()
        self._post(self._end)

    def _post(self, call: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to tell
            self._loop.call_soon_threadsafe(call, *args)

    def _on_connect(self, client: Client, _u: Any, _f: ConnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        if self._closed:
            client.disconnect()
        elif reason.is_failure:
            log.warning("the broker refuses this client: %s", reason)
            client.disconnect()
        elif self._line.subscriptions:
            _, self._granting = client.subscribe([(topic, 1) for topic in self._line.subscriptions])
        else:
            self._post(self._come_up)

    def _on_subscribe(self, client: Client, _u: Any, mid: int, reasons: list[ReasonCode], _p: Properties | None) -> None:
        if mid != self._granting:
            return
        if any(reason.is_failure for reason in reasons):
            log.warning("the broker refuses a subscription")
            client.disconnect()
        else:
            self._post(self._come_up)

    def _on_message(self, client: Client, _u: Any, message: MQTTMessage) -> None:
        ack = partial(client.ack, message.mid, message.qos)
        incoming = Incoming(message.topic, bytes(message.payload), lambda: _discard(ack()), message.retain)
        self._post(self._deliver, incoming)

    def _on_publish(self, _c: Client, _u: Any, mid: int, _r: ReasonCode, _p: Properties) -> None:
        self._post(self._published, mid)

    def _on_disconnect(self, _c: Client, _u: Any, _f: DisconnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        log.debug("the broker's line ended: %s", reason)

    # -- on the loop

    def _come_up(self) -> None:
        if not (self._closed or self.ended.is_set()):
            self.up = True
            self.ready.set()

    def _deliver(self, incoming: Incoming) -> None:
        if not (self._closed or self.ended.is_set()):
            self._line.on_message(incoming)

    def _published(self, mid: int) -> None:
        future = self._waiting.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _end(self) -> None:
        self.up = False
        self.ended.set()
        self.ready.set()
        self.fail_waiting()


class Mqtt:
    """A line to a broker that is kept up while `run` runs.

    Args:
        host: The broker's address.
        port: Its port.
        others: More addresses of the same broker, such as the other servers of a cluster: each failed attempt goes to the next one.
        client_id: Must be unique at the broker; random for each process start, since a second client of the same id
            throws the first one out.
        tls: Files for mutual TLS; None speaks plain TCP (tests on loopback only).
        server_name: Name the broker's certificate must bear; empty takes `host`.
        subscriptions: Topic filters, asked for at QoS 1, renewed on each connection.
        on_message: Called on the loop for each message, in order.
        on_state: Called on the loop with True once connected *and* subscribed, with False when that ends.
        keepalive_s: Silence after which broker and client each suspect the other, whole seconds.
        connect_timeout_s: Longest an attempt may take until it is subscribed. A broker that refuses a certificate under
            TLS 1.3 just falls silent.
        backoff_base_s: First step of the full-jitter wait.
        backoff_cap_s: Longest wait.
        max_inflight: Most QoS 1 messages sent and not yet acknowledged by the broker.
        bounds: What time it can be, for judging the broker's certificate; asked in paho's thread, so it may take a moment. None:
            the wall clock is right, as headquarters' own is.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        tls: TlsFiles | None,
        *,
        on_message: Callable[[Incoming], None],
        on_state: Callable[[bool], None],
        server_name: str = "",
        subscriptions: Sequence[str] = (),
        keepalive_s: int = 20,
        connect_timeout_s: float = 5.0,
        backoff_base_s: float = 0.2,
        backoff_cap_s: float = 5.0,
        max_inflight: int = 64,
        others: Sequence[tuple[str, int]] = (),
        bounds: Callable[[], Bounds] | None = None,
    ) -> None:
        self.addresses = [(host, port), *others]
        self.client_id = client_id
        self.tls = tls
        self.server_name = server_name
        self.subscriptions = tuple(subscriptions)
        self.on_message = on_message
        self.on_state = on_state
        self.keepalive_s = keepalive_s
        self.connect_timeout_s = connect_timeout_s
        self.backoff_base_s = backoff_base_s
        self.backoff_cap_s = backoff_cap_s
        self.max_inflight = max_inflight
        self.bounds = bounds
        self.spread_s = 0.0  # set by whoever hears what headquarters asks for
        self._connection: _Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker has this client connected and subscribed, as far as is known."""
        return self._connection is not None and self._connection.up

    async def run(self) -> None:
        """Keep the line up until cancelled; then say goodbye to the broker.

        Raises:
            ConfigError: The TLS files cannot be read.
        """
        failures = 0
        while True:
            if await self._live():
                failures = 0
            else:
                failures += 1
                self.addresses.append(self.addresses.pop(0))
            longest_s = max(self.spread_s, min(self.backoff_cap_s, self.backoff_base_s * 2 ** min(failures, MAX_EXPONENT)))
            await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311 - spreads load, hides nothing

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> asyncio.Future[None]:
        """Send a message, without waiting.

        Returns:
            A future that is done when the broker has acknowledged it (QoS 1) or it was written (QoS 0), and fails with
            BrokerError when the connection ends first. It may be ignored: it never complains of not having been read.

        Raises:
            BrokerError: There is no connection now.
        """
        if self._connection is None or not self._connection.up:
            raise BrokerError("no connection to the broker")
        return self._connection.publish(topic, payload, qos, retain)

    def drop(self) -> None:
        """Cut the present connection, as when it is open but nothing comes through; `run` makes a new one."""
        if self._connection is not None:
            self._connection.drop()

    async def _live(self) -> bool:
        """One connection from its beginning to its end; whether it ever came up."""
        connection = self._connection = _Connection(self)
        connection.start()
        came_up = False
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.connect_timeout_s):
                    await connection.ready.wait()
            came_up = connection.up
            if came_up:
                self.on_state(True)
                await connection.ended.wait()
        finally:
            self._connection = None
            await connection.close()
            connection.fail_waiting()
            if came_up:
                self.on_state(False)
        return came_up


def _context(files: TlsFiles, server_name: str, bounds: Callable[[], Bounds] | None) -> _NamedContext:
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.server_name = server_name
    try:
        context.load_verify_locations(files.ca)
        context.load_cert_chain(files.cert, files.key)
        if bounds is not None:
            context.judge_dates_by(bounds, Path(files.ca).read_text(encoding="ascii"))
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(f"cannot use the certificate {files.cert}: {error}", "Enrol this box again") from error
    return context


def _discard(_: object) -> None:
    """`ack` answers with a code nobody can act on: a broker that is gone sends the message again anyway."""
