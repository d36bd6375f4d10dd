"""What happened: every fact and every command of the store, frozen.

Three kinds. *Stated* events come from drivers over the link and are not yet believed. *Rows* are what core committed to the
ledger and HQ will read; each belongs to one lane. *Commands* go from core to a driver, at most once. All are tagged by their
class name, so one JSON text names its own type. Times are wall-clock microseconds since 1970 UTC inside an `Instant`;
durations are seconds of the monotonic clock.
"""

from enum import IntEnum, StrEnum
from typing import Final

from msgspec import Struct

from gateway.assigned import AssignmentTaken as AssignmentTaken
from gateway.assigned import ClaimIntended as ClaimIntended
from gateway.assigned import ClaimSettled as ClaimSettled
from gateway.assigned import Released as Released
from gateway.assigned import SettledThrough as SettledThrough
from gateway.bound import MemberBound as MemberBound
from gateway.bound import PointsAccrued as PointsAccrued
from gateway.bound import RateUsed as RateUsed
from gateway.bound import RevisitAsked as RevisitAsked
from gateway.consented import MemberConsented as MemberConsented
from gateway.membership import LookupsLocked as LookupsLocked
from gateway.membership import LookupsUnlocked as LookupsUnlocked
from gateway.membership import MemberLookedUp as MemberLookedUp
from gateway.membership import MemberRecognised as MemberRecognised
from gateway.moments import Event as Event
from gateway.moments import Instant as Instant
from gateway.moments import TimeTrust as TimeTrust
from gateway.posted import SalePosted as SalePosted
from gateway.posted import SoldLine as SoldLine
from gateway.returned import ReturnedLine as ReturnedLine
from gateway.returned import SaleReturned as SaleReturned
from gateway.risked import OpenCodeHeld as OpenCodeHeld
from gateway.risked import OpenCodeUsed as OpenCodeUsed
from gateway.risked import RiskHeld as RiskHeld
from gateway.risked import RiskTaken as RiskTaken
from gateway.sales import ActionDenied as ActionDenied
from gateway.sales import AuthorizationEnded as AuthorizationEnded
from gateway.sales import RedemptionRefused as RedemptionRefused
from gateway.sales import RedemptionReversed as RedemptionReversed
from gateway.sales import VoucherAuthorized as VoucherAuthorized
from gateway.sales import VoucherRedeemed as VoucherRedeemed
from gateway.screened import ResultShown as ResultShown
from gateway.screened import TillCodeRung as TillCodeRung
from gateway.screened import UnseenHonoured as UnseenHonoured
from gateway.visits import OccupancyEstimated as OccupancyEstimated
from gateway.visits import SubjectKind as SubjectKind
from gateway.visits import VisitEnded as VisitEnded
from gateway.visits import VisitStarted as VisitStarted


class Lane(IntEnum):
    """Rows of one lane keep their order; lane 0 goes to HQ first."""

    MONEY = 0  # redemptions, lockers, staff: answered only after the fsync
    TRAFFIC = 1  # foot traffic: one commit a second
    HEALTH = 2  # devices, line, catalog


class DoorState(StrEnum):
    """What a door sensor says."""

    OPEN = "open"
    CLOSED = "closed"


# ---------------------------------------------------------------- stated by drivers


class CodePresented(Event, frozen=True):
    """A code was shown to a scanner, a camera, a page or a POS: once for each time it was shown."""

    read_point: str
    presentation_id: str  # 32 hex digits, chosen by the reader: the idempotency key
    symbology_id: str  # AIM identifier such as "]Q1"; "]X0" for typed text
    payload: bytes  # at most 4,296 bytes; never stored


class DoorEdgeSensed(Event, frozen=True):
    """A compartment door changed, as its sensor saw it."""

    bank: str
    compartment: int  # from 1
    door_state: DoorState
    intent_id: str | None  # the pulse that explains it: same compartment, at most 3 s before
    event_time: Instant


class BankSnapshotTaken(Event, frozen=True):
    """What every door sensor of a bank says now; stated first on every connection."""

    bank: str
    doors: dict[int, DoorState]  # compartment to state
    event_time: Instant


class CommandAnswered(Event, frozen=True):
    """What became of a command: `pulsed`, `late`, `seen` or `failed`. A pulse does not prove an open door."""

    intent_id: str
    outcome: str
    detail: str
    event_time: Instant


class DeviceChanged(Event, frozen=True):
    """A device came, went or limps. Stated by any driver, stored in lane 2."""

    read_point: str
    device_state: str  # "up", "down" or "degraded"
    detail: str
    event_time: Instant


class DocumentArrived(Event, frozen=True):
    """The bridge has spooled a document; core verifies it before it believes a word."""

    name: str
    version: int
    sha256: str
    path: str


class AckArrived(Event, frozen=True):
    """HQ's signed acknowledgement, unopened: only core has the right to judge it."""

    payload: bytes


class AskArrived(Event, frozen=True):
    """HQ's signed request to send rows again, unopened: only core has the right to judge it."""

    payload: bytes


class ClaimedArrived(Event, frozen=True):
    """HQ's signed answer to a claim, or its wish to have a number back, unopened: only core has the right to judge it."""

    payload: bytes


class LineChanged(Event, frozen=True):
    """The line to HQ, end to end: up when HQ answers, down when it does not. Stated by the bridge, stored in lane 2."""

    up: bool
    event_time: Instant


# ---------------------------------------------------------------- stored by core


class EpochOpened(Event, frozen=True):
    """First row of every start: which epoch this continues, and how far each lane of it had come."""

    parent: str | None  # name of the parent epoch; None in a new ledger
    parent_heads: dict[int, tuple[int, str]]  # lane to (last seq, chain head in hex)
    software: str
    event_time: Instant


class EpochAdmitted(Event, frozen=True):
    """This start may decide from what its disk says: nothing off the disk contradicts it, or HQ has opened it."""

    epoch: str
    how: str  # "first", "inherited", "witnesses", "opening" or "manager"
    opening: int | None  # number of HQ's opening
    event_time: Instant


class EpochDoubted(Event, frozen=True):
    """Something off the disk contradicts what this start was admitted on: it may decide nothing more until HQ opens it."""

    epoch: str
    why: str  # a doubt of `gateway.rules.admission.Doubt`
    witness: str | None  # the device whose mark does not fit
    beyond: tuple[str, int] | None  # what is known outside and not here: an epoch, and a row of its lane 0
    event_time: Instant


class RowsDamaged(Event, frozen=True):
    """Rows that this start could not read back as they were written; they are set aside and never served."""

    epoch: str
    lane: int
    first: int
    last: int
    event_time: Instant


class CompartmentOpenIntended(Event, frozen=True):
    """Written before any pulse: who wants which door open, and why."""

    intent_id: str
    bank: str
    compartment: int
    purpose: str  # "deposit" or "pickup"
    order_id: str
    actor: str  # "shopper" or a staff reference
    station: str
    event_time: Instant


class IntentSettled(Event, frozen=True):
    """An intent ended without its door: no pulse, no edge in time, or the power went."""

    intent_id: str
    outcome: str  # "jammed", "late", "failed", "unknown"
    event_time: Instant


class DoorOpened(Event, frozen=True):
    """A door was sensed open; without an intent it was forced."""

    bank: str
    compartment: int
    intent_id: str | None
    event_time: Instant


class DoorClosed(Event, frozen=True):
    """A door was sensed closed."""

    bank: str
    compartment: int
    intent_id: str | None
    event_time: Instant


class ParcelStaged(Event, frozen=True):
    """A parcel lies behind a closed door, ready for its owner."""

    order_id: str
    bank: str
    compartment: int
    staff: str
    event_time: Instant


class ParcelCollected(Event, frozen=True):
    """The owner opened the door and it was closed again, both sensed."""

    order_id: str
    bank: str
    compartment: int
    intent_id: str
    event_time: Instant


class DevicePaired(Event, frozen=True):
    """A screen, a POS or a phone got a key of its own, or one more key. Of the key only the hash is known after this."""

    device_id: str
    kind: str  # "kiosk", "pos" or "phone"
    station: str
    name: str
    key_sha256: str
    by: str  # a staff reference; "box" for the box's own screen
    event_time: Instant


class DeviceRevoked(Event, frozen=True):
    """A paired device may do nothing any more, for good."""

    device_id: str
    by: str  # a staff reference, or "hq"
    event_time: Instant


class DeviceSeen(Event, frozen=True):
    """A paired device was used; stated now and then, not for each use. Lane 2."""

    device_id: str
    event_time: Instant
    mark: int | None = None  # row of lane 0 whose mark it keeps as a witness; None: seen, but not as one


class CatalogApplied(Event, frozen=True):
    """A signed document of HQ is now in force here. Lane 2."""

    name: str
    version: int
    sha256: str
    event_time: Instant


class ClockFixed(Event, frozen=True):
    """What the time truly was at a moment of a boot whose wall clock was not believed: headquarters dates its rows anew. Lane 2."""

    boot_id: str
    mono_ns: int
    wall_us: int
    event_time: Instant


Stated = (
    CodePresented
    | VisitStarted
    | VisitEnded
    | OccupancyEstimated
    | DoorEdgeSensed
    | BankSnapshotTaken
    | CommandAnswered
    | DeviceChanged
    | DocumentArrived
    | AckArrived
    | AskArrived
    | ClaimedArrived
    | LineChanged
)

Row = (
    EpochOpened
    | EpochAdmitted
    | EpochDoubted
    | RowsDamaged
    | VoucherRedeemed
    | VoucherAuthorized
    | AuthorizationEnded
    | RedemptionReversed
    | RedemptionRefused
    | ActionDenied
    | SalePosted
    | MemberBound
    | PointsAccrued
    | RevisitAsked
    | ClaimIntended
    | ClaimSettled
    | AssignmentTaken
    | Released
    | SettledThrough
    | MemberRecognised
    | MemberLookedUp
    | LookupsLocked
    | LookupsUnlocked
    | RiskTaken
    | RiskHeld
    | OpenCodeUsed
    | OpenCodeHeld
    | CompartmentOpenIntended
    | IntentSettled
    | DoorOpened
    | DoorClosed
    | ParcelStaged
    | ParcelCollected
    | VisitStarted
    | VisitEnded
    | OccupancyEstimated
    | DeviceChanged
    | LineChanged
    | DevicePaired
    | DeviceRevoked
    | DeviceSeen
    | CatalogApplied
    | ClockFixed
    | ResultShown
    | UnseenHonoured
    | TillCodeRung
    | MemberConsented
    | SaleReturned
)

_TRAFFIC: Final = (VisitStarted, VisitEnded, OccupancyEstimated)
_HEALTH: Final = (DeviceSeen, DeviceChanged, LineChanged, CatalogApplied, ClockFixed)
LANE_OF: Final[dict[type[Event], Lane]] = {
    kind: Lane.TRAFFIC if kind in _TRAFFIC else Lane.HEALTH if kind in _HEALTH else Lane.MONEY for kind in Row.__args__
}


# ---------------------------------------------------------------- commands to drivers


class OpenCompartment(Struct, frozen=True, tag=True, kw_only=True):
    """Pulse one lock, once."""

    bank: str
    compartment: int


Command = OpenCompartment
