"""Rows of numbered assignments: what a box was given by headquarters, and what it gave back. All of lane 0.

A number belongs to one voucher and grows with every assignment of it; `gateway.rules.assignment` tells what the rows mean.
"""

from gateway.moments import Event, Instant


class ClaimIntended(Event, frozen=True):
    """Written before headquarters is asked for a voucher: whoever asks again asks under this identifier."""

    claim_id: str  # 32 hex digits, chosen by the box
    voucher_id: str
    units: int  # uses, or of a balance minor units or points
    station: str
    event_time: Instant


class ClaimSettled(Event, frozen=True):
    """A claim ended without an assignment: headquarters refused it, or nobody waits for it any more."""

    claim_id: str
    outcome: str  # a key of `gateway.rules.reasons.REASONS`
    event_time: Instant


class AssignmentTaken(Event, frozen=True):
    """Headquarters' word that this box may honour a voucher: by the line, or from a shopper's phone."""

    voucher_id: str
    number: int
    units: int  # uses, or minor units, in all under this number
    not_after_s: int
    issued_s: int  # when headquarters signed it
    epoch: str | None  # the start it names; then `units` count within that start
    claim_id: str | None  # None: a grant that was shown
    event_time: Instant
    balance: int | None = None  # what was left of it in the whole chain then, as headquarters said


class Released(Event, frozen=True):
    """This box gave a number back, unused: it never again honours that voucher under this or a lower number."""

    voucher_id: str
    number: int
    opening: int  # the last of headquarters' openings this box has taken, 0: none; an older one frees nothing
    event_time: Instant


class SettledThrough(Event, frozen=True):
    """This box's promise: it never again honours anything that ends at or before `through_s`, whatever its clock says later."""

    through_s: int
    opening: int
    event_time: Instant
