"""Headquarters settles what shops took on trust, in both databases: who came first is good, the rest is loss, and who bears it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_bridge.hq import assignments, effects, risks
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.registry import box_of
from cloud_bridge.hq.settlement import Loss, settle
from cloud_bridge.hq.signals import signals
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Store, StoredRow
from gateway.anywhere import Anywhere, RiskTerms
from gateway.events import Event, MemberBound, OpenCodeUsed, RedemptionReversed, Released, RiskTaken, SettledThrough, VoucherRedeemed
from gateway.rules.assigning import Asked, Given, Refused, Stand, Wish
from gateway.signed import MemberTrust
from gateway.token import VoucherClass, voucher_ref

from .rig import instant
from .test_settlement import DAY, HOUR_US, MIDNIGHT_US, shops

V, W, CODE = voucher_ref(1, 1), voucher_ref(1, 2), voucher_ref(1, 3)
FAR_S = 4_000_000_000
AT = instant(MIDNIGHT_US + HOUR_US)
TERMS = RiskTerms(
    campaign=5, version=0, currency="TWD", per_code_minor=300, per_device_minor=500, per_shop_minor=800, worth_minor=100,
    list_age_s=3_600, bearer="shop",
)  # fmt: skip


def voucher(name: str, units: int = 1, kind: VoucherClass = VoucherClass.BOUNDED_RISK) -> AssignedRow:
    return AssignedRow(name, kind, 5, "券", "Voucher", FAR_S, units, 200, "V1:", "ABC", "00", 1, Stand(name, units))


async def prepare(store: Store, *rows: AssignedRow) -> None:
    await shops(store, "a", "b", "c")
    await store.write(lambda db: db.execute("UPDATE boxes SET public = 'x'").rowcount)
    await store.write(partial(risks.declare, terms=TERMS, now_us=1))
    for row in rows:
        await store.write(partial(assignments.insert, row=row))
    await store.write(lambda db: db.execute("UPDATE anywhere_told SET wanted = 0").rowcount)


def trusted(name: str, voucher_id: str = V, number: int = 0, units: int = 1) -> list[Event]:
    exposure = 0 if number else 200 * units
    use = VoucherRedeemed(name, voucher_id, 5, 1, "k", "c", None, 1, AT, units, number=number)
    return [use, RiskTaken(name, voucher_id, 5, 1, number, units, exposure, "till", AT)]


def back(name: str, voucher_id: str = V, units: int = 1) -> list[Event]:
    return [RedemptionReversed(name, voucher_id, 5, units, 0, "k", None, None, AT)]


async def take(store: Store, gateway: str, events: Sequence[Event]) -> None:
    def write(db: Any) -> None:
        for seq, event in enumerate(events, 1):
            effects.EFFECTS[type(event)](db, StoredRow(seq, gateway, "1-" + gateway, 0, seq, 1, 1, "", ""), event)

    await store.write(write)


async def stand(store: Store, name: str = V) -> Stand:
    found = await store.read(partial(assignments.find, voucher_id=name))
    assert found is not None
    return found.stand


async def cost(store: Store, gateway: str) -> tuple[int, int, dict[str, int]]:
    found = await store.read(partial(risks.describe, gateway=gateway))
    return found["losses"], found["realised_minor"], found["borne_minor"]


async def wanted(store: Store) -> list[str]:
    return await store.read(partial(risks.due, now_us=0, most=99))


async def claim(store: Store, gateway: str, name: str = V, units: int = 1, now_s: int = 100) -> Given | Refused:
    return await store.write(partial(assignments.give, voucher_id=name, asked=Asked(gateway, None, units), now_s=now_s))


async def document(store: Store, gateway: str) -> Anywhere:
    return await store.read(lambda db: risks.told(db, box_of(db, gateway), AT.wall_us))


async def test_two_shops_one_code_one_loss_and_the_terms_say_whose(store: Store) -> None:
    await prepare(store, voucher(V))
    await take(store, "gw-a", trusted("r1"))
    assert await wanted(store) == [], "nothing is wrong with it"
    await take(store, "gw-b", trusted("r2"))
    assert [await cost(store, one) for one in ("gw-a", "gw-b", "gw-c")] == [(0, 0, {}), (1, 200, {"shop": 200}), (0, 0, {})]
    assert await wanted(store) == ["gw-a", "gw-b", "gw-c"], "both shops, and everybody hears that it was copied"
    told = {box: await document(store, box) for box in ("gw-a", "gw-b", "gw-c")}
    assert [[(one.redemption_id, one.outcome, one.loss_minor, one.other_en) for one in told[box].conflicts] for box in told] == [
        [("r1", "good", 0, "b")], [("r2", "loss", 200, "a")], [],
    ]  # fmt: skip
    assert {tuple(one.revoked) for one in told.values()} == {(V,)}


async def test_a_reversal_heals_the_loss_of_who_came_second(store: Store) -> None:
    await prepare(store, voucher(V))
    await take(store, "gw-a", trusted("r1"))
    await take(store, "gw-b", trusted("r2"))
    await take(store, "gw-a", [*back("r1"), *back("r1")])
    assert await cost(store, "gw-b") == (0, 0, {})
    assert ((await stand(store)).left, await store.read(risks.losses)) == (0, [])
    await take(store, "gw-b", back("r2"))
    assert (await stand(store)).left == 1, "nobody has used it"


async def test_what_a_shop_was_promised_is_loss_elsewhere_until_it_gives_it_back(store: Store) -> None:
    await prepare(store, voucher(V))
    assert isinstance(await claim(store, "gw-a"), Given)
    await take(store, "gw-b", trusted("r2"))
    assert await cost(store, "gw-b") == (1, 200, {"shop": 200})
    await take(store, "gw-a", [Released(V, 1, 0, AT)])
    assert await cost(store, "gw-b") == (0, 0, {})
    assert await claim(store, "gw-c") == Refused("already_redeemed")


async def test_what_ends_unused_heals_too(store: Store) -> None:
    await prepare(store, voucher(V))
    given_ = await claim(store, "gw-a")
    assert isinstance(given_, Given)
    await take(store, "gw-b", trusted("r2"))
    await take(store, "gw-a", [SettledThrough(given_.grant.not_after_s, 0, AT)])
    assert await cost(store, "gw-b") == (0, 0, {})


async def test_a_lost_answer_costs_nothing_what_was_given_counts_for_who_got_it(store: Store) -> None:
    await prepare(store, voucher(V))
    assert isinstance(await claim(store, "gw-a"), Given)  # the answer is lost, the shop takes it on trust
    await take(store, "gw-a", trusted("r1"))
    assert await cost(store, "gw-a") == (0, 0, {})
    assert (await stand(store)).kept[0].total_spent == 1
    assert await claim(store, "gw-b") == Refused("assigned_elsewhere", "gw-a")
    await take(store, "gw-b", trusted("r2"))
    assert await cost(store, "gw-b") == (1, 200, {"shop": 200})


async def test_a_use_under_a_number_is_no_loss_and_its_reversal_frees_the_voucher(store: Store) -> None:
    await prepare(store, voucher(V))
    await claim(store, "gw-a")
    await take(store, "gw-a", trusted("r1", number=1))
    assert ((await stand(store)).kept[0].total_spent, await cost(store, "gw-a")) == (1, (0, 0, {}))
    await take(store, "gw-a", back("r1"))
    assert isinstance(await claim(store, "gw-b"), Given)


async def test_a_refunded_voucher_is_loss_and_every_shop_is_told_not_to_take_it(store: Store) -> None:
    await prepare(store, voucher(V))
    await store.write(partial(assignments.wish, voucher_id=V, wanted=Wish.REFUND))
    assert await wanted(store) == ["gw-a", "gw-b", "gw-c"]
    await take(store, "gw-a", trusted("r1"))
    assert await cost(store, "gw-a") == (1, 200, {"shop": 200})
    told = await document(store, "gw-a")
    assert told.revoked == [V] and [(one.outcome, one.other_en) for one in told.conflicts] == [("loss", "")]


async def test_a_row_that_comes_again_is_settled_once(store: Store) -> None:
    await prepare(store, voucher(V, 2))
    for _ in range(2):
        await take(store, "gw-a", trusted("r1")[1:])
    assert ((await stand(store)).left, (await stand(store)).taken) == (1, 1)


@pytest.mark.parametrize(("units", "minor"), [(0, 1), (-1, 1), (1 << 17, 1), (1, -1), (1, 1 << 60)])
async def test_a_row_of_impossible_numbers_is_nothing_the_reports_have_to_add_up(store: Store, units: int, minor: int) -> None:
    await prepare(store, voucher(V))
    with pytest.raises(OverflowError):  # ingest puts it into quarantine
        await take(store, "gw-a", [RiskTaken("r1", V, 5, 1, 0, units, minor, "till", AT)])
    with pytest.raises(OverflowError):
        await take(store, "gw-a", [OpenCodeUsed("r1", CODE, 1, 1 << 20, "", AT)])
    assert await cost(store, "gw-a") == (0, 0, {})


async def test_the_days_file_says_who_bears_which_loss(store: Store) -> None:
    await prepare(store, voucher(V), voucher(W, 3))
    await take(store, "gw-a", [*trusted("r1"), *trusted("r3", W, units=2)])
    await take(store, "gw-b", [*trusted("r2"), *trusted("r4", W, units=2)])
    found = await store.read(lambda db: settle(db, DAY, None, "TWD", MIDNIGHT_US + 25 * HOUR_US))
    assert found.losses == [Loss(issuer=1, store="b", gateway="gw-b", bearer="shop", redemptions=2, uses=2, loss_minor=400)]
    assert not (await store.read(lambda db: settle(db, DAY, 9, "TWD", MIDNIGHT_US + 25 * HOUR_US))).losses


# ---------------------------------------------------------------- open codes


async def open_code(store: Store, quota: int, lease_s: int = 7_200) -> None:
    await prepare(store, voucher(CODE, quota, VoucherClass.OPEN_CODE))
    await store.write(lambda db: db.execute("INSERT INTO open_codes VALUES (?, '[\"WELCOME10\"]', 20, 0, ?, 0)", (CODE, lease_s)).rowcount)


def coded(name: str, number: int = 1, units: int = 1) -> list[Event]:
    use = VoucherRedeemed(name, CODE, 16, 1, "k", "c", None, 1, AT, units, number=number)
    return [use, OpenCodeUsed(name, CODE, number, units, "", AT)]


async def test_allotments_come_out_of_one_quota_and_last_as_long_as_the_code_says(store: Store) -> None:
    await open_code(store, 30)
    first, second = await claim(store, "gw-a", CODE, 20), await claim(store, "gw-b", CODE, 20)
    assert isinstance(first, Given) and isinstance(second, Given)
    assert (first.grant.units, second.grant.units, first.grant.not_after_s) == (20, 10, 100 + 7_200)
    assert await claim(store, "gw-c", CODE, 20) == Refused("assigned_elsewhere", "gw-a")
    await take(store, "gw-a", [event for n in range(20) for event in coded(f"a{n}")])
    assert await claim(store, "gw-a", CODE, 20) == Refused("already_redeemed")


async def test_a_reversed_use_of_a_code_is_used_again_by_its_shop_or_by_another_once_it_is_over(store: Store) -> None:
    await open_code(store, 2)
    given_ = await claim(store, "gw-a", CODE, 2)
    assert isinstance(given_, Given)
    await take(store, "gw-a", [*coded("r1"), *coded("r2"), *back("r1", CODE)])
    assert (await stand(store, CODE)).kept[0].total_spent == 1
    await take(store, "gw-a", [SettledThrough(given_.grant.not_after_s, 0, AT), *back("r2", CODE)])
    assert (await stand(store, CODE)).left == 2


@settings(max_examples=25, deadline=None)
@given(
    quota=st.integers(1, 60),
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["claim", "lost", "use", "reverse", "settle", "restore"]), st.integers(1, 20)),
        max_size=40,
    ),
)
def test_a_chain_never_uses_more_than_the_quota_whatever_is_lost_on_the_way(quota: int, steps: list[tuple[str, str, int]]) -> None:
    """Shops keep to what they were told; answers are lost, rows come late, headquarters is put back and reads its journal."""
    rules, stand_ = assignments.RULES, Stand(CODE, quota)
    backup, journal = stand_, stand_
    told: dict[str, dict[int, int]] = {}  # shop to number to units
    used: dict[str, dict[int, int]] = {}
    waiting: list[tuple[str, int, int]] = []  # rows on their way
    for shop, what, n in steps:
        if what in ("claim", "lost"):
            got = rules.give(stand_, Asked(shop, None, n), 1, 9)
            if isinstance(got, Given):
                stand_ = journal = got.stand
                if what == "claim":
                    told.setdefault(shop, {})[got.grant.number] = got.grant.units
        elif what == "use" and told.get(shop):
            number = max(told[shop])
            spent = used.setdefault(shop, {})
            take_ = min(n, told[shop][number] - spent.get(number, 0))
            spent[number] = spent.get(number, 0) + take_
            waiting.append((shop, number, take_))
        elif what == "settle":
            rows, waiting = [one for one in waiting if one[0] == shop], [one for one in waiting if one[0] != shop]
            for _, number, units in rows:
                stand_ = rules.use(stand_, shop, number, "1-" + shop, units)
            stand_ = rules.settled(stand_, shop, 9, True)
            told.pop(shop, None)  # it honours nothing of before any more
        elif what == "restore":
            stand_ = rules.recalled(backup, journal)
            waiting = [(shop_, number, units) for shop_, spent in used.items() for number, units in spent.items()]
        assert sum(units for spent in used.values() for units in spent.values()) <= quota


async def test_headquarters_of_the_release_before_starts_with_the_new_tables(tmp_path: Path) -> None:
    before = SqliteStore(tmp_path / "hq.db")
    await before.open()
    for name in ("risk_terms", "shared_uses", "not_on_trust", "open_codes", "anywhere_told"):
        await before.write(lambda db, name=name: db.execute(f"DROP TABLE {name}").rowcount)  # type: ignore[misc]
    await before.close()
    now = SqliteStore(tmp_path / "hq.db")
    await now.open()
    await prepare(now, voucher(V))
    await take(now, "gw-a", trusted("r1"))
    assert await cost(now, "gw-a") == (0, 0, {})
    await now.close()


# ---------------------------------------------------------------- of members


def of_member(name: str, minutes: int, ref: str = "anna") -> list[Event]:
    """Something a member took on trust."""
    when = instant(MIDNIGHT_US + HOUR_US + minutes * 60_000_000)
    use = VoucherRedeemed(name, name, 5, 1, "k", "c", None, 1, when, 1)
    taken = RiskTaken(name, name, 5, 1, 0, 1, 200, "till", when)
    return [use, taken, MemberBound(name, None, name, 5, 1, ref, "code", "k", None, None, when)]


async def test_members_who_are_too_fast_over_several_shops_are_told_with_the_window_and_the_shops(store: Store) -> None:
    await prepare(store)
    capped = msgspec.structs.replace(TERMS, per_member_count=2, per_member_minor=500, per_member_window_s=600)
    for number, gateway in enumerate("abc"):
        await take(store, gateway, of_member(f"r{number}", number * 4))
    await take(store, "a", of_member("late", 300) + of_member("x", 0, "bert") + of_member("y", 30, "bert") + of_member("z", 60, "bert"))
    assert (await store.read(partial(signals, since_us=0)))["members"] == [], "no terms cap them"
    await store.write(partial(risks.declare, terms=capped, now_us=2))
    (found,) = (await store.read(partial(signals, since_us=0)))["members"]
    assert (found["member_ref"], found["campaign"], found["uses"], found["exposure_minor"]) == ("anna", 5, 3, 600)
    assert found["stores"] == ["a", "b", "c"] and found["to_us"] - found["from_us"] == 8 * 60_000_000
    await take(store, "b", back("r1", "r1"))
    assert (await store.read(partial(signals, since_us=0)))["members"] == []


async def test_an_opening_brings_back_what_members_took_on_trust_at_that_box_within_the_window(store: Store) -> None:
    await prepare(store)
    await store.write(partial(risks.declare, terms=msgspec.structs.replace(TERMS, per_member_count=2), now_us=2))
    await take(store, "a", [*of_member("r1", 0), *of_member("r2", 1), *back("r2", "r2"), *trusted("r3")])
    await take(store, "b", of_member("r4", 1))
    at_us = MIDNIGHT_US + HOUR_US
    found = await store.read(partial(risks.taken_by_members, gateway="a", now_us=at_us + 60_000_000))
    assert found == [MemberTrust("r1", "anna", 5, 200, at_us)]
    assert await store.read(partial(risks.taken_by_members, gateway="a", now_us=at_us + 86_401_000_000)) == []
