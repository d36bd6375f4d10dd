"""A voucher's page over real HTTP: who has the link and stands at a shop gets a pass for that shop, and nobody else gets anything."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway import asking, token
from gateway import grant as grants
from gateway.asking import Asking
from gateway.token import unpack
from provisioning.authority import Authority
from tests.conftest import STRANGER_KEY

from .rig import Hq, TestBox, now_us, shop

EPOCH = "1-abc"  # what a test's box calls its start


class Phone:
    """A phone: no token, no cookie."""

    def __init__(self, hq: Hq) -> None:
        self.hq = hq
        self.http = httpx.AsyncClient(base_url=hq.addresses.http, timeout=8, trust_env=False)

    async def post(self, path: str, **body: str) -> tuple[int, Any]:
        answer = await self.http.post(path, json=body)
        return answer.status_code, answer.json()

    async def pass_for(self, voucher: Any, blob: str, **body: str) -> tuple[int, Any]:
        return await self.post(f"/v/{voucher['voucher_id']}/grant", **{"secret": voucher["secret"], "asking": blob} | body)


@pytest.fixture
async def phone(demo: Hq) -> AsyncIterator[Phone]:
    one = Phone(demo)
    async with one.http:
        yield one


@pytest.fixture
async def boxes(demo: Hq) -> AsyncIterator[tuple[TestBox, TestBox]]:
    first, second = await demo.new_box("s1", 1), await demo.new_box("s2", 2)
    async with demo.connected(first) as one, demo.connected(second) as two:
        await one.beat()
        await two.beat()
        yield one, two


async def issued(hq: Hq, **more: Any) -> Any:
    return await hq.post("/api/assigned", {"title_zh": "咖啡券", "title_en": "Coffee", "value_minor": 500, **more})


def blob(box: TestBox, voucher: Any = None, **changes: Any) -> str:
    """What a box's screen shows."""
    asked = Asking(gateway=box.box.gateway, epoch=EPOCH, voucher_id=voucher["voucher_id"] if voucher else "", asked_s=now_us() // 1_000_000)
    page = box.enrolment.facts.page
    return asking.address(page, msgspec.structs.replace(asked, **changes), box.enrolment.sign_key).rpartition("/")[2]


def read(code: str, hq: Hq) -> grants.Grant:
    """A pass, as any box reads it."""
    keys = Authority.open(Path(hq.options.data_dir) / "authority").token_keys
    return grants.verify(code, {key_id: key.public_key() for key_id, key in keys.items()})


async def test_the_link_leads_to_a_page_that_needs_no_login_and_says_nothing_by_itself(demo: Hq, phone: Phone) -> None:
    voucher = await issued(demo)
    page, _, secret = voucher["link"].partition("#")
    assert (page, secret) == (f"{demo.addresses.http}/v/{voucher['voucher_id']}", voucher["secret"])
    real, none = await phone.http.get(page), await phone.http.get("/v/000000000000000")
    assert real.status_code == none.status_code == 200
    assert real.content == none.content
    policy = real.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert (await phone.http.get("/api/assigned/" + voucher["voucher_id"])).status_code == 401, "the rest stays locked"


async def test_who_has_the_link_sees_the_voucher_and_a_wrong_secret_looks_like_no_voucher(demo: Hq, phone: Phone) -> None:
    voucher, other = await issued(demo), await issued(demo)
    path = f"/v/{voucher['voucher_id']}/show"
    status, told = await phone.post(path, secret=voucher["secret"])
    assert (status, told["title"]["zh"], told["state"], told["left"], told["shops"]) == (200, "咖啡券", "free", 1, [])
    assert told["qr"].startswith("data:image/svg+xml")
    wrong = [await phone.post(path, secret=text) for text in (other["secret"], "0" * 32, "", "☃", voucher["secret"].upper() + " ")]
    unknown = await phone.post("/v/000000000000000/show", secret=voucher["secret"])
    assert {status for status, _ in (*wrong, unknown)} == {404}
    assert [told for _, told in wrong] == [unknown[1]] * len(wrong)
    assert unknown[1]["message"]["zh"] == "查無此票券連結"
    assert voucher["secret"] not in (await phone.http.post(path, json={"secret": voucher["secret"] * 3})).text


async def test_a_pass_is_for_the_box_that_asks_and_fetched_again_it_keeps_its_number(
    demo: Hq, phone: Phone, boxes: tuple[TestBox, TestBox]
) -> None:
    voucher = await issued(demo)
    asked = blob(boxes[0], voucher)
    assert await phone.post("/g/shop", asking=asked) == (
        200,
        {"shop": {"zh": "門市 1", "en": "Shop 1"}, "voucher_id": voucher["voucher_id"]},
    )
    first, again = [read((await phone.pass_for(voucher, asked))[1]["code"], demo) for _ in range(2)]
    claims = unpack(voucher["token"])[0]
    assert (first.identifier, first.issuer) == (claims.identifier, claims.issuer)
    assert (first.assignment, again.assignment, first.left) == (1, 1, 1)
    assert (first.box, first.epoch) == (grants.box_digest("gw-s1"), 0), "its start is proven"
    assert token.voucher_ref(first.issuer, first.identifier) == voucher["voucher_id"]
    status, told = await phone.pass_for(voucher, blob(boxes[1]))
    assert (status, told["reason"], told["shop"]) == (409, "assigned_elsewhere", {"zh": "門市 1", "en": "Shop 1"})
    _, shown = await phone.post(f"/v/{voucher['voucher_id']}/show", secret=voucher["secret"])
    assert (shown["state"], shown["shops"]) == ("assigned", [{"zh": "門市 1", "en": "Shop 1"}])
    held = await demo.get(f"/api/assigned/{voucher['voucher_id']}")
    assert [one["gateway"] for one in held["holders"]] == ["gw-s1"]


async def test_a_start_headquarters_has_not_heard_of_is_named_and_given_its_opening(
    demo: Hq, phone: Phone, boxes: tuple[TestBox, TestBox]
) -> None:
    voucher = await issued(demo)
    _, told = await phone.pass_for(voucher, blob(boxes[0], epoch="2-dark"))
    assert read(told["code"], demo).epoch == grants.epoch_digest("2-dark")
    opening = (await boxes[0].document("opening")).opening
    assert opening is not None
    assert opening.epoch == "2-dark"
    # That start is then heard of, and it has a child: a photograph of the old screen is worth nothing.
    await boxes[0].beat(3, epoch="3-after", parent="2-dark", parent_heads={0: (0, "")})
    for old in (blob(boxes[0], epoch="2-dark"), blob(boxes[0], epoch="2-dark", asked_s=0)):
        status, told = await phone.pass_for(await issued(demo), old)
        assert (status, told["reason"]) == (409, "request_old")


@pytest.mark.parametrize(("changes", "reason"), [({"asked_s": 1_000}, "request_old"), ({"asked_s": 4_000_000_000}, "request_old")])
async def test_an_old_request_is_refused_unless_the_box_says_that_its_clock_is_not_to_be_believed(
    demo: Hq, phone: Phone, boxes: tuple[TestBox, TestBox], changes: Any, reason: str
) -> None:
    voucher = await issued(demo)
    status, told = await phone.pass_for(voucher, blob(boxes[0], **changes))
    assert (status, told["reason"]) == (409, reason)
    assert (await demo.get(f"/api/assigned/{voucher['voucher_id']}"))["state"] == "free", "nothing was given"
    assert (await phone.pass_for(voucher, blob(boxes[0], asked_s=0)))[0] == 200


async def test_a_request_nobody_signed_gives_nothing(demo: Hq, phone: Phone, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    voucher, other = await issued(demo), await issued(demo)
    asked = Asking(gateway="gw-s1", epoch=EPOCH, asked_s=now_us() // 1_000_000)
    in_its_name = asking.address("http://x", asked, two.enrolment.sign_key)
    stranger = asking.address("http://x", msgspec.structs.replace(asked, gateway="gw-s9"), STRANGER_KEY)
    whole = blob(one)
    tried = {in_its_name: "no_shop", stranger: "no_shop", whole[:-4]: "no_request", "": "no_request", "☃/A": "no_request"}
    for text, reason in (tried | {blob(one, other): "other_voucher", blob(one, epoch=""): "no_request"}).items():
        status, told = await phone.pass_for(voucher, text)
        assert told["reason"] == reason, text
        assert status >= 400
        assert told["message"]["zh"]
    assert (await phone.pass_for(voucher, whole, secret=other["secret"]))[0] == 404
    assert (await demo.get(f"/api/assigned/{voucher['voucher_id']}"))["state"] == "free"


async def test_what_ended_or_is_headquarters_alone_to_decide_is_not_granted(demo: Hq, phone: Phone, boxes: tuple[TestBox, TestBox]) -> None:
    refunded, live = await issued(demo), await issued(demo, voucher_class="hq_live")
    await demo.post(f"/api/assigned/{refunded['voucher_id']}/refund")
    assert [(await phone.pass_for(one, blob(boxes[0])))[1]["reason"] for one in (refunded, live)] == ["refunded", "not_by_phone"]
    _, shown = await phone.post(f"/v/{refunded['voucher_id']}/show", secret=refunded["secret"])
    assert shown["message"]["zh"] == "此券已退款"


async def test_an_address_that_tries_too_often_has_to_wait(demo: Hq, phone: Phone) -> None:
    voucher = await issued(demo)
    told = [await phone.post(f"/v/{voucher['voucher_id']}/show", secret="0" * 32) for _ in range(40)]
    assert {status for status, _ in told} == {404, 429}
    assert told[-1][1]["reason"] == "too_often"


async def test_one_voucher_is_asked_for_no_faster_from_many_addresses_and_strangers_keep_no_holder_out(demo: Hq, phone: Phone) -> None:
    voucher = await issued(demo)

    async def ask(address: int, secret: str) -> int:
        there = {"x-forwarded-for": f"203.0.113.{address}"}  # as the proxy on this machine says
        return (await phone.http.post(f"/v/{voucher['voucher_id']}/show", json={"secret": secret}, headers=there)).status_code

    assert {await ask(number, "0" * 32) for number in range(40)} == {404}
    found = [await ask(number, voucher["secret"]) for number in range(40, 80)]
    assert found[:30] == [200] * 30
    assert 429 in found


async def test_a_start_that_is_not_proven_is_named_and_so_is_every_start_of_a_swapped_box(
    demo: Hq, phone: Phone, boxes: tuple[TestBox, TestBox]
) -> None:
    one, _ = boxes
    first, second = await issued(demo), await issued(demo)
    await one.beat(2, proven=False)
    _, told = await phone.pass_for(first, blob(one))
    assert read(told["code"], demo).epoch == grants.epoch_digest(EPOCH)
    asked = {"store": "s1", "gateway": "gw-s1", "number": 1, "name_zh": "店", "name_en": "Shop", "again": True}
    label = (await demo.post("/api/boxes", asked))["label"]
    enrolment = await demo.enrol(label, "swapped", shop("s1", 1))
    assert (await phone.pass_for(second, blob(one)))[1]["reason"] == "no_shop", "the old box's key is nobody's"
    async with demo.connected(enrolment) as new:
        await new.beat(1, epoch="1-new")
        _, told = await phone.pass_for(second, blob(new, epoch="1-new"))
    assert read(told["code"], demo).epoch == grants.epoch_digest("1-new")
