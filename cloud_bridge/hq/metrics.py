"""`/metrics` of headquarters; the guard lets it through for the admin token only."""

from typing import Any

from fastapi import APIRouter, Response

from cloud_bridge.hq.office import Office
from cloud_bridge.hq.reports import NUMBERS
from gateway.events import Lane
from gateway.meters import CONTENT_TYPE, counter, gauge


def router(office: Office) -> APIRouter:
    """The one route."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        shops = await office.shops()
        text = expose(shops, dict(office.ingest.rejected), office.ingest.connected, office.now_us())
        return Response(text, headers={"content-type": CONTENT_TYPE})

    return routes


def expose(shops: list[dict[str, Any]], rejected: dict[str, int], connected: bool, now_us: int) -> str:
    """Every family, in Prometheus' text format. `hq_box_lag_seconds` is the time since the box was last heard."""
    of = [({"store": shop["store"]}, shop) for shop in shops]
    heard = [(labels, shop) for labels, shop in of if shop["as_of_us"]]
    marks = [({**labels, "lane": str(int(lane))}, _lane(shop, lane)) for labels, shop in of for lane in Lane]
    families = [
        gauge("hq_broker_connected", "Whether headquarters has its broker", [({}, connected)]),
        gauge("hq_boxes", "Boxes registered", [({}, len(shops))]),
        gauge("hq_boxes_up", "Boxes that can be heard now", [({}, sum(shop["line"] == "up" for shop in shops))]),
        gauge("hq_box_up", "Whether the box can be heard now", [(labels, shop["line"] == "up") for labels, shop in of]),
        gauge(
            "hq_box_lag_seconds",
            "Seconds since the box was last heard",
            [(labels, max(0, now_us - shop["as_of_us"]) / 1e6) for labels, shop in heard],
        ),
        gauge(
            "hq_box_waiting", "Rows that waited at the box when it was last heard", [(labels, shop["waiting"]) for labels, shop in heard]
        ),
        gauge("hq_rows_produced", "Rows the box says it has written", [(labels, produced) for labels, (produced, _) in marks]),
        gauge("hq_rows_stored", "Rows of the box that are stored here", [(labels, mark) for labels, (_, mark) in marks]),
        gauge("hq_rows_quarantined", "Rows of the box that nobody here can read", [(labels, shop["quarantined"]) for labels, shop in of]),
        gauge("hq_risk_cap_minor", "What the shop may take on trust", [(labels, s["risk"]["cap_minor"]) for labels, s in of]),
        gauge("hq_risk_open_minor", "What may be open of that, at most", [(labels, s["risk"]["open_at_most_minor"]) for labels, s in of]),
        gauge(
            "hq_risk_realised_minor", "What of it was loss, as it stands", [(labels, shop["risk"]["realised_minor"]) for labels, shop in of]
        ),
        gauge(  # what comes free later heals a loss
            "hq_double_spend_total",
            "Uses beyond what a voucher is good for, by class",
            [({**labels, "class": name}, n) for labels, shop in of for name, n in _double(shop)],
        ),
        counter("hq_rejected_total", "Messages not taken, by kind", [({"kind": kind}, n) for kind, n in sorted(rejected.items())]),
    ]
    families += [
        counter(f"hq_{name}_total", f"{name.capitalize()} stored", [(labels, shop["totals"][name]) for labels, shop in of])
        for name in NUMBERS
    ]
    return "".join(families)


def _double(shop: dict[str, Any]) -> list[tuple[str, int]]:
    """Of `store_bound` none is ever due; of `bounded_risk` as many as its caps allow."""
    return [("store_bound", shop["start"]["overused"]["uses"]), ("bounded_risk", shop["risk"]["losses"])]


def _lane(shop: dict[str, Any], lane: Lane) -> tuple[int, int]:
    stands = [stand for stand in shop["lanes"] if stand["lane"] == lane]
    return sum(stand["last"] for stand in stands), sum(stand["mark"] for stand in stands)
