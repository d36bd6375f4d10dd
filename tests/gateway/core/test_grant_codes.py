"""A grant's code, brought by the shopper's phone to a shop without a line: honoured once, at its box, for the start it names."""

from typing import Any

import msgspec
import pytest

from gateway import grant as grants
from gateway.events import AssignmentTaken, VoucherRedeemed
from gateway.token import VoucherClass, voucher_ref
from tests.conftest import STRANGER_KEY, TOKEN_KEY
from tests.gateway.core.shop import END_S, GATEWAY, Shop, voucher_token

V = 42


def code(number: int = 1, gateway: str = GATEWAY, **changes: Any) -> bytes:
    plain = grants.Grant(
        key_id=1, issuer=1, identifier=V, assignment=number, box=grants.box_digest(gateway), issued_s=END_S - 3_600, not_after_s=END_S
    )
    return grants.sign(msgspec.structs.replace(plain, **changes), TOKEN_KEY).encode()


async def test_a_shop_without_a_line_asks_for_a_grant_and_honours_it_once(shop: Shop) -> None:
    token = voucher_token(V, voucher_class=VoucherClass.GRANTED, store=0)
    assert (await shop.present(token)).reason == "needs_grant"
    done = await shop.present(code())
    assert (done.decision, done.reference) == ("redeemed", voucher_ref(1, V))
    for again in (code(), code(not_after_s=END_S - 1), token):
        assert (await shop.present(again)).reason == "already_redeemed"
    await shop.reopen()
    assert (await shop.present(code())).reason == "already_redeemed"
    assert [row.number for row in shop.rows(VoucherRedeemed)] == [1]
    assert len(shop.rows(AssignmentTaken)) == 1


async def test_a_grant_for_another_box_is_worth_nothing_here(shop: Shop) -> None:
    assert (await shop.present(code(gateway="box-8"))).reason == "assigned_elsewhere"
    assert shop.rows(VoucherRedeemed) == []


async def test_a_grant_that_names_a_start_is_for_that_start(shop: Shop) -> None:
    running = shop.desk.store_view().epoch
    assert (await shop.present(code(epoch=grants.epoch_digest(running)))).decision == "redeemed"


@pytest.mark.parametrize("ends_s", [1, 1_700_000_000])
async def test_a_grant_that_has_ended_is_refused(shop: Shop, ends_s: int) -> None:
    answer = await shop.present(code(not_after_s=ends_s, issued_s=max(0, ends_s - 10)))
    assert (answer.decision, answer.reason) == ("refused", "grant_expired")


async def test_only_headquarters_signs_grants(shop: Shop) -> None:
    forged = grants.sign(grants.unpack(code().decode())[0], STRANGER_KEY).encode()
    assert (await shop.present(forged)).reason == "forged"
    assert shop.rows(VoucherRedeemed) == []
