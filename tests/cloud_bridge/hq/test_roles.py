"""Who may do what at headquarters: every route is in the table, and each role is kept from what is not its own."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cloud_bridge.hq import __main__ as main
from cloud_bridge.hq import deeds, roles
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.roles import TABLE, Reach, Role
from cloud_bridge.hq.web import application
from gateway.commands import app

from .rig import PATIENCE_S, Hq, headquarters

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def routes_of(served_app: Any) -> Iterator[tuple[str, str]]:
    """Every method and path of an application, those of included routers too."""
    for route in served_app.routes:
        if hasattr(route, "effective_route_contexts"):
            for inner in route.effective_route_contexts():
                path = getattr(inner, "path", None) or inner.starlette_route.path
                yield from ((method, path) for method in (inner.methods or inner.starlette_route.methods))
        else:
            yield from ((method, route.path) for method in getattr(route, "methods", None) or ["GET"])


@pytest.fixture
async def app_and_hq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Any, Hq]]:
    """The application that a real headquarters serves, and that headquarters."""
    made: list[Any] = []

    def making(*parts: Any) -> Any:
        made.append(application(*parts))
        return made[-1]

    monkeypatch.setattr(main, "application", making)
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as hq:
        yield made[0]._app, hq  # behind its guard


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "x1", path)


def as_key(hq: Hq, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=hq.addresses.http, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S, trust_env=False)


async def statuses(client: httpx.AsyncClient, routes: Iterable[str]) -> dict[str, int]:
    found = {}
    for route in routes:
        method, _, path = route.partition(" ")
        found[route] = (await client.request(method, filled(path), json=None if method == "GET" else {})).status_code
    return found


async def test_every_route_of_the_application_is_in_the_table_and_each_role_gets_403_for_what_it_may_not(
    app_and_hq: tuple[Any, Hq],
) -> None:
    served_app, hq = app_and_hq
    served = {f"{method} {path}" for method, path in routes_of(served_app) if method in METHODS}
    assert served - set(TABLE) == set(), "routes that say no role: put them into roles.py"
    assert set(TABLE) - served == {"GET /favicon.ico"}, "the table names what nobody serves"
    for route in served:  # what a request means is the same to the table as to the application
        method, _, path = route.partition(" ")
        entry = roles.find(method, filled(path))
        assert entry is not None
        assert entry.route == route
    guarded = sorted(route for route, wanted in TABLE.items() if wanted is not Reach.ANYBODY)
    async with httpx.AsyncClient(base_url=hq.addresses.http, timeout=PATIENCE_S, trust_env=False) as nobody:
        assert set((await statuses(nobody, guarded)).values()) == {401}
    for role in Role:
        key = (await hq.post("/api/keys", {"name": f"only-{role}", "roles": [role]}))["key"]
        forbidden = [route for route in guarded if role is not Role.ADMIN and TABLE[route] not in (role, Reach.SIGNED_IN)]
        async with as_key(hq, key) as client:
            answers = await statuses(client, forbidden)
            assert set(answers.values()) <= {403}, {route: status for route, status in answers.items() if status != 403}
            endless = ("GET /live", "GET /live/devices", "GET /api/feed")
            allowed = [route for route in guarded if TABLE[route] is role and route not in endless]
            looks = [route for route in allowed if route.startswith("GET ") and "{" not in route]
            assert all(status not in (401, 403, 404) for status in (await statuses(client, looks)).values())
            assert (await client.get("/api/nothing-here")).status_code == 404
        noted = {line["route"] for line in await hq.get(f"/api/journal?who=only-{role}") if line["status"] == 403}
        assert set(forbidden) <= noted, "every refusal is in the journal"


async def test_a_revoked_key_and_its_session_end_at_once_and_the_journal_names_everybody(demo: Hq) -> None:
    await demo.new_box()
    made = await demo.post("/api/keys", {"name": "lin-yating", "roles": ["issuer", "reader"]})
    assert demo.http.headers["Authorization"] not in str(await demo.get("/api/keys"))
    assert made["key"] not in str(await demo.get("/api/keys"))
    async with as_key(demo, made["key"]) as lin:
        voucher = await lin.post("/api/vouchers", json={"store": "s1", "title_zh": "咖啡"})
        assert voucher.status_code == 201
        entered = await lin.get("/login", params={"token": made["key"]})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.cookies["sgw_hq"]
        assert made["key"].rpartition("_")[2] not in cookie
        page = httpx.AsyncClient(base_url=demo.addresses.http, cookies={"sgw_hq": cookie}, timeout=PATIENCE_S, trust_env=False)
        assert (await page.get("/vouchers")).status_code == 200
        shown = await page.get("/keys")
        assert (shown.status_code, "權限不足" in shown.text) == (403, True)
        foreign = await page.post("/api/vouchers", json={"store": "s1", "title_zh": "咖啡"}, headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403
        await demo.post("/api/keys/lin-yating/revoke")
        assert (await lin.get("/api/stores")).status_code == 401
        assert (await page.get("/vouchers")).status_code == 401
        await page.aclose()
    lines = [(one["who"], one["route"], one["status"]) for one in await demo.get("/api/journal")]
    assert ("lin-yating", "POST /api/vouchers", 201) in lines
    assert ("lin-yating", "GET /keys", 403) in lines
    assert ("admin", "POST /api/keys", 201) in lines
    assert ("admin", "POST /api/keys/{name}/revoke", 200) in lines
    assert ("", "a wrong key", 401) in lines
    again = await demo.http.post("/api/keys", json={"name": "lin-yating", "roles": ["reader"]})
    assert (again.status_code, again.json()["field"]) == (409, "name")
    for odd in ({"name": "admin", "roles": ["reader"]}, {"name": "Ünï", "roles": ["reader"]}, {"name": "nobody", "roles": []}):
        assert (await demo.http.post("/api/keys", json=odd)).status_code in (409, 422)


async def test_signing_in_takes_a_form_of_our_own_page_only_and_guessing_is_slowed_down(demo: Hq) -> None:
    key = (await demo.post("/api/keys", {"name": "reader-1", "roles": ["reader"]}))["key"]
    async with httpx.AsyncClient(base_url=demo.addresses.http, timeout=PATIENCE_S, trust_env=False) as browser:
        asked = await browser.get("/")
        assert (asked.status_code, asked.headers["referrer-policy"]) == (401, "same-origin")
        assert (await browser.post("/login", data={"key": key}, headers={"Origin": "http://evil.example"})).status_code == 403
        ours = {"Origin": demo.addresses.http}
        assert (await browser.post("/login", data={"key": key}, headers=ours)).status_code == 303
        assert (await browser.get("/")).status_code == 200
        left = await browser.post("/logout", headers=ours)
        assert left.status_code == 200
        assert (await browser.get("/")).status_code == 401
        guesses = [{"Authorization": f"Bearer sgk_{number:012x}_{'a' * 43}"} for number in range(40)]
        found = [await browser.get("/api/stores", headers=guess) for guess in guesses]
        assert {one.status_code for one in found} == {401, 429}
        assert (await browser.get("/api/stores", headers={"Authorization": f"Bearer {key}"})).status_code == 200, "the right one goes on"
    wrong = [one for one in await demo.get("/api/journal") if one["route"] == "a wrong key"]
    assert 30 <= len(wrong) <= 40
    assert all("127.0.0.1" in one["about"] for one in wrong)


async def test_keys_and_journal_outlive_a_restart_and_no_secret_is_on_the_disk(tmp_path: Path) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))
    async with headquarters(options) as hq:
        key = (await hq.post("/api/keys", {"name": "members-desk", "roles": ["members"]}))["key"]
        async with as_key(hq, key) as desk:
            made = (await desk.post("/api/members", json={"region": "TW", "phone": "0912345678"})).json()
            assert (await desk.get("/api/members/0912345678")).status_code in (404, 422)
            assert (await desk.get(f"/api/members/{made['member_ref']}")).status_code == 200
    (tmp_path / "hq" / "addresses.json").unlink()  # of the start before: the next one says when it is ready
    async with headquarters(options) as hq, as_key(hq, key) as desk:
        assert (await desk.get(f"/api/members/{made['member_ref']}")).status_code == 200
        lines = await hq.get("/api/journal?who=members-desk")
        assert [one["route"] for one in lines].count("GET /api/members/{member_ref}") == 3
        assert f"member_ref={made['member_ref']}" in {one["about"] for one in lines}
    secret = key.rpartition("_")[2].encode()
    held = b"".join(path.read_bytes() for path in (tmp_path / "hq").rglob("*") if path.is_file())
    assert secret not in held
    assert b"0912345678" not in held


async def test_keys_are_made_listed_and_revoked_on_the_command_line(demo: Hq) -> None:
    async def hq(*words: str, fails: bool = False) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["hq", *words, "--data", demo.options.data_dir])
        assert (done.exit_code != 0) is fails, done.output
        return str(done.output)

    key = (await hq("add-key", "web-shop", "--role", "issuer", "--role", "reader")).strip()
    async with as_key(demo, key) as shop:
        assert (await shop.get("/api/vouchers")).status_code == 200
        assert (await shop.get("/api/keys")).status_code == 403
        assert "issuer,reader" in await hq("keys")
        assert key not in await hq("keys", "--json")
        assert "web-shop" in await hq("revoke-key", "web-shop")
        assert (await shop.get("/api/vouchers")).status_code == 401
    assert "revoked by admin" in await hq("keys")
    assert "GET /api/keys" in await hq("journal", "--who", "web-shop")
    assert '"status": 403' in await hq("journal", "--json")
    assert "no sign-in" in await hq("revoke-key", "web-shop", fails=True)
    assert "headquarters refuses" in await hq("add-key", "x", "--role", "boss", fails=True)


@given(st.text(max_size=60), st.sampled_from(sorted(METHODS | {"HEAD", "OPTIONS", "BREW"})))
def test_any_path_finds_an_entry_or_none(path: str, method: str) -> None:
    entry = roles.find(method, path)
    assert entry is None or entry.route in TABLE


@given(st.text(max_size=300))
def test_no_number_of_a_telephone_or_card_stands_in_the_journal(value: str) -> None:
    said = deeds.clean(value)
    assert len(said) <= 80
    assert said.isascii()
    digits = sum(letter.isdigit() for letter in said)
    assert digits < 7 or any(letter.isalpha() for letter in said)


def test_least_privilege_is_what_the_table_says() -> None:
    assert TABLE["GET /api/vouchers"] is Role.ISSUER, "a code is money"
    assert TABLE["GET /api/members/{member_ref}"] is Role.MEMBERS
    assert TABLE["POST /api/boxes"] is Role.INSTALLER
    assert {route for route, wanted in TABLE.items() if wanted is Role.READER and not route.startswith("GET ")} == set()
    assert all(TABLE[route] is Role.ADMIN for route in TABLE if "/keys" in route or "/journal" in route)
