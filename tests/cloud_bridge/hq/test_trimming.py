"""What headquarters forgets decides nothing: with and without trimming claims end alike, and a restored database comes as far."""

import asyncio
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_bridge.hq import assignments, balances, deeds, trimming
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.backups import Backup, Backups, add
from cloud_bridge.hq.balances import Lending
from cloud_bridge.hq.claims import Claims, Known
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.journal import NAME, Journal, position
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.registry import BoxRow, expect_box
from cloud_bridge.hq.sqlite import connect_writer
from cloud_bridge.hq.store import Connection, Store, StoredRow
from cloud_bridge.hq.trimming import BEGINNING, REVERSAL_S, Bounds, Trimming
from cloud_bridge.mqtt import Incoming
from gateway.events import AssignmentTaken, ClaimSettled, SettledThrough
from gateway.rules.assigning import Stand, Wish
from gateway.signed import CLAIM_TAG, CLAIMED_TAG, Claim, Claimed, Grant, seal, unseal
from gateway.token import VoucherClass
from provisioning.authority import Authority
from tests.conftest import VirtualClock

from .rig import Hq, headquarters, instant, shop

T = TypeVar("T")
DAY_S = 86_400
OFFLINE_S = 10 * DAY_S
BOUNDS = Bounds(OFFLINE_S, 0)
BEGAN_S = 1_795_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"k")
BOXES = [BoxRow(f"gw-{n}", "demo", "0", f"s{n}", n, "", "", "Asia/Taipei", "k") for n in (1, 2)]
ENDS = {"short": BEGAN_S + 5 * DAY_S, "long": BEGAN_S + 40 * DAY_S, "balance": 2**32 - 1}


@cache
def authority() -> Authority:
    return Authority.open(Path(tempfile.mkdtemp()))


class MemoryStore:
    """SQLite in memory, the same statements in transactions of their own."""

    def __init__(self) -> None:
        self.db = connect_writer(":memory:")

    async def write(self, work: Callable[[Connection], T]) -> T:
        self.db.execute("BEGIN")
        done = work(self.db)
        self.db.execute("COMMIT")
        return done

    read = write


class Office:
    """Headquarters' counter for claims, with or without trimming."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.store = MemoryStore()
        store: Any = self.store
        self.now_s = BEGAN_S
        self.said: list[bytes] = []
        self.journal = Journal(folder)
        root = authority().root
        self.claims = Claims(
            store, Press(authority()), root, self.journal, lambda: self.now_s * 1_000_000,
            lambda _, payload: self.said.append(payload), self._announce, lambda _: False,
        )  # fmt: skip
        for box in BOXES:
            expect_box(self.store.db, box, 0)
            self.store.db.execute("INSERT INTO epochs VALUES (?, '1-a', NULL, '{}', 0)", (box.gateway,))
        for name, kind, units in (
            ("short", VoucherClass.GRANTED, 2),
            ("long", VoucherClass.GRANTED, 1),
            ("balance", VoucherClass.LEASED, 900),
        ):
            row = AssignedRow(name, kind, 1, "券", "Voucher", ENDS[name], units, 1, "V1:", "ABC", "00", 1, Stand(name, units))
            assignments.insert(self.store.db, row)
        balances.note(self.store.db, "balance", Lending())

    async def _announce(self, _: BoxRow) -> None:
        pass

    async def ask(self, box: BoxRow, claim: Claim) -> Claimed:
        payload = seal(CLAIM_TAG, claim, KEY)
        await self.claims.take(Incoming("t", payload, lambda: None), Known(box, KEY.public_key()))
        return unseal(CLAIMED_TAG, self.said[-1], [authority().root.public_key()], Claimed)

    def row(self, box: BoxRow) -> StoredRow:
        return StoredRow(1, box.gateway, "1-a", 0, 1, 0, 0, "", "")

    def stands(self) -> list[Any]:
        return list(self.store.db.execute("SELECT voucher_id, stand FROM assigned ORDER BY voucher_id").fetchall())

    async def trim(self) -> int:
        public, place, went = authority().root.public_key(), BEGINNING, 0
        while True:
            looked = await self.store.write(partial(trimming.step, place=place, bounds=BOUNDS, root=public, now_us=self.now_s * 1_000_000))
            place, went = looked.place, went + looked.trimmed
            if looked.done:
                return went

    def settled_s(self, box: BoxRow) -> int:
        return assignments.settled_s(self.store.db, box.gateway)


class Pair:
    """Two headquarters that live the same life; one of them trims."""

    def __init__(self, folder: Path) -> None:
        self.whole, self.trimmed = Office(folder / "whole"), Office(folder / "trimmed")
        self.both = (self.whole, self.trimmed)
        self.asked: list[tuple[BoxRow, Claim, int]] = []  # and when it was answered first
        self.over: dict[str, int] = {}  # claims their boxes have told to be over
        self.went = 0

    def _good(self, office: Office, box: BoxRow, grant: Grant | None) -> Grant | None:
        """What a box may still honour of a grant, whatever its clock says."""
        return grant if grant is not None and grant.not_after_s > office.settled_s(box) else None

    async def claim(self, box: BoxRow, voucher: str, units: int) -> None:
        claim = Claim(box.gateway, f"{len(self.asked):032x}", voucher, "1-a", True, units, 0)
        self.asked.append((box, claim, self.whole.now_s))
        await self._compare(box, claim)

    async def again(self, number: int) -> None:
        """A box asks again: with what it waits for, after however long; with what is over, as from a disk not older than the bound."""
        box, claim, at_s = self.asked[number % len(self.asked)]
        if claim.claim_id in self.over and self.whole.now_s - at_s > OFFLINE_S:
            return
        await self._compare(box, claim)

    async def _compare(self, box: BoxRow, claim: Claim) -> None:
        one, other = [self._good(office, box, (await office.ask(box, claim)).grant) for office in self.both]
        assert one == other

    async def tell_over(self, number: int) -> None:
        """The row by which a box says that a claim is over."""
        box, claim, _ = self.asked[number % len(self.asked)]
        self.over[claim.claim_id] = self.whole.now_s
        taken = AssignmentTaken(claim.voucher_id, 1, 1, 0, 0, None, claim.claim_id, instant())
        event = taken if number % 2 else ClaimSettled(claim.claim_id, "expired", instant())
        for office in self.both:
            trimming.ended(office.store.db, office.row(box), event)

    async def settle(self, box: BoxRow) -> None:
        """A box promises never to honour what has ended by now."""
        for office in self.both:
            assignments.settled(office.store.db, office.row(box), SettledThrough(office.now_s - 120, 0, instant()))

    async def wish(self, voucher: str) -> None:
        for office in self.both:
            await office.claims.wish(voucher, Wish.MOVE)

    async def pass_time(self, seconds: int) -> None:
        for office in self.both:
            office.now_s += seconds
        self.went += await self.trimmed.trim()
        assert self.whole.stands() == self.trimmed.stands()

    async def everything_again(self) -> None:
        """Whoever may still ask does."""
        for number in range(len(self.asked)):
            await self.again(number)
        assert self.whole.stands() == self.trimmed.stands()


BOX = st.sampled_from(BOXES)
STEPS = st.one_of(
    st.tuples(st.just("claim"), BOX, st.sampled_from([*ENDS, "nobody"]), st.integers(0, 300)),
    st.tuples(st.just("again"), st.integers(0, 50)),
    st.tuples(st.just("tell_over"), st.integers(0, 50)),
    st.tuples(st.just("settle"), BOX),
    st.tuples(st.just("settle"), BOX),
    st.tuples(st.just("wish"), st.sampled_from(["short", "long"])),
    st.tuples(st.just("pass_time"), st.sampled_from([600, 3_700, DAY_S, 4 * DAY_S, 12 * DAY_S, 30 * DAY_S])),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(STEPS, min_size=6, max_size=25))
def test_with_and_without_trimming_every_claim_is_decided_alike(steps: list[tuple[Any, ...]]) -> None:
    async def live(folder: Path) -> None:
        pair = Pair(folder)
        await pair.claim(BOXES[0], "short", 0)
        for name, *given_ in steps:
            await getattr(pair, name)(*given_)
            if name == "pass_time":
                await pair.everything_again()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder)))


async def test_an_answer_goes_only_after_its_end_the_reversal_the_longest_absence_and_the_boxs_promise(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    one, two = BOXES
    await pair.claim(one, "short", 0)  # given; its box will not settle for long
    await pair.claim(two, "short", 0)  # refused
    await pair.claim(two, "long", 0)  # given for an hour; its voucher goes on
    await pair.claim(two, "balance", 100)
    await pair.pass_time(5 * DAY_S + REVERSAL_S + OFFLINE_S)
    assert pair.went == 0, "to the second"
    await pair.pass_time(1)
    assert pair.went == 1, "the refusal: a new one would be one, too"
    await pair.settle(one)
    await pair.pass_time(1)
    assert pair.went == 2
    await pair.settle(two)
    await pair.pass_time(1)
    assert pair.went == 2, "of vouchers that go on, the box must have told that the claim is over"
    for number in (2, 3):
        await pair.tell_over(number)
    await pair.pass_time(1)
    assert pair.went == 4
    kept = trimming.totals(pair.trimmed.store.db)
    assert (kept["claims_kept"], kept["claims_trimmed"]) == (0, 4)
    assert pair.trimmed.store.db.execute("SELECT count(*) FROM claims_ended").fetchone() == (0,)
    assert assignments.exposure(pair.trimmed.store.db) == assignments.exposure(pair.whole.store.db), "reports lose nothing"
    await pair.again(0)
    await pair.again(1)


async def test_a_disk_that_is_not_older_than_the_longest_absence_hears_what_it_heard(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    await pair.claim(BOXES[0], "long", 0)
    await pair.claim(BOXES[1], "balance", 100)
    await pair.tell_over(0)
    await pair.tell_over(1)
    for day in range(11):  # their ends are past, told to be over, and promised
        await pair.pass_time(DAY_S)
        await pair.settle(BOXES[0])
        await pair.settle(BOXES[1])
        await pair.everything_again()
        assert pair.went == 0, f"day {day}"
    await pair.pass_time(2 * DAY_S)  # a share is lent for a day
    assert pair.went == 2


async def test_a_destroyed_boxs_answers_go_and_it_is_given_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    await pair.claim(BOXES[0], "short", 0)
    for office in pair.both:
        await office.claims.destroy("gw-1")
    await pair.pass_time(5 * DAY_S + REVERSAL_S + OFFLINE_S + 1)
    assert pair.went == 1
    again = await pair.trimmed.ask(*pair.asked[0][:2])
    assert again.grant is None


async def test_trimming_is_the_same_in_both_databases(store: Store) -> None:
    now_us = (BEGAN_S + 100 * DAY_S) * 1_000_000

    def reply(voucher: str, grant: Grant | None) -> bytes:
        said = Claimed("gw-1", "c", BEGAN_S * 1_000_000, grant, "" if grant else "recalled", "", "", "", "")
        return seal(CLAIMED_TAG, said, authority().root)

    def work(db: Connection) -> tuple[int, int]:
        for name in ("short", "balance"):
            row = AssignedRow(name, VoucherClass.GRANTED, 1, "券", "V", ENDS[name], 1, 1, "", "", "", 1, Stand(name, 1))
            assignments.insert(db, row)
            held = Grant(voucher_id=name, number=1, gateway="gw-1", units=1, not_after_s=BEGAN_S + 60, issued_s=BEGAN_S, epoch=None)
            for kind, grant in (("given", held), ("refused", None)):
                values = (f"{name}-{kind}", "gw-1", name, reply(name, grant), BEGAN_S * 1_000_000)
                db.execute("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", values)
        public = authority().root.public_key()
        first = trimming.step(db, BEGINNING, BOUNDS, public, now_us).trimmed
        row_, at = StoredRow(1, "gw-1", "1-a", 0, 1, 0, 0, "", ""), instant()
        for claim_id in ("balance-given", "balance-refused", "nobody's", "balance-given"):
            trimming.ended(db, row_, ClaimSettled(claim_id, "expired", at))
        assignments.settled(db, row_, SettledThrough(BEGAN_S + 60, 0, at))
        return first, trimming.step(db, BEGINNING, BOUNDS, public, now_us).trimmed

    assert await store.write(work) == (1, 3)
    assert (await store.read(trimming.totals))["claims_kept"] == 0


async def test_steps_are_small_and_walk_on(tmp_path: Path) -> None:
    office = Office(tmp_path / "one")
    for number in range(trimming.STEP + 20):
        await office.ask(BOXES[1], Claim("gw-2", f"{number:032x}", "nobody", "1-a", True, 0, 0))
    office.now_s += 100 * DAY_S
    public, now_us = authority().root.public_key(), office.now_s * 1_000_000
    first = await office.store.write(partial(trimming.step, place=BEGINNING, bounds=BOUNDS, root=public, now_us=now_us))
    assert (first.trimmed, first.done) == (0, False)
    rest = await office.store.write(partial(trimming.step, place=first.place, bounds=BOUNDS, root=public, now_us=now_us))
    assert (rest.trimmed, rest.done) == (0, True)


async def test_what_ended_leaves_the_journal_when_every_backup_has_it_and_not_before(tmp_path: Path) -> None:
    office, clock = Office(tmp_path / "hq"), VirtualClock()
    data = tmp_path / "hq"
    one = BOXES[0]
    await office.ask(one, Claim("gw-1", "a" * 32, "short", "1-a", True, 0, 0))
    add(data, Backup("of before", 0, {}, 0), 2)
    add(data, Backup("old", 0, {}, position(data)), 2)
    await office.ask(one, Claim("gw-1", "b" * 32, "long", "1-a", True, 0, 0))
    clock.wall_us = (ENDS["short"] + BOUNDS.after_s + 1) * 1_000_000

    store: Any = office.store

    async def kept() -> set[str]:
        trimmer = Trimming(store, office.journal, Backups(data, 2), authority().root.public_key(), clock, BOUNDS)
        await trimmer.compact(clock.wall_us)
        return set(Journal(data).told() or {line.stand.voucher_id for line in Journal(data).read() if line.stand})

    assert await kept() == {"short", "long"}, "a backup of before would not know it"
    add(data, Backup("new", 0, {}, position(data)), 2)
    assert await kept() == {"long"}, "every backup that is kept knows it, and it decides nothing"
    clock.wall_us = (ENDS["long"] + BOUNDS.after_s + 1) * 1_000_000
    assert await kept() == {"long"}, "it came after the older backup"
    assert trimming.totals(office.store.db)["journal_trimmed"] == 1
    assert (data / NAME).stat().st_mode & 0o777 == 0o600


async def test_a_box_that_enrols_again_after_it_was_destroyed_stays_welcome_over_a_restart(tmp_path: Path) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))

    async def claimed(hq: Hq, enrolment: Any, epoch: str) -> Claimed:
        async with hq.connected(enrolment) as box:
            await box.beat(epoch=epoch)
            return await box.claim(voucher_id, epoch=epoch)

    async with headquarters(options) as hq:
        voucher_id = str((await hq.post("/api/assigned", {"title_zh": "券", "uses": 5}))["voucher_id"])
        first = await hq.new_box()
        assert (await claimed(hq, first, "1-abc")).grant is not None
        await hq.post("/api/boxes/gw-s1/destroyed")
        asked = {"store": "s1", "gateway": "gw-s1", "number": 1, "again": True}
        second = await hq.enrol((await hq.post("/api/boxes", asked))["label"], "again", shop("s1", 1))
        assert (await claimed(hq, second, "1-new")).grant is not None
    (tmp_path / "hq" / "addresses.json").unlink()
    async with headquarters(options) as hq:
        assert (await claimed(hq, second, "1-new")).grant is not None


async def test_old_deeds_go_after_their_time_and_no_earlier(store: Store, tmp_path: Path) -> None:
    clock = VirtualClock()
    now_us = clock.wall_us
    for age_d in (500, 401, 399, 0):
        await store.write(partial(deeds.note, at_us=now_us - age_d * DAY_S * 1_000_000, who="lin", route="POST /api/vouchers", about={}))
    bounds = Bounds(0, 400 * DAY_S)
    trimmer = Trimming(store, Journal(tmp_path), Backups(tmp_path, 2), authority().root.public_key(), clock, bounds)
    await trimmer.look()
    assert len(await store.read(deeds.listed)) == 2
    assert (await store.read(trimming.totals))["deeds_trimmed"] == 2


@pytest.mark.parametrize("name", ["uses", "assigned", "arrivals", "sales", "honoured", "shared_uses"])
def test_what_reports_sum_over_is_never_deleted_here(name: str) -> None:
    text = Path(trimming.__file__).read_text(encoding="utf-8")
    assert f"DELETE FROM {name}" not in text
