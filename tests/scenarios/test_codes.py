"""Scenarios of whose vouchers the shop takes, and in which form."""

import base64
import secrets
from typing import Any

import pytest

from gateway.signed import public_hex
from gateway.token import Claims, TokenKind, sign
from tests.conftest import fixed_key
from tests.store import prints
from tests.store.running import RunningStore
from virtual_store.plan import STORE_NUMBER
from virtual_store.shoppers import order
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]

B_SECRET, C_SECRET = fixed_key(31), fixed_key(32)
END_S = 2_000_000_000
TRIES = 6


def of_issuer(issuer: int, key_id: int, identifier: int) -> str:
    """A voucher another issuer has signed for this shop; headquarters has never seen it."""
    claims = Claims(
        kind=TokenKind.VOUCHER, key_id=key_id, issuer=issuer, identifier=identifier, campaign=3, store=STORE_NUMBER, not_after_s=END_S
    )
    return sign(claims, B_SECRET if issuer == 9 else C_SECRET)


def hold(store: RunningStore, png: bytes) -> dict[str, Any]:
    """Hold a picture before the camera, as a person does: again and a little otherwise if nothing happens."""
    before = store.screen()["number"]
    for _ in range(TRIES):
        store.call(order(store.starter.plan.camera_control, do="show_image", png=base64.b64encode(png).decode(), seconds=2.5))
        try:
            store.until(lambda: store.screen()["number"] > before and store.screen()["answer"] is not None, 4.5, "nothing was read")
        except AssertionError:
            continue
        answer = dict(store.screen()["answer"])
        store.call(order(store.starter.plan.camera_control, do="clear"))
        return answer
    raise AssertionError("the camera never read it")


def applied(store: RunningStore, name: str) -> int:
    """How often the shop has put a document of that name in force."""
    return sum(row["name"] == name for row in store.rows("CatalogApplied"))


@pytest.mark.scenario("R25")
def test_vouchers_of_two_issuers_clear_each_to_its_own_and_a_strangers_is_refused(whole_store: RunningStore) -> None:
    ours = whole_store.hq_post("/api/vouchers", {"store": "tpe-001", "title_zh": "大潤發券", "title_en": "Issuer A", "valid_days": 7})
    same_number = int(ours["voucher_id"], 16)
    before = {one["issuer"]: one["redeemed"] for one in whole_store.hq_get("/api/issuers")}
    listed = applied(whole_store, "keys")
    body = {"format": "token", "issuer": 9, "key_id": "9", "public": public_hex(B_SECRET.public_key()), "name_zh": "大全聯", "name_en": "B"}
    whole_store.hq_post("/api/issuers/keys", body)
    whole_store.until(lambda: applied(whole_store, "keys") > listed, 15, "the shop was not told of the issuer")

    first = hold(whole_store, prints.bright_screen(ours["token"]))
    second = hold(whole_store, prints.bright_screen(of_issuer(9, 9, same_number)))
    strange = hold(whole_store, prints.bright_screen(of_issuer(10, 10, same_number)))

    assert (first["decision"], first["reference"]) == ("redeemed", ours["voucher_id"])
    assert (second["decision"], second["reference"]) == ("redeemed", f"9-{ours['voucher_id']}")
    assert (strange["decision"], strange["reason"]) == ("refused", "unknown_issuer")
    assert strange["message"]["zh"] == "本店不受理此發行者的票券"
    whole_store.drained()
    after = {one["issuer"]: one["redeemed"] for one in whole_store.hq_get("/api/issuers")}
    assert (after[1] - before.get(1, 0), after[9] - before.get(9, 0)) == (1, 1)
    told = [row for row in whole_store.rows("VoucherRedeemed") if row["voucher_id"].endswith(ours["voucher_id"])]
    assert sorted((row["issuer"], row["voucher_id"]) for row in told) == [(1, ours["voucher_id"]), (9, f"9-{ours['voucher_id']}")]


@pytest.mark.scenario("R35")
def test_one_voucher_in_five_forms_is_one_voucher(whole_store: RunningStore) -> None:
    before = applied(whole_store, "vouchers")
    voucher = whole_store.hq_post(
        "/api/vouchers", {"store": "tpe-001", "title_zh": "五次券", "title_en": "Five times", "valid_days": 7, "uses": 5}
    )
    whole_store.until(lambda: applied(whole_store, "vouchers") > before, 15, "the shop was not told")  # typed forms need its list

    async def type_it(code: str) -> dict[str, Any]:
        kiosk = await Web(whole_store.starter.plan.kiosk_url).pair("counter")
        body = {"station": "counter", "code": code, "presentation_id": secrets.token_hex(16)}
        return dict(await kiosk.post("/v1/redeem", body))

    def typed(code: str) -> dict[str, Any]:
        return whole_store.call(type_it(code))

    wide = "".join(chr(ord(letter) + 0xFEE0) if letter.isalnum() else "－" for letter in voucher["short_code"].lower())
    answers = {
        "a bright screen": hold(whole_store, prints.bright_screen(voucher["token"])),
        "a bar code": hold(whole_store, prints.bar_code(voucher["short_code"].replace("-", ""))),
        "typed on a phone": typed(wide),
        "worn paper": hold(whole_store, prints.worn_paper(voucher["token"])),
        "a dim screen": hold(whole_store, prints.dim_screen(voucher["token"])),
    }

    said = {form: (answer["decision"], answer["reference"], answer["title"]["zh"]) for form, answer in answers.items()}
    assert said == dict.fromkeys(answers, ("redeemed", voucher["voucher_id"], "五次券"))
    uses = [row["use_number"] for row in whole_store.rows("VoucherRedeemed") if row["voucher_id"] == voucher["voucher_id"]]
    assert uses == [1, 2, 3, 4, 5]
    assert typed(voucher["short_code"])["reason"] == "exhausted"
