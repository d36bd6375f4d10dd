"""Campaigns at headquarters: published once, pressed into the shops' documents, priced as the shops price them."""

import asyncio
import json
from typing import Any

import pytest

from cloud_bridge.hq import campaigns, documents
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, Store
from gateway.catalog import Catalog
from gateway.rules.definitions import Campaign
from gateway.rules.pricing import Place, StationAsks, answer, read_asks
from gateway.signed import Document
from tests.gateway.rules.offers import BOGO, TAIPEI, at, definition, offer

from .rig import Hq

NOW_US = at("2026-11-22 12:00")
SPEND = {"kind": "minimum_spend", "minimum_minor": 1000, "off_minor": 100}
LINE = {"line_id": "1", "sku": "LATTE", "quantity": 2, "unit_minor": 500}
MOMENT = {"earliest_us": NOW_US, "latest_us": NOW_US}
ASK: dict[str, Any] = {"basket": {"currency": "TWD", "lines": [LINE]}, "at": MOMENT}


def said(rule: dict[str, Any], campaign: int = 1, **more: Any) -> dict[str, Any]:
    return dict(json.loads(definition(rule, campaign, **more)))


async def price(hq: Hq, *asks: dict[str, Any], store: str = "s1") -> bytes:
    response = await hq.http.post("/api/price", json={"store": store, "asks": asks})
    assert response.status_code == 200, response.text
    return response.content


async def test_a_published_campaign_reaches_its_shops_and_both_come_to_the_same_bytes(demo: Hq) -> None:
    here, there = await demo.new_box("s1", 1), await demo.new_box("s2", 2)
    async with demo.connected(here) as box, demo.connected(there) as other:
        before = (await box.document("campaigns")).version
        assert (await demo.post("/api/campaigns", said(BOGO, 1, version=7)))["shops"] == ["s1", "s2"]
        assert (await demo.post("/api/campaigns", said(SPEND, 2, stores=[1])))["shops"] == ["s1"]
        document = await box.document("campaigns", before + 2)
        assert len(document.campaigns) == 2
        assert len((await other.document("campaigns", before + 1)).campaigns) == 1
        catalog = _catalog(here.facts.gateway, document)
        theirs = answer(_asks([ASK] * 3), catalog.campaigns, Place(1, TAIPEI, 0, None))
        assert theirs == await price(demo, *[ASK] * 3)
        assert json.loads(theirs)["priced"][0]["off_minor"] == 500
        assert [one["definition"]["version"] for one in await demo.get("/api/campaigns")] == [7, 1]
        await demo.post("/api/campaigns", said(BOGO, 1, version=8, stores=[2]))
        assert len((await box.document("campaigns", before + 3)).campaigns) == 1
        assert json.loads(await price(demo, ASK))["priced"][0]["off_minor"] == 100


def _asks(asks: list[dict[str, Any]]) -> Any:
    return read_asks(json.dumps({"station": "counter", "asks": asks}).encode(), StationAsks).asks


def _catalog(gateway: str, document: Document) -> Catalog:
    catalog = Catalog(gateway, [])
    catalog.apply(document)
    assert catalog.campaigns.problems == ()
    return catalog


async def test_what_cannot_be_published_or_priced_is_refused_with_the_next_step(demo: Hq) -> None:
    assert (await demo.http.post("/api/campaigns", json=said(BOGO), headers={"Authorization": ""})).status_code == 401
    assert (await demo.http.post("/api/price", json={}, headers={"Authorization": ""})).status_code == 401
    unknown = await demo.http.post("/api/campaigns", json=said({"kind": "lucky_wheel"}))
    assert unknown.status_code == 422 and "lucky_wheel" in unknown.json()["detail"] and "update" in unknown.json()["detail"]
    assert (await demo.http.post("/api/campaigns", content=b"{")).status_code == 422
    assert (await demo.http.post("/api/campaigns", json=said(BOGO, version=3))).status_code == 201
    assert (await demo.http.post("/api/campaigns", json=said(BOGO, version=3))).status_code == 201  # once more is once
    stale = await demo.http.post("/api/campaigns", json=said(SPEND, version=3))
    assert stale.status_code == 409 and "version 4" in stale.json()["detail"]
    assert len(await demo.get("/api/campaigns")) == 1
    assert (await demo.http.post("/api/price", json={"store": "nowhere", "asks": [ASK]})).status_code == 404
    bodies: list[Any] = [{"store": "s1", "asks": []}, {"store": "s1", "asks": [ASK | {"colour": 1}]}, []]
    for body in bodies:
        assert (await demo.http.post("/api/price", json=body)).status_code == 422
    document = (await demo.http.get("/openapi.json")).json()
    assert "$ref" not in json.dumps(document["paths"]["/api/price"]["post"]["requestBody"])
    assert document["paths"]["/api/campaigns"]["post"]["requestBody"]["required"]


async def test_a_document_that_no_box_could_open_is_not_pressed(demo: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    await demo.new_box("s1", 1)
    monkeypatch.setattr(documents, "MOST_CAMPAIGNS_B", 5_000)
    many = {"skus": [f"SKU-{at}" for at in range(200)]}
    assert (await demo.http.post("/api/campaigns", json=said(BOGO | {"items": many}, 1))).status_code == 201
    assert (await demo.http.post("/api/campaigns", json=said(BOGO | {"items": many}, 2))).status_code == 201
    refused = await demo.http.post("/api/campaigns", json=said(BOGO | {"items": many}, 3))
    assert refused.status_code == 409 and "categories" in refused.json()["detail"]
    assert [one["definition"]["campaign"] for one in await demo.get("/api/campaigns")] == [1, 2]


# ---------------------------------------------------------------- in the database


async def test_every_version_is_kept_and_the_highest_is_in_force(store: Store) -> None:
    def work(db: Connection) -> Any:
        assert campaigns.publish(db, offer(BOGO, 5), 1) is None
        assert campaigns.publish(db, offer(SPEND, 5, version=10), 2) == offer(BOGO, 5)
        assert campaigns.publish(db, offer(BOGO, 3, version=9), 3) is None
        kept = db.execute("SELECT count(*) FROM campaigns").fetchone()[0]
        return kept, [(one.campaign.campaign, one.campaign.version, one.published_us) for one in campaigns.in_force(db)]

    assert await store.write(work) == (3, [(3, 9, 3), (5, 10, 2)])


async def test_a_full_shop_forgets_what_is_over_and_refuses_what_would_push_out_something_live(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "MOST_LIVE", 3)

    def publish(*wanted: Campaign) -> list[int]:
        def work(db: Connection) -> list[int]:
            for one in wanted:
                campaigns.publish(db, one, NOW_US)
                campaigns.look_for_room(campaigns.told([found.campaign for found in campaigns.in_force(db)], 1)[1], NOW_US)
            return [one.campaign for one in campaigns.of_store(db, 1)]

        return asyncio.run_coroutine_threadsafe(store.write(work), loop).result()

    loop = asyncio.get_running_loop()
    over, gone = offer(BOGO, 1, window={"last_day": "2026-11-01"}), offer(BOGO, 2, withdrawn=True)
    assert await asyncio.to_thread(publish, over, gone, offer(BOGO, 3)) == [1, 2, 3]
    assert await asyncio.to_thread(publish, offer(BOGO, 4)) == [1, 3, 4]
    assert await asyncio.to_thread(publish, offer(BOGO, 5, window={"last_day": "2026-12-01"})) == [3, 4, 5]
    with pytest.raises(RefusedAsk, match="at most 3"):
        await asyncio.to_thread(publish, offer(BOGO, 6))
    assert await asyncio.to_thread(publish, offer(BOGO, 7, stores=[2])) == [3, 4, 5]
