"""What members used of what limits them, as headquarters counts it for an opening and for every other shop, in both databases."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from cloud_bridge.hq import accounts, campaigns, limited, members, openings
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.effects import Effects
from cloud_bridge.hq.registry import BoxRow, box_of
from cloud_bridge.hq.store import Connection, Store, StoredRow
from cloud_bridge.hq.undated import undated
from gateway.events import Event, MemberBound, RedemptionReversed, TimeTrust
from gateway.rules.definitions import Campaign, read_campaign
from gateway.signed import Elsewhere, MemberUses
from provisioning.authority import Authority

from .rig import AT_US
from .test_accounts import member
from .test_uplift import at

DAY_MIN = 24 * 60
LIMITED = {
    "campaign": 7, "version": 1, "title_zh": "試用", "title_en": "Sample", "currency": "TWD", "rounding": "half_up",
    "rule": {"kind": "item_voucher", "items": {"skus": ["SAMPLE"]}}, "trigger": "voucher", "limits": {"per_member": 1},
}  # fmt: skip
FREE: dict[str, Any] = LIMITED | {"campaign": 8, "limits": {"per_day": 3}}


def campaign(said: dict[str, Any]) -> Campaign:
    read = read_campaign(msgspec.json.encode(said))
    assert isinstance(read, Campaign)
    return read


def bound(number: int, ref: str, minutes: float = 0, campaign: int = 7, trust: TimeTrust = TimeTrust.HOLDOVER) -> MemberBound:
    return MemberBound(f"r{number}", None, f"v{number}", campaign, 1, ref, "code", "till-1", None, None, at(minutes, trust))


def back(number: int, minutes: float = 1) -> RedemptionReversed:
    return RedemptionReversed(f"r{number}", f"v{number}", 7, 1, 0, "till-1", None, None, at(minutes))


async def chain(store: Store, *published: dict[str, Any]) -> None:
    def write(db: Connection) -> None:
        for number, gateway in enumerate(("gw", "other"), 1):
            values = (gateway, "demo", "0", f"s{number}", number, "", "", "Asia/Taipei", None, 0, None)
            db.execute("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        for one in published:
            campaigns.publish(db, campaign(one), AT_US)

    await store.write(write)


async def take(store: Store, gateway: str, *events: Event) -> None:
    def write(db: Connection) -> None:
        effects = Effects(db, AT_US)
        first = db.execute("SELECT count(*) FROM bindings").fetchone()[0] * 10
        for seq, event in enumerate(events, first + 1):
            row = StoredRow(seq, gateway, "1-a", 0, seq, AT_US, AT_US, type(event).__name__, "")
            effects.later(row, event)  # type: ignore[arg-type]
            if event.event_time.trust is TimeTrust.UNTRUSTED:  # type: ignore[attr-defined]
                effects.date_later(gateway, 1, [undated(seq, type(event).__name__, event, "2026-11-19")])  # type: ignore[arg-type]
        effects.write()

    await store.write(write)


async def of_box(store: Store, gateway: str = "gw") -> list[MemberUses]:
    return await store.read(partial(limited.of_box, gateway=gateway, timezone="Asia/Taipei"))


async def entries(store: Store, gateway: str, now_us: int = AT_US) -> dict[str, list[Elsewhere]]:
    """As the list of members that a box is told says it."""

    def told(db: Connection) -> dict[str, list[Elsewhere]]:
        row: BoxRow = box_of(db, gateway)
        return {one.member_ref: one.elsewhere for one in members.told(db, row, "members", 1, b"", now_us).entries}

    return await store.write(told)


async def test_an_opening_gives_a_box_its_own_uses_by_day_and_every_other_shop_is_told_the_rest(store: Store) -> None:
    await chain(store, LIMITED, FREE)
    ref, other = await member(store), await member(store, "0987654321")
    await take(store, "gw", bound(1, ref), bound(2, ref, DAY_MIN), bound(3, other), back(3), bound(4, ref, campaign=8))
    await take(store, "other", bound(5, ref), bound(6, "nobody-any-more"))
    day = limited.today(AT_US, "Asia/Taipei")[0]
    tomorrow = limited.today(AT_US + DAY_MIN * 60_000_000, "Asia/Taipei")[0]
    assert await of_box(store) == [MemberUses(ref, 7, "", day, 1), MemberUses(ref, 7, "", tomorrow, 1)]
    assert await of_box(store, "other") == [MemberUses(ref, 7, "", day, 1)]
    assert await entries(store, "gw") == {ref: [Elsewhere(7, "", 1, day, 1)], other: []}
    assert await entries(store, "other") == {ref: [Elsewhere(7, "", 2, day, 1)], other: []}
    assert (await entries(store, "other", AT_US + DAY_MIN * 60_000_000))[ref] == [Elsewhere(7, "", 2, tomorrow, 1)]


async def test_shops_hear_once_of_each_use_and_of_each_reversal_and_of_nothing_that_limits_nobody(store: Store) -> None:
    await chain(store, LIMITED, FREE)
    ref = await member(store)
    before = await store.read(accounts.newest)
    await take(store, "gw", bound(4, ref, campaign=8), bound(5, ref, campaign=99))
    assert not await store.read(accounts.untold)
    for event in (bound(1, ref), back(1)):
        await take(store, "gw", event)
        assert await store.read(accounts.untold)
        assert await store.write(accounts.tell) == {"TW"}
        assert not await store.read(accounts.untold) and await store.write(accounts.tell) == set()
        now = await store.read(accounts.newest)
        assert now == before + 1, "the member stands among those who have changed"
        before = now
    assert (await entries(store, "other"))[ref] == []


async def test_a_campaign_that_limits_its_members_only_from_now_on_counts_what_was_used_before(store: Store) -> None:
    await chain(store, FREE)
    ref = await member(store)
    await take(store, "gw", bound(4, ref, campaign=8))
    assert (await entries(store, "other"))[ref] == [] and not await store.read(accounts.untold)
    stricter = campaign(FREE | {"version": 2, "limits": {"per_member_day": 1}})
    await store.write(lambda db: campaigns.publish(db, stricter, AT_US))
    assert await store.write(accounts.tell) == {"TW"}
    assert [one.uses for one in (await entries(store, "other"))[ref]] == [1]


async def test_a_use_whose_day_nobody_knows_may_have_been_on_any(store: Store) -> None:
    await chain(store, LIMITED)
    ref = await member(store)
    await take(store, "gw", bound(1, ref, trust=TimeTrust.UNTRUSTED))
    assert [(one.day, one.uses) for one in await of_box(store)] == [("", 1)]
    (told,) = (await entries(store, "other"))[ref]
    assert (told.uses, told.on_day, told.undated) == (1, 0, 1)


async def test_an_open_code_is_counted_by_its_voucher(store: Store) -> None:
    await chain(store)
    ref = await member(store)
    await store.write(lambda db: db.execute("INSERT INTO open_codes VALUES ('v1', '[]', 1, 1, 60, 0)"))
    await take(store, "gw", bound(1, ref), bound(2, ref))
    assert [(one.campaign, one.code, one.uses) for one in await of_box(store)] == [(0, "v1", 1)]
    assert [(one.campaign, one.code, one.uses) for one in (await entries(store, "other"))[ref]] == [(0, "v1", 1)]


async def test_a_box_that_lives_on_an_opening_of_an_earlier_release_gets_one_that_counts_members(store: Store, tmp_path: Path) -> None:
    press, said = Press(Authority.open(tmp_path)), openings.Said("2-b", True, "1-a", {})
    await chain(store, LIMITED)
    ref = await member(store)

    def judged(db: Connection) -> tuple[bool, openings.Pressed | None, bool]:
        return openings.judge(db, press, box_of(db, "gw"), said, AT_US)

    await store.write(lambda db: db.execute("INSERT INTO openings VALUES ('gw', 0, '2-b', ?, '{}', ?)", (AT_US, AT_US)))
    assert (await store.write(judged))[2] is False, "nobody used anything there: it lacks nothing"
    await take(store, "gw", bound(1, ref))
    needs, pressed, is_new = await store.write(judged)
    assert (needs, is_new) == (True, True) and pressed is not None
    applied = "UPDATE openings SET applied_us = ? WHERE gateway = 'gw' AND number = ?"
    await store.write(lambda db: db.execute(applied, (AT_US, pressed.number)))
    assert (await store.write(judged))[2] is False, "once is enough"
