"""The API of balances beyond what all assigned vouchers have: put more in, and have a share lie at a shop ahead of need."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq import assigned_api, registry
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.once import Asking

Units = Annotated[int, Field(ge=1, le=2**32 - 1, description="Of the balance: minor units of the currency, or points.")]


class Credit(BaseModel):
    """More is put into a balance."""

    model_config = ConfigDict(extra="forbid")
    units: Units


class Lending(BaseModel):
    """A share is to lie at a shop."""

    model_config = ConfigDict(extra="forbid")
    store: Annotated[str, Field(min_length=1, max_length=40)]
    units: Units


def routes(office: Office) -> APIRouter:
    """The routes; to be included before those of `assigned_api`, whose last one takes any word."""
    router = APIRouter(prefix="/api", tags=["assigned vouchers"])
    claims = office.ingest.claims

    @router.post("/assigned/{voucher_id}/credit", summary="Put more into a balance, once for each Idempotency-Key")
    async def credit(voucher_id: str, body: Credit, asking: Asking) -> dict[str, Any]:
        await claims.credit(voucher_id, body.units, asking)
        return await assigned_api.shown(office, voucher_id)

    @router.post("/assigned/{voucher_id}/lend", status_code=202, summary="Have a share lie at a shop: its box claims it when it is there")
    async def lend(voucher_id: str, body: Lending) -> dict[str, Any]:
        row = await office.store.read(partial(registry.box_of_store, store=body.store))
        await claims.lend(row, voucher_id, body.units)
        return await assigned_api.shown(office, voucher_id)

    return router
