"""Checking in, at headquarters: one voucher for each member and day, for a code that is fresh, this chain's and this shop's."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import checkin
from gateway.checkin import CheckIn
from gateway.token import unpack
from tests.conftest import STRANGER_KEY

from .rig import Hq, TestBox, now_us

OFFER = {"title_zh": "打卡折 20 元", "title_en": "20 off", "value_minor": 2000}


@pytest.fixture
async def box(demo: Hq) -> AsyncIterator[TestBox]:
    async with demo.connected(await demo.new_box()) as connected:
        await connected.beat()
        assert (await demo.http.put("/api/checkins/offer", json=OFFER)).status_code == 200
        yield connected


def code(box: TestBox, age_s: int = 0) -> str:
    """What a screen showed so many seconds ago, by its box's clock."""
    made = CheckIn(gateway=box.box.gateway, station="counter", made_s=now_us() // 1_000_000 - age_s)
    return checkin.address(box.enrolment.facts.page, made, box.enrolment.sign_key)


async def arrive(hq: Hq, qr: str, member: str = "m-1a2b", **more: Any) -> Any:
    return await hq.post("/api/checkins", {"qr": qr, "member_ref": member} | more)


async def test_a_fresh_code_gives_a_voucher_of_that_shop_once_for_each_member_and_day(demo: Hq, box: TestBox) -> None:
    first = code(box)
    given = await arrive(demo, first)
    assert (given["decision"], given["store"], given["voucher"]["title"]["zh"]) == ("issued", "s1", "打卡折 20 元")
    claims = unpack(given["voucher"]["token"])[0]
    assert (claims.store, claims.value_minor) == (1, 2000)
    listed = (await box.document("vouchers", version=2)).vouchers
    assert [one.voucher_id for one in listed] == [given["voucher"]["voucher_id"]], "the shop knows it: it works there without a line"
    assert await arrive(demo, first) == given, "the same code again is a retry"
    again = await arrive(demo, code(box, 20))
    assert (again["decision"], again["reason"], again["message"]["zh"]) == ("refused", "limit_member", "您今日已打卡領取過")
    assert (await arrive(demo, first, "m-other"))["decision"] == "issued", "two people before one screen"
    assert len(await demo.get("/api/vouchers")) == 2


async def test_a_photo_is_worth_nothing_after_a_minute_and_a_half(demo: Hq, box: TestBox) -> None:
    for age_s, decision in ((-3, "issued"), (60, "issued"), (90, "refused"), (86_400, "refused"), (-30, "refused")):
        said = await arrive(demo, code(box, age_s), f"m-{age_s}")
        assert (said["decision"], said["reason"]) == (decision, "" if decision == "issued" else "stale"), age_s


async def test_from_another_place_it_is_stale(demo: Hq, box: TestBox) -> None:
    assert (await arrive(demo, code(box), store="s2"))["reason"] == "stale"
    assert (await arrive(demo, code(box), store="s1"))["decision"] == "issued"


async def test_a_wrong_clock_is_corrected_by_the_boxs_beats_and_a_box_unheard_is_not_believed(demo: Hq, box: TestBox) -> None:
    years_s = 3 * 365 * 86_400  # a box that thinks it is three years ago
    assert (await arrive(demo, code(box, years_s)))["reason"] == "stale"
    await box.beat(2, sent_us=now_us() - years_s * 1_000_000)
    assert (await arrive(demo, code(box, years_s + 90)))["reason"] == "stale", "a photo of that screen is one all the same"
    assert (await arrive(demo, code(box, years_s)))["decision"] == "issued"
    silent = await demo.new_box("s2", 2)  # enrolled, and never heard
    unheard = checkin.address("http://x", CheckIn(gateway="gw-s2", station="x", made_s=now_us() // 1_000_000), silent.sign_key)
    assert (await arrive(demo, unheard, "m-other"))["reason"] == "stale"


async def test_what_no_box_of_this_chain_signed_is_no_check_in(demo: Hq, box: TestBox) -> None:
    forged = checkin.address("http://x", CheckIn(gateway=box.box.gateway, station="x", made_s=now_us() // 1_000_000), STRANGER_KEY)
    stranger = checkin.address("http://x", CheckIn(gateway="gw-9", station="x", made_s=1), STRANGER_KEY)
    for text in (forged, stranger, code(box)[:-3], "", "☃", "V1:ABC"):
        assert (await arrive(demo, text))["reason"] == "not_a_checkin"
    assert await demo.get("/api/vouchers") == []


async def test_a_phone_number_is_no_member_reference(demo: Hq, box: TestBox) -> None:
    for member in ("0912345678", "4111111111111111", "abc", "+886912345678", "a b", "m" * 65, ""):
        said = await demo.http.post("/api/checkins", json={"qr": code(box), "member_ref": member})
        assert said.status_code == 422, member
    assert await demo.get("/api/vouchers") == []


async def test_a_shops_own_offer_goes_before_the_chains_and_a_closed_one_gives_nothing(demo: Hq, box: TestBox) -> None:
    put = [
        await demo.http.put("/api/checkins/offer", json=OFFER | more)
        for more in ({"store": "s1", "title_zh": "本店咖啡"}, {"store": "nowhere"})
    ]
    assert [one.status_code for one in put] == [200, 404]
    assert (await arrive(demo, code(box), "m-one"))["voucher"]["title"]["zh"] == "本店咖啡"
    await demo.http.put("/api/checkins/offer", json=OFFER | {"store": "s1", "closed": True})
    assert (await arrive(demo, code(box), "m-two"))["reason"] == "no_offer"


async def test_only_who_has_headquarters_token_may_say_who_checks_in_and_a_camera_finds_a_page(demo: Hq, box: TestBox) -> None:
    locked = await demo.http.post("/api/checkins", json={"qr": code(box), "member_ref": "m-1a2b"}, headers={"Authorization": "Bearer x"})
    assert locked.status_code == 401
    blob = code(box).rpartition("/")[2]
    for path in (f"/C/{blob}", f"/c/{blob.lower()}"):
        page = await demo.http.get(path, headers={"Authorization": ""})
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "請用本店 App 掃描" in page.text
