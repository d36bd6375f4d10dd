"""A member who was erased is in no byte of the shop, and a stolen ledger without the box's key tells nobody's number."""

import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import phones
from gateway.config import GatewayConfig
from gateway.core.members import Asker, Found
from gateway.signed import MemberEntry
from gateway.token import voucher_ref
from tests.conftest import VirtualClock, until
from tests.gateway.core.roll_of import CARD, GOLD, PHONE, PLAIN, SECRET, SIGNER, key_of, member_token, recent, whole
from tests.gateway.core.shop import Shop
from tests.traces import pieces, remains, traces, values

ASKER = Asker("counter", None, "d-1")
NEEDLES = [GOLD.phone, phones.card_key(SECRET, "OLDCARD7731"), GOLD.code]


def many(count: int) -> list[MemberEntry]:
    """Others, so that a list takes many pages."""
    return [
        MemberEntry(phones.as_reference(secrets.token_bytes(16)), secrets.token_hex(16), voucher_ref(1, 1000 + number), "", [], number)
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture
async def shop(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    shop = Shop(shop_config, clock, SIGNER)
    await shop.open()
    await shop.papers()
    try:
        yield shop
    finally:
        await shop.end()


async def bring(shop: Shop, sealed: bytes) -> None:
    """As the bridge does, which deletes its file once core has answered."""
    assert await shop.bring(sealed) == b"applied"
    for path in shop.config.state_dir.glob("*.sealed"):
        path.unlink()


@pytest.mark.parametrize("others", [0, 40, pytest.param(400, marks=pytest.mark.slow)])
async def test_an_erased_member_is_in_no_byte_of_the_shop(shop: Shop, others: int) -> None:
    crowd, state = many(others), shop.config.state_dir
    first, second = whole(GOLD, PLAIN, *crowd), recent(GOLD, base=1, version=1)
    await bring(shop, first)
    await bring(shop, second)
    assert isinstance(shop.desk.members.by_phone(PHONE, ASKER), Found)
    await shop.present(member_token())
    await shop.present(CARD.encode())
    await shop.papers(version=2)  # other documents move about in the same pages
    assert traces(state, NEEDLES), "or the next look proves nothing"
    now = whole(PLAIN, *crowd, version=2, card="", whose="")
    await bring(shop, now)
    await bring(shop, recent(base=2, version=2))
    await until(lambda: not shop.config.ledger_path.with_name("ledger.db-wal").stat().st_size or not traces(state, NEEDLES))
    await shop.desk.prove()
    assert traces(state, NEEDLES) == []
    assert remains(state, [first, second], but=[now, *values(shop.config.ledger_path)]) == []
    await shop.reopen()
    assert not isinstance(shop.desk.members.by_phone(PHONE, ASKER), Found)
    assert traces(state, NEEDLES) == []


async def test_no_spelling_of_a_number_is_in_any_byte_of_the_shop(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await bring(shop, whole(GOLD, PLAIN))
    planted = ["0912-345-678", "+886912345678", "0912345678", "０９１２３４５６７８", "0933-777-111", "0912345", "+85291234567"]
    for typed in planted:
        found = shop.desk.members.by_phone(typed, ASKER)
        await shop.desk.write(getattr(found, "rows", []))
        await shop.present(typed.encode())  # typed into the field for codes, or read by a scanner
    await shop.reopen()
    needles = ["12345678", "1234567", "933777111", "777-111", "７８", "91234567"]
    assert traces(shop.config.state_dir, needles) == []
    assert not any(needle in caplog.text for needle in needles)


async def test_a_stolen_ledger_without_the_boxs_key_tells_nobodys_number(shop: Shop) -> None:
    """Whoever has the whole state folder but the key tries every number with everything in it that could be a secret."""
    await bring(shop, whole(GOLD, PLAIN))
    await shop.close()
    held = b"".join(piece for path in shop.config.state_dir.rglob("*") if path.is_file() for piece in pieces(path))
    assert key_of(PHONE).encode() in held, "the table is there"
    assert SECRET not in held
    assert SECRET.hex().encode() not in held
    assert SIGNER.key.private_bytes_raw() not in held
    keys = set(re.findall(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", held))
    assert key_of(PHONE).encode() in keys
    candidates = {bytes(value) for value in values(shop.config.ledger_path) if len(value) in (16, 32, 64)}
    assert len(candidates) > 2
    tried = {
        phones.phone_key(secret, f"+886{number}").encode()
        for secret in [b"", b"\x00" * 32, *candidates]
        for number in range(912_340_000, 912_350_000)
    }
    assert tried & keys == set()
