"""A shop gets a new secret of its region with its new list: it finds everybody as before; of the old one nothing is left."""

import secrets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from gateway import blinded, phones
from gateway.codes import listed_letters
from gateway.config import GatewayConfig
from gateway.core.counter import Asked
from gateway.core.members import Asker, Found
from gateway.core.whose import Whose
from gateway.events import MemberBound, PointsAccrued
from gateway.signed import DOCUMENT_TAG, Document, MemberEntry, MemberList, seal
from gateway.wrapped import wrap
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.roll_of import BOX_KEY, CARD, GOLD, PHONE, REF, SECRET, SIGNER, member_token
from tests.gateway.core.shop import GATEWAY, Shop, presented, voucher_token
from tests.traces import remains, traces, values

ASKER = Asker("counter", None, "d-1")
STRANGER = "+886933222111"


def exchanged(number: int) -> bytes:
    return phones.exchanged(SECRET, blinded.scalar_of(bytes([number]) * 64))


def listed(secret: bytes, version: int) -> bytes:
    """The list of members as headquarters tells it under a secret of the region."""
    gold = msgspec.structs.replace(GOLD, phone=phones.phone_key(secret, PHONE))
    others = [MemberEntry(f"other-{number}", secrets.token_hex(16), f"{number:x}", "", [], 0) for number in range(60)]
    wrapped = wrap(secret, BOX_KEY.public_key(), b"members\n" + GATEWAY.encode())
    cards = [(phones.card_key(secret, listed_letters(CARD)), REF)]
    said = MemberList("TW", wrapped, 0, [gold, *others], cards)
    return seal(DOCUMENT_TAG, Document(GATEWAY, "members", version, 0, members=said), HQ_KEY)


@pytest.fixture
async def shop(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    found = Shop(shop_config, clock, SIGNER)
    await found.open()
    await found.papers()
    yield found
    await found.end()


async def bring(shop: Shop, sealed: bytes) -> None:
    assert await shop.bring(sealed) == b"applied"
    for path in shop.config.state_dir.glob("*.sealed"):  # as the bridge does
        path.unlink()


def is_gone(state: Path, secret: bytes, wrapped: str) -> bool:
    needles = [phones.phone_key(secret, PHONE), phones.card_key(secret, listed_letters(CARD)), wrapped]
    needles += [secret.hex()] if secret != SECRET else []  # of the first the new ones have a part, which is no secret any more
    return traces(state, needles) == []


async def test_everybody_is_found_as_before_and_nothing_is_left_of_the_old_secret(shop: Shop) -> None:
    state, told = shop.config.state_dir, [SECRET, exchanged(1), exchanged(2)]
    documents = [listed(secret, number) for number, secret in enumerate(told, 1)]
    wrapped = list[str]()
    for number, document in enumerate(documents):
        await bring(shop, document)
        found = shop.desk.members.by_phone(PHONE, ASKER)
        assert isinstance(found, Found) and found.member.member_ref == REF
        assert (await shop.present(CARD.encode())).decision == "recognised"
        assert (await shop.present(member_token())).decision == "recognised"
        wrapped.append(shop.desk._road.catalog.roll.secret)
        assert traces(state, wrapped[-1:]), "or the next look proves nothing"
        if number:
            await until(partial(is_gone, state, told[number - 1], wrapped[number - 1]))
            assert remains(state, [documents[number - 1]], but=[document, *values(shop.config.ledger_path)]) == []
    await shop.reopen()
    assert isinstance(shop.desk.members.by_phone(PHONE, ASKER), Found)


async def test_a_request_asked_again_after_the_exchange_gets_the_same_bytes(shop: Shop) -> None:
    await bring(shop, listed(SECRET, 1))
    asked, code = Asked(whose=Whose(consent=True, phone=PHONE)), presented(voucher_token())
    first = await shop.desk.present(code, station="counter", asked=asked)
    await bring(shop, listed(exchanged(1), 2))
    assert await shop.desk.present(code, station="counter", asked=asked) == first
    await shop.reopen()
    assert await shop.desk.present(code, station="counter", asked=asked) == first
    assert [row.member_ref for row in shop.rows(MemberBound)] == [REF]


async def test_a_sale_by_a_number_of_nobody_is_written_under_the_secret_that_the_shop_has(shop: Shop) -> None:
    for number, secret in enumerate((SECRET, exchanged(1)), 1):
        await bring(shop, listed(secret, number))
        key = shop.desk.members.key_of(STRANGER)
        assert key == phones.phone_key(secret, STRANGER)
    assert shop.rows(PointsAccrued) == []
