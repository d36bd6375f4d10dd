"""One shop's share of a balance under whatever tills, headquarters, clocks and restarts do in whatever order, against plain sums.

A real core over a real ledger; headquarters gives by the product's rules, hears rows when the machine says so, and lends to another
shop, which spends what it gets. Two sums must hold after every step: what this shop says is left is what it was lent less what is
spent and held, and what both shops spent never exceeds what was put in.
"""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from gateway.config import parse
from gateway.events import TimeTrust, VoucherRedeemed
from gateway.rules.answers import Answer
from gateway.schema import migrate
from tests.conftest import SHOP, VirtualClock
from tests.gateway.core.lending import MANAGER, MONEY, OTHER, TILL, At, Lender
from tests.gateway.core.shop import GATEWAY, Shop

T = TypeVar("T")
LEASE_S, HOLD_S, AMOUNTS = 150, 400, st.integers(1, 60)


class Balances(RuleBasedStateMachine):
    """Tills in front of one share."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = VirtualClock()
        config = parse(SHOP.format(root=self.folder.name))
        migrate(config.ledger_path)
        self.shop = Shop(config, self.clock)
        self.run(self.begin())
        self.holds: dict[str, tuple[int, float]] = {}  # authorization to amount and end (s of the monotonic clock)
        self.over: dict[str, int] = {}
        self.spent: dict[str, tuple[int, int]] = {}  # redemption to number and amount
        self.elsewhere = 0
        self.number, self.lent, self.ends_s, self.is_up = 0, 0, 0, True

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(self.patient(work))

    async def patient(self, work: Coroutine[Any, Any, T]) -> T:
        async with asyncio.timeout(40):
            return await work

    async def begin(self) -> None:
        Path(self.folder.name).mkdir(exist_ok=True)
        await self.shop.open()
        await self.shop.papers()

    @initialize(balance=st.integers(50, 300), share=st.sampled_from([0, 40, 100]))
    def put_in(self, balance: int, share: int) -> None:
        self.balance = balance
        self.lender = Lender(self.shop, balance, share, LEASE_S)
        self.run(self.lender.line(True))

    def teardown(self) -> None:
        self.run(self.shop.end())
        self.runner.close()
        self.folder.cleanup()

    # ------------------------------------------------------------ what the plain sums say

    @property
    def held(self) -> int:
        now_s = self.clock.mono_ns / 1e9
        for name in [name for name, (_, end_s) in self.holds.items() if end_s <= now_s]:
            self.over[name] = self.holds.pop(name)[0]
        return sum(amount for amount, _ in self.holds.values())

    @property
    def free(self) -> int:
        if self.clock.wall_us > self.ends_s * 1_000_000:
            return 0
        return self.lent - sum(amount for number, amount in self.spent.values() if number == self.number) - self.held

    async def asking(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """A till asks, and headquarters answers what it is asked."""
        found = asyncio.ensure_future(work)
        while not found.done():
            for want in self.shop.desk._claims.wanted() if self.is_up else []:
                await self.lender.say(self.lender.answer(want.claim_id, want.units))
                self.learn()
            await asyncio.sleep(0.001)
        return found.result()

    def learn(self) -> None:
        kept = self.lender.stand.kept_by(GATEWAY)
        if kept is not None:
            self.number, self.lent, self.ends_s = kept.number, kept.units, kept.latest_s

    def took(self, answer: Answer) -> None:
        assert answer.balance is not None
        (row,) = [row for row in self.shop.rows(VoucherRedeemed) if row.redemption_id == answer.redemption_id]
        assert row.number == self.number
        self.spent[answer.redemption_id] = row.number, answer.balance.taken

    # ------------------------------------------------------------ what may happen

    @rule(amount=AMOUNTS, or_less=st.booleans(), hold=st.booleans(), till=st.sampled_from([TILL, OTHER]))
    def ask(self, amount: int, or_less: bool, hold: bool, till: Any) -> None:
        before, at = self.free, At(self.shop, MONEY, till)
        work = at.hold(amount, or_less=or_less, hold_s=HOLD_S) if hold else at.spend(amount, or_less=or_less)
        answer = self.run(self.asking(work))
        assert answer.balance is not None
        if answer.ok:
            taken = answer.balance.taken
            assert taken == amount or (or_less and 0 < taken < amount)
            assert taken <= self.free, "no more than was lent, and is neither spent nor held"
            if hold:
                self.holds[answer.authorization_id] = taken, self.clock.mono_ns / 1e9 + HOLD_S
            else:
                self.took(answer)
        else:
            assert amount > before and (self.is_up or not or_less or before == 0), "what is here is given"

    @precondition(lambda self: self.holds or self.over)
    @rule(pick=st.integers(0, 100), part=st.integers(1, 60), whole=st.booleans())
    def capture(self, pick: int, part: int, whole: bool) -> None:
        held, free, share_ended = self.held, self.free, self.clock.wall_us > self.ends_s * 1_000_000
        names = [*self.holds, *self.over]
        name = names[pick % len(names)]
        amount = self.holds[name][0] if name in self.holds else self.over[name]
        wanted = amount if whole else min(part, amount)
        answer = self.run(At(self.shop, MONEY, MANAGER).capture(name, None if whole else wanted))
        assert held >= 0
        if name in self.holds:
            assert answer.ok, "what is held is there, whatever became of the share's end"
            del self.holds[name]
        elif not answer.ok:
            assert answer.reason == "hold_expired" and (wanted > free or share_ended)
            return
        self.over.pop(name, None)
        self.took(answer)

    @precondition(lambda self: self.holds)
    @rule(pick=st.integers(0, 100))
    def void(self, pick: int) -> None:
        live = self.held
        names = list(self.holds)
        if live and names:
            name = names[pick % len(names)]
            assert self.run(At(self.shop, MONEY, MANAGER).void(name)).ok
            del self.holds[name]

    @precondition(lambda self: self.spent)
    @rule(pick=st.integers(0, 100))
    def reverse(self, pick: int) -> None:
        name = list(self.spent)[pick % len(self.spent)]
        answer = self.run(At(self.shop, MONEY, MANAGER).reverse(name))
        if answer.ok:
            del self.spent[name]
        else:
            assert answer.reason == "too_late_to_reverse"

    @rule()
    def restart(self) -> None:
        self.held  # noqa: B018 - holds that have run out are over
        self.run(self.again())
        now_s = self.clock.mono_ns / 1e9
        self.holds = {name: (amount, now_s + HOLD_S) for name, (amount, _) in self.holds.items()}

    async def again(self) -> None:
        self.shop.desk.till.sweep()
        await self.shop.reopen()
        await self.lender.line(self.is_up)

    @rule(seconds=st.sampled_from([20, 110, 300, 450]))
    def wait(self, seconds: int) -> None:
        self.clock.trust = TimeTrust.SYNCED
        self.clock.advance(seconds)

    @rule()
    def deliver(self) -> None:
        """Every row arrives; what was settled is free at headquarters."""
        self.lender.hear()

    @rule(up=st.booleans())
    def line(self, up: bool) -> None:
        self.is_up = up
        self.run(self.lender.line(up))

    @rule(units=st.integers(1, 80))
    def another_shop(self, units: int) -> None:
        self.elsewhere += self.lender.elsewhere(units)

    # ------------------------------------------------------------ what is promised

    @invariant()
    def the_chain_never_spends_more_than_was_put_in(self) -> None:
        if hasattr(self, "balance"):
            assert sum(amount for _, amount in self.spent.values()) + self.held + self.elsewhere <= self.balance
            assert self.lender.stand.left >= 0

    @invariant()
    def what_the_shop_says_is_left_is_what_was_lent_less_what_is_gone(self) -> None:
        if hasattr(self, "balance"):
            found = At(self.shop).look(1)
            assert found.balance is not None
            assert found.balance.offered == min(1, max(0, self.free)), (found.balance, self.free)
            here = At(self.shop).look()
            assert here.balance is not None and here.balance.here == max(0, self.free)


@pytest.mark.slow
def test_a_share_is_the_plain_sum_of_what_was_done_with_it() -> None:
    found = [Phase.explicit, Phase.reuse, Phase.generate]  # a step is a restart or a commit: making a failure smaller takes too long
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Balances, settings=settings(max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=quiet, phases=found)
    )
