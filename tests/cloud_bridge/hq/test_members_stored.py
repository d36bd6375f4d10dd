"""Members on both engines: one for a number, changes that come in order, and nothing left of whoever was erased."""

import itertools
from functools import partial
from typing import Any

import pytest

from cloud_bridge.hq import members
from cloud_bridge.hq.members import MemberAsk, MemberRow, Signing
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Store
from gateway.phones import region_secret
from gateway.signed import MemberList, public_hex
from gateway.token import sign
from tests.conftest import STRANGER_KEY, TOKEN_KEY

IDENTIFIERS = itertools.count(1)
SIGNING = Signing(lambda region: region_secret(b"chain", region), lambda claims: sign(claims, TOKEN_KEY), 1, lambda: next(IDENTIFIERS))
BOX = BoxRow("gw", "t", "0", "s1", 1, "店", "Shop", "Asia/Taipei", public_hex(STRANGER_KEY.public_key()))


async def make(store: Store, **ask: Any) -> MemberRow:
    return (await store.write(lambda db: members.make(db, MemberAsk(**ask), SIGNING, 1)))[0]


async def told(store: Store, name: str, version: int = 1, now_us: int = 1) -> MemberList:
    secret = SIGNING.secret_of("TW")
    return await store.write(lambda db: members.told(db, BOX, name, version, secret, now_us))


async def test_a_number_has_one_member_and_a_card_one_owner(store: Store) -> None:
    one = await make(store, phone="0912345678", old_cards=["OLD-7731"])
    assert await make(store, phone="+886912345678") == one
    assert await make(store, old_cards=["old 7731"]) == one
    assert (await make(store, phone="0987654321")).member_ref != one.member_ref
    for ask in ({"phone": "0987654321", "old_cards": ["OLD7731"]}, {"phone": "0911111111", "old_cards": ["12345"]}, {}, {"phone": "1"}):
        with pytest.raises(RefusedAsk):
            await make(store, **ask)
    abroad = await make(store, region="HK", phone="+886912345678")
    assert abroad.member_ref != one.member_ref, "regions cannot be joined"


async def test_what_changes_goes_on_top_and_what_was_erased_is_in_neither_list(store: Store) -> None:
    one, other = await make(store, phone="0912345678"), await make(store, phone="0987654321")
    assert {entry.member_ref for entry in (await told(store, "members", 5)).entries} == {one.member_ref, other.member_ref}
    assert (await told(store, "members_recent")).entries == []
    await store.write(lambda db: members.change(db, other.member_ref, {"points": 7}))
    recent = await told(store, "members_recent")
    assert (recent.base, [(entry.member_ref, entry.points) for entry in recent.entries]) == (5, [(other.member_ref, 7)])
    assert await store.write(lambda db: members.erase(db, other.member_ref)) == "TW"
    assert await store.write(lambda db: members.erase(db, other.member_ref)) is None
    assert [entry.member_ref for entry in (await told(store, "members", 6)).entries] == [one.member_ref]
    later = await make(store, phone="0987654321")
    assert [entry.member_ref for entry in (await told(store, "members_recent")).entries] == [later.member_ref], (
        "though the latest change went"
    )
    await store.scrub()
    assert (await store.read(lambda db: members.one(db, one.member_ref))).has_phone


async def test_tags_end(store: Store) -> None:
    one = await make(store, phone="0912345678", consents=["preferences"])
    await store.write(lambda db: members.tag(db, one.member_ref, "oat milk", 100))
    await store.write(lambda db: members.tag(db, one.member_ref, "tall", 200))
    assert (await told(store, "members", now_us=100_000_000)).entries[0].tags == [("tall", 200)]
    assert await store.write(lambda db: members.expire(db, 150)) == {"TW"}
    assert await store.write(lambda db: members.expire(db, 150)) == set()
    assert (await store.read(lambda db: members.one(db, one.member_ref))).tags == [("tall", 200)]
    for number in range(members.MOST_TAGS - 1):
        await store.write(partial(members.tag, member_ref=one.member_ref, word=f"t{number}", not_after_s=300))
    with pytest.raises(RefusedAsk):
        await store.write(lambda db: members.tag(db, one.member_ref, "one too many", 300))
