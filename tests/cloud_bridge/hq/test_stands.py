"""Assignments in both databases: what boxes' rows free, what they do not, what an opening tells, what a journal brings back."""

from functools import partial

from cloud_bridge.hq import assignments
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.journal import Line, recall
from cloud_bridge.hq.store import Store, StoredRow
from gateway.events import Event, Released, SettledThrough, VoucherRedeemed
from gateway.rules.assigning import Asked, Given, Refused, Stand, Wish
from gateway.signed import AssignmentStand
from gateway.token import VoucherClass

from .rig import instant

FAR_S = 4_000_000_000


def voucher(name: str, units: int = 1, kind: VoucherClass = VoucherClass.GRANTED) -> AssignedRow:
    return AssignedRow(name, kind, 1, "券", "Voucher", FAR_S, units, 500, "V1:", "ABC", "00", 1, Stand(name, units))


def row(gateway: str = "a", epoch: str = "1-a") -> StoredRow:
    return StoredRow(1, gateway, epoch, 0, 1, 1, 1, "", "")


async def issue(store: Store, *vouchers: AssignedRow) -> None:
    for one in vouchers:
        await store.write(partial(assignments.insert, row=one))


async def give(store: Store, name: str, gateway: str, now_s: int = 100, units: int = 0) -> Given | Refused:
    return await store.write(partial(assignments.give, voucher_id=name, asked=Asked(gateway, None, units), now_s=now_s))


async def tell(store: Store, event: Event, place: StoredRow | None = None) -> None:
    effect = {VoucherRedeemed: assignments.used, Released: assignments.released, SettledThrough: assignments.settled}[type(event)]
    await store.write(lambda db: effect(db, place or row(), event))  # type: ignore[operator]


async def stand(store: Store, name: str) -> Stand:
    found = await store.read(partial(assignments.find, voucher_id=name))
    assert found is not None
    return found.stand


def use(name: str, number: int = 1, units: int = 1) -> VoucherRedeemed:
    return VoucherRedeemed("r", name, 1, 1, "k", "s", None, 1, instant(), number=number, units=units)


async def test_rows_free_what_they_name_and_the_next_box_gets_the_rest(store: Store) -> None:
    await issue(store, voucher("v", 2), voucher("w"))
    given = await give(store, "v", "a")
    assert isinstance(given, Given) and given.grant.not_after_s == 100 + assignments.GRANT_S
    assert isinstance(await give(store, "w", "a"), Given)
    await tell(store, use("v"))
    assert await give(store, "v", "b") == Refused("assigned_elsewhere", "a")
    await tell(store, SettledThrough(given.grant.not_after_s, 0, instant()))
    after = await give(store, "v", "b")
    assert isinstance(after, Given) and (after.grant.number, after.grant.units) == (2, 1)
    assert (await stand(store, "w")).left == 1, "everything that ended by then came back"
    await tell(store, SettledThrough(5, 0, instant()))
    assert await store.read(partial(assignments.settled_s, gateway="a")) == given.grant.not_after_s, "a mark never sinks"
    await tell(store, use("v"), row("a"))
    assert (await stand(store, "v")).late == 1


async def test_a_row_under_an_older_opening_or_an_alarm_frees_nothing(store: Store) -> None:
    await issue(store, voucher("v"))
    await give(store, "v", "a")
    await store.write(lambda db: db.execute("INSERT INTO openings VALUES ('a', 3, '2-b', 1, '{}', 0)").rowcount)
    await tell(store, Released("v", 1, 2, instant()))
    assert (await stand(store, "v")).kept
    alarm = "INSERT INTO alarms (gateway, kind, epoch, other, lane, claimed, mark, at_us) VALUES ('a', 'second_root', 'x', 'y', 0, 0, 0, 1)"
    await store.write(lambda db: db.execute(alarm).rowcount)
    await tell(store, Released("v", 1, 3, instant()))
    assert (await stand(store, "v")).kept
    await store.write(lambda db: db.execute("UPDATE alarms SET settled_us = 2").rowcount)
    await tell(store, Released("v", 1, 3, instant()))
    assert not (await stand(store, "v")).kept


async def test_a_start_with_a_sibling_nobody_has_looked_at_frees_nothing(store: Store) -> None:
    await issue(store, voucher("v"))
    await give(store, "v", "a")
    for epoch in ("2-b", "2-c"):
        await store.write(lambda db, epoch=epoch: db.execute("INSERT INTO epochs VALUES ('a', ?, '1-a', '{}', 1)", (epoch,)).rowcount)  # type: ignore[misc]
    await tell(store, Released("v", 1, 0, instant()), row(epoch="2-c"))
    assert (await stand(store, "v")).kept


async def test_an_opening_tells_what_is_held_and_what_is_over_and_not_settled(store: Store) -> None:
    await issue(store, voucher("v", 2), voucher("w"), voucher("x"))
    await give(store, "x", "a", now_s=1)
    await tell(store, SettledThrough(1 + assignments.GRANT_S, 0, instant()))
    await give(store, "v", "a", now_s=10_000)
    await give(store, "w", "a", now_s=10_000)
    await tell(store, use("v"))
    await tell(store, Released("w", 1, 0, instant()))
    end_s = 10_000 + assignments.GRANT_S
    assert await store.read(partial(assignments.told, gateway="a")) == [
        AssignmentStand("v", 1, 2, 1, end_s, True), AssignmentStand("w", 1, 0, 0, end_s, False),
    ]  # fmt: skip


async def test_a_destroyed_box_is_booked_and_a_wish_is_remembered_for_its_holder(store: Store) -> None:
    await issue(store, voucher("v"), voucher("w"))
    await give(store, "v", "a")
    await give(store, "w", "b")
    await store.write(partial(assignments.wish, voucher_id="w", wanted=Wish.REFUND))
    assert await store.read(assignments.wanting) == {"b"}
    assert await store.read(partial(assignments.wanted_back, gateway="b")) == [("w", 1)]
    (changed,) = await store.write(partial(assignments.destroy, gateway="a", now_us=1))
    assert changed.exposed == 1 and await give(store, "v", "a") == Refused("box_retired")
    found = await store.read(assignments.exposure)
    assert (found["exposed_units"], found["exposed_minor"], found["boxes"], found["wished"]) == (1, 500, {"b": 1}, 1)


async def test_a_journal_brings_a_restored_database_what_it_had_given(store: Store) -> None:
    await issue(store, voucher("v"))
    given = assignments.RULES.give(Stand("v", 1), Asked("b"), 1, 500)
    assert isinstance(given, Given)
    lines = [Line(1, given.stand), Line(2, opening=("b", 9, "4-d")), Line(3, destroyed="c")]
    assert await store.write(partial(recall, lines=lines)) == 3
    assert await store.write(partial(recall, lines=lines)) == 0, "read again, it changes nothing"
    assert await give(store, "v", "a") == Refused("assigned_elsewhere", "b")
    await tell(store, Released("v", 1, 8, instant()), row("b"))
    assert (await stand(store, "v")).kept, "the opening is known again, too"
