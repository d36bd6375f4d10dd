"""A whole headquarters on PostgreSQL: pages and API as on SQLite, and what happens when the database is killed under it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psycopg
import pytest
from typer.testing import CliRunner

from cloud_bridge.hq.backups import floor
from cloud_bridge.hq.keeping import backup_command
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.postgres import PostgresStore
from gateway.columns import Tombstone
from gateway.commands import app
from gateway.errors import ConfigError
from gateway.events import CompartmentOpenIntended, OccupancyEstimated, SubjectKind, VisitStarted

from .cluster import BINARIES, Cluster, cluster
from .rig import Hq, TestBox, WireRow, headquarters, instant, now_us, redeemed, refused, seal_batch, until, wire
from .stores import NUMBERS
from .test_issuers import JWT_KEY


@pytest.fixture
async def big(postgres: Cluster, tmp_path: Path) -> AsyncIterator[Hq]:
    database = postgres.make_database(f"whole_{next(NUMBERS)}")
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"), database=database)) as running:
        yield running


@pytest.fixture
async def box(big: Hq) -> AsyncIterator[TestBox]:
    async with big.connected(await big.new_box()) as connected:
        yield connected


async def test_everything_headquarters_does_works_on_postgres(big: Hq, box: TestBox) -> None:
    voucher = await big.post("/api/vouchers", {"store": "s1", "title_zh": "九折券"})
    order = await big.post("/api/orders", {"store": "s1", "customer": "陳小明", "lines": ["牛奶"], "parcels": 1})
    estimate = OccupancyEstimated("r", "door", 60.0, 12.5, 9.0, 16.0, instant())
    rows = [
        wire(1, redeemed(1, voucher["voucher_id"])), wire(2, refused(2, voucher["voucher_id"])), wire(3, b'{"type":"FromTheFuture"}'),
        wire(4, CompartmentOpenIntended("i", "A", 1, "pickup", order["order_id"], "shopper", "kiosk", instant())),
    ]  # fmt: skip
    assert (await box.send(box.batch(rows))).mark == 4
    visits = [wire(1, VisitStarted("r", "v1", "trolley-1", SubjectKind.TAG, "door", instant())), wire(2, estimate)]
    assert (await box.send(box.batch(visits, lane=1, last={1: 5}))).mark == 2
    assert (await box.send(box.batch([], lane=1, tombstone=Tombstone(3, 5, "disk_full", []), head="ab", last={1: 5}))).mark == 5
    await box.beat()
    books = await big.get("/api/books")
    assert [books[name] for name in ("produced", "received", "declared", "waiting", "unexplained", "quarantined")] == [9, 6, 3, 0, 0, 1]
    assert (await big.get("/api/books?counted=true"))["unexplained"] == 0
    counts = await big.get("/api/stores/s1/counts")
    assert counts["total"]["redemptions"] == counts["total"]["refusals"] == 1
    (shop,) = await big.get("/api/stores")
    assert (shop["line"], len(shop["inside"])) == ("up", 1)
    assert (await big.get(f"/api/vouchers/{voucher['voucher_id']}"))["state"] == "used"
    assert (await big.get(f"/api/orders/{order['order_id']}"))["state"] == "collecting"
    await big.post(f"/api/orders/{order['order_id']}/cancel", {})
    await box.document("orders", 3)
    await big.post("/api/issuers/keys", JWT_KEY)
    await big.post(f"/api/vouchers/{voucher['voucher_id']}/codes", {"codes": ["PARTNER-0001"]})
    assert [len((await box.document("vouchers", 3)).vouchers[0].codes), len((await box.document("keys", 2)).issuer_keys)] == [1, 1]
    assert {one["issuer"]: one["redeemed"] for one in await big.get("/api/issuers")} == {1: 1, 5: 0}
    for page in ("/", "/vouchers", "/orders", f"/vouchers/{voucher['voucher_id']}", f"/orders/{order['order_id']}", "/devices", "/metrics"):
        answer = await big.http.get(page)
        assert answer.status_code == 200, (page, answer.text[:300])


@pytest.mark.slow
async def test_a_database_killed_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    if not (BINARIES / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed (apt-get install postgresql-15)")
    with cluster() as server:
        options = HqOptions(data_dir=str(tmp_path / "hq"), database=server.make_database("shaken"))
        async with headquarters(options) as hq, hq.connected(await hq.new_box()) as box:
            rows = [wire(n, redeemed(n)) for n in range(1, 401)]
            for cut in (100, 200, 300):
                sending = asyncio.create_task(_send_until(box, rows, cut + 60))
                await until(lambda cut=cut: any(ack.mark >= cut for ack in box.acks), 30)  # type: ignore[misc]
                server.kill()
                await asyncio.sleep(0.3)
                await asyncio.to_thread(server.start)
                await sending
            await _send_until(box, rows, 400)
            assert (await hq.get("/api/stores/s1/counts"))["total"]["redemptions"] == 400
            books = await hq.get("/api/books?counted=true")
            assert (books["received"], books["unexplained"], books["waiting"]) == (400, 0, 0)


@pytest.mark.slow
async def test_restored_from_a_dump_it_asks_its_shops_for_what_it_lacks(postgres: Cluster, tmp_path: Path) -> None:
    data, file, database = tmp_path / "hq", tmp_path / "night.dump", postgres.make_database(f"dumped_{next(NUMBERS)}")
    options = HqOptions(data_dir=str(data), database=database)
    rows = [wire(n, redeemed(n)) for n in range(1, 31)]
    async with headquarters(options) as hq:
        enrolment = await hq.new_box()
        async with hq.connected(enrolment) as box:
            await box.send(box.batch(rows[:10]))
            await asyncio.to_thread(backup_command, data, file, lambda done, all_: None)
            assert (await box.send(box.batch(rows[10:20]))).backed_up == 10
    (data / "addresses.json").unlink()
    restored = postgres.make_database(f"dumped_{next(NUMBERS)}")
    await asyncio.to_thread(subprocess.run, ["pg_restore", "--exit-on-error", f"--dbname={restored}", str(file)], check=True)
    CliRunner().invoke(app, ["hq", "restore", "--noted", "--data", str(data)], catch_exceptions=False)
    assert floor(data) > 0
    async with headquarters(msgspec.structs.replace(options, database=restored)) as hq, hq.connected(enrolment) as box:
        await box.send(box.batch(rows[20:], cursor={0: 20}))  # it believes twenty to be there
        ask = await until(lambda: box.asks[-1] if box.asks else None)
        assert ask.from_seq == 10
        assert (await box.send(box.batch(rows[10:], cursor={0: 10}))).mark == 30
        books = await hq.get("/api/books?counted=true")
        assert (books["received"], books["unexplained"]) == (30, 0)


async def _send_until(box: TestBox, rows: list[WireRow], upto: int) -> None:
    """As a bridge: on from HQ's mark, again when it is silent."""
    while (mark := max((ack.mark for ack in box.acks), default=0)) < upto:
        heard = len(box.acks)
        box.send_bytes(seal_batch(box.batch(rows[mark : mark + 7], last={0: 400}), box.enrolment.sign_key))
        for _ in range(40):
            if len(box.acks) > heard:
                break
            await asyncio.sleep(0.01)


async def test_a_second_headquarters_may_not_write(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_bridge.hq.postgres.PATIENCE_S", 1.0)
    url = postgres.make_database(f"twice_{next(NUMBERS)}")
    first, second = PostgresStore(url), PostgresStore(url)
    await first.open()
    with pytest.raises(ConfigError, match="another headquarters"):
        await second.open()
    await second.close()
    await first.close()
    await second_start(url)


async def second_start(url: str) -> None:
    again = PostgresStore(url)
    await again.open()
    await again.close()


async def test_rows_lie_in_the_partition_of_the_day_they_arrived(postgres: Cluster, big: Hq, box: TestBox) -> None:
    del postgres
    await box.send(box.batch([wire(1, redeemed(1))]))
    with psycopg.connect(big.options.database) as connection:
        (day,) = connection.execute("SELECT to_char(to_timestamp(%s), 'YYYYMMDD')", (now_us() / 1e6,)).fetchone() or ("",)
        found = connection.execute("SELECT tableoid::regclass::text FROM arrivals").fetchall()
        partitions = connection.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'arrivals'::regclass").fetchone()
    assert found == [(f"arrivals_{day}",)]
    assert partitions == (4,)  # today, two days ahead, and what fits nowhere


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "postgresql://127.0.0.1:notaport/x"])
async def test_a_database_that_cannot_be_used_is_named_with_a_hint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("cloud_bridge.hq.postgres.PATIENCE_S", 0.0)
    with pytest.raises(ConfigError, match="Check `database`"):
        await PostgresStore(url).open()
