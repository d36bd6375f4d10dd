"""Who may enter headquarters, with how much, and what is answered to what cannot be."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_bridge.hq.options import HqOptions

from .rig import Hq, headquarters, until


async def test_nobody_enters_without_the_token(demo: Hq) -> None:
    async with httpx.AsyncClient(base_url=demo.addresses.http, trust_env=False) as stranger:
        for path in ("/", "/vouchers", "/api/stores", "/api/feed", "/live", "/api/books"):
            assert (await stranger.get(path)).status_code == 401
        assert (await stranger.post("/api/vouchers", json={})).status_code == 401
        assert (await stranger.get("/api/stores", headers={"Authorization": "Bearer x"})).status_code == 401
        assert (await stranger.get("/login?token=x")).status_code == 401
        assert (await stranger.get("/healthz")).status_code == 200
        paths = (await stranger.get("/openapi.json")).json()["paths"]
        assert {"/api/vouchers", "/api/orders", "/api/stores", "/api/books", "/api/feed", "/api/boxes"} <= paths.keys()


async def test_a_login_link_opens_the_pages_but_no_other_site_can_use_it(demo: Hq) -> None:
    async with httpx.AsyncClient(base_url=demo.addresses.http, trust_env=False) as browser:
        entered = await browser.get(demo.addresses.login)
        cookie = entered.headers["set-cookie"].lower()
        assert entered.status_code == 303
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert demo.addresses.admin_token.lower() not in cookie
        page = await browser.get("/")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        body = {"up": True}
        for origin in ({}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}):
            assert (await browser.post("/api/stores/x/wan", json=body, headers=origin)).status_code == 403
        assert (await browser.post("/api/stores/x/wan", json=body, headers={"Origin": demo.addresses.http})).status_code == 404


async def test_another_host_name_is_refused(demo: Hq) -> None:
    assert (await demo.http.get("/healthz", headers={"Host": "evil.example"})).status_code == 400


async def test_a_large_body_is_refused_however_it_comes(demo: Hq) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 4096

    headers = {"Content-Type": "application/json"}
    assert (await demo.http.post("/api/vouchers", content=b" " * 70_000, headers=headers)).status_code == 413
    assert (await demo.http.post("/api/vouchers", content=drip(), headers=headers)).status_code == 413


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/vouchers", {"store": "nowhere", "title_zh": "甲"}, 404),
        ("/api/vouchers", {"store": "s1", "title_zh": ""}, 422),
        ("/api/vouchers", {"store": "s1", "title_zh": "甲", "valid_days": 0}, 422),
        ("/api/vouchers", {"store": "s1", "title_zh": "甲", "surprise": 1}, 422),
        ("/api/orders", {"store": "s1", "customer": "甲", "lines": []}, 422),
        ("/api/boxes", {"store": "a/b", "gateway": "g", "number": 1}, 422),
        ("/api/boxes", {"store": "s9", "gateway": "g9", "number": 9, "timezone": "Moon/Sea"}, 422),
        ("/api/vouchers/123/online-use", {}, 404),
        ("/api/vouchers/123/show", {}, 404),
        ("/api/stores/nowhere/wan", {"up": True}, 404),
    ],
)
async def test_what_cannot_be_is_refused_with_a_reason(demo: Hq, path: str, body: dict[str, Any], status: int) -> None:
    await demo.new_box()
    answer = await demo.http.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["detail"]


async def test_a_code_is_shown_to_the_camera_over_its_socket(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def camera(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(json.loads(await reader.readline()))
        writer.close()

    path = str(tmp_path / "camera.sock")
    server = await asyncio.start_unix_server(camera, path)
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"), camera_control=path)) as hq:
        await hq.new_box()
        voucher = await hq.post("/api/vouchers", {"store": "s1", "title_zh": "甲"})
        await hq.post(f"/api/vouchers/{voucher['voucher_id']}/show")
        await until(lambda: heard)
        assert heard == [{"do": "show", "text": voucher["token"], "seconds": 2.5}]
        server.close()
        os.unlink(path)
        assert (await hq.http.post(f"/api/vouchers/{voucher['voucher_id']}/show")).status_code == 503
