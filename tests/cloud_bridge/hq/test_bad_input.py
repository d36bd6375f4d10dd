"""What comes to headquarters' door at the broker and is no batch: each kind is counted by a name of its own, and nothing grows."""

import asyncio
import random
import struct
import time
from pathlib import Path

import msgspec
import pytest
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_bridge.envelope import MAX_BATCH_B, MAX_BATCH_UNPACKED_B
from gateway.columns import Tombstone
from gateway.signed import BATCH_TAG

from .rig import Draft, Hq, TestBox, header_of, redeemed, seal_batch, wire

TIMES = 30
GROWTH_MB = 40.0


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError("the kernel tells no RSS")


def sealed(key: Ed25519PrivateKey, unpacked: bytes) -> bytes:
    body = zstd.compress(unpacked, 3)
    return BATCH_TAG + key.sign(BATCH_TAG + body) + body


def with_section(draft: Draft, key: Ed25519PrivateKey, section: bytes) -> bytes:
    text = msgspec.json.encode(header_of(draft))
    return sealed(key, struct.pack(">I", len(text)) + text + struct.pack(">IQQ", len(section), 1, 1) + section)


def bad_messages(box: TestBox, other: TestBox, chance: random.Random) -> dict[str, tuple[str, bytes]]:
    """Kind as it is counted, topic and message."""
    key, here, one = box.enrolment.sign_key, box.box.up(0), box.batch([wire(1, redeemed(1))])
    good = seal_batch(one, key)
    swollen = b"C" + bytes(chance.randbytes(1)) * 40
    deep = b"J[[1," + b"[" * 100_000 + b"]" * 100_000 + b"]]"
    return {
        "too large": (here, chance.randbytes(MAX_BATCH_B + 1)),
        "not a batch of this version": (here, b"SGR9" + good[4:]),
        "nobody known signed this message": (here, seal_batch(one, Ed25519PrivateKey.generate())),
        f"unpacks to more than {MAX_BATCH_UNPACKED_B} bytes": (here, sealed(key, bytes(48 * 1024 * 1024))),
        "a zstd frame cut short": (here, cut_short(key)),
        "not zstd": (here, BATCH_TAG + key.sign(BATCH_TAG + b"x" * 90) + b"x" * 90),
        "a signed batch of another shape": (here, sealed(key, struct.pack(">I", 2) + b"{}")),
        "a damaged section": (here, with_section(one, key, swollen)),
        "a section of an unknown kind": (here, with_section(one, key, b"Z")),
        "a tombstone for other rows": (here, with_section(one, key, b'T{"first":2,"last":3,"reason":"damaged","rollup":[]}')),
        "a tombstone without a reason": (here, seal_batch(box.batch([], tombstone=Tombstone(1, 2, "", [])), key)),
        "a batch of another box": (here, seal_batch(other.batch([wire(1, redeemed(1))]), key)),
        "a batch of another lane": (box.box.up(2), good),
        "an impossible epoch": (here, seal_batch(msgspec.structs.replace(one, epoch="a b"), key)),
        "impossible numbers": (here, seal_batch(msgspec.structs.replace(one, last={0: 1 << 63}), key)),
        "an unknown topic": (box.box.up("else"), good),
        "deep": (here, with_section(one, key, deep)),
    }


def cut_short(key: Ed25519PrivateKey) -> bytes:
    body = zstd.compress(random.Random(1).randbytes(3_000), 3)[:-40]
    return BATCH_TAG + key.sign(BATCH_TAG + body) + body


async def counted(hq: Hq, at_least: int, patience_s: float) -> dict[str, int]:
    """What headquarters has refused, by kind, once it is that much or patience has ended."""
    until_s = time.monotonic() + patience_s
    while True:
        found = dict((await hq.get("/api/books"))["rejected"])
        if sum(found.values()) >= at_least or time.monotonic() > until_s:
            return found
        await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_each_kind_of_bad_message_is_counted_and_nothing_grows(hq: Hq, box: TestBox) -> None:
    async with hq.connected(await hq.new_box("s2", 2)) as other:
        chance, sent = random.Random(5), 0
        kinds = bad_messages(box, other, chance)
        for topic, message in kinds.values():
            box.send_bytes(message, topic)
        found = await counted(hq, len(kinds), 60)
        assert found == dict.fromkeys(kinds.keys() - {"deep"}, 1) | {"a damaged section": 2}
        before_mb = rss_mb()
        while sum(found.values()) < TIMES * len(kinds) and sent < 2 * TIMES:
            for topic, message in bad_messages(box, other, chance).values():
                await box.up.wait()  # a line that was cut comes back; what it lost, the next turn makes up for
                box.send_bytes(message, topic)
            sent += 1
            found = await counted(hq, (1 + sent) * len(kinds), 5)
        assert len(found) <= len(kinds)  # outsiders make no new kinds
        assert rss_mb() - before_mb < GROWTH_MB
        (shop, neighbour) = await hq.get("/api/stores")
        assert TIMES * len(kinds) <= shop["complaints"] <= (1 + sent) * len(kinds)
        assert neighbour["complaints"] == 0
        assert (await box.send(box.batch([wire(1, redeemed(1))]))).mark == 1
        assert (await other.send(other.batch([wire(1, redeemed(2))]))).mark == 1


async def test_a_jump_in_numbers_is_answered_with_the_mark_and_not_stored(hq: Hq, box: TestBox) -> None:
    rows = [wire(n, redeemed(n)) for n in (1, 2)]
    await box.send(box.batch(rows))
    for far in (4, 5_000_000, 1 << 60):
        ack = await box.send(box.batch([wire(far, redeemed(far))], last={0: far}))
        assert (ack.seq, ack.mark, ack.head) == (2, 2, f"{2:064x}")
    books = await hq.get("/api/books")
    assert (books["received"], books["waiting"], books["unexplained"]) == (2, (1 << 60) - 2, 0)
