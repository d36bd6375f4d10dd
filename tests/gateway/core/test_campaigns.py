"""Core keeps the campaigns headquarters has told it of."""

import msgspec

from gateway.signed import DOCUMENT_TAG, Document, seal
from tests.conftest import HQ_KEY
from tests.gateway.core.shop import GATEWAY, Shop
from tests.gateway.rules.offers import BOGO, definition


async def bring(shop: Shop, version: int, *definitions: bytes) -> bytes:
    document = Document(GATEWAY, "campaigns", version, 0, campaigns=[msgspec.Raw(one) for one in definitions])
    return await shop.bring(seal(DOCUMENT_TAG, document, HQ_KEY))


async def test_campaigns_are_in_force_after_their_commit_and_after_a_restart(shop: Shop) -> None:
    assert shop.desk.campaigns().good == ()
    assert await bring(shop, 1, definition(BOGO, 5), definition(BOGO, 6)) == b"applied"
    assert [one.campaign for one in shop.desk.campaigns().good] == [5, 6]
    assert await bring(shop, 2, definition(BOGO, 6), definition({"kind": "lucky_wheel"}, 7)) == b"applied"
    await shop.reopen()
    assert [one.campaign for one in shop.desk.campaigns().good] == [6]
    assert [one.campaign for one in shop.desk.campaigns().problems] == [7]
