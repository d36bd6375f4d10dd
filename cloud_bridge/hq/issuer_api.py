"""Issuers over HTTP: whose codes the shops take, what becomes of a key, and codes that carry no signature."""

from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from cloud_bridge.hq import issuers
from cloud_bridge.hq.issuers import Fate
from cloud_bridge.hq.office import Office
from gateway.signed import IssuerKey, TokenKey

LATEST_S: Final = 2**32 - 1
Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)]
Public = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Seconds = Annotated[int, Field(ge=0, le=LATEST_S)]
Number = Annotated[int, Field(ge=0, le=2**32 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewKey(_Body):
    """A key another issuer signs its codes with."""

    format: Literal["token", "cwt", "jwt", "pretix"]
    issuer: Annotated[int, Field(ge=1, le=2**16 - 1)]
    public: Public
    key_id: str = Field("", max_length=128, description="token: a number; jwt: the `kid`; cwt: the `kid` in hex; pretix: none")
    iss: str = Field("", max_length=200, description="jwt, cwt: whom their codes say they are of")
    audience: str = Field("", max_length=200, description="jwt, cwt: whom they must be for, if they say so")
    store: Number = Field(0, description="Number of the one shop that takes them; 0: each code names its own")
    campaigns: dict[str, Number] = Field(default_factory=dict, max_length=1_000, description="Item to campaign; empty: any item")
    name_zh: Words = ""
    name_en: Words = ""

    @model_validator(mode="after")
    def _fits(self) -> "NewKey":
        numbered = self.key_id.isascii() and self.key_id.isdigit() and 0 < int(self.key_id) < 2**16
        if self.format == "token" and (not numbered or self.issuer == 1):
            raise ValueError("a token key has a number below 65536 for its key id, and is not of issuer 1: ours are files")
        if self.format in ("jwt", "cwt") and not (self.key_id and self.iss):
            raise ValueError("codes of this format name key and issuer: say `key_id` and `iss`")
        if self.format == "cwt" and any(letter not in "0123456789abcdef" for letter in self.key_id):
            raise ValueError("the `kid` of a CWT is bytes: say it in lower-case hex")
        if self.format == "pretix" and (self.key_id or not self.campaigns):
            raise ValueError("pretix tickets name no key and only an item: say no `key_id`, and `campaigns` for the items")
        return self

    def key(self) -> TokenKey | IssuerKey:
        """As the shops are told."""
        if self.format == "token":
            return TokenKey(int(self.key_id), self.issuer, self.public, self.name_zh, self.name_en)
        return IssuerKey(
            format=self.format, issuer=self.issuer, public=self.public, key_id=self.key_id, iss=self.iss, audience=self.audience,
            store=self.store, campaigns=self.campaigns, issuer_zh=self.name_zh, issuer_en=self.name_en,
        )  # fmt: skip


class NewFate(_Body):
    """What becomes of a key, all of it: what is left out is as at the beginning."""

    retired_s: Seconds = Field(0, description="It signs nothing more from here on; 0: in use")
    honoured_until_s: Seconds = Field(0, description="What it signed is good until then at most; 0: as each code says")
    revoked: bool = Field(False, description="Stolen: nothing it ever signed is good")


class NewCodes(_Body):
    """Codes that carry no signature."""

    codes: Annotated[list[Annotated[str, StringConstraints(max_length=256)]], Field(min_length=1, max_length=1_000)]


def issuer_routes(office: Office) -> APIRouter:
    """Routes of the API."""
    router = APIRouter(tags=["issuers"])

    @router.get("/api/issuers", summary="Every issuer: its keys, and how many uses clear to it")
    async def every() -> list[dict[str, Any]]:
        return await office.issuers()

    @router.post("/api/issuers/keys", status_code=201, summary="Take codes signed with another issuer's key, in every shop")
    async def add(body: NewKey) -> list[dict[str, Any]]:
        await office.change_keys(partial(issuers.add, key=body.key()))
        return await office.issuers()

    @router.put("/api/issuers/keys/{public}", summary="Retire or revoke a key, ours or another issuer's")
    async def decide(public: Public, body: NewFate) -> list[dict[str, Any]]:
        await office.change_keys(partial(issuers.decide, public=public, fate=Fate(**body.model_dump())))
        return await office.issuers()

    @router.post("/api/vouchers/{voucher_id}/codes", status_code=201, summary="Have codes without signature stand for a voucher")
    async def codes(voucher_id: str, body: NewCodes) -> dict[str, Any]:
        await office.list_codes(voucher_id, body.codes)
        return {"voucher_id": voucher_id, "listed": len(body.codes)}

    return router
