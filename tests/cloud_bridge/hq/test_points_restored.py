"""Points and balances at a headquarters that is put back to a backup: what shops and web shops tell again counts once, and is not lost."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from cloud_bridge.hq import assignments, backups, balances, members, once
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.balances import Lending
from cloud_bridge.hq.claims import Claims
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.effects import Effects
from cloud_bridge.hq.journal import Journal
from cloud_bridge.hq.once import Once
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import Event, PointsAccrued, RedemptionReversed, SettledThrough, VoucherRedeemed
from gateway.rules.assigning import Asked, Credit, Given, Refused, Stand
from gateway.token import VoucherClass, points_ref
from provisioning.authority import Authority

from .rig import AT_US, instant
from .test_accounts import account, look, member
from .test_uplift import sale

FAR_S = 4_000_000_000


class Restored:
    """Headquarters' real store, journal and claims in a folder, and the rows its shops go on keeping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.open(folder / "authority")
        self.kept: dict[str, list[Event]] = {}  # by box, its money lane
        self.arrived: dict[str, int] = {}

    async def start(self) -> None:
        """As a start does: the journal is read before anything is served."""
        self.store = SqliteStore(self.folder / backups.DATABASE)
        await self.store.open()
        await self.store.write(lambda db: [db.execute(BOX, (f"gw-{name}", name, number)) for number, name in enumerate("ab", 1)])
        root = self.authority.root
        self.claims = Claims(
            self.store, Press(self.authority, 0), root, Journal(self.folder), lambda: AT_US, lambda *_: None, _announce, lambda _: False
        )
        await self.claims.start()

    def back_up(self) -> Path:
        """A backup of now, and how much of each shop's lane is in it."""
        self.in_backup = dict(self.arrived)
        backups.copy(self.folder / backups.DATABASE, self.folder / "night.db", lambda _: None)
        return self.folder / "night.db"

    async def restore(self, file: Path) -> None:
        """The backup takes the database's place; shops are asked for what it lacks, a row of each in turn."""
        await self.store.close()
        backups.restore(self.folder, file, AT_US)
        await self.start()
        self.arrived = dict(self.in_backup)

    async def tell(self, box: str, *events: Event) -> None:
        """A shop writes rows, and they arrive."""
        self.kept.setdefault(box, []).extend(events)
        await self.again(box)

    async def again(self, box: str) -> None:
        """A shop sends what headquarters does not have."""

        def write(db: Connection) -> None:
            effects, mark = Effects(db, AT_US), self.arrived.get(box, 0)
            for seq, event in enumerate(self.kept[box][mark:], mark + 1):
                effects.later(StoredRow(seq, box, "1-a", 0, seq, AT_US, AT_US, type(event).__name__, ""), event)  # type: ignore[arg-type]
            effects.write()

        await self.store.write(write)
        self.arrived[box] = len(self.kept[box])

    async def give(self, box: str, voucher_id: str, units: int) -> int:
        """What a box is lent: the units of its share, 0: nothing."""

        def lend(db: Connection) -> Given | Refused:
            return assignments.give(db, voucher_id, Asked(box, None, units), AT_US // 1_000_000)

        given = await self.store.write(lend)
        if not isinstance(given, Given):
            return 0
        await self.claims.enrolled(box, [given.stand])
        return given.grant.units

    async def stand(self, voucher_id: str) -> Stand:
        """Where everything of a balance is."""
        found = await self.store.read(partial(assignments.find, voucher_id=voucher_id))
        assert found is not None
        return found.stand


BOX = "INSERT INTO boxes VALUES (?, 'demo', '0', ?, ?, '', '', 'Asia/Taipei', NULL, 0, NULL) ON CONFLICT (gateway) DO NOTHING"


async def _announce(_: BoxRow) -> None:
    """No box listens."""


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Restored]:
    made = Restored(tmp_path)
    await made.start()
    yield made
    await made.store.close()


async def gift_card(hq: Restored, units: int) -> str:
    row = AssignedRow("card", VoucherClass.LEASED, 1, "卡", "Card", FAR_S, units, units, "V1:", "ABC", "00", 1, Stand("card", units))

    def insert(db: Connection) -> None:
        assignments.insert(db, row)
        balances.note(db, "card", Lending())

    await hq.store.write(insert)
    return "card"


def earns(number: int, ref: str, minor: int) -> list[Event]:
    accrued = PointsAccrued(
        sale_id=f"s{number}", member_ref=ref, member_code=None, phone_ref=None, spent_minor=minor, currency="TWD", station="till-1",
        event_time=instant(),
    )  # fmt: skip
    return [sale(number, 0, member_ref=ref), accrued]


def spend(number: int, voucher_id: str, under: int, points: int) -> Event:
    return VoucherRedeemed(
        f"r{number}", voucher_id, 1, 1, "till-1", "pos", None, 1, instant(), points, 0, None, "d-1", under
    )  # fmt: skip


def back(number: int, voucher_id: str, under: int, points: int) -> Event:
    return RedemptionReversed(f"r{number}", voucher_id, 1, points, 0, "till-1", None, "d-1", instant(), under)


def put_in(stand: Stand) -> int:
    """All there is of a balance: with nobody, with shops, and spent there."""
    return stand.left + sum(one.units for one in stand.kept) + sum(one.spent for one in stand.gone)


ONCE = Once("till-7-top-up-0001", "aa" * 32)


async def test_a_credit_that_is_retried_with_its_key_after_a_restore_counts_once(hq: Restored) -> None:
    card = await gift_card(hq, 500)
    file = hq.back_up()
    await hq.claims.credit(card, 200, ONCE)
    await hq.restore(file)
    assert (await hq.stand(card)).left == 700, "what was answered is not lost"
    for _ in range(2):
        await hq.claims.credit(card, 200, ONCE)
    assert (await hq.stand(card)).left == 700, "and the web shop, which heard no answer, asks again"
    with pytest.raises(RefusedAsk, match="another request"):
        await hq.claims.credit(card, 300, Once(ONCE.key, "bb" * 32))
    await hq.claims.credit(card, 1, Once("another-key", "aa" * 32))
    assert (await hq.stand(card)).left == 701


async def test_a_credit_whose_first_answer_a_power_cut_ate_is_in_the_journal_once_it_is_answered(hq: Restored) -> None:
    card = await gift_card(hq, 500)
    file = hq.back_up()
    by = Credit(*ONCE.digests, AT_US // 1_000_000)
    make = partial(assignments.credit, voucher_id=card, units=200, by=by)
    await hq.store.write(partial(once.do, once=ONCE, now_us=AT_US, make=make, name_of=lambda stand: stand.voucher_id))
    await hq.claims.credit(card, 200, ONCE)  # the database has it, the journal has not: power went between the two
    await hq.restore(file)
    assert (await hq.stand(card)).left == 700, "it was answered"
    await hq.claims.credit(card, 200, ONCE)
    assert (await hq.stand(card)).left == 700


async def test_an_account_opened_after_the_backup_is_lent_once(hq: Restored) -> None:
    ref = await member(hq.store)
    file, points = hq.back_up(), points_ref(ref)
    await hq.tell("gw-a", *earns(1, ref, 30_000))
    await look(hq.store)
    assert await hq.give("gw-a", points, 300) == 300
    await hq.tell("gw-a", spend(1, points, 1, 100))
    await hq.restore(file)
    for _ in range(2):
        await hq.again("gw-a")
        await look(hq.store)
    assert await hq.give("gw-b", points, 300) == 0, "the first shop has not given its share back"
    stand = await hq.stand(points)
    assert (put_in(stand), stand.left, stand.late, [one.total_spent for one in stand.kept]) == (300, 0, 0, [100])
    assert (await account(hq.store, ref))[:2] == (200, 300)


async def test_what_sales_earn_after_a_restore_is_added_to_what_came_again(hq: Restored) -> None:
    ref = await member(hq.store)
    points = points_ref(ref)
    await hq.tell("gw-a", *earns(1, ref, 1_000))
    await look(hq.store)
    file = hq.back_up()
    await hq.tell("gw-a", *earns(2, ref, 2_000))
    await look(hq.store)
    assert await hq.give("gw-a", points, 5) == 5
    await hq.tell("gw-b", *earns(3, ref, 4_000))
    await look(hq.store)
    await hq.restore(file)
    await hq.tell("gw-b", *earns(4, ref, 8_000))  # a new sale, before the old ones have come again
    await look(hq.store)
    for box in ("gw-a", "gw-b", "gw-a"):
        await hq.again(box)
        await look(hq.store)
    assert (put_in(await hq.stand(points)), *await account(hq.store, ref)) == (150, 150, 150, 0)


async def test_a_reversal_that_comes_again_gives_back_once(hq: Restored) -> None:
    card = await gift_card(hq, 100)
    assert await hq.give("gw-a", card, 100) == 100
    await hq.tell("gw-a", *(spend(number, card, 1, 50) for number in (1, 2)), SettledThrough(FAR_S, 0, instant()))
    file = hq.back_up()
    await hq.tell("gw-a", back(1, card, 1, 50))
    assert await hq.give("gw-b", card, 50) == 50
    await hq.tell("gw-b", spend(3, card, 2, 50))
    await hq.restore(file)
    await hq.again("gw-a")
    await hq.again("gw-b")
    assert await hq.give("gw-b", card, 50) == 0, "it was given back once"
    stand = await hq.stand(card)
    assert (stand.left, stand.late, put_in(stand)) == (0, 0, 100)
    await hq.tell("gw-a", back(2, card, 1, 50))
    assert (await hq.stand(card)).left == 50, "another reversal gives back"


async def test_uses_that_come_again_under_a_number_that_is_over_are_not_late(hq: Restored) -> None:
    card = await gift_card(hq, 100)
    file = hq.back_up()
    assert await hq.give("gw-a", card, 100) == 100
    await hq.tell("gw-a", spend(1, card, 1, 60), SettledThrough(FAR_S, 0, instant()))
    assert await hq.give("gw-b", card, 40) == 40
    await hq.restore(file)
    await hq.again("gw-a")
    stand = await hq.stand(card)
    assert (stand.late, stand.left, put_in(stand)) == (0, 0, 100)
    await hq.tell("gw-a", back(1, card, 1, 60), spend(2, card, 1, 10))
    stand = await hq.stand(card)
    assert (stand.left, stand.late) == (60, 10), "what was taken back is there again, and a use after the end is late"


async def test_points_shown_follow_spends_that_come_before_what_was_earned(hq: Restored) -> None:
    ref = await member(hq.store)
    points = points_ref(ref)
    await hq.tell("gw-b", *earns(1, ref, 100))
    await look(hq.store)
    file = hq.back_up()
    await hq.tell("gw-b", *earns(2, ref, 30_000))
    await look(hq.store)
    assert await hq.give("gw-a", points, 200) == 200
    await hq.tell("gw-a", spend(1, points, 1, 150))
    await hq.restore(file)
    await hq.again("gw-a")  # the shop that spent is the first with a line
    assert (await account(hq.store, ref))[0] == 0, "never below nothing on a screen"
    await hq.again("gw-b")
    await look(hq.store)
    assert (await account(hq.store, ref))[:2] == (151, 301)
    assert (await hq.store.read(partial(members.one, member_ref=ref))).points == 151


async def test_two_credits_with_one_key_at_once_count_once(hq: Restored) -> None:
    card = await gift_card(hq, 0)
    await asyncio.gather(*(hq.claims.credit(card, 10, ONCE) for _ in range(5)))
    assert (await hq.stand(card)).left == 10
