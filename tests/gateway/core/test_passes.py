"""A shop without a line shows where the phone gets a pass: signed by the box, for the start that runs, back to the last one heard of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import asking
from gateway.config import GatewayConfig
from gateway.core.passes import Signer
from gateway.events import AckArrived, TimeTrust
from gateway.ledger import LedgerReader
from gateway.signed import ACK_TAG, Ack, seal
from gateway.token import VoucherClass, voucher_ref
from tests.conftest import HQ_KEY, STRANGER_KEY, VirtualClock
from tests.gateway.core.shop import END_S, GATEWAY, Shop, voucher_token
from tests.gateway.core.test_grant_codes import code

V = 42
TOKEN = voucher_token(V, voucher_class=VoucherClass.GRANTED, store=0)
BOX_KEY = STRANGER_KEY


@pytest.fixture
async def signing(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    """A core that knows where phones reach headquarters."""
    shop = Shop(shop_config, clock, Signer("https://hq.example", BOX_KEY))
    await shop.open()
    await shop.papers()
    try:
        yield shop
    finally:
        await shop.end()


def read(address: str) -> asking.Asking:
    assert address.startswith("HTTPS://HQ.EXAMPLE/G/")
    return asking.verify(address, lambda gateway: BOX_KEY.public_key() if gateway == GATEWAY else None)


async def asked(shop: Shop) -> asking.Asking:
    answer = await shop.present(TOKEN)
    assert answer.reason == "needs_grant"
    return read(answer.asking)


async def test_a_voucher_that_needs_a_pass_comes_with_where_to_get_it(signing: Shop) -> None:
    found = await asked(signing)
    assert (found.gateway, found.voucher_id, found.epoch) == (GATEWAY, voucher_ref(1, V), signing.desk.store_view().epoch)
    now = signing.clock.now()
    assert found.asked_s == (0 if now.trust is TimeTrust.UNTRUSTED else now.wall_us // 1_000_000)
    stale = await signing.present(code(not_after_s=END_S - 10_000, issued_s=END_S - 20_000))
    assert stale.decision == "redeemed", stale.reason
    again = await signing.present(TOKEN)
    assert (again.reason, again.asking) == ("already_redeemed", ""), "a pass would not help"


async def test_a_pass_that_has_run_out_asks_for_another(signing: Shop) -> None:
    answer = await signing.present(code(not_after_s=1_700_000_000, issued_s=1_699_999_000))
    assert answer.reason == "grant_expired"
    assert read(answer.asking).voucher_id == voucher_ref(1, V)


async def test_a_pass_for_another_shop_asks_for_nothing(signing: Shop) -> None:
    answer = await signing.present(code(gateway="box-8"))
    assert (answer.reason, answer.asking) == ("assigned_elsewhere", "")


async def test_starts_headquarters_has_not_heard_of_are_told_back_to_the_last_it_has(signing: Shop) -> None:
    starts = [(await asked(signing)).epoch]
    for _ in range(2):
        await signing.reopen()
        starts.append((await asked(signing)).epoch)
    line = (await asked(signing)).ancestors
    assert [one.epoch for one in line] == starts[-2::-1]
    heads = parents(signing.config.ledger_path)
    assert [(one.seq, one.head) for one in line] == [(heads[one.epoch][0], heads[one.epoch][1][:16]) for one in line]
    # Headquarters hears of the second start: the first need not be told any more.
    seq, head = heads[starts[1]]
    ack = Ack(GATEWAY, starts[1], 0, seq, head, 0, 1)
    await signing.desk.decide("bridge", "a1", AckArrived(seal(ACK_TAG, ack, HQ_KEY)))
    assert [one.epoch for one in (await asked(signing)).ancestors] == [starts[1]]


async def test_without_an_address_of_headquarters_nothing_is_shown(shop: Shop) -> None:
    answer = await shop.present(TOKEN)
    assert (answer.reason, answer.asking) == ("needs_grant", "")


def parents(path: Path) -> dict[str, tuple[int, str]]:
    """How far each start's money lane came, as its child says."""
    reader = LedgerReader(path)
    try:
        return {epoch.parent: epoch.parent_heads[0] for epoch in reader.epochs() if epoch.parent is not None}
    finally:
        reader.close()
