"""Points over HTTP, and the loop that credits them."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import StringConstraints

from cloud_bridge.hq import accounts, consents, devices, members, reports, returns
from cloud_bridge.hq.api import Level
from cloud_bridge.hq.assignments import is_destroyed
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.member_office import seal_members
from cloud_bridge.hq.registry import BoxRow, boxes
from cloud_bridge.hq.store import Connection, Store, StoreAway
from gateway.clock import Clock
from gateway.events import Lane

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
FAR_US: Final = 1 << 62
SETTLED_US: Final = 3 * 1_000_000  # a shop has told of a moment when it was heard so long after it, and nothing is on its way
Ref = Annotated[str, StringConstraints(pattern="^[a-z2-7]{26}$")]


class Accounts:
    """Credits what has arrived, once a second."""

    def __init__(self, store: Store, press: Press, ingest: Ingest, clock: Clock) -> None:
        self.store = store
        self._press = press
        self._ingest = ingest
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except StoreAway as error:
                log.warning("points are not credited now: %s", error)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Credit and settle what can be; whose numbers sales were typed with is found on the reader's thread, which may take a while."""
        through, looked, found, told_us, untold = await self.store.read(self._to_do)
        if looked or told_us or untold:
            told = await self.store.write(partial(self._settle, looked=looked, found=found, through=through, told_us=told_us))
            for row in told:
                await self._ingest.announce(row)

    def told(self, db: Connection) -> dict[str, int]:
        """Each shop that serves, and the moment through which it has told everything."""
        retired, told = devices.retired_boxes(db), dict[str, int]()
        for row in boxes(db):
            heard = self._ingest.presence.heard(row.gateway)
            if row.public is None or row.gateway in retired or is_destroyed(db, row.gateway):
                continue
            missing = sum(one.missing for one in reports.lanes(db, row.gateway, heard) if one.lane == Lane.MONEY)
            told[row.store] = 0 if heard is None or missing else heard.heard_us - SETTLED_US
        return told

    def _to_do(self, db: Connection) -> tuple[int, list[accounts.Waiting], accounts.Found, int, bool]:
        """The latest change of members, sales with whose they are, the moment through which first visits can be answered (0: none), and
        whether points were spent.

        What all shops had told by then they still have told when it is written.
        """
        through = accounts.newest(db)
        looked, found = accounts.resolve(db, accounts.waiting(db, through))
        told_us = min(self.told(db).values(), default=0) if accounts.is_due(db, FAR_US) else 0
        untold = accounts.untold(db) or consents.untold(db) or returns.is_due(db)
        return through, looked, found, told_us if accounts.is_due(db, told_us) else 0, untold

    def _settle(self, db: Connection, looked: list[accounts.Waiting], found: accounts.Found, through: int, told_us: int) -> list[BoxRow]:
        now_us = self._clock.now().wall_us
        regions = accounts.credit(db, looked, found, through, now_us)
        regions |= accounts.settle(db, told_us, now_us) | returns.settle(db, now_us) | accounts.tell(db) | consents.tell(db)
        return seal_members(db, self._press, regions, now_us) if regions else []


def account_routes(office: Accounts) -> APIRouter:
    """The routes of the API."""
    router = APIRouter(tags=["members"])
    read = office.store.read

    @router.get("/api/members/{member_ref}/points", summary="A member's account: what was credited for which row, and what still waits")
    async def account(member_ref: Ref) -> dict[str, Any]:
        shown = await read(partial(members.one, member_ref=member_ref))
        return {"points": shown.points, **await read(partial(accounts.account, member_ref=member_ref))}

    @router.get("/api/members/{member_ref}/uses", summary="How often a member used each campaign in each shop")
    async def uses(member_ref: Ref) -> list[dict[str, Any]]:
        return await read(partial(accounts.uses, member_ref=member_ref))

    @router.get("/api/points", summary="Sales whose points wait for a member, and how many were credited")
    async def points() -> dict[str, Any]:
        return await read(_points)

    @router.get("/api/revisits", summary="First visits in so many days: pending, granted or not first, and which shops are still awaited")
    async def revisits(state: Annotated[Literal["", "pending", "granted", "not_first", "no_member"], Query()] = "") -> list[dict[str, Any]]:
        return await read(partial(_revisits, state=state, told=office.told))

    @router.get("/api/sales", summary="Finished sales, newest first")
    async def sales(
        store: Level | None = None, member: Annotated[str | None, Query(pattern="^[a-z2-7]{26}$")] = None
    ) -> list[dict[str, Any]]:
        return await read(partial(_sales, store=store or "", member=member or ""))

    return router


def _points(db: Connection) -> dict[str, Any]:
    counted = dict(db.execute("SELECT state, count(*) FROM accruals GROUP BY state").fetchall())
    names = ("store", "sale_id", "spent_minor", "currency", "at_us")
    sql = (
        "SELECT b.store, a.sale_id, a.spent_minor, a.currency, a.at_us FROM accruals a JOIN boxes b ON b.gateway = a.gateway"
        " WHERE a.state = 'waiting' ORDER BY a.at_us DESC LIMIT 500"
    )
    waiting = [dict(zip(names, row, strict=True)) for row in db.execute(sql).fetchall()]
    return {"credited": counted.get("credited", 0), "waiting": counted.get("waiting", 0), "sales": waiting}


def _revisits(db: Connection, state: str, told: Callable[[Connection], dict[str, int]]) -> list[dict[str, Any]]:
    found, through = accounts.revisits(db, state), told(db)
    for one in found:
        waiting = [store for store, at_us in through.items() if at_us < one["at_us"]]
        one["waiting_for"] = waiting if one["state"] == "pending" else []
    return found


def _sales(db: Connection, store: str, member: str) -> list[dict[str, Any]]:
    names = ("store", "sale_id", "receipt_id", "station", "staff", "member_ref", "currency", "total_minor", "at_us", "received_us", "lines")
    sql = (
        "SELECT b.store, s.sale_id, s.receipt_id, s.station, s.staff, s.member_ref, s.currency, s.total_minor, s.at_us, s.received_us,"
        " s.lines FROM sales s JOIN boxes b ON b.gateway = s.gateway WHERE (? = '' OR b.store = ?) AND (? = '' OR s.member_ref = ?)"
        " ORDER BY s.at_us DESC, s.sale_id LIMIT 500"
    )
    found = db.execute(sql, (store, store, member, member)).fetchall()
    return [dict(zip(names, row, strict=True)) | {"lines": msgspec.json.decode(row[-1])} for row in found]
