"""What screens may see of the store: plain values, made anew at each change, no way back into core."""

from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from gateway.rules.answers import Answer


class Screen(Struct, frozen=True, kw_only=True):
    """What a station's kiosk shows. `state` is "attract", or a decision of the answer beside it."""

    station: str
    number: int  # grows with each change
    state: str
    answer: Answer | None = None
    shows_s: float = 0.0  # how long the result stays before the station returns to attract; 0: until changed


def shared(screen: Screen) -> Screen:
    """The screen as everybody but the station itself may see it: what was decided, and nothing of what somebody owns or is asked."""
    if screen.answer is None:
        return screen
    plain = replace(
        screen.answer, member=None, balance=None, balance_minor=None, uses_left=None, consent=None, binding="", priced=None, pending=(),
    )  # fmt: skip
    return replace(screen, answer=plain)


class ZoneView(Struct, frozen=True, kw_only=True):
    """A zone of the shop floor."""

    zone: str
    name_zh: str
    name_en: str
    subjects: list[str] = field(default_factory=list)  # tags and members there now
    visits: int = 0  # ended visits since this start
    estimate: float | None = None  # strangers; None below 5
    low: float = 0.0
    high: float = 0.0
    estimated_us: int = 0  # 0: no estimate yet


class CompartmentView(Struct, frozen=True, kw_only=True):
    """A compartment of the locker wall."""

    bank: str
    compartment: int
    state: str  # a `gateway.rules.pickup.State`
    door: str  # "open", "closed" or "unknown"
    order_number: str = ""


class OrderView(Struct, frozen=True, kw_only=True):
    """An order as staff see it."""

    order_id: str
    number: str
    customer: str
    lines: list[str]
    state: str  # "paid", "staging", "staged", "collecting", "collected" or "cancelled"
    compartment: int | None = None


class LineView(Struct, frozen=True, kw_only=True):
    """The line to headquarters."""

    up: bool
    since_us: int
    waiting: int  # committed rows that HQ has not acknowledged
    acked_us: int  # when HQ last acknowledged; 0: not since this start


class UnitView(Struct, frozen=True, kw_only=True):
    """A process of the box that joins over the link."""

    unit: str
    connected: bool
    device_state: str = "up"  # as its driver said last: "up", "degraded" or "down"
    state: str = "working"  # both in one word: "working", "degraded", "device_silent" or "process_gone"
    detail: str = ""  # what its driver said of the device, for whoever mends it


UNIT_STATES: Final = {"up": "working", "degraded": "degraded", "down": "device_silent"}
GONE: Final = "process_gone"


def unit_view(unit: str, connected: bool, device_state: str = "up", detail: str = "") -> UnitView:
    """A process and its device; a process that is gone says nothing of its device."""
    state = UNIT_STATES.get(device_state, device_state) if connected else GONE
    return UnitView(unit=unit, connected=connected, device_state=device_state, state=state, detail=detail)


class LaneView(Struct, frozen=True, kw_only=True):
    """A lane of the road to HQ."""

    lane: int  # 0 money and lockers, 1 foot traffic, 2 health
    last: int  # highest row of this epoch
    cursor: int  # highest row of this epoch that HQ has
    waiting: int  # rows of all epochs that HQ has not


class AdmissionView(Struct, frozen=True, kw_only=True):
    """Whether this start may decide, and who has yet to speak for it."""

    admitted: bool
    state: str  # a `gateway.rules.admission.State`
    how: str = ""  # how it was admitted
    doubt: str = ""  # a `gateway.rules.admission.Doubt`
    since_us: int = 0  # since when it has stood like this
    awaited: list[str] = field(default_factory=list)  # witnesses, as people call them


class RiskView(Struct, frozen=True, kw_only=True):
    """The exposure meter of some terms: what was taken on trust. Amounts in minor units of the currency."""

    campaign: int  # -1: every campaign without terms of its own
    currency: str
    cap_minor: int  # of this shop, from one word of headquarters to the next
    per_device_minor: int
    open_minor: int  # taken or held, and not answered by headquarters
    open_rows: int
    realised_minor: int  # loss, as headquarters has settled it
    bearer: str  # who bears it: "issuer", "retailer" or "shop"
    oldest_us: int  # when the oldest open one was taken; 0: nothing is open
    list_age_s: int | None  # how old headquarters' list may be; None: nobody knows, so nothing is taken on trust
    list_limit_s: int


class QuotaView(Struct, frozen=True, kw_only=True):
    """This shop's allotment of an open code."""

    voucher_id: str
    title_zh: str
    title_en: str
    allotted: int  # uses headquarters has given out to this shop under the number in force
    left: int
    ends_s: int  # until when; 0: there is none


class StoreView(Struct, frozen=True, kw_only=True):
    """The shop at a glance."""

    store: str
    name_zh: str
    name_en: str
    epoch: str
    now_us: int
    time_trust: int
    line: LineView
    zones: list[ZoneView]
    compartments: list[CompartmentView]
    units: list[UnitView]
    screens: list[Screen]
    lanes: list[LaneView] = field(default_factory=list)
    documents: dict[str, int] = field(default_factory=dict)  # HQ's documents in force: name to version
    admission: AdmissionView
    mark: str = ""  # for the device that asks: what it keeps as a witness
    risk: list[RiskView] = field(default_factory=list)
    quotas: list[QuotaView] = field(default_factory=list)
    counts: dict[str, int]  # visits, redemptions, refusals, collections: all that the ledger holds
