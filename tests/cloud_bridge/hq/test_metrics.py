"""What Prometheus reads from headquarters: read here with Prometheus' own parser."""

import httpx
from prometheus_client.parser import text_string_to_metric_families as parse

from gateway.meters import CONTENT_TYPE

from .rig import Hq, redeemed, refused, until, wire

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def series(hq: Hq) -> Series:
    """Every sample, as Prometheus would store it."""
    answer = await hq.http.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"] == CONTENT_TYPE
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in parse(answer.text) for one in family.samples}


async def test_rows_lag_and_what_was_not_taken(demo: Hq) -> None:
    enrolment = await demo.new_box()
    await demo.new_box("s2", 2)
    found = await series(demo)
    assert found["hq_boxes", ()] == 2
    assert found["hq_boxes_up", ()] == 0
    assert ("hq_box_lag_seconds", (("store", "s1"),)) not in found  # nothing was ever heard
    async with demo.connected(enrolment) as box:
        await box.beat(waiting=3, last={0: 5})
        await box.send(box.batch([wire(1, redeemed(1)), wire(2, refused(2))], last={0: 5}))
        box.send_bytes(b"rubbish")
        rejected = [key for key in await series(demo) if key[0] == "hq_rejected_total"]
        while not rejected:
            rejected = [key for key in await series(demo) if key[0] == "hq_rejected_total"]
        found = await series(demo)
    assert found["hq_broker_connected", ()] == found["hq_boxes_up", ()] == found["hq_box_up", (("store", "s1"),)] == 1
    assert found["hq_box_up", (("store", "s2"),)] == 0
    assert 0 <= found["hq_box_lag_seconds", (("store", "s1"),)] < 5
    assert found["hq_box_waiting", (("store", "s1"),)] == 3
    assert found["hq_rows_stored", (("lane", "0"), ("store", "s1"))] == 2
    assert found["hq_rows_produced", (("lane", "0"), ("store", "s1"))] == 5
    assert found["hq_redemptions_total", (("store", "s1"),)] == found["hq_refusals_total", (("store", "s1"),)] == 1
    assert found["hq_redemptions_total", (("store", "s2"),)] == 0
    assert found["hq_rows_quarantined", (("store", "s1"),)] == 0
    assert len(rejected) == 1 and found[rejected[0]] == 1


async def test_a_number_is_not_called_complete_once_a_beat_has_told_of_more(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await box.beat(1, last={0: 1})
        await box.send(box.batch([wire(1, redeemed(1))]))
        counts = await demo.get("/api/stores/s1/counts")
        assert counts["complete"] and counts["missing"]["redemptions"] == 0
        await box.beat(2, last={0: 4})  # heard, and written down only seconds later
        counts = await demo.get("/api/stores/s1/counts")
        assert not counts["complete"] and counts["missing"]["redemptions"] == 3
        await box.beat(3, epoch="2-new", last={0: 2})  # a restart: three of the old epoch are still to come
        assert (await demo.get("/api/stores/s1/counts"))["missing"]["redemptions"] >= 2


async def test_a_row_nobody_can_read_is_counted_apart(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await box.send(box.batch([wire(1, b'{"type":"FromTheFuture"}')]))
        await until(lambda: box.acks)
        assert (await series(demo))["hq_rows_quarantined", (("store", "s1"),)] == 1


async def test_nobody_reads_them_without_the_token(demo: Hq) -> None:
    async with httpx.AsyncClient(base_url=demo.addresses.http, trust_env=False) as stranger:
        refused_ = await stranger.get("/metrics")
    assert refused_.status_code == 401 and "hq_boxes" not in refused_.text
