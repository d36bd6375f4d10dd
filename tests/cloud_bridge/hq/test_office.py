"""What the office's pages stand on: a dry run is the shops' price, refusals name their field, and sheets tell who has which version."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cloud_bridge.hq
from cloud_bridge.hq import campaign_sheets, deeds
from cloud_bridge.hq.campaign_words import CONTRADICTIONS, refusal
from cloud_bridge.hq.registry import BoxRow, expect_box
from cloud_bridge.hq.sqlite import connect_writer
from cloud_bridge.hq.store import Connection, Store, StoredRow
from cloud_bridge.hq.words import LANGUAGES, locale
from gateway.events import CatalogApplied
from gateway.rules.definitions import Campaign, CampaignError, read_campaign
from tests.gateway.rules.offers import BOGO, definition, offer

from .rig import Hq, instant

PAGES = Path(cloud_bridge.hq.__file__).parent / "pages"
LINES = [
    {"line_id": "1", "sku": "LATTE", "quantity": 2, "unit_minor": 500},
    {"line_id": "2", "sku": "CAKE", "quantity": 1, "unit_minor": 90, "category": "food"},
]
ASK: dict[str, Any] = {"basket": {"currency": "TWD", "lines": LINES}}
SPEND = {"kind": "minimum_spend", "minimum_minor": 1000, "off_minor": 100}
HALF = {"kind": "nth_at_percent", "n": 2, "percent_off": 50}


def said(rule: dict[str, Any], campaign: int = 1, **more: Any) -> dict[str, Any]:
    return dict(json.loads(definition(rule, campaign, **more)))


async def test_a_dry_run_publishes_nothing_and_is_what_shops_charge_once_it_is_published(demo: Hq) -> None:
    await demo.new_box()
    await demo.post("/api/campaigns", said(SPEND, 2))
    draft = said(BOGO, 1)
    tried = await demo.post("/api/campaigns/check", {"definition": draft, "store": "s1", "ask": ASK})
    assert 1 in [one["campaign"] for one in tried["priced"]["adjustments"]]
    assert [one["definition"]["campaign"] for one in await demo.get("/api/campaigns")] == [2]
    assert (tried["in_force"], tried["is_for_shop"]) == (None, True)
    await demo.post("/api/campaigns", draft)
    charged = await demo.post("/api/price", {"store": "s1", "asks": [ASK]})
    assert charged["priced"][0] == tried["priced"]
    other = await demo.post("/api/campaigns/check", {"definition": said(HALF, 1, version=2), "store": "s1", "ask": ASK})
    used = {one["campaign"]: one["minor"] for one in other["priced"]["adjustments"]}
    assert (other["in_force"], used[1]) == (1, 45), "a draft stands in the place of the version in force"
    elsewhere = await demo.post("/api/campaigns/check", {"definition": said(BOGO, 3, stores=[9]), "store": "s1", "ask": ASK})
    assert elsewhere["is_for_shop"] is False
    lines = [one["route"] for one in await demo.get("/api/journal")]
    assert "POST /api/campaigns/check" not in lines


async def test_what_is_wrong_is_named_by_its_field(demo: Hq) -> None:
    await demo.new_box()

    async def blamed(path: str, body: dict[str, Any]) -> tuple[int, str, str]:
        response = await demo.http.post(path, json=body)
        told = response.json()
        return response.status_code, told.get("field", ""), told.get("code", "")

    bad = said(BOGO, 1) | {"rule": BOGO | {"max_pairs": 0}}
    assert await blamed("/api/campaigns", bad) == (422, "rule.max_pairs", "refused.value")
    lacking = {key: value for key, value in said(BOGO, 1).items() if key != "title_zh"}
    assert await blamed("/api/campaigns", lacking) == (422, "title_zh", "invalid.missing")
    await demo.post("/api/campaigns", said(BOGO, 1, version=3))
    assert await blamed("/api/campaigns", said(SPEND, 1, version=3)) == (409, "version", "refused.version")
    basket = {"basket": {"currency": "TWD", "lines": [LINES[0] | {"quantity": 0}]}}
    check = {"definition": said(BOGO, 1), "store": "s1", "ask": basket}
    assert await blamed("/api/campaigns/check", check) == (422, "check.lines[0].quantity", "refused.value")
    spent = {"store": "s1", "title_zh": "禮券", "partial": True}
    assert await blamed("/api/vouchers", spent) == (422, "value_minor", "refused.partial_value")


@pytest.mark.parametrize(
    ("rule", "more", "code"),
    [
        (BOGO, {"code": "X1"}, "refused.code_trigger"),
        ({"kind": "face_value"}, {}, "refused.face_trigger"),
        ({"kind": "revisit", "days": 3, "points": 1}, {"group": "g"}, "refused.revisit_alone"),
        (SPEND | {"percent_off": 5}, {}, "refused.either_off"),
        (SPEND | {"max_off_minor": 5}, {}, "refused.max_off"),
        ({"kind": "minimum_spend", "minimum_minor": 5, "percent_off": 5, "max_times": 2}, {}, "refused.max_times"),
        (BOGO, {"window": {"first_day": "2026-11-02", "last_day": "2026-11-01"}}, "refused.days_swapped"),
        (BOGO, {"window": {"extra_days": ["2026-11-02"], "excluded_days": ["2026-11-02"]}}, "refused.day_twice"),
        (BOGO, {"window": {"hours": [{"begin": "10:00", "end": "10:00"}]}}, "refused.hours"),
        (BOGO, {"window": {"first_day": "1990-01-01"}}, "refused.years"),
    ],
)
def test_every_contradiction_has_words_and_a_field_of_the_form(rule: dict[str, Any], more: dict[str, Any], code: str) -> None:
    read = read_campaign(definition(rule, 1, **more))
    assert isinstance(read, CampaignError)
    refused = refusal(read)
    assert refused.code == code
    assert all(code in locale(language) for language in LANGUAGES)
    form = (PAGES / "templates" / "campaign.html").read_text(encoding="utf-8")
    assert f'"{refused.field}"' in form
    assert len(CONTRADICTIONS) == 10


@given(st.text(max_size=200))
def test_any_problem_becomes_a_refusal(problem: str) -> None:
    assert refusal(CampaignError(0, None, problem, "")).status == 422


def test_every_word_a_page_asks_for_is_there_in_both_languages() -> None:
    asked = set()
    for template in (PAGES / "templates").glob("*.html"):
        asked |= set(re.findall(r"""(?<![a-z])t\(["']([a-z_.A-Z]+)["'][,)]""", template.read_text(encoding="utf-8")))
    code = " ".join(path.read_text(encoding="utf-8") for path in PAGES.parent.glob("*.py"))
    asked |= set(re.findall(r'code="(refused\.\w+|invalid\.\w+)"', code))
    for language in LANGUAGES:
        assert asked - set(locale(language)) == set()
    assert set(locale("en")) == set(locale("zh-Hant"))


async def test_sheets_tell_which_shop_has_which_version(store: Store) -> None:
    one, two = [BoxRow(f"gw-{n}", "demo", "0", f"s{n}", n, "", "", "Asia/Taipei", None) for n in (1, 2)]

    def campaign(version: int) -> Campaign:
        return offer(BOGO, 27, version=version)

    def states(db: Connection, version: int) -> list[tuple[str, Any]]:
        return [(shop["state"], shop["has"]) for shop in campaign_sheets.shops(db, campaign(version))]

    def has(db: Connection, box: BoxRow, version: int) -> None:
        row = StoredRow(1, box.gateway, "1-a", 2, 1, 0, 0, "CatalogApplied", "{}")
        campaign_sheets.applied(db, row, CatalogApplied("campaigns", version, "", instant(version)))

    def work(db: Connection) -> None:
        expect_box(db, one, 0)
        expect_box(db, two, 0)
        db.execute("UPDATE boxes SET public = 'k' WHERE gateway = 'gw-1'")
        assert states(db, 1) == [("unknown", None), ("not_enrolled", None)]
        campaign_sheets.note(db, "gw-1", 4, [campaign(1)], 0)
        assert states(db, 1)[0] == ("unheard", None)
        has(db, one, 4)
        assert states(db, 1)[0] == ("current", 1)
        campaign_sheets.note(db, "gw-1", 5, [campaign(2)], 0)
        assert states(db, 2)[0] == ("behind", 1)
        assert campaign_sheets.standing(db, [campaign(2)]) == {27: (0, 2)}
        for version in range(6, 200):  # a shop that is away for long does not make the table grow, and what it has stays known
            campaign_sheets.note(db, "gw-1", version, [campaign(2)], 0)
        assert states(db, 2)[0] == ("behind", 1)
        assert db.execute("SELECT count(*) FROM campaign_sheets").fetchone()[0] <= campaign_sheets.KEPT + 2
        has(db, one, 199)
        has(db, one, 5)  # of before, late
        assert states(db, 2)[0] == ("current", 2)
        assert campaign_sheets.standing(db, [campaign(2)]) == {27: (1, 2)}
        campaign_sheets.note(db, "gw-1", 200, [], 0)
        assert states(db, 2)[0] == ("left_out", 2)

    await store.write(work)


async def test_the_journal_keeps_what_was_begun_and_how_it_ended(store: Store) -> None:
    def work(db: Connection) -> None:
        first = deeds.note(db, 1, "lin", "POST /api/vouchers", {})
        second = deeds.note(db, 2, "wu", "DELETE /api/members/{member_ref}", {"member_ref": "a" * 26})
        deeds.ended(db, second, 200)
        assert [(one["id"], one["status"]) for one in deeds.listed(db)] == [(second, 200), (first, deeds.BEGUN)]
        assert [one["id"] for one in deeds.listed(db, "lin")] == [first]
        assert [one["id"] for one in deeds.listed(db, before=second)] == [first]

    await store.write(work)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=400), max_size=5))
def test_what_a_deed_was_about_is_bounded(about: dict[str, str]) -> None:
    assert all(len(deeds.clean(value)) <= 80 for value in about.values())


def test_a_folder_of_the_release_before_gets_what_is_new(tmp_path: Path) -> None:
    new = ("signins", "deeds", "campaign_sheets", "applied", "claims_ended", "trimmed")
    db = connect_writer(tmp_path / "hq.db")
    for table in new:
        db.execute(f"DROP TABLE {table}")
    db.execute("DROP INDEX claims_at")
    db.close()
    again = connect_writer(tmp_path / "hq.db")
    assert all(again.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,) for table in new)
    again.close()
