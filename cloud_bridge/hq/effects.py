"""What rows change at headquarters beyond being stored: counts, uses of vouchers, who is there, occupancy, orders.

Written in the transaction that stores the rows, once for each row, so numbers and rows can never disagree. What comes by the
thousand is summed up first: a day's worth of visits is a few statements. What is rare is written row by row, in order.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from cloud_bridge.hq import (
    accounts,
    assignments,
    campaign_sheets,
    consents,
    devices,
    joining,
    limited,
    openings,
    returns,
    screened,
    shared,
    timing,
    trimming,
)
from cloud_bridge.hq.ready import Tally
from cloud_bridge.hq.store import Connection, StoredRow
from cloud_bridge.hq.undated import Undated
from gateway.events import (
    AssignmentTaken,
    AuthorizationEnded,
    CatalogApplied,
    ClaimSettled,
    ClockFixed,
    CompartmentOpenIntended,
    DevicePaired,
    DeviceRevoked,
    DeviceSeen,
    EpochAdmitted,
    IntentSettled,
    MemberBound,
    MemberConsented,
    MemberRecognised,
    OpenCodeUsed,
    ParcelCollected,
    ParcelStaged,
    PointsAccrued,
    RedemptionRefused,
    RedemptionReversed,
    Released,
    RevisitAsked,
    RiskTaken,
    Row,
    SalePosted,
    SaleReturned,
    SettledThrough,
    TillCodeRung,
    UnseenHonoured,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.token import qualified

FORGOTTEN_US: Final = 86_400_000_000  # a visit that has not ended by then never will: its radio was restarted
PURPOSE_STATES: Final = {"deposit": "staging", "pickup": "collecting"}
BACK_TO: Final = {"staging": "paid", "collecting": "staged"}


class Effects:
    """Of the rows that one transaction takes."""

    def __init__(self, db: Connection, received_us: int) -> None:
        self._db = db
        self._received_us = received_us
        self._tallies: dict[str, Tally] = {}
        self._later: list[tuple[StoredRow, Row]] = []
        self._undated: list[tuple[str, int, Sequence[Undated]]] = []

    def add(self, gateway: str, tally: Tally) -> None:
        """Take what rows of a box sum up to."""
        if gateway in self._tallies:
            self._tallies[gateway].merge(tally)
        else:
            self._tallies[gateway] = Tally(tally.timezone)
            self._tallies[gateway].merge(tally)

    def later(self, row: StoredRow, event: Row) -> None:
        """Take a row of a rare kind."""
        if event.__class__ in EFFECTS:
            self._later.append((row, event))

    def date_later(self, gateway: str, stream: int, rows: Sequence[Undated]) -> None:
        """Take rows whose clock was not believed: they are counted, and have to be dated."""
        if rows:
            self._undated.append((gateway, stream, rows))

    def write(self) -> None:
        """Write down what was taken."""
        for gateway, tally in self._tallies.items():
            _write_tally(self._db, gateway, tally, self._received_us)
        for row, event in self._later:
            EFFECTS[type(event)](self._db, row, event)
        for place in self._undated:  # last: what they changed is there to be dated
            timing.note(self._db, *place[:2], self._received_us, place[2])
        self._tallies, self._later, self._undated = {}, [], []


def _write_tally(db: Connection, gateway: str, tally: Tally, received_us: int) -> None:
    db.put(
        "counts", [(gateway, day, kind, n) for (day, kind), n in sorted(tally.counts.items())],
        "(gateway, day, type) DO UPDATE SET n = counts.n + excluded.n",
    )  # fmt: skip
    db.put(
        "zones", [(gateway, *place, n, float(tally.dwell_s[place])) for place, n in sorted(tally.zones.items())],
        "(gateway, day, zone, type) DO UPDATE SET n = zones.n + excluded.n, dwell_s = zones.dwell_s + excluded.dwell_s",
    )  # fmt: skip
    db.put(
        "occupancy", [(gateway, one.zone, one.estimate, one.low, one.high, one.event_time.wall_us) for one in tally.estimates.values()],
        "(gateway, zone) DO UPDATE SET estimate = excluded.estimate, low = excluded.low, high = excluded.high, at_us = excluded.at_us",
    )  # fmt: skip
    _write_visits(db, gateway, tally, received_us - FORGOTTEN_US)


def _write_visits(db: Connection, gateway: str, tally: Tally, oldest_us: int) -> None:
    """Who is there. Of a backlog only what is recent: nobody from last week is."""
    db.remove("visits", gateway, "visit_id", [visit_id for visit_id, one in tally.left.items() if one.event_time.wall_us >= oldest_us])
    came = [one for one in tally.came.values() if one.event_time.wall_us >= oldest_us]
    if came:
        db.execute("DELETE FROM visits WHERE gateway = ? AND started_us < ?", (gateway, oldest_us))
    db.put(
        "visits", [(gateway, one.visit_id, one.subject, one.subject_kind.value, one.zone, one.event_time.wall_us) for one in came],
        "(gateway, visit_id) DO NOTHING",
    )  # fmt: skip


def _redeemed(db: Connection, row: StoredRow, event: VoucherRedeemed) -> None:
    took = event.campaign, event.units, event.amount_minor, event.redemption_id
    _use(db, row, qualified(event.voucher_id, event.issuer), "redeemed", "", event.station, event.staff, event.event_time.wall_us, took)
    if event.number:
        assignments.used(db, row, event)
        accounts.moved(db, event.voucher_id, -event.spent)
    if event.authorization_id is not None:
        joining.captured(db, row, event)


def _reversed(db: Connection, row: StoredRow, event: RedemptionReversed) -> None:
    """Once for each redemption: a box with an old image of its disk may reverse again what it has forgotten to have reversed."""
    again = db.execute(
        "SELECT 1 FROM uses WHERE voucher_id = ? AND gateway = ? AND kind = 'reversed' AND redemption_id = ?",
        (event.voucher_id, row.gateway, event.redemption_id),
    ).fetchone()
    units, minor = (0, 0) if again else (-event.units, -event.amount_minor)
    gave = event.campaign, units, minor, event.redemption_id
    if event.number and not again:
        assignments.taken_back(db, row, event)
        accounts.moved(db, event.voucher_id, event.spent)
    _use(db, row, event.voucher_id, "reversed", "", event.station, event.staff, event.event_time.wall_us, gave)
    shared.taken_back(db, row, event)
    limited.taken_back(db, row, event)


def _held(db: Connection, row: StoredRow, event: VoucherAuthorized) -> None:
    _use(db, row, event.voucher_id, "authorized", "", event.station, event.staff, event.event_time.wall_us)


def _let_go(db: Connection, row: StoredRow, event: AuthorizationEnded) -> None:
    if event.outcome in ("voided", "expired"):  # what was captured stands there as redeemed
        _use(db, row, event.voucher_id, event.outcome, "", event.station, event.staff, event.event_time.wall_us)


def _refused(db: Connection, row: StoredRow, event: RedemptionRefused) -> None:
    _use(db, row, event.voucher_id, "refused", event.reason, event.station, event.staff, event.event_time.wall_us)


def _use(
    db: Connection, row: StoredRow, voucher_id: str | None, kind: str, reason: str, station: str, staff: str | None, at_us: int,
    counted: tuple[int, int, int, str] = (0, 0, 0, ""),
) -> None:  # fmt: skip
    db.execute(
        "INSERT INTO uses (voucher_id, gateway, kind, reason, station, staff, at_us, received_us, campaign, units, amount_minor,"
        " redemption_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (voucher_id, row.gateway, kind, reason, station, staff, at_us, row.received_us, *counted),
    )


def _intended(db: Connection, row: StoredRow, event: CompartmentOpenIntended) -> None:
    state = PURPOSE_STATES.get(event.purpose)
    if state is not None:
        _order(db, row, event.order_id, state, event.intent_id, (event.bank, event.compartment), event.event_time.wall_us)
    if event.purpose == "pickup":
        joining.opening(db, row, event)


def _settled(db: Connection, row: StoredRow, event: IntentSettled) -> None:
    """The door did not open: the order is where it was before."""
    meant = db.execute(
        "SELECT order_id, state, bank, compartment FROM order_events WHERE gateway = ? AND intent_id = ? ORDER BY id DESC LIMIT 1",
        (row.gateway, event.intent_id),
    ).fetchone()
    if meant is not None and meant[1] in BACK_TO:
        _order(db, row, meant[0], BACK_TO[meant[1]], event.intent_id, (meant[2], meant[3]), event.event_time.wall_us)


def _staged(db: Connection, row: StoredRow, event: ParcelStaged) -> None:
    _order(db, row, event.order_id, "staged", None, (event.bank, event.compartment), event.event_time.wall_us)


def _collected(db: Connection, row: StoredRow, event: ParcelCollected) -> None:
    _order(db, row, event.order_id, "collected", event.intent_id, (event.bank, event.compartment), event.event_time.wall_us)
    joining.collected(db, row, event)


def _order(db: Connection, row: StoredRow, order_id: str, state: str, intent_id: str | None, place: tuple[str, int], at_us: int) -> None:
    db.execute(
        "INSERT INTO order_events (order_id, gateway, state, intent_id, bank, compartment, at_us, received_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (order_id, row.gateway, state, intent_id, *place, at_us, row.received_us),
    )


EFFECTS: Final[dict[type[Any], Callable[[Connection, StoredRow, Any], None]]] = {
    VoucherRedeemed: _redeemed,
    RedemptionReversed: _reversed,
    VoucherAuthorized: _held,
    AuthorizationEnded: _let_go,
    Released: shared.released,
    SettledThrough: shared.settled,
    RiskTaken: shared.taken,
    OpenCodeUsed: shared.code_used,
    RedemptionRefused: _refused,
    SalePosted: joining.sold,
    MemberBound: accounts.bound,
    MemberRecognised: accounts.recognised,
    PointsAccrued: accounts.accrued,
    RevisitAsked: accounts.asked,
    SaleReturned: returns.returned,
    MemberConsented: consents.said,
    UnseenHonoured: screened.honoured,
    TillCodeRung: screened.rung,
    CompartmentOpenIntended: _intended,
    IntentSettled: _settled,
    ParcelStaged: _staged,
    ParcelCollected: _collected,
    DevicePaired: devices.paired,
    DeviceRevoked: devices.took_effect,
    DeviceSeen: devices.seen,
    ClockFixed: timing.fixed,
    EpochAdmitted: openings.admitted,
    CatalogApplied: campaign_sheets.applied,
    ClaimSettled: trimming.ended,
    AssignmentTaken: trimming.ended,
}
