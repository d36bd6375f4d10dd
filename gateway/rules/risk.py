"""How much a shop has taken on trust, whether it may take more, and who took a voucher first. Class `bounded_risk`.

Pure. Rules. 1. What was taken without headquarters' word is exposure until headquarters has answered its row: that is when it
acknowledges the row, for it settles a row in the transaction that takes it. A hold is exposure until it ends. 2. Nothing is taken that
would raise what is open of one voucher, one device or the shop above the terms: so in the dark a shop loses its cap at most.
3. A reversal gives its exposure back; a restart does not, since all of it is folded from rows; a start that is not proven takes
nothing on trust, as though its cap were used up. 4. How old headquarters' list may be is judged by its signed time, or by how long the
line has been down in this life; a clock that nobody believes knows no age, and then the list is too old.
5. Headquarters settles in the order rows reach it: who comes while a voucher is good for it is good, the rest is loss. What comes
free later (given back, reversed) heals the oldest loss first.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from gateway.anywhere import RiskTerms
from gateway.events import AuthorizationEnded, Instant, RedemptionReversed, RiskHeld, RiskTaken, VoucherRedeemed
from gateway.rules.assigning import Assigner, Stand
from gateway.rules.marks import NOWHERE, RowPlace

MOST_ENDED: Final = 10_000  # holds that are over, which may still be captured late
MICROS: Final = 1_000_000
Kind = RiskTaken | RiskHeld | AuthorizationEnded | RedemptionReversed | VoucherRedeemed


class Open(Struct, frozen=True):
    """Something taken or held on trust that headquarters has not answered."""

    voucher_id: str
    campaign: int  # of the terms
    device: str
    exposure_minor: int
    at: Instant
    place: RowPlace
    is_hold: bool = False


class Wanted(Struct, frozen=True):
    """What is to be taken on trust."""

    voucher_id: str
    device: str
    exposure_minor: int


class Exposure:
    """Of one shop, folded from its rows."""

    def __init__(self) -> None:
        self._open: dict[str, Open] = {}  # by redemption or authorization
        self._holds: dict[str, RiskHeld] = {}
        self._gross: dict[str, int] = {}  # by voucher: uses decided here, reversed or not
        self.accepted = 0  # uses taken on trust, of this ledger

    def fold(self, row: Kind, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        match row:
            case RiskTaken():
                self._take(row, place)
            case RiskHeld():
                self._hold(row, place)
            case AuthorizationEnded():
                self._open.pop(row.authorization_id, None)
            case RedemptionReversed():
                self._open.pop(row.redemption_id, None)
            case VoucherRedeemed():
                if row.number:
                    self._gross[row.voucher_id] = self._gross.get(row.voucher_id, 0) + row.units

    def _take(self, row: RiskTaken, place: RowPlace) -> None:
        if row.exposure_minor:
            self.accepted += 1
            self._open[row.redemption_id] = Open(row.voucher_id, row.campaign, row.device, row.exposure_minor, row.event_time, place)
        if not row.number:
            self._gross[row.voucher_id] = self._gross.get(row.voucher_id, 0) + row.units

    def _hold(self, row: RiskHeld, place: RowPlace) -> None:
        self._holds[row.authorization_id] = row
        if len(self._holds) > MOST_ENDED:
            del self._holds[next(iter(self._holds))]
        if row.exposure_minor:
            opened = Open(row.voucher_id, row.campaign, row.device, row.exposure_minor, row.event_time, place, is_hold=True)
            self._open[row.authorization_id] = opened

    def answer(self, is_answered: Callable[[RowPlace], bool], is_live: Callable[[str], bool] = lambda authorization_id: True) -> bool:
        """Close what headquarters has answered, and holds that live no more: of those long ended only this row is kept."""
        answered = [
            name for name, one in self._open.items() if (not is_live(name) if one.is_hold else is_answered(one.place))
        ]  # fmt: skip
        for name in answered:
            del self._open[name]
        return bool(answered)

    # ------------------------------------------------------------ looking

    def held(self, authorization_id: str) -> RiskHeld | None:
        """A hold of such a voucher, alive or not long over."""
        return self._holds.get(authorization_id)

    def gross(self, voucher_id: str) -> int:
        """Uses this shop ever decided on: an assignment is honoured for no more in all."""
        return self._gross.get(voucher_id, 0)

    def open_minor(self, campaign: int, device: str | None = None, voucher_id: str | None = None) -> int:
        """What is open under some terms: in all, of one device, of one voucher."""
        return sum(
            one.exposure_minor for one in self._of(campaign) if device in (None, one.device) and voucher_id in (None, one.voucher_id)
        )

    def open_rows(self, campaign: int) -> int:
        """How many of them there are."""
        return sum(1 for _ in self._of(campaign))

    def oldest_us(self, campaign: int) -> int:
        """When the oldest of them was taken; 0: nothing is open."""
        return min((one.at.wall_us for one in self._of(campaign)), default=0)

    def _of(self, campaign: int) -> Iterable[Open]:
        return (one for one in self._open.values() if one.campaign == campaign)

    # ------------------------------------------------------------ deciding

    def refusal(self, terms: RiskTerms, wanted: Wanted) -> str | None:
        """Why something may not be taken on trust; None: it may."""
        more = wanted.exposure_minor
        if self.open_minor(terms.campaign, voucher_id=wanted.voucher_id) + more > terms.per_code_minor:
            return "risk_floor"
        if self.open_minor(terms.campaign, wanted.device) + more > terms.per_device_minor:
            return "risk_cap"
        return "risk_cap" if self.open_minor(terms.campaign) + more > terms.per_shop_minor else None


def exposure_of(terms: RiskTerms, units: int, value_minor: int) -> int:
    """What so many uses of a voucher expose; never nothing."""
    return units * max(1, value_minor or terms.worth_minor)


def list_age_s(issued_us: int, latest_us: int | None, down_s: float | None) -> float | None:
    """How old headquarters' list may be at most.

    Args:
        issued_us: When it was signed.
        latest_us: The latest possible time; None: nobody knows.
        down_s: How long the line has been down, by the monotonic clock; None: it was never up in this life.
    """
    ages = [] if down_s is None else [down_s]
    if latest_us is not None and issued_us:
        ages.append(max(0.0, (latest_us - issued_us) / MICROS))
    return min(ages, default=None)


# ---------------------------------------------------------------- headquarters


class Settled(Struct, frozen=True):
    """A stand after something came that was taken on trust: how many units of it are good."""

    stand: Stand
    good: int


def settle(rules: Assigner, stand: Stand, gateway: str, epoch: str, units: int) -> Settled:
    """Settle units that a box took on trust: out of what it holds unspent, then out of what nobody holds; the rest is loss."""
    if stand.ended:
        return Settled(stand, 0)
    mine = stand.kept_by(gateway)
    own = 0 if mine is None else min(units, max(0, mine.units - mine.total_spent))
    if mine is not None and own:
        stand = rules.use(stand, gateway, mine.number, epoch, own)
    free = min(units - own, max(0, stand.left))
    return Settled(replace(stand, left=stand.left - free, taken=stand.taken + free), own + free)


def heal(stand: Stand, lost: int) -> Settled:
    """Give units that came free to what was loss."""
    free = 0 if stand.ended else min(lost, max(0, stand.left))
    return Settled(replace(stand, left=stand.left - free, taken=stand.taken + free), free)


def give_back(stand: Stand, units: int) -> Stand:
    """A use was reversed: its units are nobody's again."""
    return replace(stand, left=stand.left + units, taken=stand.taken - units)
