"""What a decision answers: one shape for kiosk, scanner, staff phone and POS, stored byte for byte with the decision."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.rules.balance import Balance
from gateway.rules.priced import Priced
from gateway.rules.reasons import DECISIONS, NOTHING, REASONS, Text


class Before(Struct, frozen=True, gc=False):
    """Who used it before, when and where: what a second scan is told."""

    at_us: int
    station: str
    read_point: str
    staff: str | None


class ShownMember(Struct, frozen=True, gc=False):
    """What a member may see of themselves: points, and since when that is known. No reference: anybody may stand behind them."""

    points: int
    as_of_s: int  # seconds since 1970 UTC
    is_stale: bool  # that is long ago: show the points greyed, with that time


ASK, STANDING, CODE, NEXT = "ask", "standing", "code", "next"


class Asking(Struct, frozen=True, gc=False):
    """What a station's screen asks of a member's consent; its words are `gateway.rules.consent.TEXTS[version]`."""

    offer_id: str  # what an answer by touch names
    version: str
    state: str  # `ASK`: yes or no; `STANDING`: go on or withdraw; `CODE`: yes was said, show the code; `NEXT`: the next use is joined
    for_s: float  # then it is no


class Pending(Struct, frozen=True, gc=False):
    """What headquarters decides later: the points of a sale, or what a first visit earns."""

    what: str  # "points" or "revisit"
    text: Text  # for the slip
    campaign: int = 0
    revisit_id: str = ""


class GivenBack(Struct, frozen=True, gc=False):
    """What became of a voucher of a sale nothing is left of: "reversed", or why it stays used, a key of `REASONS`."""

    redemption_id: str
    outcome: str


class Returned(Struct, frozen=True):
    """Goods that came back."""

    sale_id: str
    minor: int  # paid back
    is_whole: bool  # nothing of the sale is left with the customer
    vouchers: tuple[GivenBack, ...] = ()  # of a sale nothing is left of


class Answer(Struct, frozen=True, kw_only=True):
    """The decision. `decision` is a key of `DECISIONS`, or "refused" with `reason` a key of `REASONS`."""

    decision: str
    reason: str = ""
    message: Text = NOTHING
    next_step: Text = NOTHING
    title: Text = NOTHING  # what the voucher is for
    reference: str = ""  # voucher, order or sale identifier
    redemption_id: str = ""
    order_number: str = ""
    compartment: int | None = None
    before: Before | None = None
    decided_us: int = 0
    authorization_id: str = ""
    hold_s: int | None = None  # how long it is held
    uses_left: int | None = None  # None: not known, or a face value
    balance_minor: int | None = None  # what is left of a face value; None: it has none
    window: tuple[int, int] | None = None  # the booked slot, seconds since 1970 UTC
    practice: bool = False  # nothing counts
    holder: Text = NOTHING  # the shop that holds the voucher
    gap_minor: int | None = None  # how much more the basket would have to come to
    gap_quantity: int | None = None  # how many pieces more it would have to hold
    asking: str = ""  # an address at headquarters, to be shown as a QR code: the shopper's phone opens it and gets a pass for this shop
    priced: Priced | None = None  # the basket that was shown with the voucher
    member: ShownMember | None = None  # whose code was shown
    binding: str = ""  # "bound", "declined", or why the member is not known, a key of `REASONS`; empty: nobody said who it is
    pending: tuple[Pending, ...] = ()
    unseen: str = ""  # of a refusal: the redemption that was accepted and, as far as is known, never shown; a person may honour it
    till_code: str = ""  # what a till without an API scans from the screen: Code 128, twelve digits
    balance: Balance | None = None  # of a balance that headquarters lends out in shares
    returned: Returned | None = None
    consent: Asking | None = None  # what the station's screen asks; a till has nothing to do with it
    # Of what limits each member: their uses in this shop are counted exactly, those in other shops up to then (seconds since 1970 UTC).
    elsewhere_as_of_s: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the customer got what they came for."""
        return self.decision != "refused"


def refusal(
    reason: str, decided_us: int, *, reference: str = "", title: Text = NOTHING, before: Before | None = None, **more: Any
) -> Answer:
    """A refusal, with its words."""
    words = REASONS[reason]
    return Answer(
        decision="refused", reason=reason, message=words.text, next_step=words.next_step, title=title,
        reference=reference, before=before, decided_us=decided_us, **more,
    )  # fmt: skip


def decision(name: str, decided_us: int, **more: Any) -> Answer:
    """A decision in the customer's favour, with its words."""
    return Answer(decision=name, message=DECISIONS[name], decided_us=decided_us, **more)


def as_practice(answer: Answer, message: Text) -> Answer:
    """The answer of a decision that does not count."""
    return msgspec.structs.replace(answer, message=message, practice=True)


def with_left(answer: Answer, uses: int | None, balance_minor: int | None) -> Answer:
    """The answer with what is left of the voucher."""
    return msgspec.structs.replace(answer, uses_left=uses, balance_minor=balance_minor)


def with_address(answer: Answer, address: str) -> Answer:
    """The answer with where the shopper's phone gets a pass."""
    return msgspec.structs.replace(answer, asking=address)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Answer).decode
