"""The till's verbs at the desk: each asks for the past first, then the counter, then commits; and holds that run out by themselves.

A verb's idempotency key belongs to one request of one verb: the same key with anything else in it is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.clock import Clock
from gateway.codes import is_cardlike
from gateway.core.consenting import Consenting
from gateway.core.counter import Counter
from gateway.core.requests import Requests, digest, fingerprint
from gateway.core.returns import Returning, Returns
from gateway.core.showing import Showing
from gateway.core.verdict import MANAGER, REDEEM, Actor, Asked, Doing, Shown, Verdict
from gateway.events import ActionDenied, CodePresented
from gateway.ledger import StoredAnswer
from gateway.rules import answers
from gateway.rules.basket import Basket
from gateway.rules.voucher import Want

if TYPE_CHECKING:
    from gateway.core.judge import Judge

LOOK_AGAIN_S: Final = 0.05  # after a hold's time: the loop's clock and the boot clock tick apart


class Till:
    """Everything a POS, a kiosk page or a staff phone may ask about vouchers.

    Args:
        commit: Appends rows to the ledger and folds them at once; done after the fsync.
        judge_code: Decides on a code, doors included.
    """

    def __init__(
        self, counter: Counter, judge: "Judge", clock: Clock, commit: "Callable[..., asyncio.Future[None]]",
        requests: "Requests[Verdict]", judge_code: Callable[[CodePresented, str, str | None, Asked], Verdict],
        showing: Showing,
    ) -> None:  # fmt: skip
        self._counter = counter
        self._judge = judge
        self._clock = clock
        self._commit = commit
        self._requests = requests
        self._judge_code = judge_code
        self.joined: Callable[[Verdict, str], Verdict] = lambda verdict, key: verdict  # what a capture is with its member in it
        self.consents: Consenting
        self.returns: Returns
        self.showing = showing

    def present(self, code: CodePresented, station: str, staff: str | None, asked: Asked) -> Awaitable[bytes]:
        """Redeem or hold what a code stands for.

        Raises:
            ConflictingKey: That presentation was another request.
        """
        print_ = fingerprint(code, station, staff, *_parts(asked))
        key = code.presentation_id

        def judged() -> Verdict:
            self.sweep()
            return self._judge_code(code, station, staff, asked)

        return self._requests.once(key, print_, key, judged)

    def validate(
        self, code: CodePresented, station: str, staff: str | None, want: Want, basket: Basket | None = None,
        member_ref: str | None = None, *, or_less: bool = False,
    ) -> bytes:  # fmt: skip
        """What redeeming would answer now. Nothing is written, held or shown."""
        self.sweep()
        asked = Asked(Doing.VALIDATE, want, basket=basket, member_ref=member_ref, or_less=or_less)
        verdict = self._judge.code(code, station, staff, self._clock, asked)
        return answers.encode(verdict.answer)

    def capture(self, authorization_id: str, *, key: str, station: str, actor: Actor, want: Want | None = None) -> Awaitable[bytes]:
        """Redeem what is held.

        Raises:
            ConflictingKey: That key was another request.
        """
        parts: tuple[str, ...] = ("", "") if want is None else (str(want.units), str(want.amount_minor))
        parts += ("points",) if want is not None and want.points else ()
        shown = _shown(key, "capture", station, actor)
        return self._once(
            key, "capture", authorization_id, shown, actor, parts, lambda: self._captured(authorization_id, actor, shown, want)
        )

    def void(self, authorization_id: str, *, key: str, station: str, actor: Actor) -> Awaitable[bytes]:
        """End a hold.

        Raises:
            ConflictingKey: That key was another request.
        """
        shown = _shown(key, "void", station, actor)
        return self._once(key, "void", authorization_id, shown, actor, (), lambda: self._counter.void(authorization_id, actor, shown))

    def reverse(self, redemption_id: str, *, key: str, station: str, actor: Actor) -> Awaitable[bytes]:
        """Take a redemption back.

        Raises:
            ConflictingKey: That key was another request.
        """
        shown = _shown(key, "reverse", station, actor)
        return self._once(key, "reverse", redemption_id, shown, actor, (), lambda: self._reversed(redemption_id, actor, shown))

    def honour(self, redemption_id: str, why: str, *, key: str, station: str, actor: Actor) -> Awaitable[bytes]:
        """Hand over what was accepted and never shown.

        Raises:
            ConflictingKey: That key was another request.
        """
        shown = _shown(key, "honour", station, actor)
        return self._once(key, "honour", redemption_id, shown, actor, (why,), lambda: self.showing.honour(redemption_id, why, actor, shown))

    def consent(self, offer_id: str, *, yes: bool, key: str, station: str, actor: Actor) -> Awaitable[bytes]:
        """Answer what a station's screen asks.

        Raises:
            ConflictingKey: That key was another request.
        """
        shown = _shown(key, "consent", station, actor)
        parts = (str(yes),)
        return self._once(key, "consent", offer_id, shown, actor, parts, lambda: self.consents.answer(offer_id, station, actor, yes=yes))

    def take_back(self, asked: Returning, *, key: str, actor: Actor) -> Awaitable[bytes]:
        """Take returned goods of a finished sale.

        Raises:
            ConflictingKey: That key was another request.
        """
        shown = _shown(key, "returns", asked.station, actor)

        def reverse(redemption_id: str) -> Verdict:
            return self._reversed(redemption_id, actor, shown)

        return self._requests.once(key, asked.print_(actor), "", lambda: self.returns.take(asked, actor, reverse))

    async def deny(self, action: str, station: str, actor: Actor) -> None:
        """Write down that somebody asked for what they may not; returns after the commit."""
        row = ActionDenied(action, station, actor.staff, actor.device, sorted(actor.roles), self._clock.now())
        await asyncio.shield(self._commit([row]))

    def commit(self, verdict: Verdict, source_id: str, answer: StoredAnswer) -> "asyncio.Future[None]":
        """Commit a verdict with its answer. Of a practice decision nothing is written; its answer lives as long as this process."""
        if verdict.answer.practice:
            self._counter.practise(verdict.rows)
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        commit = self._commit(verdict.rows, source_id, answer)
        if verdict.answer.hold_s is not None:
            asyncio.get_running_loop().call_later(verdict.answer.hold_s + LOOK_AGAIN_S, self.sweep)
        return commit

    def sweep(self) -> None:
        """End the holds whose time is over, each with one row."""
        rows = self._counter.run_out()
        if rows:
            self._commit(rows)

    def resume(self) -> None:
        """After the history was folded: the holds of the last life begin anew."""
        used = self._counter.used
        used.restart(self._clock.boottime_ns())
        for hold in used.live_holds():
            asyncio.get_running_loop().call_later(hold.asked.hold_s + LOOK_AGAIN_S, self.sweep)

    def _reversed(self, redemption_id: str, actor: Actor, shown: Shown) -> Verdict:
        """A receipt that shows the discount is no longer the cashier's to take back."""
        rung = self.showing.is_rung(redemption_id) and MANAGER not in actor.roles
        refused = self.showing.refuse("manager_needed", redemption_id, shown) if rung else None
        return refused or self._counter.reverse(redemption_id, actor, shown)

    def _captured(self, authorization_id: str, actor: Actor, shown: Shown, want: Want | None) -> Verdict:
        self.sweep()
        return self.joined(self._counter.capture(authorization_id, actor, shown, want), shown.presentation_id)

    def _once(
        self, key: str, verb: str, subject: str, shown: Shown, actor: Actor, parts: tuple[str, ...], judge: Callable[[], Verdict]
    ) -> Awaitable[bytes]:
        named = "" if is_cardlike(subject) else subject  # a hash of a card's number is still the number
        asked = digest(verb, named, shown.station, actor.staff or "", actor.device or "", *parts)
        return self._requests.once(key, asked, "", judge)


def _shown(key: str, verb: str, station: str, actor: Actor) -> Shown:
    return Shown(key, station, f"{verb}@{station}", actor.staff)


def _parts(asked: Asked) -> tuple[str, ...]:
    """What makes a request another one; none for the plain redeeming that every release knows."""
    basket: tuple[str, ...] = () if asked.basket is None else (msgspec.json.encode(asked.basket).decode(),)
    basket += (("points",) if asked.want.points else ()) + (("or_less",) if asked.or_less else ())
    named = (f"member {asked.member_ref}",) if asked.member_ref else ()
    member = (*named, "member", asked.member_print) if asked.member_print else named
    if (asked.doing, asked.want, asked.hold_s) == (REDEEM.doing, REDEEM.want, None) and not basket:
        return member
    return asked.doing, str(asked.want.units), str(asked.want.amount_minor), str(asked.hold_s), *basket, *member
