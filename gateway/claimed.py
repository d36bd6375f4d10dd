"""What box and headquarters say to each other about vouchers that headquarters assigns. Sealed as `gateway.signed` seals; pure."""

from msgspec import Struct


class Grant(Struct, frozen=True, kw_only=True):
    """HQ's word that one box may honour one voucher under a number. Signed; on a shopper's phone it is a code of its own.

    `units` are uses, or minor units of an amount, in all under this number; with an `epoch`, less by what HQ knows to be spent outside
    that start. A start that is not proven may honour only what names it.
    """

    voucher_id: str
    number: int
    gateway: str  # the box, not the shop
    units: int
    not_after_s: int
    issued_s: int
    epoch: str | None = None
    issuer: int = 1


class Claim(Struct, frozen=True):
    """A box asks for a voucher. Asked again under the same identifier, it gets the same bytes. Signed by the box."""

    gateway: str
    claim_id: str
    voucher_id: str
    epoch: str  # the start that asks
    proven: bool
    units: int  # of a balance: the share that is wanted; 0: all uses
    asked_us: int


class Claimed(Struct, frozen=True):
    """HQ's answer to a claim: a grant, or why there is none."""

    gateway: str
    claim_id: str
    hq_time_us: int
    grant: Grant | None = None
    reason: str = ""  # a key of `gateway.rules.reasons.REASONS`
    holder_zh: str = ""  # of `assigned_elsewhere`: the shop that holds it
    holder_en: str = ""
    title_zh: str = ""  # what the voucher is for
    title_en: str = ""
    balance: int | None = None  # what is left of a balance in the whole chain, as far as HQ has heard


class Recall(Struct, frozen=True):
    """HQ wants a number back: the box answers with `Released`, if it is unused, and with nothing if it is not."""

    gateway: str
    voucher_id: str
    number: int
    hq_time_us: int


class Lend(Struct, frozen=True):
    """HQ wants a share of a balance to lie at a box ahead of need: the box claims it as if somebody had asked there."""

    gateway: str
    voucher_id: str
    units: int
    hq_time_us: int


class AssignmentStand(Struct, frozen=True, array_like=True):
    """An assignment of this box as HQ knows it. One that is not live is over: that number and every lower one is dead."""

    voucher_id: str
    number: int
    units: int
    spent: int  # of rows HQ has counted
    not_after_s: int  # the latest end of anything given under it
    live: bool
