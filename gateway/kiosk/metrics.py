"""`/metrics` of core, for a Prometheus or a script on the box itself: other machines are told that there is no such page."""

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from gateway.core.meters import Meters
from gateway.core.views import StoreView
from gateway.kiosk.access import is_own_screen
from gateway.meters import CONTENT_TYPE, counter, gauge, histogram

if TYPE_CHECKING:
    from gateway.core.desk import Desk

COUNTED: Final = {
    "redemptions": "Vouchers redeemed, all that the ledger holds",
    "collections": "Parcels collected, all that the ledger holds",
    "visits": "Visits ended, all that the ledger holds",
}


def router(desk: "Desk") -> APIRouter:
    """The one route."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        if not is_own_screen(request):
            raise HTTPException(404, "not_found")
        return Response(expose(desk.store_view(), desk.meters()), headers={"content-type": CONTENT_TYPE})

    return routes


def expose(view: StoreView, meters: Meters) -> str:
    """Every family, in Prometheus' text format."""
    lanes = [({"lane": str(one.lane)}, one) for one in view.lanes]
    units = [({"unit": one.unit}, one) for one in view.units]
    epoch = view.epoch.partition("-")[0]
    families = [
        gauge("store_rows_last", "Highest row number of this epoch", [(labels, one.last) for labels, one in lanes]),
        gauge(
            "store_rows_acked", "Highest row number of this epoch that headquarters has", [(labels, one.cursor) for labels, one in lanes]
        ),
        gauge("store_rows_waiting", "Rows of all epochs that headquarters has not", [(labels, one.waiting) for labels, one in lanes]),
        gauge("store_epoch", "Starts of this box so far", [({}, int(epoch))] if epoch.isdecimal() else []),
        gauge("store_admitted", "Whether this start may redeem and hand over", [({}, view.admission.admitted)]),
        gauge("store_line_up", "Whether headquarters answers", [({}, view.line.up)]),
        gauge(
            "store_time_trust", "0 headquarters agrees with the clock, 1 nothing contradicts it, 2 not believed", [({}, view.time_trust)]
        ),
        gauge("store_unit_connected", "Whether the unit has joined", [(labels, one.connected) for labels, one in units]),
        gauge("store_unit_device_up", "Whether its device works", [(labels, one.device_state == "up") for labels, one in units]),
        gauge("store_document_version", "Headquarters' documents in force", [({"name": n}, v) for n, v in view.documents.items()]),
        counter("store_refusals_total", "Codes refused, by reason", [({"reason": why}, n) for why, n in sorted(meters.refusals.items())]),
        counter("store_accepted_total", "Redemptions, by class", [({"class": name}, n) for name, n in sorted(meters.accepted.items())]),
        *_risk(view),
        histogram("store_commit_seconds", "How long a commit takes, its fsync included, since core started", meters.commits),
    ]
    families += [counter(f"store_{name}_total", meaning, [({}, view.counts.get(name, 0))]) for name, meaning in COUNTED.items()]
    return "".join(families)


def _risk(view: StoreView) -> list[str]:
    """What was taken on trust, by the campaign of its terms (-1: every other), and the allotments of open codes."""
    terms = [({"campaign": str(one.campaign), "currency": one.currency}, one) for one in view.risk]
    codes = [({"voucher": one.voucher_id}, one) for one in view.quotas]
    ages = [(labels, float(one.list_age_s)) for labels, one in terms if one.list_age_s is not None]
    return [
        gauge("store_risk_cap_minor", "What may be taken on trust, in minor units", [(labels, one.cap_minor) for labels, one in terms]),
        gauge("store_risk_open_minor", "What of it headquarters has not answered", [(labels, one.open_minor) for labels, one in terms]),
        gauge("store_risk_realised_minor", "What of it was loss", [(labels, one.realised_minor) for labels, one in terms]),
        gauge(
            "store_risk_oldest_seconds",
            "Age of the oldest that headquarters has not answered",
            [(labels, max(0, view.now_us - one.oldest_us) / 1e6 if one.oldest_us else 0) for labels, one in terms],
        ),
        gauge("store_risk_list_seconds", "How old the list of cancelled vouchers may be", ages),
        gauge("store_quota_left", "Uses left of this shop's allotment of an open code", [(labels, one.left) for labels, one in codes]),
    ]
