"""Everything shops told, read out as CloudEvents, in the order of arrival: for a data warehouse, a CRM, a campaign tool.

A reader keeps a *cursor*: the number of the last arrival it has, and a check of which row that was. After headquarters was
restored from a backup arrivals are numbered anew; a cursor of before is then refused, and the reader starts from the beginning:
rows it has seen come with the `source` and `id` they had. Rows nobody here can read are not told; `hq books` counts them.
"""

import hashlib
import json
import re
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response
from msgspec import Struct

from cloud_bridge.envelope import read_row
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, StoredRow
from cloud_bridge.hq.timing import known_fixes
from gateway.cloudevents import BATCH_MEDIA_TYPE, to_cloudevent
from gateway.events import TimeTrust

MOST_A_PAGE: Final = 2_000
CURSOR: Final = re.compile(r"([1-9][0-9]{0,17})-([0-9a-f]{12})")
_COLUMNS: Final = "id, gateway, epoch, lane, seq, record_us, received_us, type, event"


class Page(Struct, frozen=True):
    """Some events, and the cursor behind the last of them."""

    events: list[dict[str, Any]]
    cursor: str


def page(db: Connection, after: str, limit: int) -> Page:
    """The events after a cursor, at most `limit`; none: there are no more yet.

    Args:
        after: A cursor, or "" for the beginning.

    Raises:
        RefusedAsk: No cursor (400), or one of before a restore (410).
    """
    last = _number(db, after)
    rows: list[StoredRow] = []
    (newest,) = db.execute("SELECT last FROM arrived").fetchone()
    while not rows and last < newest:  # rows set aside leave gaps between the numbers
        found = db.execute(f"SELECT {_COLUMNS} FROM rows WHERE id > ? AND id <= ? ORDER BY id", (last, last + limit))  # noqa: S608
        rows = [StoredRow(*row) for row in found.fetchall()]
        last += limit
    return Page(_events(db, rows), _cursor(rows[-1]) if rows else after)


def _events(db: Connection, rows: list[StoredRow]) -> list[dict[str, Any]]:
    decoded = [(row, read_row(row.event.encode("utf-8"))) for row in rows]
    boots: dict[str, set[str]] = {}
    for row, event in decoded:
        if event.event_time.trust is TimeTrust.UNTRUSTED:
            boots.setdefault(row.gateway, set()).add(event.event_time.boot_id)
    fixes = {gateway: known_fixes(db, gateway, boot_ids) for gateway, boot_ids in boots.items()}
    told = []
    for row, event in decoded:
        at = event.event_time
        fix = fixes.get(row.gateway, {}).get(at.boot_id) if at.trust is TimeTrust.UNTRUSTED else None
        fixed_us = fix.true_us(at) if fix is not None else None
        told.append(to_cloudevent(row.gateway, row.epoch, row.lane, row.seq, row.record_us, event, fixed_us))
    return told


def _number(db: Connection, after: str) -> int:
    if not after:
        return 0
    match = CURSOR.fullmatch(after)
    if match is None:
        raise RefusedAsk(400, "that is no cursor")
    number = int(match[1])
    found = db.execute(f"SELECT {_COLUMNS} FROM rows WHERE id = ?", (number,)).fetchone()  # noqa: S608 - our own names
    if found is None or _cursor(StoredRow(*found)) != after:
        raise RefusedAsk(410, "headquarters was restored since: read from the beginning", "known events have the ids they had")
    return number


def _cursor(row: StoredRow) -> str:
    """With the moment of its arrival: after a restore the same row may come again under the same number, and others before it not."""
    place = f"{row.gateway}/{row.epoch}/{row.lane}/{row.seq}@{row.received_us}"
    return f"{row.id}-{hashlib.blake2b(place.encode(), digest_size=6).hexdigest()}"


def event_routes(office: Office) -> APIRouter:
    """The route of the API."""
    router = APIRouter(tags=["events"])

    @router.get("/api/events", summary="Everything shops told, as CloudEvents 1.0, oldest arrival first; `Link` names the next page")
    async def events(
        after: Annotated[str, Query(max_length=40, description="The cursor of the page before; none: from the beginning")] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_A_PAGE)] = 1_000,
    ) -> Response:
        found = await office.store.read(partial(page, after=after, limit=limit))
        text = json.dumps(found.events, ensure_ascii=False, separators=(",", ":"))
        following = f'</api/events?after={found.cursor}&limit={limit}>; rel="next"'
        return Response(text, media_type=BATCH_MEDIA_TYPE, headers={"Link": following, "X-Cursor": found.cursor})

    return router
