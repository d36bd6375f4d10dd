"""A newcomer's walk through the whole store, in a real browser, against real processes: the five numbered points of the tour.

Pictures of each step land in the folder of `--screenshots`.
"""

import re
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.store.running import RunningStore

pytestmark = [pytest.mark.slow, pytest.mark.browser]
KIOSK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
PATIENCE_MS = 15_000
UNITS = {"ble@radio", "scanner@counter", "locker@wall", "bridge"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, which asks nobody on the internet for anything."""
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=quiet)
        yield found
        found.close()


class Walk:
    """The pages a newcomer has open."""

    def __init__(self, browser: Browser, store: RunningStore, pictures: Path) -> None:
        assert store.starter.addresses is not None
        self.addresses = store.starter.addresses
        self.pictures = pictures
        self.office: BrowserContext = browser.new_context(viewport=KIOSK, locale="zh-TW")
        self.hq = self.office.new_page()
        self.hq.goto(self.addresses.hq)
        self.kiosk = self._open(browser, self.addresses.kiosk)
        self.shop = self._open(browser, self.addresses.shop)
        self.phone = browser.new_context(viewport=PHONE, locale="zh-TW").new_page()
        self.problems: list[str] = []
        for page in (self.hq, self.kiosk, self.shop, self.phone):
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _open(self, browser: Browser, url: str) -> Page:
        page = browser.new_context(viewport=KIOSK, locale="zh-TW").new_page()
        page.goto(url)
        return page

    def picture(self, page: Page, name: str) -> None:
        """Keep what the page looks like."""
        page.screenshot(path=self.pictures / f"{name}.png")

    def base(self) -> str:
        """HQ's address."""
        return self.addresses.hq.split("/login")[0]


@pytest.fixture(scope="module")
def walk(browser: Browser, whole_store: RunningStore, request: pytest.FixtureRequest) -> Walk:
    """Pages open, pictures folder made."""
    folder = Path(request.config.getoption("--screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return Walk(browser, whole_store, folder)


def issue_voucher(walk: Walk) -> str:
    """Through HQ's page; returns the voucher's page address."""
    walk.hq.goto(f"{walk.base()}/vouchers")
    walk.hq.locator("form[data-send='/api/vouchers'] button.primary").click()
    walk.hq.wait_for_url(re.compile(r"/vouchers/[0-9a-f]{15}$"))
    return walk.hq.url


def show_to_camera(walk: Walk) -> None:
    """The button beside the QR code on HQ's page."""
    walk.hq.locator("button[data-post$='/show']").click()


def result(walk: Walk, decision: str) -> None:
    """The kiosk shows a decision."""
    expect(walk.kiosk.locator(f"#result .result[data-decision='{decision}']")).to_be_visible(timeout=PATIENCE_MS)


@contextmanager
def attract(walk: Walk, by_itself: bool = False) -> Iterator[None]:
    """Begin from the kiosk's attract screen, once the customer before has touched "done" or, `by_itself`, has walked off."""
    if not by_itself:
        walk.kiosk.evaluate("document.getElementById('done')?.click()")
    expect(walk.kiosk.locator("body[data-screen='attract']")).to_be_attached(timeout=PATIENCE_MS)
    yield


def test_1_foot_traffic_appears_at_headquarters_within_two_seconds(walk: Walk, whole_store: RunningStore) -> None:
    walk.hq.goto(f"{walk.base()}/")
    expect(walk.hq.locator("[data-shop='tpe-001'] table").first).to_contain_text(re.compile("trolley-|member-"), timeout=30_000)
    whole_store.until(lambda: len(whole_store.rows("VisitEnded")) >= 3, 60, "no visit ended")
    whole_store.until(lambda: len(whole_store.rows("OccupancyEstimated")) >= 3, 60, "nobody was estimated")
    whole_store.drained()
    expect(walk.hq.locator("[data-number='visits']")).not_to_have_text("0", timeout=PATIENCE_MS)
    delays_s = row_delays_s(whole_store.starter.plan.hq_dir / "hq.db")
    assert len(delays_s) >= 6
    assert max(delays_s) <= 2.0, delays_s
    for estimate in whole_store.rows("OccupancyEstimated"):
        assert estimate["low"] <= (estimate["estimate"] or estimate["low"]) <= estimate["high"]
    walk.picture(walk.shop, "shop")
    walk.picture(walk.hq, "hq")


def row_delays_s(database: Path) -> list[float]:
    """Seconds between a visit's commit in the shop and its commit at HQ."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT record_us, received_us FROM rows WHERE type LIKE 'Visit%'").fetchall()
    finally:
        connection.close()
    return [(received - recorded) / 1e6 for recorded, received in rows]


def test_2_a_voucher_is_redeemed_once_and_every_refusal_says_why(walk: Walk, whole_store: RunningStore) -> None:
    voucher_page = issue_voucher(walk)
    token = walk.hq.locator("#token").input_value()
    short_code = walk.hq.locator("[data-short]").inner_text()
    walk.picture(walk.hq, "hq-voucher")
    with attract(walk):
        walk.picture(walk.kiosk, "kiosk")
        show_to_camera(walk)
        result(walk, "redeemed")
    expect(walk.kiosk.locator("#result h1")).to_have_text("核銷成功")
    walk.picture(walk.kiosk, "kiosk-redeemed")
    expect(walk.hq.locator("[data-state='used']")).to_be_visible()

    with attract(walk, by_itself=True):
        show_to_camera(walk)
        result(walk, "refused")
    refused = walk.kiosk.locator("#result .result")
    expect(refused).to_have_attribute("data-reason", "already_redeemed")
    expect(refused.locator(".before")).to_contain_text("服務台")
    expect(refused.locator(".before")).to_contain_text(re.compile(r"\d\d:\d\d"))
    walk.picture(walk.kiosk, "kiosk-refused")
    walk.hq.goto(voucher_page)
    expect(walk.hq.locator(".story li.refused")).to_have_count(1)

    type_code(walk, short_code)
    expect(walk.kiosk.locator("#result .result")).to_have_attribute("data-reason", "already_redeemed")
    forged = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
    for rubbish, reason in ((forged, "forged"), ("https://example.com/?q=1", "unreadable"), ("<script>alert(1)</script>", "unreadable")):
        with attract(walk):
            whole_store.show(rubbish)
            result(walk, "refused")
        expect(walk.kiosk.locator("#result .result")).to_have_attribute("data-reason", reason)
        assert "Traceback" not in walk.kiosk.content()
    assert len([row for row in whole_store.rows("VoucherRedeemed") if row["voucher_id"] == voucher_page.rpartition("/")[2]]) == 1


def type_code(walk: Walk, code: str) -> None:
    """At the kiosk, on the keyboard."""
    with attract(walk):
        walk.kiosk.locator("#by-typing").click()
        walk.kiosk.locator("#code").fill(code)
        walk.kiosk.locator("#submit").click()
        expect(walk.kiosk.locator("#result .result")).to_be_visible(timeout=PATIENCE_MS)


def test_2b_a_picture_dropped_on_the_kiosk_is_read_in_the_browser(walk: Walk, whole_store: RunningStore) -> None:
    issue_voucher(walk)
    drawn = walk.hq.request.get(f"{walk.base()}/api{walk.hq.url.removeprefix(walk.base())}/qr.png").body()
    with attract(walk):
        walk.kiosk.locator("#file").set_input_files({"name": "voucher.png", "mimeType": "image/png", "buffer": drawn})
        result(walk, "redeemed")
    assert whole_store.rows("VoucherRedeemed")[-1]["station"] == "counter"
    with attract(walk):
        walk.kiosk.locator("#file").set_input_files({"name": "grey.png", "mimeType": "image/png", "buffer": grey_picture()})
        expect(walk.kiosk.locator("#notice, #result .result").locator("visible=true").first).to_be_visible()


def grey_picture() -> bytes:
    """A PNG with nothing on it."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = (b"\x00" + b"\x80" * 64) * 64
    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")


def test_3_an_order_is_staged_by_a_clerk_and_collected_through_its_door_alone(walk: Walk, whole_store: RunningStore) -> None:
    walk.hq.goto(f"{walk.base()}/orders")
    walk.hq.locator("form[data-send='/api/orders'] button.primary").click()
    walk.hq.wait_for_url(re.compile(r"/orders/[0-9a-f]{15}$"))
    walk.picture(walk.hq, "hq-order")
    pulses = pulses_of(whole_store)

    walk.phone.goto(walk.addresses.staff)
    walk.phone.locator(".people button").first.click()
    walk.phone.locator("#pin-code").fill(walk.addresses.clerk_pin)
    walk.phone.locator("#pin-form button.main").click()
    walk.phone.locator("#orders-paid button").first.click()
    expect(walk.phone.locator("#result .result[data-decision]")).to_be_visible()
    walk.picture(walk.phone, "staff-staging")
    whole_store.until(lambda: len(whole_store.rows("ParcelStaged")) == 1, 20, "the parcel was never staged")
    compartment = whole_store.rows("ParcelStaged")[0]["compartment"]

    with attract(walk):
        show_to_camera(walk)
        result(walk, "collecting")
    expect(walk.kiosk.locator("[data-door]")).to_have_text(str(compartment))
    assert whole_store.rows("ParcelCollected") == []
    walk.picture(walk.kiosk, "kiosk-collecting")
    result(walk, "collected")
    walk.picture(walk.kiosk, "kiosk-collected")
    opened = {door: count - pulses[door] for door, count in pulses_of(whole_store).items() if count != pulses[door]}
    assert opened == {str(compartment): 2}
    sensed = [row["compartment"] for kind in ("DoorOpened", "DoorClosed") for row in whole_store.rows(kind)]
    assert sensed == [compartment] * 4
    expect(walk.hq.locator("[data-state='collected']")).to_be_visible()


def pulses_of(store: RunningStore) -> dict[str, int]:
    """How often each lock was pulsed, as the board counts."""
    return {door: int(state["pulses"]) for door, state in store.board(do="state")["compartments"].items()}


def test_4_the_line_is_cut_and_everything_arrives_once_when_it_is_back(walk: Walk, whole_store: RunningStore) -> None:
    issue_voucher(walk)
    voucher_page = walk.hq.url
    whole_store.until(lambda: whole_store.view()["line"]["waiting"] == 0, 20, "not drained")
    stored_before = whole_store.hq_get("/api/stores/tpe-001/counts")
    walk.hq.goto(f"{walk.base()}/")
    walk.hq.locator("#wan-tpe-001-down").click()
    expect(walk.kiosk.locator("#offline")).to_be_visible(timeout=PATIENCE_MS)
    expect(walk.hq.locator("[data-shop='tpe-001'] [data-line]")).to_have_attribute("data-line", "down", timeout=PATIENCE_MS)
    walk.hq.goto(voucher_page)
    with attract(walk):
        show_to_camera(walk)
        result(walk, "redeemed")
    walk.picture(walk.kiosk, "kiosk-offline")
    whole_store.until(lambda: whole_store.view()["line"]["waiting"] > 0, 10, "nothing waits")
    assert whole_store.hq_get("/api/stores/tpe-001/counts")["redemptions"] == stored_before["redemptions"]
    walk.hq.goto(f"{walk.base()}/")
    walk.picture(walk.hq, "hq-line-down")
    walk.picture(walk.shop, "shop-line-down")
    walk.hq.locator("#wan-tpe-001-up").click()
    expect(walk.kiosk.locator("#offline")).to_be_hidden(timeout=PATIENCE_MS)
    whole_store.drained()
    stored = whole_store.hq_get("/api/stores/tpe-001/counts")
    assert stored["redemptions"] == stored_before["redemptions"] + 1
    assert lanes_are_whole(whole_store.starter.plan.hq_dir / "hq.db")
    expect(walk.hq.locator("[data-shop='tpe-001'] [data-line]")).to_have_attribute("data-line", "up", timeout=PATIENCE_MS)


def lanes_are_whole(database: Path) -> bool:
    """Whether each lane of each epoch at HQ is 1, 2, 3 … without a hole, received in that order."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        lanes: dict[tuple[str, int], list[int]] = {}
        for epoch, lane, seq in connection.execute("SELECT epoch, lane, seq FROM rows ORDER BY id"):
            lanes.setdefault((epoch, lane), []).append(seq)
    finally:
        connection.close()
    return bool(lanes) and all(seqs == list(range(1, len(seqs) + 1)) for seqs in lanes.values())


def joined(store: RunningStore) -> set[str]:
    """Processes that core sees."""
    return {unit["unit"] for unit in store.view()["units"] if unit["connected"]}


def redeem_one_more(store: RunningStore) -> None:
    """A fresh voucher, shown to the camera."""
    ask = {"store": "tpe-001", "title_zh": "再來一杯", "title_en": "One more"}
    token = store.eventually(lambda: store.hq_post("/api/vouchers", ask), 20)["token"]
    before = store.screen()["number"]
    store.eventually(lambda: store.show(token), 20)
    store.shown_after(before, "redeemed", within_s=15)


def test_5_any_process_may_be_killed_and_nothing_acknowledged_is_lost(walk: Walk, whole_store: RunningStore) -> None:
    for name in ("core", "bridge", "hq", "locker@wall", "scanner@counter", "ble@radio", "board@wall"):
        used = {row["voucher_id"] for row in whole_store.rows("VoucherRedeemed")}
        whole_store.kill(name)
        whole_store.until(lambda: joined(whole_store) >= UNITS, 30, f"no recovery: {name}")
        assert {row["voucher_id"] for row in whole_store.rows("VoucherRedeemed")} >= used
        whole_store.until(lambda: bool(whole_store.view()["line"]["up"]), 30, f"the line stayed down: {name}")
        redeem_one_more(whole_store)
    whole_store.until(lambda: whole_store.screen()["state"] == "attract", 15, "the result stayed")
    whole_store.drained()
    produced = {row["redemption_id"] for row in whole_store.rows("VoucherRedeemed")}
    used_vouchers = [row["voucher_id"] for row in whole_store.rows("VoucherRedeemed")]
    assert len(used_vouchers) == len(set(used_vouchers))
    assert whole_store.hq_get("/api/stores/tpe-001/counts")["redemptions"] == len(produced)
    assert whole_store.hq_get("/api/books")["unexplained"] == 0
    assert lanes_are_whole(whole_store.starter.plan.hq_dir / "hq.db")
    assert walk.problems == []
