"""Core believes HQ's seal and its own heads, and nothing else that comes down the road."""

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.events import AckArrived, CatalogApplied, DeviceChanged, DocumentArrived, LineChanged
from gateway.ledger import LedgerReader
from gateway.link import LedgerReaches, LinkClient
from gateway.signed import ACK_TAG, BEAT_TAG, DOCUMENT_TAG, Ack, Document, Voucher, digest, seal
from gateway.token import voucher_ref
from tests.conftest import HQ_KEY, STRANGER_KEY, VirtualClock, until
from tests.gateway.core.shop import END_S, GATEWAY, KEYS, Shop, no_commits, typed, voucher_token

HQ_TIME_US = 1_800_000_000_000_000


class Bridge:
    """The bridge's end of the link: what core told it."""

    def __init__(self, shop: Shop) -> None:
        self.notices: list[LedgerReaches] = []
        self.link = LinkClient(shop.config.link_path, "bridge", shop.clock)
        self.link.on_notice(self.notices.append)
        self._shop = shop
        self._running = asyncio.create_task(self.link.run())

    async def leave(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


def right_ack(shop: Shop, seq: int = 2) -> Ack:
    reader = LedgerReader(shop.config.ledger_path)
    epoch = reader.epochs()[-1]
    head = reader.head_at(epoch.number, 0, seq)
    reader.close()
    assert head is not None
    return Ack(GATEWAY, epoch.name, 0, seq, head.hex(), seq, HQ_TIME_US)


async def ack(shop: Shop, message: bytes) -> None:
    await shop.desk.decide("bridge", "e", AckArrived(message))


def waiting(shop: Shop) -> int:
    return shop.desk.store_view().line.waiting


async def test_hqs_ack_of_our_own_head_moves_the_cursor(shop: Shop, clock: VirtualClock) -> None:
    for number in range(4):
        await shop.present(voucher_token(number))
    before = waiting(shop)
    await ack(shop, seal(ACK_TAG, right_ack(shop, 3), HQ_KEY))
    assert waiting(shop) == before - 3
    assert shop.desk.store_view().line.acked_us == HQ_TIME_US
    assert clock.signed_us == [HQ_TIME_US]
    await ack(shop, seal(ACK_TAG, right_ack(shop, 2), HQ_KEY))  # an older one, late
    assert waiting(shop) == before - 3
    await shop.reopen()
    assert waiting(shop) == before - 3 + 1  # the new epoch's first row


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "00" * 16},
        {"head": ""},
        {"gateway": "box-8"},
        {"epoch": "1-00000000"},
        {"epoch": ""},
        {"seq": 3},
        {"seq": 99},
        {"lane": 1},
        {"lane": 9},
        {"seq": 0},
    ],
    ids=str,
)
async def test_an_ack_that_does_not_fit_moves_nothing(shop: Shop, clock: VirtualClock, changes: dict[str, Any]) -> None:
    for number in range(4):
        await shop.present(voucher_token(number))
    before = waiting(shop)
    await ack(shop, seal(ACK_TAG, msgspec.structs.replace(right_ack(shop), **changes), HQ_KEY))
    assert waiting(shop) == before
    assert clock.signed_us == []


@pytest.mark.parametrize("forge", ["stranger", "tag", "garbage", "cut"])
async def test_a_forged_ack_moves_nothing(shop: Shop, forge: str) -> None:
    await shop.present(voucher_token())
    before, good = waiting(shop), right_ack(shop)
    message = {
        "stranger": seal(ACK_TAG, good, STRANGER_KEY),
        "tag": seal(BEAT_TAG, good, HQ_KEY),
        "garbage": b"SGA1" + bytes(200),
        "cut": seal(ACK_TAG, good, HQ_KEY)[:-1],
    }[forge]
    await ack(shop, message)
    assert waiting(shop) == before


async def test_the_bridge_is_told_committed_rows_only_and_on_every_return(shop: Shop) -> None:
    bridge = Bridge(shop)
    await until(lambda: bool(bridge.notices))
    with no_commits(shop.config.ledger_path):
        heard = len(bridge.notices)
        redeeming = asyncio.create_task(shop.present(voucher_token()))
        await asyncio.sleep(0.05)
        assert len(bridge.notices) == heard
    await redeeming
    await until(lambda: bridge.notices[-1].reach[1].get(0) == 3)
    await shop.reopen()
    await until(lambda: bridge.notices[-1].epoch == 2)
    assert bridge.notices[-1].reach[1][0] == 3
    await bridge.leave()


async def test_an_epoch_hq_has_whole_is_not_named_any_more(shop: Shop) -> None:
    ledger_lanes = LedgerReader(shop.config.ledger_path)
    epoch = ledger_lanes.epochs()[0]
    for lane in (0, 2):
        last = ledger_lanes.blocks(1, lane, 0, 1000, 1000)[-1]
        await ack(shop, seal(ACK_TAG, Ack(GATEWAY, epoch.name, lane, last.last, last.head.hex(), last.last, HQ_TIME_US), HQ_KEY))
    ledger_lanes.close()
    await shop.reopen()
    bridge = Bridge(shop)
    await until(lambda: bool(bridge.notices))
    assert set(bridge.notices[-1].reach) == {2}
    await bridge.leave()


async def test_the_line_is_down_when_the_bridge_is_gone(shop: Shop, clock: VirtualClock) -> None:
    bridge = Bridge(shop)
    bridge.link.state(LineChanged(True, clock.now()))
    await until(lambda: shop.desk.store_view().line.up)
    await bridge.leave()
    await until(lambda: not shop.desk.store_view().line.up)


async def test_a_newer_document_is_in_force_and_stays_so(shop: Shop) -> None:
    new = Document(GATEWAY, "vouchers", 2, 0, vouchers=[Voucher(voucher_ref(1, 0x99), 1, "新", "New", 0, END_S)])
    assert await shop.bring(seal(DOCUMENT_TAG, new, HQ_KEY)) == b"applied"
    await shop.reopen()
    assert (await shop.present(typed(0x99))).decision == "redeemed"
    assert (await shop.present(typed(0x77))).reason == "unknown_code"
    assert [row.version for row in shop.rows(CatalogApplied) if row.name == "vouchers"] == [1, 2]


@pytest.mark.parametrize("fault", ["forged", "other box", "older", "same", "unknown name", "other bytes", "garbage"])
async def test_a_document_that_is_not_for_us_changes_nothing(shop: Shop, fault: str) -> None:
    vouchers = [Voucher(voucher_ref(1, 0x99), 1, "新", "New", 0, END_S)]
    box, name, version, key = GATEWAY, "vouchers", 2, HQ_KEY
    await shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "keys", 5, 0, keys=KEYS), HQ_KEY))
    match fault:
        case "forged":
            key = STRANGER_KEY
        case "other box":
            box = "box-8"
        case "older":
            version = 0
        case "same":
            version = 1
        case "unknown name":
            name = "weather"
    sealed = seal(DOCUMENT_TAG, Document(box, name, version, 0, vouchers=vouchers), key)
    if fault == "garbage":
        sealed = b"SGD1" + bytes(500)
    applied = len(shop.rows(CatalogApplied))
    answer = await shop.bring(sealed, digest(b"x") if fault == "other bytes" else "")
    assert answer == (b"applied" if fault in ("older", "same") else b"refused")
    assert len(shop.rows(CatalogApplied)) == applied
    assert (await shop.present(typed(0x99))).reason == "unknown_code"
    await shop.reopen()
    assert (await shop.present(typed(0x99))).reason == "unknown_code"


async def test_a_document_that_is_no_longer_there_is_refused(shop: Shop) -> None:
    arrived = DocumentArrived("vouchers", 2, "00" * 32, str(shop.config.state_dir / "absent.sealed"))
    assert await shop.desk.decide("bridge", "e", arrived) == b"refused"


async def test_a_document_whose_bringer_left_is_in_force_once_it_is_on_the_disk(shop: Shop) -> None:
    new = Document(GATEWAY, "vouchers", 2, 0, vouchers=[Voucher(voucher_ref(1, 0x99), 1, "新", "New", 0, END_S)])
    sealed = seal(DOCUMENT_TAG, new, HQ_KEY)
    with no_commits(shop.config.ledger_path):
        bringing = asyncio.create_task(shop.bring(sealed))
        await asyncio.sleep(0.1)
        bringing.cancel()
        await asyncio.gather(bringing, return_exceptions=True)
    await until(lambda: [row.version for row in shop.rows(CatalogApplied) if row.name == "vouchers"] == [1, 2])
    await shop.present(voucher_token(7))  # its commit comes after: by now the loop has heard of the document's
    assert (await shop.present(typed(0x99))).decision == "redeemed"


async def test_slow_rows_are_answered_after_their_second(shop: Shop, clock: VirtualClock) -> None:
    event = DeviceChanged("ble@radio", "up", "", clock.now())
    asks = [asyncio.ensure_future(shop.desk.decide("ble@radio", "e1", event)) for _ in range(2)]
    await shop.present(voucher_token(1))
    assert not any(ask.done() for ask in asks)
    clock.advance(1)
    await shop.present(voucher_token(2))
    await asyncio.wait_for(asyncio.gather(*asks), 10)
    assert len(shop.rows(DeviceChanged)) == 1
    await shop.reopen()
    await asyncio.wait_for(shop.desk.decide("ble@radio", "e1", event), 10)  # known from the disk: answered at once
    assert len(shop.rows(DeviceChanged)) == 1
