"""What members said last, at headquarters: the later word counts, shops are told it, and nothing is credited against it."""

from functools import partial
from typing import Any

from cloud_bridge.hq import consents, members
from cloud_bridge.hq.store import Store
from gateway.events import Instant, MemberConsented, TimeTrust

from .rig import AT_US, Hq, now_us, wire
from .test_accounts import PHONE, account, bound, by_number, look, member
from .test_uplift import at, sale, told, use

HOUR_MIN = 60


def said(ref: str, given: bool, minutes: float, trust: TimeTrust = TimeTrust.SYNCED) -> MemberConsented:
    return MemberConsented(ref, "bind", given, "bind-1", "code", None, "till-1", "d-1", at(minutes, trust))


async def holds(store: Store, ref: str) -> list[str]:
    return (await store.read(partial(members.one, member_ref=ref))).consents


async def test_the_later_word_counts_whichever_arrives_first(store: Store) -> None:
    ref = await member(store)
    await told(store, said(ref, True, 0))
    assert await holds(store, ref) == ["bind"]
    await told(store, said(ref, False, 10), said(ref, True, 5))
    assert await holds(store, ref) == []
    change: dict[str, Any] = {"consents": ["bind", "beacon"]}
    await store.write(lambda db: consents.change(db, ref, change, AT_US + 60 * HOUR_MIN * 1_000_000))
    await told(store, said(ref, False, 20))  # it was said before headquarters was told otherwise, and comes late
    assert await holds(store, ref) == ["beacon", "bind"]
    history = {one["consent"]: one for one in await store.read(lambda db: consents.history(db, ref))}
    assert (history["bind"]["given"], history["bind"]["text_version"], history["bind"]["store"]) == (True, "", "")
    await told(store, said(ref, False, 2 * HOUR_MIN), said("nobody", True, 1))
    assert (await holds(store, ref), await store.read(consents.untold)) == (["beacon"], True)
    assert await store.write(consents.tell) == {"TW"} and not await store.read(consents.untold)


async def test_a_clock_that_was_not_believed_counts_as_the_moment_of_arrival(store: Store) -> None:
    ref = await member(store)
    await told(store, said(ref, True, -5), said(ref, False, -99_999, TimeTrust.UNTRUSTED))
    assert await holds(store, ref) == []


async def test_a_number_typed_after_its_owner_withdrew_earns_nothing_and_leads_to_nobody(store: Store) -> None:
    ref = await member(store)
    await told(store, said(ref, False, -1), sale(1, 0), by_number("s1"))
    await look(store)
    assert await account(store, ref) == (0, 0, 0)
    sql = "SELECT state, member_ref, phone_ref FROM accruals"
    assert await store.read(lambda db: db.execute(sql).fetchall()) == [("declined", None, None)]
    await told(store, sale(2, -5), by_number("s2", event_time=at(-5)))  # of before
    await look(store)
    assert await account(store, ref) == (2 + 1, 3, 0)


async def test_what_a_shop_joined_before_it_heard_of_the_withdrawal_is_joined_to_nobody(store: Store) -> None:
    ref = await member(store)
    late = [
        use(1, 1),
        bound(1, ref, 1),
        sale(1, 2, "r1", member_ref=ref),
        by_number("s1", member_ref=ref, phone_ref=None, event_time=at(2)),
    ]
    _, rows = await told(store, said(ref, False, 0), *late)
    await look(store)
    assert (await account(store, ref), [row["member_ref"] for row in rows]) == ((0, 0, 0), [None])
    for table in ("bindings", "member_visits", "accruals", "sales"):
        sql = f"SELECT count(*) FROM {table} WHERE member_ref = ?"
        assert await store.read(lambda db, sql=sql: db.execute(sql, (ref,)).fetchone()) == (0,), table  # type: ignore[misc]


async def test_erasing_takes_the_words_too(store: Store) -> None:
    ref = await member(store)
    await told(store, said(ref, True, 0))
    await store.write(lambda db: members.erase(db, ref))
    assert await store.read(lambda db: consents.history(db, ref)) == []
    await told(store, said(ref, True, 1))
    assert await store.read(lambda db: consents.history(db, ref)) == []


async def test_headquarters_tells_shops_what_was_said_at_one_of_them_and_what_it_was_told_itself(demo: Hq) -> None:
    ref = (await demo.post("/api/members", {"phone": PHONE, "consents": ["bind"]}))["member_ref"]
    async with demo.connected(await demo.new_box()) as box:
        moment = now_us()
        word = MemberConsented(ref, "bind", False, "bind-1", "code", None, "till-1", None, Instant(moment, 1, "b" * 8, TimeTrust.SYNCED))
        await box.send(box.batch([wire(1, word)]))
        recent = await box.document("members_recent")
        while recent.members is not None and not any(one.said for one in recent.members.entries):
            recent = await box.document("members_recent", recent.version + 1)
        assert recent.members is not None
        assert [(one.consents, one.said) for one in recent.members.entries] == [([], [("bind", False, moment)])]
        assert (await demo.http.patch(f"/api/members/{ref}", json={"consents": ["bind"]})).status_code == 200
        again = await box.document("members_recent", recent.version + 1)
        assert again.members is not None
        (entry,) = again.members.entries
        assert (entry.consents, entry.said[0][:2]) == (["bind"], ("bind", True)) and entry.said[0][2] >= moment
        (kept,) = await demo.get(f"/api/members/{ref}/consents")
        assert (kept["consent"], kept["given"]) == ("bind", True)
