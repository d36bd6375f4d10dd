"""The secret of a region is exchanged: nobody is lost or doubled, late rows find their member, and the old secret is in no file."""

import contextlib
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloud_bridge.hq import accounts, members, rotating
from cloud_bridge.hq.keeping import restore_command
from cloud_bridge.hq.members import MemberAsk, MemberRow, Signing
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.rotating import DAY_US, Exchange
from cloud_bridge.hq.store import Connection, Store, StoredRow
from gateway import phones
from gateway.events import CatalogApplied, PointsAccrued
from gateway.member_commands import said
from gateway.phones import e164, phone_key, sale_ref
from gateway.signed import MemberList
from tests.traces import traces

from .rig import AT_US
from .test_accounts import look
from .test_members import KEY_NUMBER, PHONE, again, imported, member, newest, secret_of
from .test_members_stored import BOX
from .test_uplift import at, sale, told

CHAIN = phones.region_secrets(b"chain", "TW")
IDENTIFIERS = iter(range(1, 10**6))
SIGNING = Signing(lambda region: CHAIN, lambda claims: "TOKEN", 1, lambda: next(IDENTIFIERS))
NUMBERS = [f"09123456{number:02}" for number in range(12)]
CARDS = [f"OLD-77{number:02}" for number in range(12)]


async def make(store: Store, **ask: Any) -> tuple[MemberRow, bool]:
    return await store.write(lambda db: members.make(db, MemberAsk(**ask), SIGNING, 1))


async def crowd(store: Store) -> list[str]:
    return [(await make(store, phone=phone, old_cards=[card]))[0].member_ref for phone, card in zip(NUMBERS, CARDS, strict=True)]


async def exchange(store: Store, nonce: int, overlap_us: int = DAY_US, prepared: bool = True) -> Exchange:
    key = bytes([nonce]) * 32
    ready = (await store.read(partial(rotating.ready, region="TW", chain=CHAIN, nonce=key)))() if prepared else {}
    begin = partial(rotating.begin, region="TW", chain=CHAIN, nonce=key, ready=ready, overlap_us=overlap_us, now_us=AT_US)
    return await store.write(begin)


async def finish(store: Store, **more: Any) -> Exchange:
    return await store.write(partial(rotating.finish, region="TW", now_us=AT_US, **more))


async def secret(store: Store) -> bytes:
    return await store.read(partial(rotating.secret, region="TW", chain=CHAIN))


async def list_of(store: Store) -> MemberList:
    return await store.write(lambda db: members.told(db, BOX, "members", 1, CHAIN, 1))


async def found(store: Store) -> tuple[list[str], list[str]]:
    """Whom a shop with the newest list finds by each number and by each card."""
    listed, now = await list_of(store), await secret(store)
    by_phone, by_card = {entry.phone: entry.member_ref for entry in listed.entries}, dict(listed.cards)
    numbers = [by_phone[phone_key(now, e164(number, "TW"))] for number in NUMBERS]
    return numbers, [by_card[phones.card_key(now, card.replace("-", ""))] for card in CARDS]


@pytest.mark.parametrize("prepared", [True, False])
async def test_nobody_is_lost_and_nobody_doubled_however_often_it_is_exchanged(store: Store, prepared: bool) -> None:
    refs = await crowd(store)
    assert await found(store) == (refs, refs)
    secrets = [await secret(store)]
    for version in (1, 2, 3):
        begun = await exchange(store, version, prepared=prepared)
        assert (begun.version, begun.members, begun.cards, begun.finished_us) == (version, 11 + version, 12, 0)
        secrets.append(await secret(store))
        for _ in range(2):  # while the overlap lasts, and after it
            assert await found(store) == (refs, refs)
            again = [await make(store, phone=number) for number in NUMBERS] + [await make(store, old_cards=[card]) for card in CARDS]
            assert [(row.member_ref, is_new) for row, is_new in again] == [(ref, False) for ref in refs * 2]
            if (await store.read(rotating.journal))[-1].finished_us == 0:
                assert (await finish(store)).version == version
        newcomer, is_new = await make(store, phone=f"098765432{version}")
        assert is_new and newcomer.member_ref not in refs
    assert len(set(secrets)) == 4, "each secret is another one"
    listed = await list_of(store)
    old = {phone_key(one, e164(number, "TW")) for one in secrets[:-1] for number in NUMBERS}
    assert old.isdisjoint(entry.phone for entry in listed.entries), "whoever has an old secret finds nobody in the new list"


async def test_who_came_between_the_preparing_and_the_exchange_is_moved_on_too(store: Store) -> None:
    await crowd(store)
    ready = (await store.read(partial(rotating.ready, region="TW", chain=CHAIN, nonce=bytes(32))))()
    late = (await make(store, phone="0987654321"))[0].member_ref
    begin = partial(rotating.begin, region="TW", chain=CHAIN, nonce=bytes(32), ready=ready, overlap_us=DAY_US, now_us=AT_US)
    assert (await store.write(begin)).members == 13
    assert (await make(store, phone="0987654321"))[0].member_ref == late


def by_number(sale_id: str, under: bytes, phone: str) -> PointsAccrued:
    ref = sale_ref(phone_key(under, e164(phone, "TW")), sale_id)
    return PointsAccrued(sale_id, None, None, ref, 350, "TWD", "till-1", at(0))


async def test_sales_that_a_shop_wrote_under_the_old_secret_find_their_member_also_one_who_joins_only_now(store: Store) -> None:
    ref, old = (await make(store, phone=NUMBERS[0]))[0].member_ref, await secret(store)
    await exchange(store, 1)
    await told(store, sale(1, 0), by_number("s1", old, NUMBERS[0]), sale(2, 0), by_number("s2", old, NUMBERS[1]))
    await told(store, sale(3, 0), by_number("s3", await secret(store), NUMBERS[0]))
    await look(store)
    assert (await store.read(partial(accounts.account, member_ref=ref)))["earned"] == 6
    joined = (await make(store, phone=NUMBERS[1]))[0].member_ref
    await look(store)
    assert (await store.read(partial(accounts.account, member_ref=joined)))["earned"] == 3


async def test_after_the_overlap_what_was_written_by_numbers_of_nobody_before_leads_nowhere_and_it_is_said(store: Store) -> None:
    await make(store, phone=NUMBERS[0])
    old = await secret(store)
    await told(store, sale(1, 0), by_number("s1", old, NUMBERS[5]))
    begun = await exchange(store, 1)
    await store.write(lambda db: db.execute("INSERT INTO documents VALUES ('gw', 'members', 4, ?)", (b"-",)))
    await store.write(partial(rotating.await_boxes, exchange=begun, gateways=["gw"]))
    await store.write(lambda db: db.execute("UPDATE member_exchanges SET begun_us = ?", (AT_US + 1,)))
    done = await finish(store, even_unheard=True)
    assert (done.uncredited, done.unheard) == (1, ["gw"])
    assert await store.read(lambda db: db.execute("SELECT phone_ref FROM accruals").fetchall()) == [(None,)]
    await make(store, phone=NUMBERS[5])
    assert await look(store) == set()


async def test_it_waits_for_the_boxes_it_names_and_no_second_begins_meanwhile(store: Store) -> None:
    await crowd(store)

    def put(db: Connection) -> None:
        for gateway in ("gw", "late"):
            db.execute("INSERT INTO documents VALUES (?, 'members', 7, ?)", (gateway, b"-"))

    await store.write(put)
    begun = await exchange(store, 1)
    await store.write(partial(rotating.await_boxes, exchange=begun, gateways=["gw", "late", "none"]))
    with pytest.raises(RefusedAsk, match="not finished"):
        await exchange(store, 2)
    for gateway, name, version, waiting in (
        ("gw", "members", 6, ["gw", "late"]), ("gw", "vouchers", 9, ["gw", "late"]), ("gw", "members", 7, ["late"]),
        ("late", "members", 8, []),
    ):  # fmt: skip
        row = StoredRow(1, gateway, "1-a", 2, 1, AT_US, AT_US, "CatalogApplied", "")
        await store.write(partial(rotating.applied, row=row, event=CatalogApplied(name, version, "", at(0))))
        (stand,) = await store.read(rotating.journal)
        assert (stand.unheard, stand.boxes) == (waiting, 2)
        if waiting:
            with pytest.raises(RefusedAsk, match="have not taken"):
                await finish(store)
    assert (await finish(store)).unheard == []
    with pytest.raises(RefusedAsk, match="no exchange"):
        await finish(store)


async def test_an_overlap_ends_by_itself_after_its_time(store: Store) -> None:
    await crowd(store)
    await exchange(store, 1, overlap_us=DAY_US)
    assert await store.read(partial(rotating.due, now_us=AT_US + DAY_US - 1)) == []
    assert await store.read(partial(rotating.due, now_us=AT_US + DAY_US)) == ["TW"]


async def test_who_is_erased_while_the_overlap_lasts_has_no_key_left_of_before_either(store: Store) -> None:
    refs = await crowd(store)
    await exchange(store, 1)
    await store.write(partial(members.erase, member_ref=refs[0]))
    kept = await store.read(lambda db: db.execute("SELECT member_ref FROM member_keys_before").fetchall())
    assert sorted(ref for (ref,) in kept) == sorted(refs[1:])
    await finish(store)
    assert await store.read(lambda db: db.execute("SELECT 1 FROM member_keys_before").fetchall()) == []
    assert await store.read(lambda db: db.execute("SELECT version FROM member_secrets").fetchall()) == [(1,)]


# ---------------------------------------------------------------- a running headquarters


def nonces(folder: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{folder}/hq.db?mode=ro", uri=True)) as db:
        return [nonce for (nonce,) in db.execute("SELECT nonce FROM member_secrets ORDER BY version")]


async def test_the_old_secret_is_in_no_byte_of_headquarters_nor_of_its_backups_and_a_restore_finds_everybody(tmp_path: Path) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))
    data = tmp_path / "hq"
    async with again(options) as hq:
        enrolment = await hq.new_box()
        crowded = "phone,old_card\n" + "".join(f"09123456{n:02},OLD-77{n:02}\n" for n in range(60))
        assert (await imported(hq, crowded)).json()["new"] == 60
        ref = (await member(hq, "0912345678"))["member_ref"]
        async with hq.connected(enrolment) as box:
            needles = []
            for version in (1, 2):
                old = secret_of(await newest(hq, box, "members"), enrolment)
                assert (await hq.http.post("/api/backups", json={"file": str(tmp_path / f"{version}.backup")})).status_code == 200
                begun = await hq.post("/api/member-secrets/TW/exchange", {"overlap_days": 1})
                assert (begun["version"], begun["members"], begun["unheard"]) == (version, 61, [box.box.gateway])
                assert (await hq.http.post("/api/member-secrets/TW/finish", json={})).status_code == 409
                now = secret_of(await newest(hq, box, "members"), enrolment)
                assert now != old
                assert (await member(hq, "0912345678")) == (await member(hq, PHONE)) and (await member(hq))["member_ref"] == ref
                needles += [phone_key(old, KEY_NUMBER), phones.phone_index(old, KEY_NUMBER), phones.card_key(old, "OLD7707")]
                needles += [old.hex()] if version > 1 else []  # the first is made with the root key alone, and was never stored
                needles += nonces(data)[:-1]
                assert traces(tmp_path, needles), "or the next look proves nothing"
                done = (await hq.http.post("/api/member-secrets/TW/finish", json={"force": True})).json()
                assert done["finished_us"] and "61 numbers" in said(done)
                assert traces(tmp_path, needles) == []
            (first, second) = await hq.get("/api/member-secrets")
            assert (first["is_scrubbed"], second["is_scrubbed"], second["version"]) == (True, True, 2)
            assert len(nonces(data)) == 1
            current = now
    restore_command(data, tmp_path / "1.backup")
    async with again(options) as hq, hq.connected(enrolment) as box:
        assert (await member(hq))["member_ref"] == ref
        assert secret_of(await newest(hq, box, "members"), enrolment) == current
    assert traces(tmp_path, needles) == []
