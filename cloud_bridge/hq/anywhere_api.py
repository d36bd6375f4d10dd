"""The API of what any shop may honour: terms of what may be taken on trust, what that has cost, and open codes."""

import secrets
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq import assignments, issuers, news, once, risks
from cloud_bridge.hq.api import Words
from cloud_bridge.hq.assigned_api import describe
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.documents import DAY_S, ISSUER, START_SLACK_S
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.once import Asking
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.anywhere import CLASS, RiskTerms
from gateway.codes import is_cardlike, listed_letters, short_code
from gateway.rules.assigning import Stand
from gateway.token import Claims, TokenKind, VoucherClass, voucher_ref
from gateway.verifiers import opaque

MOST_MINOR: Final = 2**32 - 1
MOST_UNITS: Final = 2**31
FEWEST_LETTERS: Final = 4  # everybody may know an open code: only slips are to be kept apart
Minor = Annotated[int, Field(ge=0, le=MOST_MINOR)]


class NewTerms(BaseModel):
    """How much shops may take on trust while headquarters cannot be asked. Amounts in the currency's minor unit."""

    model_config = ConfigDict(extra="forbid")
    campaign: Annotated[int, Field(ge=0, le=MOST_MINOR)] | None = Field(None, description="null: every campaign without terms of its own.")
    currency: Literal["TWD", "HKD"] = "TWD"
    per_code_minor: Annotated[Minor, Field(description="The floor: of one voucher never more than this.")]
    per_device_minor: Annotated[Minor, Field(description="Of one till, kiosk or phone, until headquarters' next word. 0: nothing.")]
    per_shop_minor: Annotated[Minor, Field(description="The cap: of one shop, until headquarters' next word. 0: nothing.")]
    per_member_count: Annotated[
        Annotated[int, Field(ge=0, le=10_000)] | None,
        Field(description="Uses of one known member within the window, in one shop. null: no cap; who is not known is under the floor."),
    ] = None
    per_member_minor: Annotated[Minor | None, Field(description="What they may come to. null: no cap.")] = None
    per_member_window_s: Annotated[int, Field(ge=60, le=30 * DAY_S, description="The window.")] = DAY_S
    worth_minor: Annotated[int, Field(ge=1, le=MOST_MINOR, description="Of one use of a voucher that names no value.")]
    list_age_s: Annotated[int, Field(ge=60, le=30 * DAY_S, description="How old the list of cancelled vouchers may be.")] = DAY_S
    bearer: Literal["issuer", "retailer", "shop"] = Field("retailer", description="Who bears a loss.")
    hq_live: bool = Field(False, description="Also for class hq_live while headquarters cannot be asked; else that is refused.")


class NewOpenCode(BaseModel):
    """A code that is the same for everybody, and how often it may be used in the whole chain."""

    model_config = ConfigDict(extra="forbid")
    texts: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=10)]
    title_zh: Words
    title_en: str = Field("", max_length=80)
    quota: Annotated[int, Field(ge=1, le=MOST_UNITS, description="Uses in the whole chain.")]
    allotment: Annotated[int, Field(ge=1, le=MOST_UNITS, description="Uses a shop is given at a time.")]
    lease_s: Annotated[int, Field(ge=3_600, le=30 * DAY_S, description="How long a shop holds them without a line.")] = DAY_S
    per_member: Annotated[int, Field(ge=0, le=255, description="Uses of one member in one shop; 0: no limit.")] = 0
    valid_days: Annotated[int, Field(ge=1, le=3650)] = 30
    campaign: Annotated[int, Field(ge=0, le=MOST_MINOR)] = 1
    value_minor: Minor = 0


def anywhere_routes(office: Office) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api", tags=["any shop"])
    _add_risk(router, office)
    _add_codes(router, office)
    return router


def _add_risk(router: APIRouter, office: Office) -> None:
    @router.post("/risk/terms", status_code=201, summary="Declare how much shops may take on trust, and who bears a loss")
    async def declare(body: NewTerms) -> dict[str, Any]:
        fields = body.model_dump() | {"campaign": CLASS if body.campaign is None else body.campaign, "version": 0}
        terms = await office.store.write(partial(risks.declare, terms=RiskTerms(**fields), now_us=office.now_us()))
        office.ingest.telling.wake()
        return dict(msgspec.to_builtins(terms))

    @router.get("/risk/terms", summary="The terms in force, by campaign; -1: every other campaign")
    async def terms() -> list[dict[str, Any]]:
        return list(msgspec.to_builtins(await office.store.read(risks.in_force)))

    @router.get("/risk", summary="What was taken on trust: caps, what may be open, what was lost and who bears it")
    async def cost() -> dict[str, Any]:
        shops = [{"store": shop["store"]} | shop["risk"] for shop in await office.shops()]
        return {"shops": shops, "losses": await office.store.read(risks.losses)}


def _add_codes(router: APIRouter, office: Office) -> None:
    @router.post("/open-codes", status_code=201, summary="Issue a code that is the same for everybody")
    async def issue(body: NewOpenCode, asking: Asking) -> dict[str, Any]:
        make = partial(_issue, office=office, asked=body)
        made = await office.store.write(
            partial(once.do, once=asking, now_us=office.now_us(), make=make, name_of=lambda row: row.voucher_id)
        )
        office.ingest.telling.wake()
        return await one(made.identifier)

    @router.get("/open-codes", summary="Every open code, and what shops hold and have used of it")
    async def listed() -> list[dict[str, Any]]:
        ids = await office.store.read(
            lambda db: db.execute(
                "SELECT o.voucher_id FROM open_codes o JOIN assigned a ON a.voucher_id = o.voucher_id ORDER BY a.issued_us DESC LIMIT 200"
            ).fetchall()
        )
        return [await one(voucher_id) for (voucher_id,) in ids]

    @router.get("/open-codes/{voucher_id}", summary="An open code; cancel it as any assigned voucher")
    async def one(voucher_id: str) -> dict[str, Any]:
        found = await office.store.read(partial(_find, voucher_id=voucher_id))
        if found is None:
            raise RefusedAsk(404, f"there is no open code {voucher_id}", "GET /api/open-codes lists them")
        return found


def _issue(db: Connection, office: Office, asked: NewOpenCode) -> AssignedRow:
    if asked.allotment > asked.quota:
        raise RefusedAsk(422, "a shop's allotment is more than the whole quota", "Make `allotment` smaller")
    now_us = office.now_us()
    now_s, identifier = now_us // 1_000_000, secrets.randbits(60)
    claims = Claims(
        kind=TokenKind.VOUCHER, key_id=issuers.signing_key_id(db, office.press.own_keys), issuer=ISSUER, identifier=identifier,
        campaign=asked.campaign, not_before_s=now_s - START_SLACK_S, not_after_s=now_s + asked.valid_days * DAY_S,
        voucher_class=VoucherClass.OPEN_CODE, value_minor=asked.value_minor,
    )  # fmt: skip
    reference = voucher_ref(ISSUER, identifier)
    for place, text in enumerate(asked.texts, 1):
        _list_text(db, reference, text, place)
    row = AssignedRow(
        voucher_id=reference, voucher_class=VoucherClass.OPEN_CODE, campaign=asked.campaign, title_zh=asked.title_zh,
        title_en=asked.title_en or asked.title_zh, not_after_s=claims.not_after_s, units=asked.quota, value_minor=asked.value_minor,
        token=office.press.sign(claims), short_code=short_code(identifier),
        holder_sha256=assignments.holder_hash(reference, secrets.token_bytes(16)), issued_us=now_us, stand=Stand(reference, asked.quota),
    )  # fmt: skip
    assignments.insert(db, row)
    texts = msgspec.json.encode(asked.texts).decode()
    values = (reference, texts, asked.allotment, asked.per_member, asked.lease_s, claims.not_before_s)
    db.execute("INSERT INTO open_codes VALUES (?, ?, ?, ?, ?, ?)", values)
    news.tell_all(db)
    return row


def _list_text(db: Connection, voucher_id: str, text: str, place: int) -> None:
    if is_cardlike(text):
        raise RefusedAsk(422, f"text {place} looks like a card number", "Shops drop such numbers: take another text")
    if len(listed_letters(text)) < FEWEST_LETTERS:
        raise RefusedAsk(422, f"text {place} is too short or too long", f"From {FEWEST_LETTERS} to 128 letters")
    digest = opaque.digest_of(text)
    if db.execute("SELECT 1 FROM voucher_codes WHERE digest = ? AND voucher_id <> ?", (digest, voucher_id)).fetchone() is not None:
        raise RefusedAsk(409, f"text {place} stands for something else already", "Take another text, or wait until that code has ended")
    db.execute("INSERT INTO voucher_codes VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", (digest, voucher_id))


def _find(db: Connection, voucher_id: str) -> dict[str, Any] | None:
    row = assignments.find(db, voucher_id)
    code = db.execute("SELECT texts, allotment, per_member, lease_s FROM open_codes WHERE voucher_id = ?", (voucher_id,)).fetchone()
    if row is None or code is None:
        return None
    told = {"texts": msgspec.json.decode(code[0]), "allotment": code[1], "per_member": code[2], "lease_s": code[3]}
    used = db.execute(
        "SELECT CAST(coalesce(sum(units), 0) AS BIGINT) FROM shared_uses WHERE voucher_id = ? AND reversed = 0", (voucher_id,)
    ).fetchone()[0]
    return describe(row) | told | {"quota": row.units, "used": int(used)}
