"""The API of vouchers that headquarters assigns: issue, look, move, cancel, refund; boxes declared destroyed; exposure."""

import secrets
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq import assignments, balances, issuers, once, risks, screened, trimming
from cloud_bridge.hq.api import Words
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.balances import Lending
from cloud_bridge.hq.documents import DAY_S, ISSUER, START_SLACK_S, Press
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.once import Asking
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway import holder
from gateway.codes import short_code
from gateway.rules.assigning import Stand, Wish
from gateway.rules.balance import POINTS
from gateway.token import Claims, Flag, TokenKind, VoucherClass, points_ref, voucher_ref

SECRET_B: Final = 16
CLASSES: Final = {
    "granted": VoucherClass.GRANTED, "hq_live": VoucherClass.HQ_LIVE, "leased": VoucherClass.LEASED,
    "bounded_risk": VoucherClass.BOUNDED_RISK,
}  # fmt: skip


class NewAssigned(BaseModel):
    """A voucher that any shop may honour, each time by headquarters' assignment."""

    model_config = ConfigDict(extra="forbid")
    title_zh: Words
    title_en: str = Field("", max_length=80)
    voucher_class: Literal["granted", "hq_live", "leased", "bounded_risk"] = "granted"
    valid_days: Annotated[int, Field(ge=1, le=3650)] = 30
    campaign: Annotated[int, Field(ge=0, le=2**32 - 1)] = 1
    uses: Annotated[int, Field(ge=1, le=255)] = 1
    value_minor: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    unit: Annotated[Literal["minor", "points"], Field(description="Of class leased: what is counted.")] = "minor"
    points: Annotated[int, Field(ge=0, le=2**32 - 1, description="Of a points account: how many are in it at first.")] = 0
    member_ref: Annotated[str, Field(max_length=64, description="Of a points account: the member's random reference.")] = ""
    share: Annotated[int, Field(ge=0, le=2**32 - 1, description="Of class leased: a shop that asks is lent at least so much.")] = 0
    lease_hours: Annotated[int, Field(ge=1, le=24 * 90, description="Of class leased: for how long a shop is lent a share.")] = 24


def issue(press: Press, asked: NewAssigned, now_us: int, key_id: int, secret: bytes = b"") -> tuple[AssignedRow, str]:
    """A new voucher, not stored yet, and the secret of its link, which is stored nowhere; random unless one is given."""
    identifier, secret, now_s = secrets.randbits(60), secret or secrets.token_bytes(SECRET_B), now_us // 1_000_000
    identifier = int(points_ref(asked.member_ref), 16) if asked.member_ref else identifier
    voucher_class, is_points = CLASSES[asked.voucher_class], asked.unit == POINTS
    is_balance = voucher_class is VoucherClass.LEASED
    claims = Claims(
        kind=TokenKind.VOUCHER, key_id=key_id, issuer=ISSUER, identifier=identifier, campaign=asked.campaign,
        not_before_s=now_s - START_SLACK_S, not_after_s=now_s + asked.valid_days * DAY_S, voucher_class=voucher_class, uses=asked.uses,
        value_minor=asked.value_minor, flags=(Flag.POINTS if is_points else Flag.PARTIAL) if is_balance else 0,
    )  # fmt: skip
    units, reference = asked.points if is_points else asked.value_minor if is_balance else asked.uses, voucher_ref(ISSUER, identifier)
    row = AssignedRow(
        voucher_id=reference, voucher_class=voucher_class, campaign=asked.campaign, title_zh=asked.title_zh,
        title_en=asked.title_en or asked.title_zh, not_after_s=claims.not_after_s, units=units,
        value_minor=int(not is_points) if is_balance else asked.value_minor, token=press.sign(claims), short_code=short_code(identifier),
        holder_sha256=assignments.holder_hash(reference, secret), issued_us=now_us, stand=Stand(reference, units),
    )  # fmt: skip
    return row, secret.hex()


def refuse_without_terms(db: Connection, voucher_class: str, campaign: int) -> None:
    """Look whether vouchers of a class may be issued for a campaign.

    Raises:
        RefusedAsk: Nobody has said how much shops may take on trust, and who bears a loss.
    """
    if voucher_class == "bounded_risk" and risks.terms_for(risks.in_force(db), campaign) is None:
        raise RefusedAsk(409, f"campaign {campaign} has no terms of what shops may take on trust", "Declare them: POST /api/risk/terms")


def routes(office: Office, page: str) -> APIRouter:
    """The routes; `page` is where shoppers reach headquarters."""
    router = APIRouter(prefix="/api", tags=["assigned vouchers"])
    claims = office.ingest.claims

    @router.post("/assigned", status_code=201, summary="Issue a voucher for any shop; its link and the secret in it are shown this once")
    async def new(body: NewAssigned, asking: Asking) -> dict[str, Any]:
        _refuse_odd(body)
        key_id = await office.store.read(partial(issuers.signing_key_id, own=office.press.own_keys))
        await office.store.read(partial(refuse_without_terms, voucher_class=body.voucher_class, campaign=body.campaign))
        row, secret = issue(office.press, body, office.now_us(), key_id)
        make = partial(_insert, row=row, lending=Lending(body.unit, body.share, body.lease_hours * 3_600))
        made = await office.store.write(partial(once.do, once=asking, now_us=office.now_us(), make=make, name_of=_name))
        if made.fresh is None:  # its secret was in the first answer and is kept nowhere
            raise RefusedAsk(409, f"that key issued {made.identifier}: cancel it and issue another if its answer was lost")
        return describe(row) | {"secret": secret, "link": holder.link(page, row.voucher_id, bytes.fromhex(secret))}

    @router.get("/assigned/{voucher_id}", summary="A voucher, who holds it and what is wanted of it")
    async def one(voucher_id: str) -> dict[str, Any]:
        return await shown(office, voucher_id)

    @router.post("/assigned/{voucher_id}/{wish}", summary="move, cancel or refund it: at once, or when nobody holds it any more")
    async def wanted(voucher_id: str, wish: Literal["move", "cancel", "refund"]) -> dict[str, Any]:
        await claims.wish(voucher_id, Wish(wish))
        return describe(await _found(office, voucher_id))

    @router.post("/boxes/{gateway}/destroyed", summary="Declare a box destroyed: what it holds comes back, and is booked as exposure")
    async def destroyed(gateway: str) -> dict[str, Any]:
        changed = await claims.destroy(gateway)
        return {"gateway": gateway, "freed": len(changed), "exposed_units": sum(stand.exposed for stand in changed)}

    @router.get("/exposure", summary="What boxes hold, what destroyed ones may have cost, what was spent too late or honoured unseen")
    async def exposure() -> dict[str, Any]:
        return await office.store.read(lambda db: assignments.exposure(db) | screened.exposure(db) | trimming.totals(db))

    return router


async def shown(office: Office, voucher_id: str) -> dict[str, Any]:
    """A voucher with its state and its story; of a balance, where all of it is.

    Raises:
        RefusedAsk: There is none.
    """
    row = await _found(office, voucher_id)
    more = partial(balances.told, voucher_id=voucher_id, stand=row.stand, put_in=row.units, is_balance=row.is_balance)
    return describe(row) | await office.store.read(more)


def _refuse_odd(asked: NewAssigned) -> None:
    odd = asked.unit == POINTS and (asked.voucher_class != "leased" or asked.value_minor)
    if odd or (asked.unit != POINTS and (asked.points or asked.member_ref)):
        raise RefusedAsk(422, "a points account is of class leased, has points and no value", 'Say "unit": "points", or leave them out')


def _insert(db: Connection, row: AssignedRow, lending: Lending) -> AssignedRow:
    if assignments.find(db, row.voucher_id) is not None:
        raise RefusedAsk(409, f"there is an assigned voucher {row.voucher_id}", "A member has one points account: put more into it")
    assignments.insert(db, row)
    if row.is_balance:
        balances.note(db, row.voucher_id, lending)
    return row


def _name(row: AssignedRow) -> str:
    return row.voucher_id


async def _found(office: Office, voucher_id: str) -> AssignedRow:
    row = await office.store.read(partial(assignments.find, voucher_id=voucher_id))
    if row is None:
        raise RefusedAsk(404, f"there is no assigned voucher {voucher_id}")
    return row


def describe(row: AssignedRow) -> dict[str, Any]:
    """A voucher with its state; not the hash of its secret."""
    stand = row.stand
    holders = [{"gateway": kept.gateway, "number": kept.number, "units": kept.units, "spent": kept.total_spent} for kept in stand.kept]
    state = stand.ended or ("requested" if stand.wish else "assigned" if stand.kept else "free" if stand.left else "used")
    told = {name: value for name, value in msgspec.to_builtins(row).items() if name not in ("stand", "holder_sha256")}
    return told | {
        "state": state, "wish": stand.wish, "left": stand.left, "number": stand.number, "holders": holders, "exposed": stand.exposed,
        "late": stand.late,
    }  # fmt: skip
