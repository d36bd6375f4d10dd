"""A voucher of the whole chain at one desk: asked for by a written claim, honoured once, given back unused, refused in the dark."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core import claims
from gateway.core.verdict import Actor
from gateway.events import (
    AckArrived,
    AssignmentTaken,
    ClaimedArrived,
    ClaimIntended,
    ClaimSettled,
    LineChanged,
    RedemptionReversed,
    Released,
    SettledThrough,
    TimeTrust,
    VoucherRedeemed,
)
from gateway.link import ClaimWanted, LedgerReaches, LinkClient
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.signed import (
    ACK_TAG,
    CLAIMED_TAG,
    DOCUMENT_TAG,
    RECALL_TAG,
    Ack,
    AssignmentStand,
    Claimed,
    Document,
    Grant,
    Opening,
    Recall,
    seal,
)
from gateway.token import VoucherClass, voucher_ref
from tests.conftest import HQ_KEY, STRANGER_KEY, VirtualClock, until
from tests.gateway.core.shop import END_S, GATEWAY, Shop, presented, voucher_token

V = voucher_ref(1, 42)
GRANTED = voucher_token(voucher_class=VoucherClass.GRANTED, store=0)


class Hq:
    """The bridge and headquarters in one: hears what core wants, and answers as told."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.wanted: list[ClaimWanted] = []
        self.link = LinkClient(shop.config.link_path, "bridge", shop.clock)
        self.link.on_notice(self._heed)
        self._running = asyncio.create_task(self.link.run())

    def _heed(self, notice: Any) -> None:
        assert isinstance(notice, LedgerReaches)
        self.wanted = notice.claims

    async def line(self, up: bool) -> None:
        self.link.state(LineChanged(up, self.shop.clock.now()))
        await until(lambda: self.shop.desk.store_view().line.up == up)

    async def asked(self) -> ClaimWanted:
        await until(lambda: bool(self.wanted))
        return self.wanted[0]

    async def say(self, sealed: bytes) -> None:
        await self.link.state(ClaimedArrived(sealed))

    async def give(self, claim_id: str, number: int = 1, key: Ed25519PrivateKey = HQ_KEY, **changes: Any) -> None:
        await self.say(seal(CLAIMED_TAG, Claimed(GATEWAY, claim_id, 0, self.grant(number, **changes)), key))

    async def refuse(self, claim_id: str, reason: str) -> None:
        await self.say(seal(CLAIMED_TAG, Claimed(GATEWAY, claim_id, 0, None, reason), HQ_KEY))

    async def recall(self, number: int = 1) -> None:
        await self.say(seal(RECALL_TAG, Recall(GATEWAY, V, number, 0), HQ_KEY))

    def grant(self, number: int = 1, **changes: Any) -> Grant:
        plain = Grant(voucher_id=V, number=number, gateway=GATEWAY, units=1, not_after_s=END_S - 5, issued_s=0)
        return msgspec.structs.replace(plain, **changes)

    async def end(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


@pytest.fixture
async def hq(shop: Shop) -> AsyncIterator[Hq]:
    found = Hq(shop)
    await until(lambda: found.link.connected)
    await found.line(True)
    yield found
    await found.end()


def showing(shop: Shop, token: bytes = GRANTED, station: str = "counter") -> "asyncio.Task[Answer]":
    return asyncio.create_task(shop.present(token, station))


async def test_a_claim_is_written_before_it_is_asked_and_the_voucher_is_honoured_once(shop: Shop, hq: Hq) -> None:
    first, second = showing(shop), showing(shop, station="door")
    asked = await hq.asked()
    assert len(hq.wanted) == 1, "two kiosks ask once"
    (intended,) = shop.rows(ClaimIntended)
    assert (intended.claim_id, intended.voucher_id) == (asked.claim_id, V)
    await hq.give(asked.claim_id)
    assert sorted([(await first).decision, (await second).decision]) == ["redeemed", "refused"]
    (use,) = shop.rows(VoucherRedeemed)
    assert (use.voucher_id, use.number, use.units) == (V, 1, 1)
    assert (await shop.present(GRANTED)).reason == "already_redeemed"
    await shop.reopen()
    assert (await shop.present(GRANTED)).reason == "already_redeemed"


async def test_headquarters_refusal_is_the_answer_and_nothing_is_taken(shop: Shop, hq: Hq) -> None:
    showed = showing(shop)
    await hq.refuse((await hq.asked()).claim_id, "assigned_elsewhere")
    assert (await showed).reason == "assigned_elsewhere"
    await until(lambda: not hq.wanted)
    assert [row.outcome for row in shop.rows(ClaimSettled)] == ["assigned_elsewhere"]


@pytest.mark.parametrize(("kind", "reason"), [(VoucherClass.GRANTED, "needs_grant"), (VoucherClass.HQ_LIVE, "needs_online")])
async def test_in_the_dark_it_is_refused_at_once_and_not_used(shop: Shop, hq: Hq, kind: VoucherClass, reason: str) -> None:
    await hq.line(False)
    assert (await shop.present(voucher_token(voucher_class=kind, store=0))).reason == reason
    assert not shop.rows(ClaimIntended) and not shop.rows(VoucherRedeemed)


async def test_an_answer_that_comes_too_late_is_kept_for_the_next_scan(shop: Shop, hq: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "WAIT_S", 0.05)
    assert (await shop.present(GRANTED)).reason == "needs_grant"
    asked = await hq.asked()
    await hq.give(asked.claim_id)
    await until(lambda: bool(shop.rows(AssignmentTaken)))
    assert (await shop.present(GRANTED)).decision == "redeemed"


async def test_a_claim_outlives_its_core_and_the_same_presentation_is_answered_once(shop: Shop, hq: Hq) -> None:
    code = presented(GRANTED)
    waiting = asyncio.ensure_future(shop.desk.present(code, station="counter"))
    asked = await hq.asked()
    waiting.cancel()
    await shop.reopen()
    await until(lambda: hq.link.connected and bool(hq.wanted))
    assert hq.wanted == [asked], "the same identifier"
    await hq.give(asked.claim_id)
    await hq.give(asked.claim_id)
    await until(lambda: bool(shop.rows(AssignmentTaken)))
    first = await shop.desk.present(code, station="counter")
    assert answers.decode(first).decision == "redeemed"
    assert await shop.desk.present(code, station="counter") == first
    assert (len(shop.rows(AssignmentTaken)), len(shop.rows(VoucherRedeemed))) == (1, 1)


async def test_only_headquarters_word_for_this_box_and_this_claim_counts(shop: Shop, hq: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "WAIT_S", 0.4)
    showed = showing(shop)
    asked = await hq.asked()
    await hq.give(asked.claim_id, key=STRANGER_KEY)
    await hq.give(secrets.token_hex(16))
    await hq.give(asked.claim_id, gateway="box-8")
    await hq.give(asked.claim_id, voucher_id=voucher_ref(1, 43))
    await hq.say(b"SGY1 nonsense")
    assert (await showed).reason == "needs_grant"
    assert not shop.rows(AssignmentTaken)


async def test_a_number_is_given_back_only_unused_and_dead_from_then_on(shop: Shop, hq: Hq) -> None:
    await hq.recall()
    await until(lambda: bool(shop.rows(Released)))
    assert [(row.voucher_id, row.number, row.opening) for row in shop.rows(Released)] == [(V, 1, 0)]
    showed = showing(shop)
    await hq.give((await hq.asked()).claim_id)  # a late answer under the number that was given back
    assert (await showed).reason == "needs_grant"
    await hq.recall()
    assert len(shop.rows(Released)) == 1
    again = showing(shop)
    await hq.give((await hq.asked()).claim_id, 2)
    assert (await again).decision == "redeemed"
    await hq.recall(2)
    assert len(shop.rows(Released)) == 1


async def test_a_grant_from_a_phone_is_honoured_once_offline_and_by_the_box_it_names_alone(shop: Shop, hq: Hq) -> None:
    await hq.line(False)
    desk = shop.desk

    async def shown(grant: Grant) -> Answer:
        verdict = desk._claims.show(grant, presented(b"grant"), "counter", None, shop.clock)
        desk._knowledge.commit(verdict.rows)
        return verdict.answer

    assert (await shown(hq.grant(gateway="box-8"))).reason == "assigned_elsewhere"
    assert (await shown(hq.grant(not_after_s=1))).reason == "grant_expired"
    assert (await shown(hq.grant())).decision == "redeemed"
    assert (await shown(hq.grant())).reason == "already_redeemed"
    assert (await shown(hq.grant(not_after_s=END_S - 1))).reason == "already_redeemed"


async def test_what_has_ended_is_settled_by_headquarters_time_alone(shop: Shop, hq: Hq, clock: VirtualClock) -> None:
    showed = showing(shop)
    end_s = clock.wall_us // 1_000_000 + 60
    await hq.give((await hq.asked()).claim_id, not_after_s=end_s)
    assert (await showed).decision == "redeemed"
    clock.advance(400)
    await shop.present(b"a row is written")
    assert not shop.rows(SettledThrough), "nobody has said what time it is"
    clock.trust = TimeTrust.SYNCED
    clock.advance(20)
    await shop.present(b"a row is written")
    await until(lambda: bool(shop.rows(SettledThrough)))
    assert [row.through_s for row in shop.rows(SettledThrough)] == [end_s]


async def test_a_doubted_start_honours_only_what_names_it_until_headquarters_opens_it(shop: Shop, hq: Hq) -> None:
    desk, epoch = shop.desk, shop.desk._ledger.epoch.name

    def refusal(grant: Grant) -> str:
        return desk._claims.show(grant, presented(b"grant"), "counter", None, shop.clock).answer.reason

    kept = hq.grant(3)
    desk._knowledge.commit([AssignmentTaken(V, 3, 1, kept.not_after_s, 0, None, None, shop.clock.now())])
    doubted = Ack(GATEWAY, epoch, 0, 0, "", 0, 0, opening=5)
    await desk.decide("bridge", "ack", AckArrived(seal(ACK_TAG, doubted, HQ_KEY)))
    assert not desk.store_view().admission.admitted
    await hq.line(False)
    assert (await shop.present(GRANTED)).reason == "needs_grant", "it holds it, and may not say so"
    other, named = voucher_ref(1, 43), hq.grant(1, voucher_id=voucher_ref(1, 43))
    assert refusal(named) == "needs_grant"
    assert refusal(msgspec.structs.replace(named, epoch="9-other")) == "assigned_elsewhere"
    verdict = desk._claims.show(msgspec.structs.replace(named, epoch=epoch), presented(b"grant"), "counter", None, shop.clock)
    assert verdict.answer.decision == "redeemed"
    desk._knowledge.commit(verdict.rows)
    await hq.recall(3)
    assert not shop.rows(Released), "it gives nothing back either"
    stands = [AssignmentStand(V, 3, 0, 0, END_S, False), AssignmentStand(other, 1, 2, 0, END_S, True)]
    opening = Document(GATEWAY, "opening", 5, 0, opening=Opening(epoch, {}, assigned=stands, settled_s=77))
    assert await shop.bring(seal(DOCUMENT_TAG, opening, HQ_KEY)) == b"applied"
    assert desk.store_view().admission.admitted
    assert refusal(kept) == "grant_stale", "headquarters says that it is over"
    assert refusal(hq.grant(4, not_after_s=77)) == "grant_stale", "headquarters knows it was settled"
    assert refusal(hq.grant(1, voucher_id=other, units=2)) == "", "two in all, of which this start has spent one"
    await hq.recall(4)
    await until(lambda: bool(shop.rows(Released)))
    assert [(row.number, row.opening) for row in shop.rows(Released)] == [(4, 5)]


async def test_a_reversed_use_may_be_had_again_under_the_same_assignment(shop: Shop, hq: Hq) -> None:
    showed = showing(shop)
    await hq.give((await hq.asked()).claim_id)
    done = await showed
    manager = Actor(None, "s-2", frozenset({"clerk", "manager"}))
    await shop.desk.till.reverse(done.redemption_id, key=secrets.token_hex(16), station="counter", actor=manager)
    assert [(row.number, row.spent) for row in shop.rows(RedemptionReversed)] == [(1, 1)]
    await hq.line(False)
    await shop.reopen()
    assert (await shop.present(GRANTED)).decision == "redeemed"
    assert (await shop.present(GRANTED)).reason == "already_redeemed"


async def test_a_reason_of_a_later_release_is_a_refusal_with_words(shop: Shop, hq: Hq) -> None:
    showed = showing(shop)
    await hq.refuse((await hq.asked()).claim_id, "something_new")
    assert (await showed).reason == "needs_online"
