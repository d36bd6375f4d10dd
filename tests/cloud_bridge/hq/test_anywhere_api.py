"""Terms, open codes and conflicts at a running headquarters: declared over HTTP, told to shops down the road, settled in a signed file."""

import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cloud_bridge.hq import checkpoint
from cloud_bridge.hq.issuing import read_vouchers
from gateway.anywhere import Anywhere
from gateway.errors import ConfigError
from gateway.events import Event, OpenCodeUsed, RiskTaken, VoucherRedeemed
from gateway.token import VoucherClass, unpack
from gateway.verifiers import opaque
from provisioning.authority import Authority

from .rig import Hq, TestBox, instant, until, wire

TERMS = {"campaign": None, "per_code_minor": 300, "per_device_minor": 500, "per_shop_minor": 800, "worth_minor": 100, "bearer": "issuer"}
CODE = {"texts": ["WELCOME10"], "title_zh": "新客", "title_en": "Welcome", "quota": 25, "allotment": 20, "campaign": 16}


@pytest.fixture
async def boxes(demo: Hq) -> AsyncIterator[tuple[TestBox, TestBox]]:
    first, second = await demo.new_box("s1", 1), await demo.new_box("s2", 2)
    async with demo.connected(first) as one, demo.connected(second) as two:
        await one.beat()
        await two.beat()
        yield one, two


async def refused(hq: Hq, path: str, body: dict[str, Any]) -> tuple[int, str]:
    response = await hq.http.post(path, json=body)
    return response.status_code, str(response.json()["detail"])


async def told(box: TestBox, version: int = 1) -> Anywhere:
    found = (await box.document("anywhere", version)).anywhere
    assert found is not None
    return found


async def say(box: TestBox, *events: Event) -> None:
    await box.send(box.batch([wire(seq, event) for seq, event in enumerate(events, 1)]))


def trusted(name: str, voucher_id: str) -> list[Event]:
    use = VoucherRedeemed(name, voucher_id, 5, 1, "k", "c", None, 1, instant())
    return [use, RiskTaken(name, voucher_id, -1, 1, 0, 1, 200, "till-1", instant())]


async def test_a_class_without_terms_is_not_issued_and_the_error_says_what_to_do(demo: Hq) -> None:
    asked = {"title_zh": "券", "voucher_class": "bounded_risk", "campaign": 5}
    status, detail = await refused(demo, "/api/assigned", asked)
    assert status == 409 and "POST /api/risk/terms" in detail
    piece = {"piece": "piece-001", "title_zh": "券", "voucher_class": "bounded_risk", "campaign": 5}
    response = await demo.http.post("/api/issue", json={"pieces": [piece, piece | {"piece": "piece-002", "store": "s1"}]})
    assert response.status_code == 409 and "POST /api/risk/terms" in response.text and "no shop s1" in response.text
    terms = await demo.post("/api/risk/terms", TERMS)
    assert (terms["version"], terms["campaign"]) == (1, -1)
    assert (await demo.post("/api/risk/terms", TERMS | {"per_shop_minor": 0}))["version"] == 2
    assert [one["per_shop_minor"] for one in await demo.get("/api/risk/terms")] == [0]
    assert (await demo.post("/api/assigned", asked))["voucher_class"] == VoucherClass.BOUNDED_RISK
    (made,) = await demo.post("/api/issue", {"pieces": [piece]})
    assert unpack(made["token"])[0].voucher_class is VoucherClass.BOUNDED_RISK
    for voucher_class, path in (("bounded_risk", "POST /api/assigned"), ("open_code", "POST /api/open-codes")):
        status, detail = await refused(demo, "/api/vouchers", {"store": "s1", "title_zh": "券", "voucher_class": voucher_class})
        assert status == 422 and path in detail


async def test_a_conflict_is_told_to_both_shops_under_headquarters_seal_and_settled_in_the_days_file(
    demo: Hq, boxes: tuple[TestBox, TestBox]
) -> None:
    one, two = boxes
    await demo.post("/api/risk/terms", TERMS)
    voucher = await demo.post("/api/assigned", {"title_zh": "券", "voucher_class": "bounded_risk", "campaign": 5, "value_minor": 200})
    assert [(terms.campaign, terms.per_shop_minor) for terms in (await told(one)).terms] == [(-1, 800)]
    await say(one, *trusted("r1", voucher["voucher_id"]))
    await say(two, *trusted("r2", voucher["voucher_id"]))
    both = [await told(box, 2) for box in (one, two)]
    assert [[(met.redemption_id, met.outcome, met.loss_minor, met.bearer, met.other_en) for met in said.conflicts] for said in both] == [
        [("r1", "good", 0, "issuer", "Shop 2")], [("r2", "loss", 200, "issuer", "Shop 1")],
    ]  # fmt: skip
    assert [said.revoked for said in both] == [[voucher["voucher_id"]]] * 2
    found = await demo.get("/api/risk")
    assert [(shop["store"], shop["losses"], shop["realised_minor"], shop["borne_minor"]) for shop in found["shops"]] == [
        ("s1", 0, 0, {}), ("s2", 1, 200, {"issuer": 200}),
    ]  # fmt: skip
    assert [(loss["store"], loss["loss_minor"]) for loss in found["losses"]] == [("s2", 200)]
    day = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=8))).date().isoformat()
    file = (await demo.http.get(f"/api/settlement.csv?day={day}")).content
    lines = checkpoint.check(file, Authority.open(demo.folder / "hq" / "authority").root_public)
    assert [line[1:] for line in lines if line[0] == "loss"][1] == ["1", "s2", "gw-s2", "issuer", "1", "1", "200"]
    metrics = (await demo.http.get("/metrics")).text
    assert 'hq_risk_realised_minor{store="s2"} 200' in metrics
    assert 'hq_double_spend_total{store="s2",class="bounded_risk"} 1' in metrics
    assert 'hq_risk_cap_minor{store="s1"} 800' in metrics
    page = (await demo.http.get("/?lang=en")).text
    assert "Taken on trust" in page and "lost 200 (1 uses)" in page


async def test_an_open_code_is_told_by_its_hash_leased_in_shares_and_never_issued_twice(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    code = await demo.post("/api/open-codes", CODE)
    voucher_id = code["voucher_id"]
    said = await told(one)
    assert [(known.voucher_id, known.digests, known.allotment) for known in said.codes] == [
        (voucher_id, [opaque.digest_of("welcome 10")], 20)
    ]
    first, second = (await one.claim(voucher_id, units=20)).grant, (await two.claim(voucher_id, units=20)).grant
    assert first is not None and second is not None and (first.units, second.units) == (20, 5)
    use = VoucherRedeemed("r1", voucher_id, 16, 1, "k", "c", None, 1, instant(), 1, number=1)
    await say(one, use, OpenCodeUsed("r1", voucher_id, 1, 1, "", instant()))
    (listed,) = await demo.get("/api/open-codes")
    assert (listed["quota"], listed["used"], [held["units"] for held in listed["holders"]]) == (25, 1, [20, 5])
    assert (await refused(demo, "/api/open-codes", CODE | {"texts": ["welcome-10"]}))[0] == 409
    await demo.post(f"/api/assigned/{voucher_id}/cancel")
    await until(lambda: len(one.manifests) > 1)
    assert (await told(one, 2)).codes[0].revoked


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"texts": ["AB"]}, 422, "too short"),
        ({"texts": ["4111 1111 1111 1111"]}, 422, "card"),
        ({"allotment": 26}, 422, "more than the whole quota"),
    ],
)
async def test_an_open_code_that_makes_no_sense_is_refused_with_words(demo: Hq, changes: dict[str, Any], status: int, words: str) -> None:
    found = await refused(demo, "/api/open-codes", CODE | changes)
    assert found[0] == status and words in found[1]
    assert await demo.get("/api/open-codes") == []


async def test_a_shop_that_enrols_later_has_what_the_others_have(demo: Hq) -> None:
    await demo.post("/api/risk/terms", TERMS)
    await demo.post("/api/open-codes", CODE)
    async with demo.connected(await demo.new_box("s3", 3)) as box:
        said = await told(box)
    assert (len(said.terms), len(said.codes)) == (1, 1)


def test_a_file_of_vouchers_names_their_class_and_one_of_before_keeps_its_keys(tmp_path: Any) -> None:
    path = tmp_path / "vouchers.csv"
    path.write_text("title_zh,voucher_class\n券,bounded_risk\n券,\n")
    classes = [line.piece.voucher_class for line in read_vouchers(path)]
    assert classes == ["bounded_risk", ""]
    plain = tmp_path / "plain.csv"
    plain.write_text("title_zh\n券\n")
    assert read_vouchers(plain)[0].piece.piece == read_vouchers(path)[1].piece.piece
    path.write_text("title_zh,voucher_class\n券,bounded\n")
    with pytest.raises(ConfigError, match="bounded_risk"):
        read_vouchers(path)
