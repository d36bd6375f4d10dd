"""Members over HTTP. A telephone number or an old card comes in and is hashed at once; neither is in any answer, table or log."""

from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloud_bridge.hq.api import draw
from cloud_bridge.hq.member_office import COLUMNS, MOST_LINES, MemberOffice
from cloud_bridge.hq.members import ELSEWHERE, MOST_CARDS, MemberAsk, MemberRow, typed_code
from cloud_bridge.hq.registry import RefusedAsk

Region = Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]
Tier = Annotated[str, StringConstraints(strip_whitespace=True, max_length=40)]
Points = Annotated[int, Field(ge=0, le=10**12)]
Consent = Literal["bind", "beacon", "preferences", "marketing"]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
CSV: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}}
ONE: Final = "/api/members/{member_ref}"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewMember(_Body):
    """Somebody who joins; asked again with the same number, it is the same member."""

    region: Region = ELSEWHERE
    phone: str = Field("", max_length=40, description="As typed; hashed at once, and kept nowhere.")
    old_cards: list[Annotated[str, StringConstraints(max_length=256)]] = Field([], max_length=MOST_CARDS)
    tier: Tier = ""
    consents: list[Consent] = Field([], max_length=8)
    points: Points = 0


class MemberChange(_Body):
    """What is to be another; what is left out stays."""

    tier: Tier | None = None
    consents: list[Consent] | None = Field(None, max_length=8, description="All of them: what is not said is withdrawn.")
    points: Points | None = None


class NewTag(_Body):
    """A word for staff."""

    tag: Tag
    not_after_s: Annotated[int, Field(ge=0, le=2**32 - 1, description="Until when, seconds since 1970 UTC; 0 takes it away.")]


def member_routes(office: MemberOffice) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["members"])

    @router.post("/api/members", status_code=201, summary="Make a member, or find the one who has that number")
    async def make(body: NewMember) -> dict[str, Any]:
        row, is_new = await office.make(MemberAsk(**body.model_dump()))
        return describe(row) | {"new": is_new}

    @router.post(
        "/api/members/import", status_code=201, openapi_extra=CSV,
        summary=f"Make up to {MOST_LINES} members of a CSV ({', '.join(COLUMNS)}): all of them or none",
    )  # fmt: skip
    async def take_over(request: Request, region: Annotated[Region, Query()] = ELSEWHERE) -> dict[str, Any]:
        try:
            text = (await request.body()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RefusedAsk(422, "not UTF-8 text", "Save the file as UTF-8") from error
        made = await office.take_over(text, region)
        return {"new": sum(is_new for _, is_new in made), "members": [row.member_ref for row, _ in made]}

    @router.get(ONE, summary="A member")
    async def one(member_ref: str) -> dict[str, Any]:
        return describe(await office.one(member_ref))

    @router.patch(ONE, summary="Change tier, consents or the points that shops show")
    async def change(member_ref: str, body: MemberChange) -> dict[str, Any]:
        return describe(await office.change(member_ref, body.model_dump(exclude_none=True)))

    @router.post(f"{ONE}/tags", summary="Put a word for staff beside a member, until a time")
    async def tag(member_ref: str, body: NewTag) -> dict[str, Any]:
        return describe(await office.tag(member_ref, body.tag, body.not_after_s))

    @router.get(f"{ONE}/qr.{{form}}", summary="The member's code, as svg or png")
    async def qr(member_ref: str, form: str) -> Response:
        return draw((await office.one(member_ref)).token, form)

    @router.delete(ONE, summary="Erase a member: here, in the backups that are kept, and in every shop")
    async def erase(member_ref: Annotated[str, StringConstraints(pattern="^[a-z2-7]{26}$")]) -> dict[str, Any]:
        await office.erase(member_ref)
        return {"erased": member_ref}

    return router


def describe(row: MemberRow) -> dict[str, Any]:
    """A member as JSON."""
    return dict(msgspec.to_builtins(row)) | {"short_code": typed_code(row), "qr": f"/api/members/{row.member_ref}/qr.svg"}
