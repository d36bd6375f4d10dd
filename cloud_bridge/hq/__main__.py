"""Headquarters in one process: broker, ingest, the shops' lines, pages and API.

Everything that matters is in one SQLite file and a folder of keys, so it may be killed at any time; it comes back on the same
ports and the shops send again what it had not acknowledged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from cloud_bridge.hq import backups, devices, enrolment, registry
from cloud_bridge.hq.account_api import Accounts, account_routes
from cloud_bridge.hq.anywhere_api import anywhere_routes
from cloud_bridge.hq.broker import OWN_NAME, BrokerAddress, BrokerFiles, EmbeddedBroker, Fence
from cloud_bridge.hq.bulk import bulk_routes
from cloud_bridge.hq.clearing_api import clearing_routes
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.erasing import Erasing
from cloud_bridge.hq.feed import Feed
from cloud_bridge.hq.fleet import Fleet
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.intake import Intake
from cloud_bridge.hq.journal import Journal
from cloud_bridge.hq.keeping import backup_routes
from cloud_bridge.hq.limits import limit_routes
from cloud_bridge.hq.member_api import member_routes
from cloud_bridge.hq.member_office import MemberOffice, erase_all, seal_missing
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.office_pages import page_routes
from cloud_bridge.hq.options import LOOPBACK, Addresses, HqOptions, Ports, admin_token, write_addresses
from cloud_bridge.hq.promotions import Promotions, campaign_routes
from cloud_bridge.hq.rate_api import Rates, rate_routes
from cloud_bridge.hq.signins import SignIns
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Connection, Store
from cloud_bridge.hq.trimming import DAY_S, Bounds, Trimming
from cloud_bridge.hq.wan import Lines
from cloud_bridge.hq.web import application
from cloud_bridge.mqtt import TlsFiles
from gateway.clock import Clock, SystemClock
from provisioning.authority import Authority

log = logging.getLogger(__name__)

GRACE_S: Final = 1  # open event streams never end by themselves
KEEP_ALIVE_S: Final = 30  # longer than clients keep a connection they may use again: one closed under their hands is an error there
MOST_CONNECTIONS: Final = 500
READY_POLL_S: Final = 0.02


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: signals belong to whoever started us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(options: HqOptions) -> None:
    """Be headquarters until cancelled. `addresses.json` in the data folder says when it is ready, and where.

    Raises:
        ConfigError: The data folder cannot be used.
    """
    data = Path(options.data_dir)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data / "addresses.json").unlink(missing_ok=True)  # of the start before: not ready yet
    authority = Authority.open(data / "authority")
    ports = Ports(options)
    store = _store(options, data)
    await store.open()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        fence = Fence(await store.read(devices.retired_boxes))
        address = await _broker(options, ports, authority, data / "broker", stack, fence)
        await _serve(options, ports, authority, store, address, fence)


def _store(options: HqOptions, data: Path) -> Store:
    if not options.database:
        return SqliteStore(data / "hq.db")
    from cloud_bridge.hq.postgres import PostgresStore  # an extra: most headquarters run without

    return PostgresStore(options.database)


async def _broker(
    options: HqOptions, ports: Ports, authority: Authority, folder: Path, stack: contextlib.AsyncExitStack, fence: Fence
) -> BrokerAddress:
    cert, key = authority.issue_own_client(folder, OWN_NAME)
    ca = folder / "ca.crt"
    ca.write_text(authority.ca_pem, encoding="ascii")
    own = TlsFiles(str(ca), str(cert), str(key))
    if options.external is not None:
        outside = options.external
        return BrokerAddress(outside.host, outside.port, outside.tls or own, outside.server_name, outside.other_addresses)
    server_cert, server_key = authority.issue_server(folder, ["localhost", LOOPBACK, *options.names])
    broker = EmbeddedBroker(options.broker_host, ports.broker, BrokerFiles(str(ca), str(server_cert), str(server_key)), fence)
    await broker.start()
    stack.push_async_callback(broker.stop)
    return BrokerAddress(LOOPBACK, ports.broker, own, "localhost")


async def _serve(options: HqOptions, ports: Ports, authority: Authority, store: Store, address: BrokerAddress, fence: Fence) -> None:
    data, options = Path(options.data_dir), options.public(ports.http)
    clock, feed, press = SystemClock(), Feed(), Press(authority, backups.floor(data))
    journal = Journal(data)
    ingest = Ingest(store, press, authority.root, clock, feed, address, fence, journal)
    kept = backups.Backups(data, options.keep_backups, options.database)
    ingest.backed_up = kept.reach
    erasing = Erasing(data, kept.making)
    await store.write(partial(_seal_anew, press=press, erased=erasing.read(), now_us=clock.now().wall_us))
    lines = Lines(LOOPBACK, [(address.host, address.port), *address.others], ports.relay)
    intake = Intake(store, authority, press, ingest, feed, lines, clock, (options.door_name, ports.door), options.public_url)
    fleet = Fleet(store, press, ingest, feed, clock, fence)
    office = Office(store, intake, press, ingest, feed, lines, clock, options.camera_control)
    for row in await store.read(registry.boxes):
        await lines.open(row.store)
    token = admin_token(data)
    promotions = Promotions(store, press, ingest, feed, clock)
    more = [backup_routes(kept, store, clock), campaign_routes(promotions), bulk_routes(office), clearing_routes(office, authority)]
    people = MemberOffice(store, press, ingest, clock, erasing)
    earned = Accounts(store, press, ingest, clock)
    more += [member_routes(people), account_routes(earned), rate_routes(Rates(store, press, ingest, clock))]
    more += [anywhere_routes(office), limit_routes(office), page_routes(office)]
    signins = SignIns(store, token, authority.root.private_bytes_raw(), office.now_us)
    await signins.load()
    bounds = Bounds(options.longest_offline_days * DAY_S, options.deeds_days * DAY_S)
    trimming = Trimming(store, journal, kept, authority.root_public, clock, bounds)
    app = application(office, fleet, signins, options, more)
    server = _Server(_uvicorn_config(app, options, ports))
    door = _Server(_door_config(options, ports, authority, intake, clock))
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ingest.run())
            tasks.create_task(people.run())
            tasks.create_task(earned.run())
            tasks.create_task(trimming.run())
            tasks.create_task(_serve_http(server, feed))
            tasks.create_task(_serve_http(door, feed))
            tasks.create_task(_say_where(options, ports, office, (server, door), token, address))
    finally:
        await lines.close()


def _seal_anew(db: Connection, press: Press, erased: list[str], now_us: int) -> None:
    """What shops hold is of before a restore, or of before a key that came with this start."""
    erase_all(db, press, erased, now_us)  # first: a restored database may know again who was erased
    for row in registry.boxes(db):
        press.seal_after_restore(db, row, now_us)
        press.seal_new_keys(db, row, now_us)
        seal_missing(db, press, row, now_us)


async def _serve_http(server: _Server, feed: Feed) -> None:
    try:
        await server.serve()
    except asyncio.CancelledError:
        feed.close()
        await server.shutdown()
        raise


async def _say_where(
    options: HqOptions, ports: Ports, office: Office, servers: Sequence[_Server], token: str, address: BrokerAddress
) -> None:
    """Write `addresses.json` when everything listens, and again when a shop was added."""
    while not (all(server.started for server in servers) and office.ingest.connected):  # noqa: ASYNC110 - uvicorn has but a flag
        await asyncio.sleep(READY_POLL_S)
    http = f"http://{options.http_host}:{ports.http}"
    written: dict[str, int] | None = None
    while True:
        if written != office.lines.ports():
            written = office.lines.ports()
            said = Addresses(
                http=http, login=f"{http}/login?token={token}", admin_token=token, broker_host=address.host, broker_port=address.port,
                relays=written, others=tuple(f"{host}:{port}" for host, port in address.others), door=f"{options.door_name}:{ports.door}",
            )  # fmt: skip
            await asyncio.to_thread(write_addresses, Path(options.data_dir), said)
        await asyncio.sleep(0.2)


def _door_config(options: HqOptions, ports: Ports, authority: Authority, intake: Intake, clock: Clock) -> uvicorn.Config:
    names = ["localhost", LOOPBACK, *options.names, options.door_name]
    cert, key = authority.issue_server(Path(options.data_dir) / "door", list(dict.fromkeys(names)))
    return enrolment.server_config(enrolment.application(intake, clock), options.enrol_host, ports.door, cert, key)


def _uvicorn_config(app: ASGIApp, options: HqOptions, ports: Ports) -> uvicorn.Config:
    return uvicorn.Config(
        app, host=options.http_host, port=ports.http, log_config=None, access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=GRACE_S, limit_concurrency=MOST_CONNECTIONS, ws="none", h11_max_incomplete_event_size=16_384,
        timeout_keep_alive=KEEP_ALIVE_S,
    )  # fmt: skip
