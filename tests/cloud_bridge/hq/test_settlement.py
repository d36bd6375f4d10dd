"""Settlement: sums are the ledger's to the row, a day says how complete it is, and a changed file is found out."""

import asyncio
import datetime
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cloud_bridge.hq import checkpoint, effects
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.settlement import Owed, Settlement, issuer_of, settle
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Store, StoredRow
from gateway.commands import app
from gateway.errors import MalformedFrame
from gateway.events import RedemptionReversed, VoucherRedeemed
from gateway.signed import public_hex
from gateway.token import voucher_ref
from provisioning.authority import Authority

from .rig import Hq, headquarters, instant, redeemed, wire

DAY = "2026-11-22"
MIDNIGHT_US = int(datetime.datetime(2026, 11, 22, tzinfo=datetime.timezone(datetime.timedelta(hours=8))).timestamp()) * 1_000_000
HOUR_US = 3_600_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"s")
OURS, PARTLY, ANY = voucher_ref(1, 1), voucher_ref(1, 2), voucher_ref(1, 3)


def use(number: int, voucher_id: str, at_us: int, units: int = 1, minor: int = 0) -> VoucherRedeemed:
    return VoucherRedeemed(f"r{number}", voucher_id, 1, issuer_of(voucher_id), "k", "c", None, 1, instant(at_us), units, minor)


def back(number: int, voucher_id: str, at_us: int, units: int = 1, minor: int = 0) -> RedemptionReversed:
    return RedemptionReversed(f"r{number}", voucher_id, 1, units, minor, "k", None, None, instant(at_us))


async def shops(store: Store, *names: str, timezone: str = "Asia/Taipei") -> None:
    for number, name in enumerate(names, 1):
        values = (f"gw-{name}", name, number, timezone)
        sql = "INSERT INTO boxes VALUES (?, 'demo', '0', ?, ?, '', '', ?, NULL, 1, NULL)"
        await store.write(lambda db, sql=sql, values=values: db.execute(sql, values).rowcount)  # type: ignore[misc]


async def take(store: Store, gateway: str, *events: VoucherRedeemed | RedemptionReversed) -> None:
    """As ingest does with rows of rare kinds."""

    def write(db: object) -> None:
        for seq, event in enumerate(events, 1):
            effects.EFFECTS[type(event)](db, StoredRow(seq, gateway, "1-a", 0, seq, 1, 1, "", ""), event)  # type: ignore[arg-type]

    await store.write(write)


async def of_day(store: Store, now_us: int = MIDNIGHT_US + 25 * HOUR_US, day: str = DAY, issuer: int | None = None) -> Settlement:
    return await store.read(lambda db: settle(db, day, issuer, "TWD", now_us))


async def vouchers(store: Store) -> None:
    """80 a use; 500 to be spent in parts; 300 a use anywhere."""
    bound = "INSERT INTO vouchers VALUES (?, 'gw-a', 1, 'z', 'e', 0, 4000000000, 4, ?, 0, 't', 's', 1)"
    granted = "INSERT INTO assigned VALUES (?, 2, 1, 'z', 'e', 4000000000, 1, 300, 't', 's', 'h', 1, '{}')"
    for sql, values in ((bound, (OURS, 80)), (bound, (PARTLY, 500)), (granted, (ANY,))):
        await store.write(lambda db, sql=sql, values=values: db.execute(sql, values).rowcount)  # type: ignore[misc]


async def test_each_issuer_owes_each_shop_what_was_used_less_what_was_taken_back(store: Store) -> None:
    await shops(store, "a", "b")
    await vouchers(store)
    at_us = MIDNIGHT_US + HOUR_US
    await take(
        store, "gw-a", use(1, OURS, at_us, 2), use(2, PARTLY, at_us, 1, 180), use(3, "9-00000000000000a", at_us), back(1, OURS, at_us, 2)
    )
    await take(store, "gw-a", back(1, OURS, at_us, 2))  # told again by an old image of the disk
    await take(store, "gw-b", use(4, ANY, at_us), use(5, "9-00000000000000b", at_us, 3))
    found = await of_day(store)
    assert found.owed == [
        Owed(issuer=1, store="a", gateway="gw-a", redemptions=2, uses=3, reversals=1, reversed_uses=2, net_uses=1, face_minor=180),
        Owed(issuer=9, store="a", gateway="gw-a", redemptions=1, uses=1, net_uses=1, unvalued_uses=1),
        Owed(issuer=1, store="b", gateway="gw-b", redemptions=1, uses=1, net_uses=1, face_minor=300),
        Owed(issuer=9, store="b", gateway="gw-b", redemptions=1, uses=3, net_uses=3, unvalued_uses=3),
    ]
    assert found.totals == [
        Owed(issuer=1, redemptions=3, uses=4, reversals=1, reversed_uses=2, net_uses=2, face_minor=480),
        Owed(issuer=9, redemptions=2, uses=4, net_uses=4, unvalued_uses=4),
    ]
    assert [one.issuer for one in (await of_day(store, issuer=9)).owed] == [9, 9]


async def test_a_day_is_the_shops_own_and_a_reversal_counts_on_its_own_day(store: Store) -> None:
    await shops(store, "a")
    await vouchers(store)
    await take(store, "gw-a", use(1, OURS, MIDNIGHT_US - 1), use(2, OURS, MIDNIGHT_US), use(3, OURS, MIDNIGHT_US + 24 * HOUR_US - 1))
    await take(store, "gw-a", back(3, OURS, MIDNIGHT_US + 24 * HOUR_US))
    by_day = {day: (await of_day(store, day=day)).totals for day in ("2026-11-21", DAY, "2026-11-23")}
    assert {day: [(one.net_uses, one.face_minor) for one in totals] for day, totals in by_day.items()} == {
        "2026-11-21": [(1, 80)], DAY: [(2, 160)], "2026-11-23": [(-1, -80)],
    }  # fmt: skip


async def test_it_says_why_a_day_is_not_final(store: Store) -> None:
    await shops(store, "a")
    over_us = MIDNIGHT_US + 24 * HOUR_US

    async def state(now_us: int = over_us + HOUR_US) -> str:
        (box,) = (await of_day(store, now_us)).boxes
        return box.provisional

    async def beat(heard_us: int, last: int) -> None:
        sql = (
            "INSERT INTO beats VALUES ('gw-a', ?, 0, '1-a', ?) ON CONFLICT (gateway) DO UPDATE"
            " SET heard_us = excluded.heard_us, last = excluded.last"
        )
        await store.write(lambda db: db.execute(sql, (heard_us, json.dumps({"0": last}))).rowcount)

    assert await state(over_us - 1) == "day_not_over"
    assert await state() == "never_heard"
    await beat(over_us - 1, 0)
    assert await state() == "not_heard_since", "what it wrote in the day's last microsecond may be on its way"
    await beat(over_us, 5)
    assert await state() == "waiting" and (await of_day(store)).provisional
    sql = "INSERT INTO marks VALUES (1, 'gw-a', '1-a', 0, 5, '', 5, 5, 0)"
    await store.write(lambda db: db.execute(sql).rowcount)
    assert await state() == "" and not (await of_day(store)).provisional
    sql = "INSERT INTO undated VALUES (1, 1, 'gw-a', 'b', 1, 1, 1, 'VoucherRedeemed', '2015-01-01', '', 0)"
    await store.write(lambda db: db.execute(sql).rowcount)
    assert await state() == "undated", "it may be a row of this day"


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(-40, 40), st.sampled_from([OURS, PARTLY, "9-00000000000000a", "12-5"])), max_size=40)
)
def test_totals_are_the_sums_of_lines_and_days_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, done: list[tuple[int, int, str]]
) -> None:
    async def look() -> None:
        store = SqliteStore(tmp_path_factory.mktemp("s") / "hq.db")
        await store.open()
        try:
            await shops(store, "a")
            uses = [use(n, ref, MIDNIGHT_US + hours * HOUR_US, units) for n, (units, hours, ref) in enumerate(done)]
            await take(store, "gw-a", *uses)
            days = [await of_day(store, day=day) for day in ("2026-11-20", "2026-11-21", DAY, "2026-11-23")]
        finally:
            await store.close()
        assert sum(one.uses for day in days for one in day.owed) == sum(one.units for one in uses)
        for day in days:
            assert checkpoint.check(checkpoint.write(day, KEY).encode(), KEY.public_key())

    asyncio.run(look())


# ---------------------------------------------------------------- files


def example() -> Settlement:
    owed = [Owed(issuer=1, store="a", gateway="gw-a", redemptions=2, uses=3, net_uses=3, face_minor=240)]
    total = [Owed(issuer=1, redemptions=2, uses=3, net_uses=3, face_minor=240)]
    return Settlement(day=DAY, issuer=None, currency="TWD", made_us=1, provisional=False, owed=owed, totals=total, boxes=[])


def test_a_spreadsheet_may_save_the_file_with_other_quotes_and_line_ends() -> None:
    text = checkpoint.write(example(), KEY)
    quoted = "\r\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in text.splitlines())
    assert checkpoint.check(b"\xef\xbb\xbf" + quoted.encode(), KEY.public_key()) == checkpoint.check(text.encode(), KEY.public_key())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",240,", ",241,"),
        lambda text: text.replace("final", "provisional"),
        lambda text: "\n".join(line for line in text.splitlines() if not line.startswith("total,1")),
        lambda text: text[: text.rindex("checkpoint")],
        lambda text: text.replace(public_hex(KEY.public_key()), "0" * 64),
        lambda text: text + "owed,1,z,gw-z,1,1,0,0,1,80,0\n",
        lambda text: text.replace("checkpoint,", "checkpoint,zz"),
        lambda text: "",
    ],
)
def test_a_changed_file_is_found_out(change: Callable[[str], str]) -> None:
    with pytest.raises(MalformedFrame) as wrong:
        checkpoint.check(change(checkpoint.write(example(), KEY)).encode(), KEY.public_key())
    assert wrong.value.hint


def test_totals_that_do_not_add_up_are_refused_even_if_signed() -> None:
    wrong = Settlement(
        day=DAY, issuer=None, currency="TWD", made_us=1, provisional=False, owed=example().owed, totals=[Owed(issuer=1)], boxes=[]
    )
    with pytest.raises(MalformedFrame, match="sums"):
        checkpoint.check(checkpoint.write(wrong, KEY).encode(), KEY.public_key())


@given(st.binary(max_size=400) | st.text(alphabet='about,owed\n"1-total', max_size=120).map(str.encode))
def test_any_bytes_are_a_settlement_or_malformed(content: bytes) -> None:
    with pytest.raises(MalformedFrame):
        checkpoint.check(content, KEY.public_key())


# ---------------------------------------------------------------- commands


async def run(data: Path, *words: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["hq", "settle", *words, "--data", str(data)])
    return result.exit_code, result.output


async def test_the_command_writes_a_file_that_it_verifies_with_and_without_a_running_headquarters(tmp_path: Path) -> None:
    data, out = tmp_path / "hq", tmp_path / "day.csv"
    async with headquarters(HqOptions(data_dir=str(data))) as hq:
        today = await one_use(hq)
        status, said = await run(data, "--day", today, "--out", str(out))
        assert status == 3 and "net 1 uses" in said and "provisional (s1 day_not_over)" in said
        assert (await run(data, "--verify", str(out)))[0] == 0
        shown = await hq.get(f"/api/settlement?day={today}")
        assert [(one["issuer"], one["store"], one["uses"]) for one in shown["owed"]] == [(1, "s1", 1)]
        assert (await hq.http.get("/api/settlement?day=2026-02-31")).status_code == 422
        looked = await hq.get("/api/signals?hours=1")
        assert looked["thresholds"]["copied"]["places"] == 3 and looked["velocity"] == looked["copied"] == looked["staff"] == []
        assert (await run(data, "--day", "2026-02-31", "--out", str(out)))[0] == 1
    signed_running = checkpoint.check_file(out, hq_key(data))
    status, said = await run(data, "--day", today, "--issuer", "1", "--out", str(out))
    assert status == 3 and "issuer 1, net 1 uses" in said
    assert [line for line in checkpoint.check_file(out, hq_key(data)) if line[0] == "owed"] == [
        line for line in signed_running if line[0] == "owed"
    ]
    out.write_text(out.read_text(encoding="utf-8").replace("owed,1,s1", "owed,1,s2"), encoding="utf-8")
    status, said = await run(data, "--verify", str(out))
    assert status == 1 and "something in the file was changed" in said
    assert (await run(tmp_path / "elsewhere", "--verify", str(out)))[0] == 1 and not (tmp_path / "elsewhere").exists()
    assert (await run(data))[0] == 1


async def one_use(hq: Hq) -> str:
    """One voucher redeemed now, and heard of; the shop's day."""
    async with hq.connected(await hq.new_box()) as box:
        event = redeemed(1, OURS)
        await box.send(box.batch([wire(1, event)]))
        day = datetime.datetime.fromtimestamp(event.event_time.wall_us / 1e6, datetime.timezone(datetime.timedelta(hours=8)))
        return day.date().isoformat()


def hq_key(data: Path) -> Ed25519PublicKey:
    return Authority.open(data / "authority").root_public
