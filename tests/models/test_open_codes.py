"""Open codes without one of their clauses: a few steps that use more than the quota, and with the clause cannot.

A walk at random finds each of these, too, in some ten thousand steps (`tests.models.test_classes`).
"""

from collections.abc import Callable
from typing import Any, Final

import pytest

from gateway.core.quotas import Quotas
from gateway.core.verdict import Shown, Verdict
from gateway.events import OpenCodeHeld
from gateway.rules.marks import beyond
from gateway.rules.quota import Allotments
from gateway.rules.uses import Hold

from .chain_open_codes import OpenCodes
from .open_code_till import ALLOTMENT, PER_MEMBER, QUOTA, Held

Play = Callable[[OpenCodes], None]


def forgotten(chain: OpenCodes) -> None:
    """An allotment is used up, headquarters hears of it, and a disk of before comes back."""
    chain.a_flash_sale(shop=0, members=ALLOTMENT)
    chain.rows_arrive(shop=0, most=1_000)
    chain.shops[0].put_back(chain.hq.marks, 1)
    chain._open(0)
    chain.a_flash_sale(shop=0, members=ALLOTMENT)


def taken_back_twice(chain: OpenCodes) -> None:
    """A use is taken back, others come, and a disk of before takes it back once more."""
    chain.ask_for_an_allotment(shop=1, units=QUOTA - ALLOTMENT, is_told=True)
    chain.say_the_code(shop=1, member="ann", many=QUOTA - ALLOTMENT)
    chain.ask_for_an_allotment(shop=0, units=ALLOTMENT, is_told=True)
    chain.say_the_code(shop=0, member="bo", many=1)
    chain.take_the_code_back_twice(shop=0, at=0, arrives=False, uses=ALLOTMENT, upto=1_000)


def held(chain: OpenCodes) -> None:
    """A sale holds one of the last while others want them all."""
    chain.ask_for_an_allotment(shop=0, units=QUOTA, is_told=True)
    chain.say_the_code_in_two_steps(shop=0, member="ann", late=False, meanwhile=QUOTA, again=False)


def held_too_long(chain: OpenCodes) -> None:
    """The hold runs out, others take all, and then the till captures it."""
    chain.ask_for_an_allotment(shop=0, units=QUOTA, is_told=True)
    chain.say_the_code_in_two_steps(shop=0, member="ann", late=True, meanwhile=QUOTA, again=False)


def ended(chain: OpenCodes) -> None:
    """An allotment ends unused, and another shop gets what it was."""
    chain.ask_for_an_allotment(shop=0, units=ALLOTMENT, is_told=True)
    chain.an_allotment_comes_back(shop=0, other=1, uses=0)


def eager(chain: OpenCodes) -> None:
    """One member comes again and again."""
    chain.ask_for_an_allotment(shop=0, units=QUOTA, is_told=True)
    chain.say_the_code(shop=0, member="ann", many=PER_MEMBER + 1)


def _frees_all(self: Allotments, use: Any, units: int) -> None:
    key = use.row.voucher_id, use.row.number
    MOVE(self, use, units)
    if units < 0 and not beyond(use.place, self._marks):
        self._after[key] = self._after.get(key, 0) + units


def _captures_all(self: Quotas, verdict: Verdict, held: OpenCodeHeld, hold: Hold, shown: Shown) -> Verdict:
    del hold, shown
    grant = self._claims.held(held.voucher_id)
    return self._noted(verdict, grant.number if grant is not None else 1, held.member_ref)


MOVE: Final = Allotments._move
CARELESS: Final[dict[str, tuple[Play, tuple[Any, str, Any]]]] = {
    "an opening tells what was used of an allotment": (forgotten, (Allotments, "adopt", lambda *_: None)),
    "a reversal frees nothing of what headquarters has counted": (taken_back_twice, (Allotments, "_move", _frees_all)),
    "what is held is not left": (held, (Allotments, "room", lambda self, name, number, units, held=0: units - self.spent(name, number))),
    "an allotment that has ended is over": (ended, (Held, "held", lambda self, name: next(iter(self._till.book.held(name)), None))),
    "a late capture asks what is left of the allotment": (held_too_long, (Quotas, "finish", _captures_all)),
    "a member has a limit in a shop": (eager, (Quotas, "_refusal_of_member", lambda *_: None)),
}


def played(play: Play) -> None:
    """Take the steps, and look at the promises."""
    chain = OpenCodes()
    chain.begin(chance=1)
    play(chain)
    chain.never_more_is_used_than_the_quota()
    chain.no_member_uses_it_more_often_in_one_shop_than_they_may()


@pytest.mark.parametrize("clause", CARELESS)
def test_without_a_clause_more_is_used_than_the_quota_and_with_it_it_is_not(clause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play, changed = CARELESS[clause]
    played(play)
    monkeypatch.setattr(*changed)
    with pytest.raises(AssertionError):
        played(play)
