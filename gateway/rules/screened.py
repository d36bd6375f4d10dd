"""Redemptions that no screen is known to have shown, and till codes that no till has taken yet. Pure.

A redemption counts from its commit. Whether anybody was told is another fact: a page confirms what it has painted; a till got its answer
by its idempotency key and needs no screen. What was never confirmed may be honoured by a person, at most once: not after the till has
taken its code (then a receipt shows it), and not after it was reversed.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct

from gateway.events import Instant, RedemptionReversed, ResultShown, TillCodeRung, UnseenHonoured, VoucherRedeemed
from gateway.rules.answers import Before
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.token import qualified

WHYS: Final = ("power_cut", "screen_fault", "walked_away")
MOST_WAITING: Final = 5_000  # of each list; a shop without pages would fill it for ever
CODE_DIGITS: Final = 12  # below 13: no reader and no rule can take it for a card's number
PREFIX_DIGITS: Final = 2

T = TypeVar("T")
Screened = VoucherRedeemed | ResultShown | UnseenHonoured | TillCodeRung | RedemptionReversed


class Waiting(Struct, frozen=True, gc=False):
    """A redemption that was asked for where a screen, and no till, tells of it."""

    redemption_id: str
    voucher_id: str
    campaign: int
    issuer: int
    units: int
    minor: int
    before: Before
    at: Instant


class Unseen:
    """What waits to be confirmed, honoured or forgotten.

    Args:
        is_till: Whether a device is a till, by its identifier.
    """

    def __init__(self, is_till: Callable[[str | None], bool]) -> None:
        self._is_till = is_till
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._honoured: OrderedDict[str, Before] = OrderedDict()

    def fold(self, row: Screened, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        del place
        if isinstance(row, VoucherRedeemed):
            if needs_screen(row, self._is_till):
                _keep(self._waiting, row.redemption_id, waiting_of(row))
            return
        self._waiting.pop(row.redemption_id, None)
        if isinstance(row, UnseenHonoured):
            _keep(self._honoured, row.redemption_id, Before(row.event_time.wall_us, row.station, "", row.staff))

    def get(self, redemption_id: str) -> Waiting | None:
        """A redemption that nobody has confirmed."""
        return self._waiting.get(redemption_id)

    def of(self, voucher_id: str, station: str | None) -> Waiting | None:
        """The latest unconfirmed redemption of a voucher at a station; at any, if None is named."""
        found = (one for one in reversed(self._waiting.values()) if one.voucher_id == voucher_id)
        return next((one for one in found if station in (None, one.before.station)), None)

    def honoured(self, redemption_id: str) -> Before | None:
        """Who honoured it, and when."""
        return self._honoured.get(redemption_id)


class TillCodes:
    """Codes that screens showed for tills without an API, newest last.

    Two of a shop's codes are alike about once in a million; each redemption is still rung up once, the older one first.
    """

    def __init__(self, is_till: Callable[[str | None], bool], prefix: str) -> None:
        self._is_till = is_till
        self._prefix = prefix
        self._open: dict[str, OrderedDict[str, Waiting]] = {}  # by code, then by redemption
        self._order: OrderedDict[str, str] = OrderedDict()  # redemption to its code, oldest first
        self._rung: OrderedDict[str, tuple[str, Before]] = OrderedDict()  # code to the last redemption it closed

    def fold(self, row: Screened, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        del place
        if isinstance(row, VoucherRedeemed):
            if needs_screen(row, self._is_till):
                self._add(waiting_of(row))
        elif isinstance(row, TillCodeRung):
            self._drop(row.redemption_id)
            before = Before(row.event_time.wall_us, row.station, row.read_point, row.staff)
            _keep(self._rung, row.till_code, (row.redemption_id, before))
        elif isinstance(row, RedemptionReversed):
            self._drop(row.redemption_id)

    def is_ours(self, text: str) -> bool:
        """Whether it is spelled as a code of this shop's screens."""
        return (
            len(text) == CODE_DIGITS and text.isascii() and text.isdigit() and text.startswith(self._prefix) and text == _checked(text[:-1])
        )

    def open(self, code: str) -> Waiting | None:
        """The redemption it stands for, if no till has taken it."""
        return next(iter(self._open.get(code, OrderedDict()).values()), None)

    def rung(self, code: str) -> tuple[str, Before] | None:
        """The redemption that a till took it for, and when."""
        return self._rung.get(code)

    def of(self, redemption_id: str) -> str:
        """The code of a redemption."""
        return till_code(redemption_id, self._prefix)

    def _add(self, one: Waiting) -> None:
        code = self.of(one.redemption_id)
        self._open.setdefault(code, OrderedDict())[one.redemption_id] = one
        self._order[one.redemption_id] = code
        while len(self._order) > MOST_WAITING:
            self._drop(next(iter(self._order)))

    def _drop(self, redemption_id: str) -> None:
        code = self._order.pop(redemption_id, "")
        same = self._open.get(code)
        if same is not None:
            same.pop(redemption_id, None)
            if not same:
                del self._open[code]


def needs_screen(row: VoucherRedeemed, is_till: Callable[[str | None], bool]) -> bool:
    """Whether a screen is all that tells of it: what a till asked for, in one step or in two, the till knows."""
    return row.authorization_id is None and not is_till(row.device)


def waiting_of(row: VoucherRedeemed) -> Waiting:
    """What is kept of it."""
    before = Before(row.event_time.wall_us, row.station, row.read_point, row.staff)
    return Waiting(
        row.redemption_id,
        qualified(row.voucher_id, row.issuer),
        row.campaign,
        row.issuer,
        row.units,
        row.amount_minor,
        before,
        row.event_time,
    )


def till_code(redemption_id: str, prefix: str) -> str:
    """Twelve digits a cashier can type: the shop's prefix, nine digits of the redemption, a check digit that finds any single slip."""
    number = int.from_bytes(hashlib.blake2b(redemption_id.encode(), digest_size=8).digest(), "big")
    digits = CODE_DIGITS - PREFIX_DIGITS - 1
    return _checked(f"{prefix}{number % 10**digits:0{digits}d}")


def _checked(digits: str) -> str:
    """With GS1's check digit, which tills can be told to verify: weights 3 and 1 from the right."""
    total = sum(int(digit) * (1 if place % 2 else 3) for place, digit in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def _keep(kept: "OrderedDict[str, T]", key: str, value: T) -> None:
    kept[key] = value
    if len(kept) > MOST_WAITING:
        kept.popitem(last=False)
