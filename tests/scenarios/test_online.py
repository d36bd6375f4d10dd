"""Scenarios that begin online and end at the shop's tills, or the other way round."""

import base64
import hashlib
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.events import Lane
from gateway.ledger import LedgerReader
from tests.scenarios.test_campaigns import publish
from tests.scenarios.test_sales import heard, issue, paired_till, redeem
from tests.store.running import RunningStore
from virtual_store.plan import STORE
from virtual_store.till import Exchange, Till
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]

SHOWN_WITHIN_S = 5.0
MOST_EVENTS = 2_000  # of one page
REDEEMED = "store-gateway.voucher-redeemed.v1"


def sold(**priced: tuple[str, int]) -> dict[str, Any]:
    """A basket of (SKU, price) by line."""
    lines = [{"line_id": line, "sku": sku, "quantity": 1, "unit_minor": minor} for line, (sku, minor) in priced.items()]
    return {"currency": "TWD", "lines": lines}


def with_basket(till: Till, code: str, basket: dict[str, Any]) -> dict[str, Any]:
    """A code redeemed for a basket."""
    return till.ask("redeem", code=code, presentation_id=secrets.token_hex(16), basket=basket).answer


def told(store: RunningStore, voucher_id: str) -> list[dict[str, Any]]:
    """What headquarters tells readers of a voucher's redemptions: CloudEvents, as its API gives them away."""
    page = store.hq_get(f"/api/events?limit={MOST_EVENTS}")
    assert len(page) < MOST_EVENTS
    return [one for one in page if one["type"] == REDEEMED and one["data"]["voucher_id"] == voucher_id]


def shop_of(store: RunningStore, event: dict[str, Any]) -> str:
    """Which shop an event is from, as headquarters lists its boxes."""
    return next(str(box["store"]) for box in store.hq_get("/api/boxes") if box["gateway"] == event["source"])


def validate(store: RunningStore, token: str) -> dict[str, Any]:
    """What a kiosk says about a code without using it."""
    kiosk = Web(store.starter.plan.kiosk_url).pair_now("counter")
    return dict(store.call(kiosk.post("/v1/validate", {"station": "counter", "code": token})))


@pytest.mark.scenario("R32")
def test_a_voucher_for_one_thing_is_not_used_up_by_a_basket_without_it(whole_store: RunningStore, tmp_path: Path) -> None:
    publish(whole_store, {"kind": "item_voucher", "items": {"skus": ["LATTE"]}}, 32, trigger="voucher")
    voucher, till = issue(whole_store, "拿鐵一杯", campaign=32), paired_till(whole_store, tmp_path)
    without = with_basket(till, voucher["token"], sold(L1=("CAKE", 60), L2=("TEA", 40)))
    assert (without["decision"], without["reason"], without["uses_left"]) == ("refused", "item_missing", 1)
    assert without["message"]["zh"] and without["next_step"]["en"]
    whole_store.drained()
    assert whole_store.hq_get(f"/api/vouchers/{voucher['voucher_id']}")["state"] == "issued"
    bought = with_basket(till, voucher["token"], sold(L1=("CAKE", 60), L2=("LATTE", 120)))
    assert (bought["decision"], bought["priced"]["off_minor"], bought["priced"]["to_pay_minor"]) == ("redeemed", 120, 60)
    rows = [row for row in whole_store.rows("VoucherRedeemed") if row["voucher_id"] == voucher["voucher_id"]]
    assert len(rows) == 1


@pytest.mark.scenario("R54")
def test_fifty_seats_and_three_doors_without_a_line_let_in_fifty(whole_store: RunningStore, tmp_path: Path) -> None:
    whole_store.hq_post(f"/api/stores/{STORE}/limits", {"campaign": 54, "stock": 50, "session": True})
    ask = {"store": STORE, "title_zh": "手作課", "title_en": "Workshop", "campaign": 54}
    signed_up = [str(whole_store.hq_post("/api/vouchers", ask)["token"]) for _ in range(57)]
    heard(whole_store)
    doors = [paired_till(whole_store, tmp_path, station) for station in ("counter", "entrance", "counter")]
    whole_store.cut_line()
    answers: list[Exchange] = []

    def door(till: Till, queue: list[str]) -> None:
        answers.extend(till.present("redeem", token) for token in queue)

    shifts = [threading.Thread(target=door, args=(till, signed_up[at::3])) for at, till in enumerate(doors)]
    for shift in shifts:
        shift.start()
    for shift in shifts:
        shift.join(timeout=60)
    decided = [one.answer["decision"] for one in answers]
    assert (len(decided), decided.count("redeemed")) == (57, 50)
    assert {one.answer["reason"] for one in answers} == {"", "session_full"}
    walk_in = doors[0].present("redeem", signed_up[0])  # who is in is not let in again, and the seats stay taken
    assert walk_in.answer["decision"] == "refused"
    whole_store.mend_line()
    whole_store.drained()
    assert sum(row["campaign"] == 54 for row in whole_store.rows("VoucherRedeemed")) == 50
    assert whole_store.hq_get(f"/api/stores/{STORE}/counts")["redemptions"] == len(whole_store.rows("VoucherRedeemed"))


@pytest.mark.scenario("R05")
def test_a_survey_voucher_is_told_with_survey_and_store_within_seconds_and_once(whole_store: RunningStore) -> None:
    survey = 5_005
    voucher = issue(whole_store, "問卷贈品", campaign=survey)
    assert redeem(whole_store, voucher["token"])["decision"] == "redeemed"
    whole_store.until(lambda: bool(told(whole_store, voucher["voucher_id"])), SHOWN_WITHIN_S, "headquarters was not told in time")
    whole_store.cut_line()  # what was on its way is sent again, and is still the same event
    whole_store.mend_line()
    whole_store.kill("bridge")
    whole_store.drained()
    (event,) = told(whole_store, voucher["voucher_id"])
    assert event["data"]["campaign"] == survey
    assert shop_of(whole_store, event) == STORE


@pytest.mark.scenario("R11")
def test_a_reward_claimed_online_shows_as_used_online_within_seconds_and_as_free_again_when_taken_back(
    whole_store: RunningStore, tmp_path: Path
) -> None:
    reward, till = issue(whole_store, "線上任務獎勵"), paired_till(whole_store, tmp_path)

    def wallet() -> str:
        return str(whole_store.hq_get(f"/api/vouchers/{reward['voucher_id']}")["state"])

    assert wallet() == "issued"
    done = till.present("redeem", reward["token"]).answer
    whole_store.until(lambda: wallet() == "used", SHOWN_WITHIN_S, "the wallet does not show it as used")
    assert till.settle("reverse", redemption_id=done["redemption_id"]).answer["decision"] == "reversed"
    whole_store.until(lambda: wallet() == "issued", SHOWN_WITHIN_S, "the wallet does not show that it was taken back")


@pytest.mark.scenario("R11")
def test_what_is_taken_back_online_is_refused_in_the_shop_within_seconds(whole_store: RunningStore) -> None:
    reward = issue(whole_store, "線上取消的獎勵")
    whole_store.hq_post(f"/api/vouchers/{reward['voucher_id']}/revoke", {})
    began_s = time.monotonic()
    kiosk_says = ""
    while kiosk_says != "revoked" and time.monotonic() - began_s < SHOWN_WITHIN_S:
        kiosk_says = str(validate(whole_store, reward["token"])["reason"])
    assert kiosk_says == "revoked"


def posted(store: RunningStore, path: str, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
    """What headquarters answers to a request with an idempotency key."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {store.starter.hq.token}", "Idempotency-Key": key}
    request = urllib.request.Request(store.starter.hq.base + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.scenario("R44")
@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/api/orders", {"store": STORE, "customer": "王小美", "lines": ["月餅禮盒 x1"]}, "order_id"),
        ("/api/vouchers", {"store": STORE, "title_zh": "重送券", "value_minor": 100}, "voucher_id"),
    ],
)
def test_an_event_that_is_sent_three_times_has_one_effect(whole_store: RunningStore, path: str, body: dict[str, Any], name: str) -> None:
    before, key = {one[name] for one in whole_store.hq_get(path)}, secrets.token_hex(16)
    documents = {"order_id": "orders", "voucher_id": "vouchers"}[name]
    version = whole_store.view()["documents"].get(documents, 0)
    with ThreadPoolExecutor(3) as senders:  # the first was not answered yet when the others came
        sent = list(senders.map(lambda _: posted(whole_store, path, body, key), range(3)))
    assert [status for status, _ in sent] == [201] * 3
    (made,) = {one[name] for _, one in sent}
    assert {one[name] for one in whole_store.hq_get(path)} - before == {made}
    whole_store.until(lambda: bool(whole_store.view()["documents"].get(documents, 0) > version), 15, "the shop was not told")
    heard(whole_store)
    assert whole_store.view()["documents"][documents] == version + 1
    other = posted(whole_store, path, body | {"store": "elsewhere"}, key)
    assert (other[0], {one[name] for one in whole_store.hq_get(path)} - before) == (422, {made})
    if name == "voucher_id":
        assert redeem(whole_store, sent[0][1]["token"])["decision"] == "redeemed"
        assert redeem(whole_store, sent[2][1]["token"])["reason"] == "already_redeemed"


@pytest.mark.scenario("R44")
def test_a_voucher_of_the_chain_is_issued_once_for_a_key(whole_store: RunningStore) -> None:
    key, body = secrets.token_hex(16), {"title_zh": "連鎖券"}
    first, *more = (posted(whole_store, "/api/assigned", body, key) for _ in range(3))
    assert first[0] == 201 and first[1]["secret"]
    assert [status for status, _ in more] == [409, 409]
    assert all(first[1]["voucher_id"] in said["detail"] for _, said in more)


@pytest.mark.scenario("R14")
def test_of_three_channels_and_none_the_funnel_sums_to_the_ledger(whole_store: RunningStore, tmp_path: Path) -> None:
    campaign, till = 14_014, paired_till(whole_store, tmp_path)
    issued = {
        channel: [
            issue(whole_store, "引流券", campaign=campaign, channel=channel) if at == count - 1 else dict(whole_store.hq_post(
                "/api/vouchers", {"store": STORE, "title_zh": "引流券", "campaign": campaign, "channel": channel}
            ))
            for at in range(count)
        ]
        for channel, count in {"line": 4, "mail": 3, "poster-7": 2, "": 1}.items()
    }  # fmt: skip
    whole_store.cut_line()
    done = [till.present("redeem", one["token"]).answer for one in (*issued["line"][:3], *issued["mail"][:1], *issued[""])]
    assert [answer["decision"] for answer in done] == ["redeemed"] * 5
    assert till.settle("reverse", redemption_id=done[0]["redemption_id"]).answer["decision"] == "reversed"
    assert till.present("redeem", issued["mail"][0]["token"]).answer["reason"] == "already_redeemed"
    whole_store.mend_line()
    whole_store.drained()
    funnel = whole_store.hq_get(f"/api/funnel?campaign={campaign}")
    numbers = ("reached", "visited", "redeemed", "reversed", "net")
    found = {one["channel"]: tuple(one[name] for name in numbers) for one in funnel["channels"]}
    assert found == {"line": (4, 3, 3, 1, 2), "mail": (3, 1, 1, 0, 1), "poster-7": (2, 0, 0, 0, 0), "": (1, 1, 1, 0, 1)}
    ledger = [[row for row in whole_store.rows(kind) if row["campaign"] == campaign] for kind in ("VoucherRedeemed", "RedemptionReversed")]
    assert (funnel["total"]["redeemed"], funnel["total"]["reversed"]) == tuple(sum(row["units"] for row in rows) for rows in ledger)
    assert funnel["complete"] and funnel["missing_rows"] == 0


def bodies_with(card: str) -> list[tuple[str, dict[str, Any]]]:
    """Every place of the till's verbs where somebody could put a card's number, and the shop's answer to it."""
    shown: dict[str, Any] = {"station": "counter", "code": "NOTHING", "presentation_id": secrets.token_hex(16)}
    line = {"line_id": "L1", "sku": "LATTE", "quantity": 1, "unit_minor": 100}
    baskets = [{"currency": "TWD", "lines": [line | {name: card}]} for name in ("line_id", "sku", "category")]
    return [
        *(("redeem", shown | {"basket": basket}) for basket in baskets),
        ("authorize", shown | {"basket": baskets[1]}),
        ("validate", {"station": "counter", "code": "NOTHING", "basket": baskets[1]}),
        ("redeem", shown | {"source": card}),
        ("redeem", shown | {"station": card}),
        ("redeem", shown | {"card": card}),
        ("capture", {"station": "counter", "authorization_id": "nobody", "amount": card, "key": secrets.token_hex(16)}),
        ("pairings", {"station": "counter", "kind": "pos", "name": f"till {card}"}),
    ]


def files_with(folder: Path, needles: list[bytes]) -> list[Path]:
    """Files of the whole virtual store, headquarters' among them, that hold any of these bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"ledger.db", "hq.db"} <= {path.name for path in files} and any(path.suffix == ".log" for path in files)
    return [path for path in files if any(needle in path.read_bytes() for needle in needles)]


def rows_with(ledger: Path, needles: list[bytes]) -> int:
    """Rows of the shop's ledger that hold any of these bytes: its blocks are packed, so its file says little."""
    reader = LedgerReader(ledger)
    try:
        rows = [row.event for epoch in reader.epochs() for lane in Lane for row in reader.rows(epoch.number, lane, 0, 10**9, 10**9)]
    finally:
        reader.close()
    return sum(any(needle in row for needle in needles) for row in rows)


@pytest.mark.scenario("R24")
def test_a_number_like_a_cards_is_refused_and_is_nowhere_afterwards(whole_store: RunningStore, tmp_path: Path) -> None:
    till, card = paired_till(whole_store, tmp_path), "4539578763621486"
    spelt = [card, " ".join(card[at : at + 4] for at in range(0, 16, 4)), "-".join(card[at : at + 4] for at in range(0, 16, 4))]
    for text in spelt:
        answer = till.present("redeem", text).answer
        assert (answer["decision"], answer["reason"]) == ("refused", "card_dropped")
        for verb, body in bodies_with(text):
            said = till.ask(verb, **body)
            assert (said.status, said.answer["error"]) == (422, "card_number"), (verb, body)
            assert text not in json.dumps(said.answer) and said.answer["message"]["zh"] and said.answer["next_step"]["en"]
        for verb in ("capture", "void"):
            assert till.settle(verb, authorization_id=text).answer["reason"] == "unknown_authorization"
        assert till.settle("reverse", redemption_id=text).answer["reason"] == "unknown_redemption"
        for path, asked in (
            ("/api/orders", {"store": STORE, "customer": f"王 {text}", "lines": ["茶"]}),
            ("/api/orders", {"store": STORE, "customer": "王", "lines": [text]}),
            ("/api/vouchers", {"store": STORE, "title_zh": text}),
            ("/api/assigned", {"title_zh": text}),
        ):
            refused = posted(whole_store, path, asked, secrets.token_hex(16))
            assert refused[0] == 422 and text not in json.dumps(refused[1])
    whole_store.show(card)  # held before the camera, too
    whole_store.until(lambda: whole_store.rows("RedemptionRefused")[-1]["read_point"].startswith("scanner"), 10, "the camera saw nothing")
    whole_store.drained()
    assert whole_store.rows("RedemptionRefused")[-1]["reason"] == "card_dropped"
    needles = [text.encode() for text in spelt] + [base64.b64encode(card.encode()), hashlib.sha256(card.encode()).digest()]
    needles += [hashlib.sha256(card.encode()).hexdigest().encode()]
    folder, ledger = whole_store.starter.plan.folder, whole_store.starter.ledger
    assert (files_with(folder, needles), rows_with(ledger, needles)) == ([], 0)
    # Goods whose number passes the cards' check, too, as one in ten does, are sold.
    goods = {"currency": "TWD", "lines": [{"line_id": "L1", "sku": "4710088412416", "quantity": 1, "unit_minor": 30}]}
    tea = issue(whole_store, "茶")
    assert with_basket(till, tea["token"], goods)["decision"] == "redeemed"
    whole_store.drained()
    kept = [tea["voucher_id"].encode()]  # what is kept is found by the same look
    assert files_with(folder, kept) and rows_with(ledger, kept)
