"""Checking in at a shop: the chain's app reads the code on a kiosk's screen and gets a discount voucher, once for each member and day.

The code is signed by the shop's box and made anew each half minute (`gateway.checkin`). Its age is judged by headquarters' clock: each of
the box's beats says what the box's clock shows, so a clock that is wrong is corrected by how far it was off when it was last heard. A box
not heard for a day, or not since headquarters started, cannot be corrected: its codes are refused as stale.

From another place: what the app claims (`store`, by its own geofence or beacon) must be the shop that signed. Without that claim only the
age protects: somebody at the shop who sends the code on within `FRESH_S` is not found out.
"""

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq import registry
from cloud_bridge.hq.api import Level, Words
from cloud_bridge.hq.documents import VoucherAsk
from cloud_bridge.hq.feed import Change
from cloud_bridge.hq.granting import both, name_of, qr
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.ready import local_day
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.reports import VoucherRow, voucher
from cloud_bridge.hq.store import Connection
from gateway import checkin
from gateway.checkin import ROTATES_S, CheckIn
from gateway.codes import holds_card
from gateway.errors import MalformedFrame
from gateway.rules.reasons import Reason, Text

FRESH_S: Final = ROTATES_S + 45  # a screen shows it for half a minute; the rest is for taking out a phone
EARLY_S: Final = 5  # a beat may have been under way for as long
HEARD_S: Final = 86_400  # a Pi's crystal drifts below 5 s a day
EVERYWHERE: Final = ""
CHANNEL: Final = "checkin"


def _words(zh: str, en: str, next_zh: str, next_en: str) -> Reason:
    return Reason(Text(zh, en), Text(next_zh, next_en))


_SCAN: Final = ("請掃描門市畫面上現在的 QR 碼", "Scan the QR code that the shop's screen shows now")
WORDS: Final[dict[str, Reason]] = {
    "stale": _words("此打卡碼已過時，或不是這家門市的", "This check-in code is too old, or another shop's", *_SCAN),
    "not_a_checkin": _words("這不是門市的打卡碼", "This is not a shop's check-in code", *_SCAN),
    "limit_member": _words("您今日已打卡領取過", "You have checked in today", "請明日再來", "Please come back tomorrow"),
    "no_offer": _words("本店目前沒有打卡優惠", "This shop has no check-in offer now", "請洽店員", "Please ask our staff"),
}


class Offer(BaseModel):
    """What a check-in is answered with; without a shop, at every shop that has none of its own."""

    model_config = ConfigDict(extra="forbid")
    store: Level | None = None
    title_zh: Words
    title_en: str = Field("", max_length=80)
    value_minor: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    campaign: Annotated[int, Field(ge=0, le=2**32 - 1)] = 1
    valid_days: Annotated[int, Field(ge=1, le=365)] = 1
    closed: bool = Field(False, description="No check-in is answered there any more.")


class Arrival(BaseModel):
    """A member stands before a screen, the chain's app backend says."""

    model_config = ConfigDict(extra="forbid")
    qr: Annotated[str, Field(max_length=4 * checkin.MAX_TEXT, description="What the app read: the whole address, or its last part.")]
    member_ref: Annotated[
        str, Field(pattern=r"^[0-9A-Za-z_-]{4,64}$", description="The backend's own random reference of the member; no phone number.")
    ]
    store: Level | None = Field(None, description="Where the app says it is; another shop than the code's is refused as stale.")


class Given(Struct, frozen=True):
    """What came of an arrival: a voucher, or why there is none."""

    reason: str = ""
    voucher: VoucherRow | None = None
    box: BoxRow | None = None  # its list has to be told; None: nothing is new


def routes(office: Office) -> APIRouter:
    """The routes; all need headquarters' token, as the backend of an app has it."""
    router = APIRouter(prefix="/api/checkins", tags=["check-ins"])

    @router.put("/offer", summary="What a check-in is answered with, at one shop or at all")
    async def offer(body: Offer) -> dict[str, Any]:
        await office.store.write(partial(put_offer, offer=body))
        return body.model_dump()

    @router.post("", summary="A member checks in: a discount voucher, or a refusal with its reason")
    async def arrive(body: Arrival) -> dict[str, Any]:
        if body.member_ref.isdigit() or holds_card(body.member_ref):
            raise RefusedAsk(422, "this member_ref looks like a number of a phone or a card: take a random reference with letters")
        found = _verified(office, body.qr)
        if found is None or not _is_fresh(office, found) or _is_elsewhere(office, found, body.store):
            return _refused("not_a_checkin" if found is None else "stale")
        given = await office.store.write(partial(_give, office=office, found=found, member_ref=body.member_ref))
        if given.box is not None:
            await office.ingest.announce(given.box)
            office.feed.tell(Change())
        return _refused(given.reason) if given.voucher is None else _given(office, found, given.voucher)

    return router


def put_offer(db: Connection, offer: Offer) -> None:
    """Store what a check-in is answered with.

    Raises:
        RefusedAsk: No such shop.
    """
    if offer.store is not None:
        registry.box_of_store(db, offer.store)
    row = (
        offer.store or EVERYWHERE, offer.title_zh, offer.title_en or offer.title_zh, offer.value_minor, offer.campaign, offer.valid_days,
        int(offer.closed),
    )  # fmt: skip
    changed = ", ".join(f"{name} = excluded.{name}" for name in ("title_zh", "title_en", "value_minor", "campaign", "valid_days", "closed"))
    db.execute(f"INSERT INTO checkin_offers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (store) DO UPDATE SET {changed}", row)  # noqa: S608


def _verified(office: Office, text: str) -> CheckIn | None:
    def key_of(gateway: str) -> Any:
        known = office.ingest.known(gateway)
        return known.key if known is not None else None

    try:
        return checkin.verify(text, key_of)
    except MalformedFrame:
        return None


def _is_fresh(office: Office, found: CheckIn) -> bool:
    now_us, heard = office.now_us(), office.ingest.presence.heard(found.gateway)
    if heard is None or heard.ahead_us is None or now_us - heard.heard_us > HEARD_S * 1e6:
        return False
    age_s = (now_us + heard.ahead_us) / 1e6 - found.made_s
    return -EARLY_S <= age_s <= FRESH_S


def _is_elsewhere(office: Office, found: CheckIn, store: str | None) -> bool:
    known = office.ingest.known(found.gateway)
    return store is not None and (known is None or known.row.store != store)


def _give(db: Connection, office: Office, found: CheckIn, member_ref: str) -> Given:
    """The voucher for a member's day. The same code asked again is a retry, and gets the same voucher."""
    row, now_us = registry.box_of(db, found.gateway), office.now_us()
    day = local_day(now_us, row.timezone)
    before: Any = db.execute(
        "SELECT gateway, station, made_s, voucher_id FROM checkins WHERE member_ref = ? AND day = ?", (member_ref, day)
    ).fetchone()
    if before is not None:
        is_retry = tuple(before[:3]) == (found.gateway, found.station, found.made_s)
        return Given(voucher=voucher(db, before[3])) if is_retry else Given("limit_member")
    offer: Any = db.execute(
        "SELECT title_zh, title_en, value_minor, campaign, valid_days, closed FROM checkin_offers WHERE store IN (?, ?)"
        " ORDER BY store DESC LIMIT 1", (row.store, EVERYWHERE),
    ).fetchone()  # fmt: skip
    if offer is None or offer[5]:
        return Given("no_offer")
    ask = VoucherAsk(
        store=row.store, title_zh=offer[0], title_en=offer[1], valid_days=offer[4], campaign=offer[3], uses=1, value_minor=offer[2],
        channel=CHANNEL,
    )  # fmt: skip
    issued = office.press.issue_voucher(db, ask, now_us)
    what = (member_ref, day, found.gateway, found.station, found.made_s, issued.identifier, now_us)
    db.execute("INSERT INTO checkins VALUES (?, ?, ?, ?, ?, ?, ?)", what)
    return Given(voucher=voucher(db, issued.identifier), box=row)


def _given(office: Office, found: CheckIn, made: VoucherRow) -> dict[str, Any]:
    known = office.ingest.known(found.gateway)
    shown = {
        "voucher_id": made.voucher_id, "title": {"zh": made.title_zh, "en": made.title_en}, "value_minor": made.value_minor,
        "not_after_s": made.not_after_s, "token": made.token, "short_code": made.short_code, "qr": qr(made.token),
    }  # fmt: skip
    return {"decision": "issued", "reason": "", "store": made.store, "shop": both(name_of(known.row)) if known else None, "voucher": shown}


def _refused(reason: str) -> dict[str, Any]:
    words = WORDS[reason]
    return {"decision": "refused", "reason": reason, "message": both(words.text), "next_step": both(words.next_step), "voucher": None}
