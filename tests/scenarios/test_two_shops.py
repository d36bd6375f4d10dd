"""Scenarios of two shops under one headquarters: the starter's, and one that was set up beside it from a label."""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import LedgerReader
from gateway.schema import migrate
from tests.scenarios.test_sales import heard
from tests.scenarios.test_setup import Box, carton, print_label
from tests.store.running import RunningStore
from virtual_store.plan import STORE
from virtual_store.shoppers import show
from virtual_store.web import Web

__all__ = ["carton"]
pytestmark = [pytest.mark.slow]

OTHER = "popup-hk"


@pytest.fixture
def other_shop(whole_store: RunningStore, carton: Path) -> Iterator[Box]:
    """A second shop of another retailer, enrolled by its label, serving."""
    label = print_label(whole_store, carton)
    addresses = whole_store.starter.plan.hq_dir / "addresses.json"
    whole_store.until(lambda: OTHER in json.loads(addresses.read_text())["relays"], 10, "the new shop has no line")
    (carton / "box").mkdir()
    box = Box(carton / "box", json.loads(addresses.read_text())["relays"][OTHER])
    try:
        box.start("scanner@counter")
        enroll = box.start("enroll")
        whole_store.eventually(lambda: whole_store.call(show(box.folder / "run" / "camera-counter.ctl", label, 20)), 20)
        assert enroll.wait(timeout=60) == 0
        migrate(box.folder / "state" / "ledger.db")
        box.start("core")
        box.start("bridge")
        whole_store.until(lambda: bool((view := box.view()) and view["line"]["up"] and "keys" in view["documents"]), 60, "no line")
        yield box
    finally:
        box.stop()


def redeemed_at(url: str, token: str) -> dict[str, Any]:
    """What a shop's kiosk says to a code."""
    kiosk = Web(url).pair_now("counter")
    body = {"station": "counter", "code": token, "presentation_id": secrets.token_hex(16)}
    return dict(kiosk.call("/v1/redeem", json.dumps(body).encode()))


def cut_both(store: RunningStore, box: Box, up: bool) -> None:
    """The lines of both shops, and both have noticed."""
    store.hq_post(f"/api/stores/{OTHER}/wan", {"up": up})
    store.mend_line() if up else store.cut_line()
    store.until(lambda: box.view()["line"]["up"] is up, 20, "the other shop did not notice")


def uses_in(ledger: Path, voucher_id: str) -> int:
    """How often a shop's ledger says a voucher was used."""
    reader = LedgerReader(ledger)
    try:
        rows = [row for epoch in reader.epochs() for row in reader.rows(epoch.number, 0, 0, 10**9, 10**9)]
    finally:
        reader.close()
    return sum(row.type == "VoucherRedeemed" and json.loads(row.event)["voucher_id"] == voucher_id for row in rows)


@pytest.mark.scenario("R78")
def test_one_code_at_two_retailers_without_a_line_is_honoured_as_its_class_promises(whole_store: RunningStore, other_shop: Box) -> None:
    """No loss at all, or a loss below the declared cap. What a shopper's phone carries to a shop without a line is another test's."""
    shops = (whole_store.starter.plan.kiosk_url, f"http://127.0.0.1:{other_shop.port}")
    ledgers = (whole_store.starter.ledger, other_shop.folder / "state" / "ledger.db")
    bound = whole_store.hq_post("/api/vouchers", {"store": STORE, "title_zh": "單店券"})
    chain = {kind: whole_store.hq_post("/api/assigned", {"title_zh": "兩家通用", "voucher_class": kind}) for kind in ("granted", "hq_live")}
    used_before = whole_store.hq_post("/api/assigned", {"title_zh": "先前已用"})
    caps = {"per_code_minor": 200, "per_device_minor": 300, "per_shop_minor": 300, "worth_minor": 100, "bearer": "issuer"}
    whole_store.hq_post("/api/risk/terms", caps | {"campaign": 78})
    ask = {"title_zh": "折價券", "voucher_class": "bounded_risk", "campaign": 78, "value_minor": 200}
    trusted, dear = (whole_store.hq_post("/api/assigned", ask) for _ in range(2))
    heard(whole_store)
    whole_store.until(lambda: bool(other_shop.view()["risk"] and whole_store.view()["risk"]), 30, "a shop was told no terms")
    assert redeemed_at(shops[0], used_before["token"])["decision"] == "redeemed"

    def both(voucher: dict[str, Any]) -> list[tuple[str, str]]:
        """At both shops at the same moment."""
        with ThreadPoolExecutor(2) as shoppers:
            found = list(shoppers.map(lambda url: redeemed_at(url, voucher["token"]), shops))
        return [(one["decision"], one["reason"]) for one in found]

    cut_both(whole_store, other_shop, up=False)
    assert both(bound) == [("redeemed", ""), ("refused", "other_store")]
    assert both(chain["granted"]) == [("refused", "needs_grant")] * 2
    assert both(chain["hq_live"]) == [("refused", "needs_online")] * 2
    assert both(used_before) == [("refused", "already_redeemed"), ("refused", "needs_grant")]
    assert both(trusted) == [("redeemed", "")] * 2
    assert both(dear) == [("refused", "risk_cap")] * 2

    cut_both(whole_store, other_shop, up=True)
    for voucher in chain.values():  # refused in the dark, they were not used up: now exactly one shop honours each
        decided = both(voucher)
        assert sorted(decision for decision, _ in decided) == ["redeemed", "refused"], decided
    assert [decision for decision, _ in both(used_before)] == ["refused"] * 2
    whole_store.drained()
    for voucher in (bound, used_before, *chain.values()):
        assert sum(uses_in(ledger, voucher["voucher_id"]) for ledger in ledgers) == 1
    whole_store.until(lambda: other_shop.view()["line"]["waiting"] == 0, 20, "the other shop did not drain")
    exposure = whole_store.hq_get("/api/exposure")
    assert (exposure.get("late_units", 0), exposure.get("exposed_units", 0)) == (0, 0)
    (loss,) = whole_store.hq_get("/api/risk")["losses"]
    assert (loss["voucher_id"], loss["bearer"], loss["loss_minor"]) == (trusted["voucher_id"], "issuer", 200), "the second, below its cap"

    def realised() -> list[int]:
        return sorted(view["risk"][0]["realised_minor"] for view in (other_shop.view(), whole_store.view()))

    whole_store.until(lambda: realised() == [0, 200], 30, "the shops were not told how it was settled")
