"""What every format comes down to: the terms the judge decides on."""

from typing import Final

from msgspec import Struct

from gateway.errors import MalformedFrame
from gateway.grant import Grant
from gateway.rules.voucher import Terms
from gateway.token import Claims, TokenKind, VoucherClass, named_ref
from gateway.verifiers.keyring import CodeRefused, Held

FOREVER_S: Final = 2**32 - 1  # 2106; an issuer that says later, or never, says this
MAX_S: Final = 2**53  # what a JSON number holds exactly
MAX_NAME_B: Final = 128


class Presented(Struct, frozen=True, kw_only=True):
    """A code somebody trusted has signed."""

    format: str  # a `gateway.codes.CodeKind`
    kind: TokenKind
    voucher_class: VoucherClass
    terms: Terms
    claims: Claims | None = None  # all that a token of ours says
    grant: Grant | None = None


class Named(Struct, frozen=True, kw_only=True):
    """What an issuer with a format of its own says of a voucher. Times are seconds since 1970 UTC, 0: not said."""

    name: bytes  # what the issuer calls it
    not_after_s: int
    not_before_s: int = 0
    issued_s: int = 0
    items: tuple[str, ...] = ()  # what it is for, the most exact name first
    campaign: int = 0
    store: int = 0
    uses: int = 1
    audience: tuple[str, ...] = ()  # for whom it is; empty: not said


def present(format_: str, held: Held, said: Named) -> Presented:
    """A voucher of another issuer, in the terms of this chain.

    One that is bound to no shop, neither by itself nor by headquarters, could be used in two: only headquarters may decide on it.

    Raises:
        CodeRefused: For another audience, of a kind nobody has mapped, or signed with a key that is not good any more.
        MalformedFrame: A number out of its range, or no name.
    """
    _refuse_odd(said)
    if said.audience and held.audience not in said.audience:
        raise CodeRefused("unknown_issuer", "a code for another audience")
    if held.store and said.store not in (0, held.store):
        raise CodeRefused("other_store", "a code for another shop than headquarters says")
    store = said.store or held.store
    terms = Terms(
        voucher_id=named_ref(held.issuer, said.name), campaign=_campaign(held, said), issuer=held.issuer, uses=said.uses,
        not_before_s=min(said.not_before_s, FOREVER_S), not_after_s=min(said.not_after_s, FOREVER_S), store=store,
    )  # fmt: skip
    return Presented(
        format=format_, kind=TokenKind.VOUCHER, voucher_class=VoucherClass.STORE_BOUND if store else VoucherClass.HQ_LIVE,
        terms=held.honour(terms, said.issued_s),
    )  # fmt: skip


def _campaign(held: Held, said: Named) -> int:
    if not held.campaigns:
        return said.campaign
    for item in said.items:
        if item in held.campaigns:
            return held.campaigns[item]
    raise CodeRefused("unknown_item", "a kind of voucher that headquarters has mapped to no campaign")


def _refuse_odd(said: Named) -> None:
    times = (said.not_after_s, said.not_before_s, said.issued_s)
    if not 0 < len(said.name) <= MAX_NAME_B:
        raise MalformedFrame(f"a voucher's name has 1 to {MAX_NAME_B} bytes")
    if not all(0 <= time_s <= MAX_S for time_s in times) or not said.not_after_s:
        raise MalformedFrame("a time out of its range")
    if not 1 <= said.uses <= 255 or not 0 <= said.campaign < 2**32 or not 0 <= said.store < 2**32:
        raise MalformedFrame("a number out of its range")
