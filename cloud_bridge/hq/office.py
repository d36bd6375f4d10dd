"""What people at headquarters do, once for the API and the pages: register, issue, take orders, look, cut a line.

Each action is one transaction, then the shop is told. Nothing here knows HTTP.
"""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cloud_bridge.hq import issuers, labels, once, openings, registry, reports, risks, screened
from cloud_bridge.hq.documents import DAY_S, KEPT_DAYS, Issued, Press, VoucherAsk
from cloud_bridge.hq.feed import Change, Feed
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.intake import Intake
from cloud_bridge.hq.once import Once
from cloud_bridge.hq.ready import local_day
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.reports import OrderRow, VoucherRow
from cloud_bridge.hq.store import Connection, Store
from cloud_bridge.hq.wan import Line, Lines
from gateway.clock import Clock
from gateway.errors import BrokerError
from gateway.rules.answers import Answer
from gateway.rules.reasons import Text
from gateway.signed import CampaignLimit

CAMERA_S: Final = 2.5  # how long a code is held before the camera
CAMERA_TIMEOUT_S: Final = 2.0
STORE_ONLY: Final = Text("此券限門市使用，無法在線上折抵", "This voucher is for use in the shop only, not online")
STORE_ONLY_NEXT: Final = Text("請至票券指定的門市出示 QR 碼", "Please show its QR code at the shop named on it")


class Office:
    """Headquarters as its people use it."""

    def __init__(
        self, store: Store, intake: Intake, press: Press, ingest: Ingest, feed: Feed, lines: Lines, clock: Clock, camera: str | None
    ) -> None:
        self.store = store
        self.intake = intake
        self.feed = feed
        self.ingest = ingest
        self.lines = lines
        self.camera = camera
        self.press = press
        self._clock = clock

    def now_us(self) -> int:
        """Headquarters' time."""
        return self._clock.now().wall_us

    # -- boxes and staff

    async def hire(self, store: str, name: str, roles: list[str]) -> registry.NewStaff:
        """Somebody new in a shop; the PIN in the answer is kept nowhere.

        Raises:
            RefusedAsk: No such shop, or no usable name.
        """
        staff = await asyncio.to_thread(registry.new_staff, name, roles)
        row = await self.store.write(partial(self._hire, store=store, staff=staff))
        await self.ingest.announce(row)
        return staff

    # -- vouchers and orders

    async def issue_voucher(self, ask: VoucherAsk, asking: Once | None = None) -> VoucherRow:
        """Issue a voucher and tell its shop.

        Raises:
            RefusedAsk: As `Press.issue_voucher`.
        """
        return await self.voucher(await self._issue(partial(self.press.issue_voucher, ask=ask, now_us=self.now_us()), asking))

    async def set_limit(self, store: str, limit: CampaignLimit) -> None:
        """Say what a shop may give out of a campaign, and tell it.

        Raises:
            RefusedAsk: No such shop.
        """
        row = await self.store.write(partial(self.press.set_limit, store=store, limit=limit, now_us=self.now_us()))
        await self.ingest.announce(row)
        self.feed.tell(Change())

    async def place_order(self, store: str, customer: str, lines: list[str], parcels: int, asking: Once | None = None) -> OrderRow:
        """Take an order and tell its shop.

        Raises:
            RefusedAsk: As `Press.place_order`.
        """
        work = partial(self.press.place_order, store=store, customer=customer, lines=lines, parcels=parcels, now_us=self.now_us())
        return await self.order(await self._issue(work, asking))

    async def revoke_voucher(self, voucher_id: str) -> VoucherRow:
        """Cancel a voucher.

        Raises:
            RefusedAsk: There is none.
        """
        await self.ingest.announce(await self.store.write(partial(self.press.revoke_voucher, voucher_id=voucher_id, now_us=self.now_us())))
        self.feed.tell(Change())
        return await self.voucher(voucher_id)

    async def cancel_order(self, order_id: str) -> OrderRow:
        """Cancel an order.

        Raises:
            RefusedAsk: There is none.
        """
        await self.ingest.announce(await self.store.write(partial(self.press.cancel_order, order_id=order_id, now_us=self.now_us())))
        self.feed.tell(Change())
        return await self.order(order_id)

    async def list_codes(self, voucher_id: str, codes: list[str]) -> None:
        """Have codes without signature stand for a voucher, and tell its shop.

        Raises:
            RefusedAsk: As `issuers.list_codes`.
        """
        await self.ingest.announce(await self.store.write(partial(self._list_codes, voucher_id=voucher_id, codes=codes)))

    def _list_codes(self, db: Connection, voucher_id: str, codes: list[str]) -> BoxRow:
        gateway = issuers.list_codes(db, voucher_id, codes, self.now_us() // 1_000_000 - KEPT_DAYS * DAY_S)
        row = next(row for row in registry.boxes(db) if row.gateway == gateway)
        self.press.seal(db, row, "vouchers", self.now_us())
        return row

    # -- issuers

    async def issuers(self) -> list[dict[str, Any]]:
        """Every issuer, its keys and what clears to it."""
        return await self.store.read(partial(issuers.describe, own=self.press.own_keys))

    async def change_keys(self, change: Callable[..., None]) -> None:
        """Change which keys are good, in a transaction (`change(db, own=…)`), and tell every shop.

        Raises:
            RefusedAsk: As the change does.
        """
        for row in await self.store.write(partial(self._change_keys, change=change)):
            await self.ingest.announce(row)

    def _change_keys(self, db: Connection, change: Callable[..., None]) -> list[BoxRow]:
        change(db, own=self.press.own_keys)
        rows = registry.boxes(db)
        for row in rows:
            self.press.seal(db, row, "keys", self.now_us())
        return rows

    async def use_online(self, voucher_id: str) -> Answer:
        """Somebody tries to use a voucher in the web shop: its class is decided in its shop alone, so this is refused.

        Raises:
            RefusedAsk: There is no such voucher.
        """
        shown = await self.voucher(voucher_id)
        now_us = self.now_us()
        await self.store.write(partial(_note_online, voucher_id=voucher_id, now_us=now_us))
        self.feed.tell(Change())
        return Answer(
            decision="refused", reason="store_only", message=STORE_ONLY, next_step=STORE_ONLY_NEXT,
            title=Text(shown.title_zh, shown.title_en), reference=voucher_id, decided_us=now_us,
        )  # fmt: skip

    async def voucher(self, voucher_id: str) -> VoucherRow:
        """One voucher.

        Raises:
            RefusedAsk: There is none.
        """
        found = await self.store.read(partial(reports.voucher, voucher_id=voucher_id))
        if found is None:
            raise RefusedAsk(404, f"there is no voucher {voucher_id}")
        return found

    async def order(self, order_id: str) -> OrderRow:
        """One order.

        Raises:
            RefusedAsk: There is none.
        """
        found = await self.store.read(partial(reports.order, order_id=order_id))
        if found is None:
            raise RefusedAsk(404, f"there is no order {order_id}")
        return found

    async def show_camera(self, text: str) -> None:
        """Hold a code before the shop's virtual camera.

        Raises:
            RefusedAsk: There is no such camera here.
            BrokerError: It does not answer.
        """
        if self.camera is None:
            raise RefusedAsk(404, "headquarters was started without a camera to show codes to")
        try:
            async with asyncio.timeout(CAMERA_TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(self.camera)
                writer.write(json.dumps({"do": "show", "text": text, "seconds": CAMERA_S}).encode() + b"\n")
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except OSError as error:  # TimeoutError among them
            raise BrokerError("the shop's camera does not answer", "Start the virtual store") from error

    # -- looking

    async def shops(self) -> list[dict[str, Any]]:
        """Every shop at a glance."""
        now_us = self.now_us()
        found = await self.store.read(partial(_shops, now_us=now_us, ingest=self.ingest))
        return [self._live(row, facts, now_us) for row, facts in found]

    async def shop_counts(self, store: str, day: str | None) -> dict[str, Any]:
        """The numbers of a shop on a day, today if none is named.

        Raises:
            RefusedAsk: There is no such shop.
        """
        row, facts = await self.store.read(partial(_shop, store=store, day=day, now_us=self.now_us(), ingest=self.ingest))
        heard = self.ingest.presence.heard(row.gateway)
        return {
            "store": row.store, "day": facts["day"], **facts["counts"], "total": facts["totals"], "missing": facts["missing"],
            "complete": heard is not None and facts["missing_rows"] == 0, "as_of_us": heard.heard_us if heard else None,
        }  # fmt: skip

    def put_line(self, store: str, line: Line) -> Line:
        """Cut or mend a shop's line.

        Raises:
            RefusedAsk: There is no such shop.
        """
        relay = self.lines.of(store)
        if relay is None:
            raise RefusedAsk(404, f"there is no shop {store}")
        relay.put(line)
        self.feed.tell(Change())
        return relay.line

    # -- inside transactions

    def _hire(self, db: Connection, store: str, staff: registry.NewStaff) -> BoxRow:
        row = registry.box_of_store(db, store)
        registry.hire(db, row.gateway, staff)
        self.press.seal(db, row, "staff", self.now_us())
        return row

    async def _issue(self, make: Callable[[Connection], Issued], asking: Once | None) -> str:
        """Issue something, at most once for a key, and tell its shop; its identifier."""
        made = await self.store.write(partial(once.do, once=asking, now_us=self.now_us(), make=make, name_of=lambda one: one.identifier))
        if made.fresh is not None:
            await self.ingest.announce(made.fresh.box)
            self.feed.tell(Change())
        return made.identifier

    def _live(self, row: BoxRow, facts: dict[str, Any], now_us: int) -> dict[str, Any]:
        heard = self.ingest.presence.heard(row.gateway)
        up = self.ingest.presence.is_up(row.gateway, now_us)
        relay = self.lines.of(row.store)
        is_current = up and not facts["missing"]["redemptions"] and not (heard is not None and heard.waiting)
        return registry.describe(row) | facts | {
            "risk": risks.with_open(facts["risk"], is_current),
            "line": "up" if up else "down" if heard else "never",
            "beat_age_s": round((now_us - heard.heard_us) / 1e6, 1) if heard else None,
            "as_of_us": heard.heard_us if heard else None,
            "waiting": heard.waiting if heard else None,
            "epoch": heard.epoch if heard else None,
            "wan": relay.line.value if relay else None,
            "relay_port": relay.port if relay else None,
            "complaints": self.ingest.complaints[row.gateway],
        }  # fmt: skip


def _shops(db: Connection, now_us: int, ingest: Ingest) -> list[tuple[BoxRow, dict[str, Any]]]:
    return [(row, _facts(db, row, now_us, None, ingest)) for row in registry.boxes(db)]


def _shop(db: Connection, store: str, day: str | None, now_us: int, ingest: Ingest) -> tuple[BoxRow, dict[str, Any]]:
    row = registry.box_of_store(db, store)
    return row, _facts(db, row, now_us, day, ingest)


def _facts(db: Connection, row: BoxRow, now_us: int, day: str | None, ingest: Ingest) -> dict[str, Any]:
    day, heard = day or local_day(now_us, row.timezone), ingest.presence.heard(row.gateway)
    stands = reports.lanes(db, row.gateway, heard)
    missing = {lane: sum(stand.missing for stand in stands if stand.lane == lane) for lane in (0, 1, 2)}
    return {
        "day": day,
        "counts": reports.counts(db, row.gateway, day),
        "totals": reports.totals(db, row.gateway),
        "missing": {name: missing[lane] for name, (_, lane) in reports.NUMBERS.items()},
        "missing_rows": sum(missing.values()),
        "lanes": [{"epoch": stand.epoch, "lane": stand.lane, "last": stand.produced, "mark": stand.mark} for stand in stands],
        "inside": reports.inside(db, row.gateway, now_us),
        "occupancy": reports.occupancy(db, row.gateway),
        "quarantined": reports.quarantined(db, row.gateway),
        "risk": risks.describe(db, row.gateway),
        "screened": screened.standing(db, row.gateway),
        "start": openings.describe(db, row.gateway, ingest.openings.unproven(row.gateway), now_us),
        "label_complaints": [{"at_us": one.at_us, "reason": one.reason} for one in labels.complaints(db, row.gateway)],
    }


def _note_online(db: Connection, voucher_id: str, now_us: int) -> None:
    db.execute(
        "INSERT INTO uses (voucher_id, gateway, kind, reason, station, staff, at_us, received_us)"
        " VALUES (?, NULL, 'online_refused', 'store_only', '', NULL, ?, ?)",
        (voucher_id, now_us, now_us),
    )
