"""Scenarios of collecting what was ordered online."""

import secrets

import pytest

from tests.store.running import RunningStore

pytestmark = [pytest.mark.slow]


def sign_in(store: RunningStore) -> None:
    """The clerk begins a shift."""
    assert store.starter.addresses is not None
    store.shop_post("/v1/staff/sign-in", {"staff_ref": store.starter.addresses.clerk_ref, "pin": store.starter.addresses.clerk_pin})


def order_state(store: RunningStore, order_id: str) -> str:
    """What staff see of an order."""
    return next((str(order["state"]) for order in store.shop_get("/v1/staff/orders") if order["order_id"] == order_id), "")


def pulses(store: RunningStore) -> dict[str, int]:
    """How often each lock was pulsed, as the board counts."""
    return {door: int(state["pulses"]) for door, state in store.board(do="state")["compartments"].items()}


@pytest.mark.scenario("R58")
def test_an_order_in_cell_12_is_collected_while_the_line_is_down(whole_store: RunningStore) -> None:
    sign_in(whole_store)
    order = whole_store.hq_post("/api/orders", {"store": "tpe-001", "customer": "陳小明", "lines": ["月餅禮盒 x1"]})
    whole_store.until(lambda: order_state(whole_store, order["order_id"]) == "paid", 15, "the order never reached the shop")
    whole_store.shop_post("/v1/staff/stage", {"order_id": order["order_id"], "key": secrets.token_hex(16), "compartment": 12})
    whole_store.until(lambda: order_state(whole_store, order["order_id"]) == "staged", 15, "the order was never staged")
    before_pulses = pulses(whole_store)

    whole_store.cut_line()
    before = whole_store.screen()["number"]
    whole_store.show(order["token"])
    whole_store.until(lambda: order_state(whole_store, order["order_id"]) == "collected", 20, "the order was never collected")

    after_pulses = pulses(whole_store)
    assert {door: count - before_pulses[door] for door, count in after_pulses.items() if count != before_pulses[door]} == {"12": 1}
    assert whole_store.screen()["number"] > before
    intent = whole_store.rows("CompartmentOpenIntended")[-1]
    opened = next(row for row in whole_store.rows("DoorOpened") if row["intent_id"] == intent["intent_id"])
    assert (intent["compartment"], intent["purpose"], opened["compartment"]) == (12, "pickup", 12)
    # The virtual hand takes 0.4 s from the click to the open door; the decision has at most a second until the click.
    assert (opened["event_time"][1] - intent["event_time"][1]) / 1e9 <= 1.0 + 0.4 + 0.3
    assert whole_store.hq_get("/api/stores/tpe-001/counts")["collections"] == 0

    whole_store.mend_line()
    whole_store.drained()
    assert whole_store.hq_get("/api/stores/tpe-001/counts")["collections"] == 1
