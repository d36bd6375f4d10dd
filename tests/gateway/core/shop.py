"""A core over a real ledger and a real link, HQ's papers in force, and a scripted locker driver at the other end."""

import asyncio
import contextlib
import secrets
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from gateway.chain import decode_event
from gateway.clock import Clock
from gateway.codes import short_code
from gateway.columns import Tombstone, unpack
from gateway.config import GatewayConfig
from gateway.core.desk import Desk
from gateway.core.passes import Signer
from gateway.events import (
    AckArrived,
    BankSnapshotTaken,
    CodePresented,
    Command,
    CommandAnswered,
    DocumentArrived,
    DoorEdgeSensed,
    DoorState,
    EpochAdmitted,
    Row,
)
from gateway.ledger import LedgerReader
from gateway.link import LinkClient
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.signed import ACK_TAG, DOCUMENT_TAG, Ack, Document, Order, TokenKey, Voucher, digest, public_hex, seal
from gateway.token import Claims, TokenKind, sign, voucher_ref
from tests.conftest import HQ_KEY, TOKEN_KEY, until

GATEWAY, STORE = "box-7", 7
END_S = 2_000_000_000
SECRET = b"known to this box alone"
PICKUP_ID = 0x2B
ORDER_ID = voucher_ref(1, PICKUP_ID)
LISTED = Voucher(voucher_ref(1, 0x77), 9, "咖啡", "Coffee", 0, END_S)
REVOKED = Voucher(voucher_ref(1, 0x78), 9, "茶", "Tea", 0, END_S, revoked=True)
ORDERS = [Order(ORDER_ID, "A001", "陳○明", 1, ["咖啡豆"]), Order(voucher_ref(1, 0x2C), "A002", "林○", 1, [], cancelled=True)]
KEYS = [TokenKey(1, 1, public_hex(TOKEN_KEY.public_key())), TokenKey(2, 5, public_hex(TOKEN_KEY.public_key()))]


def voucher_token(identifier: int = 42, **changes: Any) -> bytes:
    claims = Claims(kind=TokenKind.VOUCHER, key_id=1, issuer=1, identifier=identifier, campaign=5, store=STORE, not_after_s=END_S)
    return sign(msgspec.structs.replace(claims, **changes), TOKEN_KEY).encode()


def pickup_token(identifier: int = PICKUP_ID, store: int = STORE) -> bytes:
    claims = Claims(kind=TokenKind.PICKUP, key_id=1, issuer=1, identifier=identifier, store=store, not_after_s=END_S)
    return sign(claims, TOKEN_KEY).encode()


def typed(identifier: int) -> bytes:
    return short_code(identifier).encode()


def presented(payload: bytes, presentation_id: str | None = None, read_point: str = "scanner@counter") -> CodePresented:
    return CodePresented(read_point, presentation_id or secrets.token_hex(16), "]Q1", payload)


class Doors:
    """A locker driver without its board: sensors say what the test says."""

    def __init__(self, config: GatewayConfig, clock: Clock) -> None:
        self.clock = clock
        self.pulses: list[tuple[str, int]] = []
        self.doors = dict.fromkeys(range(1, 5), DoorState.CLOSED)
        self.snapshots = True
        self.link = LinkClient(config.link_path, "locker@wall", clock)
        self.link.on_command(self._obey)
        self.link.on_connect(self._greet)
        self._running: asyncio.Task[None] | None = None

    def join(self) -> None:
        self._running = asyncio.create_task(self.link.run())

    async def leave(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def move(self, compartment: int, door: DoorState, intent_id: str | None = None) -> "asyncio.Future[bytes]":
        self.doors[compartment] = door
        return self.link.state(DoorEdgeSensed("wall", compartment, door, intent_id, self.clock.now()))

    def answer(self, intent_id: str, outcome: str) -> "asyncio.Future[bytes]":
        return self.link.state(CommandAnswered(intent_id, outcome, "", self.clock.now()))

    def snapshot(self) -> "asyncio.Future[bytes]":
        return self.link.state(BankSnapshotTaken("wall", dict(self.doors), self.clock.now()))

    def _obey(self, intent_id: str, command: Command, deadline_ns: int) -> None:
        self.pulses.append((intent_id, command.compartment))

    def _greet(self) -> None:
        if self.snapshots:
            self.snapshot()


async def headquarters_hears(desk: Desk) -> None:
    """HQ's first word: it has heard of this ledger, and knows no other of this box."""
    ack = Ack(GATEWAY, desk.store_view().epoch, 0, 0, "", 0, 1)
    await desk.decide("bridge", secrets.token_hex(4), AckArrived(seal(ACK_TAG, ack, HQ_KEY)))


class Shop:
    """Core, started and stopped as often as the test likes."""

    def __init__(self, config: GatewayConfig, clock: Clock, signer: Signer | None = None) -> None:
        self.config = config
        self.clock = clock
        self.signer = signer
        self.desk: Desk
        self.doors = Doors(config, clock)
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.desk = Desk(self.config, self.clock, [HQ_KEY.public_key()], "test 1", secret=SECRET, signer=self.signer)
        self._running = asyncio.create_task(self.desk.run())
        await until(self.config.link_path.exists)
        if self.desk.store_view().admission.state == "waiting" and not self.rows(EpochAdmitted):
            await headquarters_hears(self.desk)

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None
            self.config.link_path.unlink(missing_ok=True)

    async def reopen(self) -> None:
        await self.close()
        await self.open()

    async def end(self) -> None:
        await self.doors.leave()
        await self.close()

    async def ended(self) -> None:
        """Wait until core ends by itself.

        Raises:
            LedgerError: As `Desk.run`.
        """
        assert self._running is not None
        running, self._running = self._running, None
        await asyncio.wait_for(running, 10)

    async def with_doors(self) -> Doors:
        self.doors.join()
        await until(lambda: self.doors.link.connected and self.doors.link.unanswered == 0)
        return self.doors

    async def papers(self, version: int = 1) -> None:
        for document in (
            Document(GATEWAY, "keys", version, 0, keys=KEYS),
            Document(GATEWAY, "vouchers", version, 0, vouchers=[LISTED, REVOKED]),
            Document(GATEWAY, "orders", version, 0, orders=ORDERS),
        ):
            assert await self.bring(seal(DOCUMENT_TAG, document, HQ_KEY)) == b"applied"

    async def bring(self, sealed: bytes, sha256: str = "") -> bytes:
        """A spooled document arrives."""
        path = self.config.state_dir / f"{secrets.token_hex(4)}.sealed"
        path.write_bytes(sealed)
        arrived = DocumentArrived("any", 1, sha256 or digest(sealed), str(path))
        return await self.desk.decide("bridge", secrets.token_hex(4), arrived)

    async def present(self, payload: bytes, station: str = "counter") -> Answer:
        return answers.decode(await self.desk.present(presented(payload), station=station))

    async def stage(self, order_id: str = ORDER_ID, **more: Any) -> Answer:
        key = secrets.token_hex(16)
        return answers.decode(await self.desk.stage(order_id, key=key, staff="staff-1", station="counter", **more))

    def rows(self, *kinds: type[Row]) -> list[Any]:
        """Rows on the disk, of these kinds or all, in order."""
        found = [decode_event(event) for _, _, event in stored(self.config.ledger_path)]
        return [row for row in found if not kinds or isinstance(row, kinds)]

    def state_of(self, compartment: int) -> str:
        return next(view.state for view in self.desk.store_view().compartments if view.compartment == compartment)


def stored(path: Path) -> list[tuple[int, int, bytes]]:
    """Every row on the disk: epoch, lane, event."""
    reader, found = LedgerReader(path), list[tuple[int, int, bytes]]()
    try:
        for epoch in reader.epochs():
            for lane in range(3):
                for block in reader.blocks(epoch.number, lane, 0, 10**9, 10**9):
                    rows = unpack(block.section, block.first)
                    found += [] if isinstance(rows, Tombstone) else [(epoch.number, lane, event) for _, event in rows]
    finally:
        reader.close()
    return found


@contextlib.contextmanager
def no_commits(path: Path) -> Any:
    """Nothing is committed inside: another connection holds the file."""
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
