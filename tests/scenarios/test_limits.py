"""Scenarios of limits of each member: two kiosks at once, an old disk, a box in another's place, and another shop. Real desks, a real
headquarters' store between them; what headquarters says comes out of that store.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_bridge.hq import campaigns, limited
from cloud_bridge.hq.effects import Effects
from cloud_bridge.hq.registry import box_of
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.anywhere import ANYWHERE_NAME, Anywhere, OpenCode
from gateway.chain import decode_event
from gateway.columns import Tombstone, unpack
from gateway.config import GatewayConfig, parse
from gateway.core.verdict import Actor, Asked
from gateway.core.whose import Whose
from gateway.events import DeviceSeen
from gateway.ledger import LedgerReader
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.rules.definitions import Campaign, read_campaign
from gateway.schema import migrate
from gateway.signed import DOCUMENT_TAG, Document, Elsewhere, MemberEntry, MemberUses, seal
from gateway.token import voucher_ref
from tests.conftest import HQ_KEY, SHOP, VirtualClock
from tests.gateway.core.old_images import acked, admission, epoch, image, opening, paired, slow
from tests.gateway.core.roll_of import GOLD, PLAIN, REF, SIGNER, member_token, recent, whole
from tests.gateway.core.shop import GATEWAY, Shop, presented, voucher_token
from tests.gateway.kiosk.test_binding import DAILY, SAMPLE

OTHER_BOX = "box-8"
STATIONS = ("counter", "door")


class Headquarters:
    """Its store, filled with the rows that desks wrote; and what it says of them."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self._ids = 0

    async def set_up(self) -> None:
        def write(db: Connection) -> None:
            for number, gateway in enumerate((GATEWAY, OTHER_BOX), 7):
                values = (gateway, "demo", "0", f"s{number}", number, "", "", "Asia/Taipei", None, 0, None)
                db.execute("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            for one in (SAMPLE, DAILY):
                read = read_campaign(msgspec.json.encode(one))
                assert isinstance(read, Campaign)
                campaigns.publish(db, read, 0)
            db.execute("INSERT INTO members VALUES (?, 'TW', NULL, 'c', 't', '', '[]', 0, 0, 1)", (REF,))

        await self.store.write(write)

    async def hears(self, shop: Shop, gateway: str = GATEWAY) -> dict[str, int]:
        """Takes all of a shop's money lane; its marks."""
        reader, marks, found = LedgerReader(shop.config.ledger_path), dict[str, int](), list[tuple[str, int, Any]]()
        for one in reader.epochs():
            for block in reader.blocks(one.number, 0, 0, 10**9, 10**9):
                rows = unpack(block.section, block.first)
                for seq, (_, event) in enumerate([] if isinstance(rows, Tombstone) else rows, block.first):
                    found.append((one.name, seq, decode_event(event)))
                marks[one.name] = block.last
        reader.close()
        now_us = shop.clock.now().wall_us

        def write(db: Connection) -> None:
            effects = Effects(db, now_us)
            for name, seq, event in found:
                self._ids += 1
                effects.later(StoredRow(self._ids, gateway, name, 0, seq, now_us, now_us, type(event).__name__, ""), event)
            effects.write()

        await self.store.write(write)
        return marks

    async def counts(self, gateway: str = GATEWAY) -> list[MemberUses]:
        """What an opening of that box says of members."""
        return await self.store.read(lambda db: limited.of_box(db, gateway, "Asia/Taipei"))

    async def entry(self, gateway: str, now_us: int) -> MemberEntry:
        """The member, as that box is told of them."""
        told = await self.store.read(lambda db: limited.elsewhere(db, box_of(db, gateway), "TW", -1, now_us))
        return msgspec.structs.replace(GOLD, elsewhere=told.get(REF, []))


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Headquarters]:
    store = SqliteStore(tmp_path / "hq.db")
    await store.open()
    found = Headquarters(store)
    await found.set_up()
    yield found
    await store.close()


async def set_up(shop: Shop) -> None:
    assert await shop.bring(whole(GOLD, PLAIN, issued_us=shop.clock.now().wall_us)) == b"applied"
    told = [msgspec.Raw(msgspec.json.encode(one)) for one in (SAMPLE, DAILY)]
    assert await shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "campaigns", 1, 0, campaigns=told), HQ_KEY)) == b"applied"


async def opened(config: GatewayConfig, clock: VirtualClock) -> Shop:
    shop = Shop(config, clock, SIGNER)
    await shop.open()
    await shop.papers()
    await set_up(shop)
    return shop


@pytest.fixture
async def shop(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    found = await opened(shop_config, clock)
    yield found
    await found.end()


@pytest.fixture
async def elsewhere(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    """Another shop of the chain."""
    (tmp_path / "other").mkdir()
    config = parse(SHOP.format(root=tmp_path / "other"))
    migrate(config.ledger_path)
    found = await opened(config, clock)
    yield found
    await found.end()


async def use(shop: Shop, number: int, campaign: int = 57, station: str = "counter") -> Answer:
    """The member shows their code and one of the campaign's vouchers."""
    asked = Asked(whose=Whose(consent=True, code=member_token().decode()))
    return answers.decode(await shop.desk.present(presented(voucher_token(number, campaign=campaign)), station=station, asked=asked))


def decided(said: Answer) -> str:
    return said.reason or said.decision


@pytest.mark.scenario("R57")
async def test_what_an_old_disk_forgot_of_a_member_is_refused_as_before_at_two_kiosks_at_once(shop: Shop, hq: Headquarters) -> None:
    tablet = await paired(shop)
    tablet.connect()
    await slow(shop, DeviceSeen)
    restore = await image(shop)
    tablet.connect()
    assert decided(await use(shop, 700)) == "redeemed"
    marks = await hq.hears(shop)
    tablet.look()
    await restore()
    tablet.connect()
    assert decided(await use(shop, 701)) == "not_admitted", "until headquarters has told it, it decides nothing"
    counted = await hq.counts()
    assert [(one.member_ref, one.campaign, one.uses) for one in counted] == [(REF, 57, 1)]
    assert await shop.bring(opening(shop, 1, marks, members=counted)) == b"applied"
    said = await asyncio.gather(*(use(shop, 710 + number, station=STATIONS[number % 2]) for number in range(6)))
    assert [decided(one) for one in said] == ["limit_member"] * 6
    today = await asyncio.gather(*(use(shop, 720 + number, campaign=58, station=STATIONS[number]) for number in range(2)))
    assert sorted(decided(one) for one in today) == ["limit_member_day", "redeemed"]
    await shop.reopen()
    tablet.connect()
    assert decided(await use(shop, 730)) in ("limit_member", "not_admitted")


@pytest.mark.scenario("R57")
async def test_a_box_in_the_place_of_another_knows_what_members_used_there(shop: Shop, hq: Headquarters) -> None:
    assert decided(await use(shop, 740)) == "redeemed"
    assert decided(await use(shop, 741, campaign=58)) == "redeemed"
    marks = await hq.hears(shop)
    await shop.close()
    for path in list(shop.config.state_dir.glob("ledger.db*")):
        path.unlink()
    migrate(shop.config.ledger_path)
    await shop.open()
    await shop.papers()
    await set_up(shop)
    await acked(shop, opening=1)  # headquarters knows another ledger of this box
    assert decided(await use(shop, 742)) == "not_admitted"
    assert await shop.bring(opening(shop, 1, marks, members=await hq.counts())) == b"applied"
    assert decided(await use(shop, 742)) == "limit_member"
    assert decided(await use(shop, 743, campaign=58)) == "limit_member_day"


async def test_an_opening_that_says_nothing_of_members_lets_nobody_use_what_limits_them_until_the_next(
    shop: Shop, hq: Headquarters
) -> None:
    await acked(shop, opening=1)
    assert not admission(shop).admitted
    assert await shop.bring(opening(shop, 1, {epoch(shop): 1})) == b"applied"
    refused = await use(shop, 750)
    assert decided(refused) == "limit_unknown" and refused.next_step.zh
    assert decided(await use(shop, 751, campaign=9)) == "redeemed", "what limits nobody is served"
    assert await shop.bring(opening(shop, 2, {epoch(shop): 1}, members=await hq.counts())) == b"applied"
    assert decided(await use(shop, 750)) == "redeemed"
    assert decided(await use(shop, 752)) == "limit_member"


@pytest.mark.scenario("R57")
async def test_a_member_who_goes_on_to_another_shop_is_refused_there_once_headquarters_has_told_it(
    shop: Shop, elsewhere: Shop, hq: Headquarters, clock: VirtualClock
) -> None:
    first = await use(shop, 760)
    assert decided(first) == "redeemed" and first.elsewhere_as_of_s == clock.now().wall_us // 1_000_000
    await hq.hears(shop)
    told = await hq.entry(OTHER_BOX, clock.now().wall_us)
    assert await elsewhere.bring(recent(told, issued_us=clock.now().wall_us)) == b"applied"
    refused = await use(elsewhere, 761)
    assert (decided(refused), refused.elsewhere_as_of_s) == ("limit_member", clock.now().wall_us // 1_000_000)
    assert (await hq.entry(GATEWAY, clock.now().wall_us)).elsewhere == [], "the first shop counts its own, and is not told of them"
    manager = Actor(None, "s-2", frozenset({"manager"}))
    back = await shop.desk.till.reverse(first.redemption_id, key="0" * 32, actor=manager, station="counter")
    assert decided(answers.decode(back)) == "reversed"
    await hq.hears(shop)
    told = await hq.entry(OTHER_BOX, clock.now().wall_us)
    assert await elsewhere.bring(recent(told, version=2, issued_us=clock.now().wall_us)) == b"applied"
    assert decided(await use(elsewhere, 761)) == "redeemed"


async def test_a_days_uses_elsewhere_are_over_with_the_day(shop: Shop, elsewhere: Shop, hq: Headquarters, clock: VirtualClock) -> None:
    assert decided(await use(shop, 770, campaign=58)) == "redeemed"
    await hq.hears(shop)
    told = await hq.entry(OTHER_BOX, clock.now().wall_us)
    assert await elsewhere.bring(recent(told)) == b"applied"
    assert decided(await use(elsewhere, 771, campaign=58)) == "limit_member_day"
    clock.advance(86_400.0)
    assert decided(await use(elsewhere, 771, campaign=58)) == "redeemed"


async def test_an_open_code_counts_its_members_over_an_old_disk_and_over_shops(shop: Shop) -> None:
    ref = voucher_ref(1, 0x9001)
    code = OpenCode(
        voucher_id=ref, campaign=9, title_zh="歡迎", title_en="Welcome", not_before_s=0, not_after_s=2_000_000_000, digests=[],
        allotment=50, per_member=1,
    )  # fmt: skip
    said = Document(GATEWAY, ANYWHERE_NAME, 1, shop.clock.now().wall_us, anywhere=Anywhere(codes=[code]))
    assert await shop.bring(seal(DOCUMENT_TAG, said, HQ_KEY)) == b"applied"
    quotas, asked = shop.desk._anywhere.quotas, Asked(member_ref=REF)
    for counted, refused in ((None, "limit_unknown"), ([MemberUses(REF, 0, ref, "", 1)], "limit_member"), ([], None)):
        quotas.book.adopt([], {1: 9}, counted)
        assert quotas._refusal_of_member(code, asked) == refused
    entry = msgspec.structs.replace(GOLD, elsewhere=[Elsewhere(0, ref, 1, "2026-11-22", 0)])
    assert await shop.bring(recent(entry)) == b"applied"
    assert quotas._refusal_of_member(code, asked) == "limit_member"
