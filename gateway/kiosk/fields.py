"""Fields that bodies of requests have in common: what each may hold, and how `openapi` describes it."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from gateway.codes import MAX_PAYLOAD_B
from gateway.core.whose import NOBODY, Whose

MOST_MINOR: Final = 2**32 - 1
HEX: Final = "^[0-9a-fA-F]{32}$"

Station = Annotated[str, Meta(min_length=1, max_length=40, description="A station of the configuration.")]
Code = Annotated[str, Meta(min_length=1, max_length=MAX_PAYLOAD_B, description="The code as read or typed; never stored.")]
Symbology = Annotated[
    str, Meta(pattern=r"^\][A-Za-z][0-9A-Za-z]$", max_length=3, description="AIM symbology identifier, if a reader read it.")
]
Source = Annotated[Literal["pos", "camera", "picture", "typed"], Meta(description="How the code was read.")]
Key = Annotated[
    str, Meta(pattern=HEX, max_length=32, description="Idempotency key: 32 hex digits, new for each request, the same for each retry.")
]
Shown = Annotated[
    str, Meta(pattern=HEX, max_length=32, description="32 hex digits, new for each time a code is shown; the same for each retry.")
]
Units = Annotated[int, Meta(ge=1, le=255, description="Uses, or guests.")]
Minor = Annotated[int, Meta(ge=1, le=MOST_MINOR, description="Of a face value: how much, in the currency's minor unit.")]
Points = Annotated[int, Meta(ge=1, le=MOST_MINOR, description="Of a points account: how many.")]
OrLess = Annotated[bool, Meta(description="Of a balance lent out in shares: if this shop has less, that is welcome; see `balance.taken`.")]
HoldS = Annotated[int, Meta(ge=1, le=900, description="How long to hold it; default: as the box is configured.")]
Held = Annotated[str, Meta(min_length=1, max_length=64, description="As `authorize` answered it.")]
Redeemed = Annotated[str, Meta(min_length=1, max_length=64, description="As `redeem` or `capture` answered it.")]
Phone = Annotated[str, Meta(min_length=1, max_length=40, description="A telephone number as typed; never stored.")]


class MemberGiven(Struct, forbid_unknown_fields=True, kw_only=True):
    """Who it is for, if they agree to be joined to it: a telephone number, or a member's code as read."""

    consent: bool  # they were asked, and said so; if not, nothing of them is looked at
    phone: Phone | None = None
    code: Code | None = None
    symbology_id: Symbology = "]X0"

    def __post_init__(self) -> None:
        if self.consent and (self.phone is None) == (self.code is None):
            raise ValueError("a phone or a code")


def whose(shown: MemberGiven | None) -> Whose:
    """The same for core."""
    return NOBODY if shown is None else Whose(shown.consent, shown.phone, shown.code, shown.symbology_id)
