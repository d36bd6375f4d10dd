"""Headquarters' pages for people, in Debian's Chromium: a key of one's own, every shape, a campaign tried, published and followed."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

from gateway.events import CatalogApplied

from .rig import Hq, instant, wire

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")]


@pytest.fixture
async def page(demo: Hq) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1440, "height": 1000}, timezone_id="America/New_York")  # not the shop's
        page.set_default_timeout(30_000)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if "status of 4" not in message.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(demo.addresses.http) else None)
        yield page
        await browser.close()
        assert [text for text in said if "Password forms" not in text] == [], "console, errors or requests to elsewhere"


async def test_somebody_with_a_key_of_their_own_issues_tries_and_publishes(demo: Hq, page: Page) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await _made_a_key_and_signed_in(demo, page)
        await _issued_every_shape(demo, page)
        await _published_as_tried(demo, page)
        await box.beat(1)
        version = (await box.document("campaigns", 2)).version
        applied = CatalogApplied("campaigns", version, "0" * 64, instant())
        await box.send(box.batch([wire(1, applied)], lane=2))
        await page.reload()
        row = page.locator('[data-has="s1"]')
        await expect(row.locator("[data-state]")).to_have_attribute("data-state", "current")
        before = await demo.get("/api/campaigns")
        await _published_again_unchanged_but_for_its_version(demo, page)
        after = await demo.get("/api/campaigns")
        for one in (before, after):
            one[0]["definition"].pop("version")
        assert after[0]["definition"] == before[0]["definition"], "the form keeps what it was filled with"
        await expect(row.locator("[data-state]")).to_have_attribute("data-state", "behind")
        await _administrators_pages(demo, page)


async def _made_a_key_and_signed_in(demo: Hq, page: Page) -> None:
    await page.goto(demo.addresses.login)
    await page.goto(demo.addresses.http + "/keys")
    await page.get_by_role("button", name="建立").click()
    await expect(page.locator("label:has([name=name]) .wrong")).to_have_text("此欄必填")
    await page.locator("[name=name]").fill("lin-yating")
    await page.get_by_role("button", name="建立").click()
    await expect(page.locator("fieldset .wrong, label .wrong")).to_have_text("請至少選一個角色")
    await page.locator("input[value=issuer]").check()
    await page.get_by_role("button", name="建立").click()
    await expect(page.locator("#new-key")).to_be_visible()
    key = await page.locator("#new-key").input_value()
    await page.goto(demo.addresses.http + "/account")
    await page.get_by_role("button", name="登出").click()
    await page.locator("input[name=key]").fill("sgk_wrong")
    await page.get_by_role("button", name="登入").click()
    await expect(page.get_by_role("alert")).to_contain_text("金鑰不正確")
    await page.locator("input[name=key]").fill(key)
    await page.get_by_role("button", name="登入").click()
    await expect(page.locator("h1")).to_have_text("發行票券")
    assert await page.locator("nav a").all_inner_texts() == ["票券", "檔期活動", "門市配額", "訂單"]
    await page.goto(demo.addresses.http + "/devices")
    await expect(page.locator("h1")).to_contain_text("權限不足")


async def _issued_every_shape(demo: Hq, page: Page) -> None:
    async def issue(shape: str, **filled: str) -> dict[str, Any]:
        await page.goto(demo.addresses.http + "/vouchers")
        await page.locator(f"input[value={shape}]").check()
        for name, value in filled.items():
            await page.locator(f"[name={name}]:enabled").fill(value)
        await page.get_by_role("button", name="發行").click()
        await expect(page.locator("[data-short]")).to_be_visible()
        return dict((await demo.get("/api/vouchers"))[0])

    assert (await issue("party", uses="4"))["uses"] == 4
    await page.goto(demo.addresses.http + "/vouchers")
    await page.locator("input[value=spent]").check()
    await page.get_by_role("button", name="發行").click()
    await expect(page.locator("label:has([name=value_minor]) .wrong")).to_have_text("此欄必填")
    spent = await issue("spent", value_minor="500")
    assert (spent["value_minor"], spent["uses"]) == (500, 1)
    await page.goto(demo.addresses.http + "/vouchers")
    await page.locator("input[value=session]").check()
    times = page.locator("[data-part]:enabled")
    await times.nth(0).fill("2026-12-24T19:00")
    await times.nth(1).fill("2026-12-24T18:00")
    await page.get_by_role("button", name="發行").click()
    await expect(page.locator("[data-row] .wrong")).to_contain_text("結束須晚於開始")
    await times.nth(1).fill("2026-12-24T21:00")
    await page.get_by_role("button", name="發行").click()
    await expect(page.locator("[data-short]")).to_be_visible()
    await page.goto(demo.addresses.http + "/limits")
    await page.locator("[name=campaign]").fill("27")
    await page.locator("[name=stock]").fill("30")
    await page.locator("input[value=session]").check()
    await page.get_by_role("button", name="設定並通知門市").click()
    await expect(page.locator('[data-limit="s1/27"]')).to_contain_text("0／30")
    (limit,) = await demo.get("/api/stores/s1/limits")
    assert (limit["stock"], limit["daily"], limit["session"], limit["given"]) == (30, None, True, 0)


async def _published_as_tried(demo: Hq, page: Page) -> None:
    await page.goto(demo.addresses.http + "/campaigns/new")
    publish, attempt = page.locator("#publish"), page.get_by_role("button", name="試算這一籃")
    await expect(publish).to_be_disabled()
    await page.locator("[name=title_zh]").fill("第二件半價")
    await attempt.click()
    await expect(page.locator("label:has([name=title_en]) .wrong")).to_have_text("此欄必填")
    await page.locator("[name=title_en]").fill("Second at half price")
    await page.locator("[name='rule.kind']").select_option("nth_at_percent")
    await page.locator("[name='window.first_day']").fill("2026-12-02")
    await page.locator("[name='window.last_day']").fill("2026-12-01")
    await attempt.click()
    await expect(page.locator("label:has([name='window.last_day']) .wrong")).to_contain_text("不可早於開始日")
    await page.locator("[name='window.first_day']").fill("2026-01-01")
    await page.locator("[name='window.last_day']").fill("2199-12-31")
    await page.locator("[name='rule.items.categories']").fill("drink")
    await page.locator("[name=group]").fill("half")
    hours = page.locator('[data-row="window.hours"] [data-part]')
    await hours.nth(0).fill("9:00")
    await hours.nth(1).fill("21:00")
    await attempt.click()
    await expect(page.locator('[data-row="window.hours"] .wrong')).to_contain_text("不合規定")
    await hours.nth(0).fill("09:00")
    await page.locator("[name='check.at']").fill("2026-11-25T12:00")  # noon at the shop, whatever the browser's zone
    await attempt.click()
    await expect(page.locator("#outcome .mine")).to_contain_text("第二件半價")
    await expect(page.locator("#outcome [data-to-pay]")).to_have_attribute("data-to-pay", "270")  # 2 × 120, the second half, and 90
    await expect(publish).to_be_enabled()
    await page.locator("[name=priority]").fill("5")
    await expect(publish).to_be_disabled()
    assert await demo.get("/api/campaigns") == [], "trying publishes nothing"
    await attempt.click()
    await expect(publish).to_be_enabled()
    await publish.click()
    await page.wait_for_url("**/campaigns/101")
    (published,) = await demo.get("/api/campaigns")
    assert published["definition"] | {"rule": None, "window": None, "version": 1} == published["definition"] | {
        "rule": None,
        "window": None,
    }
    assert published["definition"]["window"]["hours"] == [{"begin": "09:00", "end": "21:00"}]
    await expect(page.locator('[data-has="s1"] [data-state]')).to_have_attribute("data-state", "unheard")


async def _published_again_unchanged_but_for_its_version(demo: Hq, page: Page) -> None:
    await page.get_by_role("button", name="試算這一籃").click()
    await page.get_by_role("button", name="發布第 2 版").click()
    await expect(page.locator("h1")).to_contain_text("第 3 版")


async def _administrators_pages(demo: Hq, page: Page) -> None:
    await page.goto(demo.addresses.login)
    await page.goto(demo.addresses.http + "/issuers")
    await page.locator("[name=issuer]").fill("7")
    await page.locator("[name=key_id]").fill("9")
    await page.locator("[name=public]").fill("zz")
    await page.get_by_role("button", name="登錄並通知所有門市").click()
    await expect(page.locator("label:has([name=public]) .wrong")).to_have_text("格式不符")
    public = secrets.token_hex(32)
    await page.locator("[name=public]").fill(public)
    await page.get_by_role("button", name="登錄並通知所有門市").click()
    key = page.locator(f'[data-public="{public}"]')
    await expect(key).to_be_visible()
    await key.locator("summary").click()
    await key.locator("[name=retired_s]").fill("2026-01-01T00:00")
    await key.get_by_role("button", name="停用", exact=True).click()
    await expect(key.locator("[data-key-state]")).to_have_attribute("data-key-state", "retired")
    await page.goto(demo.addresses.http + "/settlement")
    await expect(page.locator("[data-provisional]")).to_be_visible()
    await page.goto(demo.addresses.http + "/journal?who=lin-yating")
    await expect(page.locator("tr", has_text="POST /api/campaigns").first).to_contain_text("完成")
    await expect(page.locator("tr", has_text="GET /devices")).to_contain_text("被拒（403）")
    await page.goto(demo.addresses.http + "/keys")
    revoke = page.locator('[data-key="lin-yating"]').get_by_role("button")
    await revoke.click()
    await revoke.click()
    await expect(page.locator('[data-key="lin-yating"]')).to_contain_text("已撤銷")
