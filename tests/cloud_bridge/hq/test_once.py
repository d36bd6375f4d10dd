"""What bears an idempotency key happens once, on both databases; and what the channels of a campaign brought."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from cloud_bridge.hq import funnel, once
from cloud_bridge.hq.once import Made, Once
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, Store
from tests.cloud_bridge.hq.rig import Hq, headquarters

A, OTHER_BODY = Once("key-1-of-ours", "a" * 64), Once("key-1-of-ours", "b" * 64)


def make(db: Connection, name: str) -> str:
    db.execute("INSERT INTO voucher_channels VALUES (?, ?)", (name, "line"))
    return name


def do(db: Connection, asked: Once | None, name: str, now_us: int = 1) -> Made[str]:
    return once.do(db, asked, now_us, partial(make, name=name), str)


def made(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT voucher_id FROM voucher_channels ORDER BY voucher_id").fetchall()]


async def test_a_key_makes_one_thing_and_another_body_is_refused(store: Store) -> None:
    found = await asyncio.gather(*(store.write(partial(do, asked=A, name=name)) for name in ("x", "y", "z")))
    (first,) = [one for one in found if one.fresh is not None]
    assert {one.identifier for one in found} == {first.identifier}
    with pytest.raises(RefusedAsk, match="another request"):
        await store.write(partial(do, asked=OTHER_BODY, name="w"))
    assert await store.read(made) == [first.identifier]
    assert (await store.write(partial(do, asked=None, name="v"))).fresh == "v"


async def test_what_fails_leaves_its_key_free_and_an_old_key_is_forgotten(store: Store) -> None:
    def fails(db: Connection) -> str:
        make(db, "half")
        raise RefusedAsk(404, "no such shop")

    with pytest.raises(RefusedAsk):
        await store.write(lambda db: once.do(db, A, 1, fails, str))
    assert await store.read(made) == []
    await store.write(partial(do, asked=A, name="x"))
    await store.write(partial(do, asked=Once("key-2-of-ours", "c" * 64), name="y", now_us=once.KEPT_US + 2))
    assert (await store.write(partial(do, asked=OTHER_BODY, name="z"))).fresh == "z"


async def test_channels_that_nobody_used_and_uses_of_no_channel_are_counted(store: Store) -> None:
    def fill(db: Connection) -> None:
        for name, channel in (("a", "line"), ("b", "line"), ("c", "mail"), ("d", "")):
            db.execute("INSERT INTO vouchers VALUES (?, 'gw', 7, '', '', 0, 0, 1, 0, 0, 't', 's', 0)", (name,))
            if channel:
                db.execute("INSERT INTO voucher_channels VALUES (?, ?)", (name, channel))
        use = (
            "INSERT INTO uses (voucher_id, gateway, kind, reason, station, at_us, received_us, campaign, units, amount_minor)"
            " VALUES (?, ?, ?, '', '', 0, 0, ?, ?, ?)"
        )
        for row in (
            ("a", "gw", "redeemed", 7, 1, 100), ("a", "gw", "reversed", 7, -1, -40), ("b", "gw", "refused", 0, 0, 0),
            ("c", None, "online_refused", 0, 0, 0), ("9-x", "gw", "redeemed", 7, 2, 0), ("a", "gw", "redeemed", 8, 1, 0),
        ):  # fmt: skip
            db.execute(use, row)

    await store.write(fill)
    found = await store.read(partial(funnel.channels, campaign=7))
    assert [(one.channel, one.reached, one.visited, one.redeemed, one.reversed, one.net, one.amount_minor) for one in found] == [
        ("", 1, 1, 2, 0, 2, 0),
        ("line", 2, 2, 1, 1, 0, 60),
        ("mail", 1, 0, 0, 0, 0, 0),
    ]


async def test_a_key_survives_headquarters_and_no_card_is_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = HqOptions(data_dir=str(tmp_path_factory.mktemp("hq")))
    headers, body = {"Idempotency-Key": "order-77-of-the-web-shop"}, {"store": "s1", "customer": "王", "lines": ["茶"]}
    async with headquarters(options) as hq:
        await hq.new_box("s1", 7)
        first = (await hq.http.post("/api/orders", json=body, headers=headers)).json()
    (Path(options.data_dir) / "addresses.json").unlink()  # of the start before
    async with headquarters(options) as hq:
        assert (await hq.http.post("/api/orders", json=body, headers=headers)).json() == first
        assert len(await hq.get("/api/orders")) == 1
        card = await hq.http.post("/api/orders", json=body, headers={"Idempotency-Key": "4111111111111111"})
        assert (card.status_code, "card" in card.json()["detail"]) == (422, True)


async def test_a_body_above_the_cap_is_refused_as_such(demo: Hq) -> None:
    async def endless() -> AsyncIterator[bytes]:  # chunked: no length is announced
        for _ in range(80):
            yield b" " * 1024

    said = await demo.http.post("/api/backups", content=endless(), headers={"content-type": "application/json"})
    assert said.status_code == 413
