"""The contract of ingest, on the embedded broker and on mosquitto."""

import asyncio
import random
from typing import Any

import msgspec
import pytest
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_bridge.envelope import MAX_BATCH_B
from gateway.columns import RollUp, Tombstone
from gateway.signed import BATCH_TAG

from .rig import Draft, Hq, TestBox, redeemed, refused, seal_batch, until, wire


async def rejected(hq: Hq) -> dict[str, int]:
    return dict((await hq.get("/api/books"))["rejected"])


async def total(hq: Hq, name: str = "redemptions") -> int:
    return int((await hq.get("/api/stores/s1/counts"))["total"][name])


async def test_a_batch_is_acknowledged_once_it_is_stored(hq: Hq, box: TestBox) -> None:
    ack = await box.send(box.batch([wire(n, redeemed(n)) for n in (1, 2, 3)]))
    assert (ack.gateway, ack.epoch, ack.lane, ack.seq, ack.mark) == ("gw-s1", "1-abc", 0, 3, 3)
    assert ack.head == f"{3:064x}"
    assert await total(hq) == 3


async def test_a_batch_sent_again_counts_once(hq: Hq, box: TestBox) -> None:
    batch = box.batch([wire(n, redeemed(n)) for n in (1, 2, 3)])
    first, second = await box.send(batch), await box.send(batch)
    assert (second.seq, second.head, second.mark) == (first.seq, first.head, 3)
    assert await total(hq) == 3


async def test_a_batch_cut_anew_counts_only_what_is_new(hq: Hq, box: TestBox) -> None:
    rows = [wire(n, redeemed(n)) for n in range(1, 7)]
    await box.send(box.batch(rows[:4]))
    again = await box.send(box.batch(rows[1:3]))
    assert (again.seq, again.mark, again.head) == (3, 4, f"{3:064x}")
    further = await box.send(box.batch(rows[2:]))
    assert (further.seq, further.mark) == (6, 6)
    assert await total(hq) == 6


async def test_a_gap_is_not_stored_and_the_answer_names_the_mark(hq: Hq, box: TestBox) -> None:
    rows = [wire(n, redeemed(n)) for n in range(1, 8)]
    early = await box.send(box.batch(rows[4:]))
    assert (early.seq, early.head, early.mark) == (0, "", 0)
    await box.send(box.batch(rows[:2]))
    early = await box.send(box.batch(rows[4:]))
    assert (early.seq, early.head, early.mark) == (2, f"{2:064x}", 2)
    assert await total(hq) == 2
    assert (await box.send(box.batch(rows[2:]))).mark == 7
    assert await total(hq) == 7


@pytest.mark.slow
async def test_any_order_with_repeats_ends_complete(hq: Hq, box: TestBox) -> None:
    rows = [wire(n, redeemed(n)) for n in range(1, 41)]
    chance, mark = random.Random(7), 0
    for _ in range(60):
        start = max(0, min(39, mark + chance.randint(-6, 2)))
        ack = await box.send(box.batch(rows[start : start + chance.randint(1, 9)]))
        assert ack.mark >= mark
        mark = ack.mark
    await box.send(box.batch(rows[mark:])) if mark < 40 else None
    assert await total(hq) == 40


async def test_lanes_and_epochs_have_marks_of_their_own(hq: Hq, box: TestBox) -> None:
    await box.send(box.batch([wire(1, redeemed(1)), wire(2, redeemed(2))]))
    child = {"epoch": "2-def", "current": "2-def", "parent": "1-abc", "parent_heads": {0: (2, "ab")}}
    assert (await box.send(box.batch([wire(1, redeemed(3))], **child))).mark == 1
    assert (await box.send(box.batch([wire(1, refused(1))], lane=2, last={0: 5, 2: 1}))).mark == 1
    books = {(entry["epoch"], entry["lane"]): entry for entry in (await hq.get("/api/books"))["entries"]}
    assert [books["1-abc", 0][name] for name in ("produced", "received", "waiting", "unexplained")] == [5, 2, 3, 0]
    assert [books["2-def", 0][name] for name in ("produced", "received", "waiting", "unexplained")] == [1, 1, 0, 0]
    assert books["1-abc", 2]["received"] == 1


async def test_rows_of_a_start_wait_for_those_before_it_and_the_box_hears_which(hq: Hq, box: TestBox) -> None:
    child = box.batch([wire(1, redeemed(9))], epoch="2-def", current="2-def", parent="1-abc", parent_heads={0: (3, "ab")})
    rows = [wire(n, redeemed(n)) for n in (1, 2, 3)]
    await box.send(box.batch(rows[:1]))
    for _ in range(2):
        before = len(box.acks)
        box.send_bytes(seal_batch(child, box.enrolment.sign_key))
        await until(lambda before=before: len(box.acks) >= before + 2)  # type: ignore[misc]
        parent, own = box.acks[-2:]
        assert (parent.epoch, parent.seq, parent.mark, parent.head) == ("1-abc", 1, 1, f"{1:064x}")
        assert (own.epoch, own.seq, own.mark, own.head) == ("2-def", 0, 0, "")
    assert [(ask.epoch, ask.lane, ask.from_seq) for ask in box.asks] == [("1-abc", 0, 1)]  # once in five seconds
    assert await total(hq) == 1
    await box.send(box.batch(rows))
    assert (await box.send(child)).mark == 1
    assert await total(hq) == 4


async def test_what_was_declared_closes_the_books(hq: Hq, box: TestBox) -> None:
    await box.send(box.batch([wire(1, redeemed(1))], lane=1, last={1: 900}))
    gone = Tombstone(2, 900, "disk_full", [RollUp("2026-11-21", "VisitEnded", "door", 400, 900.0)])
    ack = await box.send(box.batch([], lane=1, tombstone=gone, head="ab", last={1: 900}))
    assert (ack.seq, ack.head, ack.mark) == (900, "ab", 900)
    (entry,) = (await hq.get("/api/books"))["entries"]
    assert [entry[name] for name in ("produced", "received", "declared", "waiting", "unexplained")] == [900, 1, 899, 0, 0]
    assert await total(hq, "visits") == 400


async def test_a_restored_headquarters_asks_again_when_it_hears_what_it_has_lost(hq: Hq, box: TestBox) -> None:
    await box.send(box.batch([wire(1, redeemed(1))], cursor={0: 7, 1: 4}))
    wanted = {("1-abc", 0, 0), ("1-abc", 1, 0)}
    await until(lambda: {(ask.epoch, ask.lane, ask.from_seq) for ask in box.asks} >= wanted)
    assert {(ask.epoch, ask.lane, ask.from_seq) for ask in box.asks} == wanted


@pytest.mark.slow
async def test_a_beat_alone_makes_a_restored_headquarters_ask_for_the_whole_line(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        heads = {0: (5, "ab"), 1: (9, "cd")}
        early = box.batch([wire(1, redeemed(1))], epoch="2-b", current="3-c", parent="1-a", parent_heads=heads, lane=2)
        await box.send(early)  # tells what 2-b continues
        await box.beat(2, epoch="3-c", last={0: 8}, cursor={0: 8}, parent="2-b", parent_heads={0: (2, "ef"), 2: (1, "01")})
        wanted = {("3-c", 0, 0), ("2-b", 0, 0), ("1-a", 0, 0), ("1-a", 1, 0)}  # an early one may come twice before the last comes
        await until(lambda: {(ask.epoch, ask.lane, ask.from_seq) for ask in box.asks} >= wanted, 20)


async def test_other_rows_under_known_numbers_are_never_acknowledged(hq: Hq, box: TestBox) -> None:
    await box.send(box.batch([wire(1, redeemed(1)), wire(2, redeemed(2))]))
    before = len(box.acks)
    box.send_bytes(seal_batch(box.batch([wire(2, redeemed(99)), wire(3, redeemed(3))]), box.enrolment.sign_key))
    await until(lambda: True)
    await box.beat()
    for _ in range(50):
        if "other rows under known numbers" in await rejected(hq):
            break
        await asyncio.sleep(0.02)
    assert (await rejected(hq))["other rows under known numbers"] == 1
    assert len(box.acks) == before
    assert await total(hq) == 2


@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"SomethingOfNextYear","x":1}',
        b'{"type":"VoucherRedeemed"}',
        b'"text"',
        b"17",
        b'{"type":"VisitEnded","read_point":"a","visit_id":"\xff"}',
    ],
)
async def test_a_row_nobody_can_read_goes_to_quarantine_and_the_lane_goes_on(demo: Hq, event: bytes) -> None:
    async with demo.connected(await demo.new_box()) as box:
        ack = await box.send(box.batch([wire(1, redeemed(1)), wire(2, event), wire(3, redeemed(3))]))
        assert ack.mark == 3
        assert await total(demo) == 2
        (entry,) = (await demo.get("/api/books"))["entries"]
        assert (entry["received"], entry["unexplained"]) == (3, 0)
        assert entry["quarantined"] == 1
        assert (await box.send(box.batch([wire(2, event, 5)]))).mark == 3


async def test_a_number_no_store_can_hold_is_set_aside_with_its_effects(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        huge = msgspec.json.encode(redeemed(2)).replace(b'"event_time":[', b'"event_time":[9999999999999999999')
        ack = await box.send(box.batch([wire(1, redeemed(1)), wire(2, huge), wire(3, redeemed(3))]))
        assert ack.mark == 3
        assert await total(demo) == 2


async def test_a_forged_signature_is_counted_and_nothing_else(hq: Hq, box: TestBox) -> None:
    box.send_bytes(seal_batch(box.batch([wire(1, redeemed(1))]), Ed25519PrivateKey.generate()))
    await box.send(box.batch([wire(1, refused(1))]))
    assert await total(hq) == 0
    assert (await rejected(hq))["nobody known signed this message"] == 1


async def test_a_box_cannot_speak_as_another(hq: Hq, box: TestBox) -> None:
    """Neither in another's topics, which the broker drops, nor under another's name in its own."""
    other = await hq.new_box("s2", 2)
    async with hq.connected(other) as victim:
        lie = seal_batch(victim.batch([wire(1, redeemed(1))]), box.enrolment.sign_key)
        box.send_bytes(lie, victim.box.up(0))
        box.send_bytes(seal_batch(victim.batch([wire(1, redeemed(1))]), other.sign_key), victim.box.up(0))  # even if it had its key
        box.send_bytes(lie, box.box.up(0))
        box.send_bytes(seal_batch(box.batch([wire(1, redeemed(1))]), box.enrolment.sign_key), box.box.up(1))  # another lane's topic
        await box.send(box.batch([wire(1, refused(1))]))
        assert (await hq.get("/api/stores/s2/counts"))["total"]["redemptions"] == 0
        assert victim.acks == []
        assert (await victim.send(victim.batch([wire(1, redeemed(7))]))).mark == 1
    assert box.others == []
    found = await rejected(hq)
    assert found["a batch of another box"] == 1
    assert found["a batch of another lane"] == 1
    assert "nobody known signed this message" not in found  # that would have come through the victim's topic


async def test_a_bomb_is_not_unpacked(hq: Hq, box: TestBox) -> None:
    body = zstd.compress(b" " * (64 * 1024 * 1024), 3)
    assert len(body) < MAX_BATCH_B
    box.send_bytes(BATCH_TAG + box.enrolment.sign_key.sign(BATCH_TAG + body) + body)
    await box.send(box.batch([wire(1, redeemed(1))]))
    assert (await rejected(hq))["unpacks to more than 4194304 bytes"] == 1


async def test_an_oversized_message_is_dropped(hq: Hq, box: TestBox) -> None:
    box.send_bytes(b"x" * (MAX_BATCH_B + 1))
    await box.send(box.batch([wire(1, redeemed(1))]))
    assert (await rejected(hq))["too large"] == 1


async def test_nonsense_of_every_kind_stops_nothing(hq: Hq, box: TestBox) -> None:
    key, chance = box.enrolment.sign_key, random.Random(1)
    deep = zstd.compress(b'{"gateway":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 3)
    for payload in (b"", b"SGR2", b"SGR3" + bytes(200), chance.randbytes(200), BATCH_TAG + key.sign(BATCH_TAG + deep) + deep):
        for topic in (box.box.up(0), box.box.up(9), box.box.up("beat"), box.box.up("want"), box.box.up("other")):
            box.send_bytes(payload, topic)
    impossible: tuple[dict[str, Any], ...] = (
        {"epoch": "x" * 70}, {"epoch": "a/b"}, {"lane": 7}, {"head": "not hex"}, {"last": {9: 1}}, {"last": {0: 1 << 70}},
        {"parent": "", "parent_heads": {}}, {"parent_heads": {0: (-1, "")}}, {"rows": [wire((1 << 62) + 5, redeemed(1))]},
        {"rows": [wire(1, redeemed(1), record_us=1 << 60)]}, {"rows": []}, {"rows": [wire(3, redeemed(1)), wire(1, redeemed(2))]},
        {"rows": [wire(1, redeemed(1)), wire(3, redeemed(2))]}, {"parent": "1-abc"}, {"sent_us": -1}, {"cursor": {0: -1}},
        {"tombstone": Tombstone(1, 5, "no reason!", [])}, {"tombstone": Tombstone(1, 5, "damaged", [RollUp("x", "A", "", 1, 0.0)])},
        {"tombstone": Tombstone(1, 5, "damaged", [RollUp("2026-11-21", "A", "", 6, 0.0)])}, {"tombstone": Tombstone(5, 1, "damaged", [])},
    )  # fmt: skip
    for changes in impossible:
        draft: Draft = msgspec.structs.replace(box.batch([wire(1, redeemed(1))]), **changes)
        box.send_bytes(seal_batch(draft, key))
    box.mqtt.publish(box.box.up("want"), b'{"name":"keys","version":' + b"9" * 300 + b',"offset":0}', 1)
    await box.send(box.batch([wire(1, redeemed(1))]))
    await box.beat(5)
    assert await total(hq) == 1
    assert sum((await rejected(hq)).values()) >= 25
    (shop,) = await hq.get("/api/stores")
    assert shop["complaints"] >= 25


async def test_a_beat_is_answered_with_signed_time(hq: Hq, box: TestBox) -> None:
    answer = await box.beat(41, waiting=12, last={0: 5, 1: 7})
    assert answer.number == 41
    (shop,) = await hq.get("/api/stores")
    assert (shop["line"], shop["waiting"]) == ("up", 12)
    assert shop["beat_age_s"] < 2


@pytest.mark.slow
async def test_documents_arrive_piece_by_piece_and_survive_their_signature(hq: Hq, box: TestBox) -> None:
    keys = await box.document("keys")
    assert keys.gateway == "gw-s1"
    staff = (await box.document("staff")).staff
    assert len(staff) == 1
    assert staff[0].pin_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    for number in range(300):
        await hq.post("/api/vouchers", {"store": "s1", "title_zh": f"第 {number} 張 {random.Random(number).randbytes(150).hex()}"[:80]})
    document = await box.document("vouchers", 301)
    assert len(document.vouchers) == 300
    assert (document.name, document.version) == ("vouchers", 301)


async def test_a_box_gets_no_other_boxs_document(hq: Hq, box: TestBox) -> None:
    async with hq.connected(await hq.new_box("s2", 2)) as other:
        await hq.post("/api/vouchers", {"store": "s2", "title_zh": "別家的"})
        assert len((await other.document("vouchers", 2)).vouchers) == 1
        mine = await box.document("vouchers", 1)
        assert mine.vouchers == []
        assert other.others == box.others == []
