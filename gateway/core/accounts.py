"""Accounts that codes name, and what is asked of them: money of money, points of points. Pure."""

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from gateway.rules.answers import Answer
from gateway.rules.balance import MINOR, POINTS
from gateway.rules.uses import Hold
from gateway.rules.voucher import Terms, Want

if TYPE_CHECKING:
    from gateway.core.verdict import Actor, Shown, Verdict


class Account(Struct, frozen=True):
    """A balance that a code names: a verified token's, or a member's points account (`gateway.token.points_ref`)."""

    voucher_id: str
    campaign: int
    issuer: int
    not_before_s: int
    not_after_s: int
    points: bool = False

    @property
    def unit(self) -> str:
        """What is counted."""
        return POINTS if self.points else MINOR


class Lent(Protocol):
    """The counter for holds of balances that headquarters lends out (`gateway.core.balances`)."""

    def capture(self, hold: Hold, actor: "Actor", shown: "Shown", want: Want | None, refused: str | None) -> "Verdict":
        """End a hold by spending, unless it is `refused` already."""

    def void(self, answer: Answer, hold: Hold) -> Answer:
        """The answer to a hold's end, with what is free now."""


def account_of(terms: Terms, *, points: bool) -> Account:
    """The balance that a verified token names."""
    return Account(terms.voucher_id, terms.campaign, terms.issuer, terms.not_before_s, terms.not_after_s, points)


def account_of_hold(hold: Hold) -> Account:
    """The balance that a hold holds some of; it was its time when the hold began."""
    asked = hold.asked
    return Account(asked.voucher_id, asked.campaign, asked.issuer, 0, 2**32 - 1, points=not asked.amount_minor)


def amount_of(account: Account, want: Want) -> int | None:
    """How much is asked for; None: nobody has said."""
    return want.units if want.points else want.amount_minor if not account.points else None


def refusal_of_unit(account: Account, want: Want) -> str | None:
    """Whether money is asked of money, and points of points."""
    if want.points and not account.points:
        return "no_points"
    if account.points and want.amount_minor is not None:
        return "points_needed"
    return None
