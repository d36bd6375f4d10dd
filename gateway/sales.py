"""The rows about vouchers: used, held, taken back, refused. Part of `gateway.events`, which everybody imports them from. Pure."""

from gateway.moments import Event, Instant


class VoucherRedeemed(Event, frozen=True):
    """A voucher was used. The promise of every class but `bounded_risk`: never more often than issued."""

    redemption_id: str
    voucher_id: str
    campaign: int
    issuer: int
    station: str
    read_point: str
    staff: str | None
    use_number: int  # 1 for the first use
    event_time: Instant
    units: int = 1  # uses, or guests, that this took of the voucher
    amount_minor: int = 0  # of a face value: what was spent, in the currency's minor unit
    authorization_id: str | None = None  # the hold this captured
    device: str | None = None  # the paired device it was asked from; None: a scanner of the station
    number: int = 0  # of the assignment it was used under; 0: it is this shop's own

    @property
    def spent(self) -> int:
        """What it took of an assignment: uses, or of a lease minor units or points."""
        return self.amount_minor or self.units


class VoucherAuthorized(Event, frozen=True):
    """A voucher is held for one sale: it counts as used against everybody else until the hold ends."""

    authorization_id: str
    voucher_id: str
    campaign: int
    issuer: int
    station: str
    read_point: str
    staff: str | None
    device: str | None
    units: int
    amount_minor: int
    allows_uses: int  # what the voucher is good for in all: a late capture asks whether that is still free
    allows_minor: int  # its face value; 0: it has none that is spent in parts
    hold_s: int  # on the monotonic clock; restarts in full when core starts
    event_time: Instant
    number: int = 0  # of the assignment whose share it holds; 0: it is this shop's own


class AuthorizationEnded(Event, frozen=True):
    """A hold is over: `captured` (a `VoucherRedeemed` stands beside it), `voided` or `expired`."""

    authorization_id: str
    voucher_id: str
    outcome: str
    station: str
    staff: str | None
    device: str | None
    event_time: Instant


class RedemptionReversed(Event, frozen=True):
    """A redemption was taken back in time: exactly what it took of the voucher is free again."""

    redemption_id: str
    voucher_id: str
    campaign: int
    units: int
    amount_minor: int
    station: str
    staff: str | None
    device: str | None
    event_time: Instant
    number: int = 0  # of the assignment it was used under, which it returns to

    @property
    def spent(self) -> int:
        """What it gives back of an assignment: uses, or of a lease minor units or points."""
        return self.amount_minor or self.units


class ActionDenied(Event, frozen=True):
    """Somebody asked for what their role does not allow. Written down, since nobody asks for it by accident twice."""

    action: str  # what was asked for, such as "reverse"
    station: str
    staff: str | None
    device: str | None
    roles: list[str]
    event_time: Instant


class RedemptionRefused(Event, frozen=True):
    """A code was refused, with the reason the customer was given."""

    presentation_id: str
    voucher_id: str | None  # None: the code could not be read that far
    reason: str  # a key of `gateway.rules.reasons.REASONS`
    station: str
    read_point: str
    staff: str | None
    event_time: Instant
