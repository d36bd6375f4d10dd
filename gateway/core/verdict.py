"""What is asked at the counter, by whom, and what is decided: the words every part of core that decides has in common."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from gateway.core.whose import NOBODY, Whose
from gateway.events import CompartmentOpenIntended, Row
from gateway.rules import pickup
from gateway.rules.answers import Answer
from gateway.rules.basket import Basket
from gateway.rules.voucher import ONE, Want

MANAGER: Final = "manager"


class Doing(StrEnum):
    """What a code is presented for."""

    REDEEM = "redeem"
    AUTHORIZE = "authorize"
    VALIDATE = "validate"


class Asked(Struct, frozen=True):
    """What is asked with a presented code, and from which paired device; None: a scanner of the station.

    `or_less`: of a balance lent out in shares, who asks can take less than the amount.
    """

    doing: Doing = Doing.REDEEM
    want: Want = ONE
    hold_s: int | None = None
    device: str | None = None
    basket: Basket | None = None
    whose: Whose = NOBODY
    member_ref: str | None = None  # who that is, or as the till named them
    member_print: str = ""  # what of it makes the request another one
    or_less: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether a whole voucher is to be redeemed in one step."""
        return self.doing is Doing.REDEEM and self.want == ONE and self.basket is None


class Actor(Struct, frozen=True):
    """Who asks: a paired device, a person, or a person on a device."""

    device: str | None
    staff: str | None
    roles: frozenset[str]  # of the person, else the device's kind


class Shown(Struct, frozen=True):
    """Where a voucher was shown, and by whom."""

    presentation_id: str
    station: str
    read_point: str
    staff: str | None


REDEEM: Final = Asked()


class Verdict(Struct, kw_only=True):
    """What was decided, and what is to be committed with it. With a `place`, a door is to be opened there."""

    answer: Answer
    station: str
    rows: list[Row] = field(default_factory=list)
    place: pickup.Place | None = None
    intent: CompartmentOpenIntended | None = None
    wait: "asyncio.Future[str] | None" = None  # decided only when this is done, and then by `again` with its result
    again: "Callable[[str], Verdict] | None" = None
    silent: bool = False  # the station's screen is not for this
