"""Vouchers of several issuers and in several formats at one desk: each is decided by its own issuer's key and counts as its own."""

import pytest

from gateway.events import RedemptionRefused, VoucherRedeemed
from gateway.signed import DOCUMENT_TAG, Document, IssuerKey, Order, TokenKey, Voucher, seal
from gateway.token import TokenKind, voucher_ref
from gateway.verifiers import opaque
from tests.conftest import HQ_KEY
from tests.gateway.core.shop import END_S, GATEWAY, KEYS, Shop, stored, typed, voucher_token
from tests.gateway.verifiers.issuers import (
    a_cwt,
    a_jwt,
    a_ticket,
    cwt_key,
    jwt_key,
    own_key,
    own_token,
    pretix_key,
)

ISSUERS = [jwt_key(), cwt_key(), pretix_key()]
B = 0x77  # also the number of a voucher of the chain's own


async def keys(shop: Shop, own: list[TokenKey], others: list[IssuerKey], version: int = 2) -> None:
    document = Document(GATEWAY, "keys", version, 0, keys=own, issuer_keys=others)
    assert await shop.bring(seal(DOCUMENT_TAG, document, HQ_KEY)) == b"applied"


async def vouchers(shop: Shop, *listed: Voucher, version: int = 2) -> None:
    assert await shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "vouchers", version, 0, vouchers=list(listed)), HQ_KEY)) == b"applied"


@pytest.fixture
async def mall(shop: Shop) -> Shop:
    await keys(shop, [*KEYS, own_key(3, 9)], ISSUERS)
    return shop


@pytest.mark.parametrize(
    ("code", "issuer"),
    [(own_token(), 1), (own_token(9, 3), 9), (a_jwt(), 5), (a_cwt(), 5), (a_ticket(), 6)],
    ids=["own", "own of B", "jwt", "cwt", "pretix"],
)
async def test_each_clears_to_its_issuer_and_only_once(mall: Shop, code: str, issuer: int) -> None:
    first, second = await mall.present(code.encode()), await mall.present(code.encode())
    assert (first.decision, second.reason) == ("redeemed", "already_redeemed")
    (row,) = mall.rows(VoucherRedeemed)
    assert (row.issuer, row.voucher_id) == (issuer, first.reference)
    await mall.reopen()
    assert (await mall.present(code.encode())).reason == "already_redeemed"


async def test_equal_numbers_of_two_issuers_are_used_once_each(mall: Shop) -> None:
    codes = [own_token().encode(), own_token(9, 3).encode()]
    assert [(await mall.present(code)).decision for code in codes] == ["redeemed", "redeemed"]
    await mall.reopen()
    assert [(await mall.present(code)).reason for code in codes] == ["already_redeemed", "already_redeemed"]
    assert {row.voucher_id: row.issuer for row in mall.rows(VoucherRedeemed)} == {voucher_ref(1, 42): 1, voucher_ref(9, 42): 9}


async def test_one_voucher_in_two_formats_of_its_issuer_is_used_once(mall: Shop) -> None:
    assert (await mall.present(a_jwt().encode())).decision == "redeemed"
    assert (await mall.present(a_cwt().encode())).reason == "already_redeemed"


async def test_what_was_used_before_references_named_the_issuer_stays_used(mall: Shop) -> None:
    """A ledger of an earlier release, read anew: its rows wrote every issuer's number bare."""
    old = VoucherRedeemed("r", "00000000000002a", 5, 9, "counter", "scanner@counter", None, 1, mall.clock.now())
    await mall.desk._knowledge.commit([old])
    await mall.reopen()
    assert (await mall.present(own_token(9, 3).encode())).reason == "already_redeemed"
    assert (await mall.present(own_token().encode())).decision == "redeemed"


async def test_an_issuers_pickup_code_opens_no_door_of_the_chain(mall: Shop) -> None:
    document = Document(GATEWAY, "orders", 2, 0, orders=[Order(voucher_ref(1, 0x2B), "A001", "陳○明", 1, [])])
    await mall.bring(seal(DOCUMENT_TAG, document, HQ_KEY))
    answer = await mall.present(own_token(9, 3, 0x2B, kind=TokenKind.PICKUP).encode())
    assert (answer.reason, answer.reference) == ("being_prepared", voucher_ref(9, 0x2B))


async def test_a_stolen_key_is_refused_with_words_and_a_new_one_goes_on(mall: Shop) -> None:
    await keys(mall, [own_key(1, revoked=True), own_key(4)], [jwt_key(revoked=True)], 3)
    for code in (own_token(), a_jwt()):
        answer = await mall.present(code.encode())
        assert answer.reason == "key_revoked"
        assert answer.message.zh == "發行者已停用此批票券"
        assert answer.next_step.en.startswith("Please ask its issuer")
    assert (await mall.present(own_token(key_id=4).encode())).decision == "redeemed"


async def test_a_retired_key_is_honoured_until_headquarters_says(mall: Shop) -> None:
    now_s = mall.clock.now().wall_us // 1_000_000
    await keys(mall, [own_key(1, retired_s=now_s - 60, honoured_until_s=now_s + 60)], [], 3)
    assert (await mall.present(own_token(not_before_s=now_s - 100).encode())).decision == "redeemed"
    assert (await mall.present(own_token(identifier=43, not_before_s=now_s - 50).encode())).reason == "key_retired"
    await keys(mall, [own_key(1, retired_s=now_s - 60, honoured_until_s=now_s - 1)], [], 4)
    assert (await mall.present(own_token(identifier=44, not_before_s=now_s - 100).encode())).reason == "expired"


async def test_an_unknown_key_is_an_unknown_issuer(mall: Shop) -> None:
    await keys(mall, KEYS, [], 3)
    for code in (own_token(9, 3), a_jwt(), a_cwt(), a_ticket()):
        assert (await mall.present(code.encode())).reason == "unknown_issuer"


async def test_formats_of_tomorrow_are_reported_and_disturb_nothing(mall: Shop, caplog: pytest.LogCaptureFixture) -> None:
    await keys(mall, KEYS, [*ISSUERS, IssuerKey(format="hologram", issuer=8, public="?")], 3)
    assert "hologram" in caplog.text
    assert (await mall.present(a_jwt().encode())).decision == "redeemed"


async def test_what_only_headquarters_may_decide_is_refused_and_named(mall: Shop) -> None:
    assert (await mall.present(a_jwt(store=0).encode())).reason == "class_unsupported"
    assert (await mall.present(a_jwt(store=8).encode())).reason == "other_store"
    assert not mall.rows(VoucherRedeemed)


async def test_a_listed_code_without_signature_is_its_voucher(mall: Shop) -> None:
    partner = Voucher(voucher_ref(1, 0x90), 9, "咖啡", "Coffee", 0, END_S, codes=[opaque.digest_of("PARTNER-2026-0001")])
    cousin = Voucher(voucher_ref(1, 0x91), 9, "茶", "Tea", 0, END_S, codes=[opaque.digest_of("ABCDEFGHJKMNPQ")])  # shaped like a typed one
    await vouchers(mall, partner, cousin)
    first = await mall.present("ｐartner　2026-0001".encode())
    assert (first.decision, first.reference, first.title.zh) == ("redeemed", voucher_ref(1, 0x90), "咖啡")
    assert (await mall.present(b"PARTNER-2026-0001")).reason == "already_redeemed"
    assert (await mall.present(voucher_token(0x90))).reason == "already_redeemed"
    assert (await mall.present(b"abcd-efgh-jkmn-pq")).reference == voucher_ref(1, 0x91)
    assert (await mall.present(b"PARTNER-2026-0002")).reason == "unreadable"
    assert (await mall.present(b"ABCDEFGHJKMNPR")).reason == "mistyped"
    on_disk = b"".join(path.read_bytes() for path in mall.config.ledger_path.parent.iterdir() if path.is_file())
    events = b"".join(event for _, _, event in stored(mall.config.ledger_path))
    for code in (b"PARTNER20260001", b"PARTNER-2026-0001", b"ABCDEFGHJKMNPQ"):
        assert code not in on_disk + events


async def test_a_typed_number_of_two_issuers_is_no_guess(mall: Shop) -> None:
    await vouchers(mall, Voucher(voucher_ref(1, B), 9, "咖啡", "Coffee", 0, END_S), Voucher(voucher_ref(9, B), 9, "茶", "Tea", 0, END_S, 9))
    answer = await mall.present(typed(B))
    assert (answer.reason, answer.message.en) == ("ambiguous_code", "This code alone does not tell which voucher it is")
    await vouchers(mall, Voucher(voucher_ref(9, B), 9, "茶", "Tea", 0, END_S, 9), version=3)
    assert (await mall.present(typed(B))).reference == voucher_ref(9, B)
    (row,) = mall.rows(VoucherRedeemed)
    assert row.issuer == 9


async def test_a_card_is_dropped_before_any_list_is_asked(mall: Shop) -> None:
    card = "4111111111111111"
    await vouchers(mall, Voucher(voucher_ref(1, 0x92), 9, "", "", 0, END_S, codes=[opaque.digest_of(card)]))
    assert (await mall.present(card.encode())).reason == "card_dropped"
    assert [row.reason for row in mall.rows(RedemptionRefused)] == ["card_dropped"]
