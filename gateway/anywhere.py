"""What more than one shop may honour without asking: the content of the signed document `anywhere`. Pure.

Terms say how much a shop may take on trust while headquarters cannot be asked (`bounded_risk`); open codes are the same text for
everybody, of which each shop holds an allotment (`open_code`). Beside them: what is not to be taken any more, and how headquarters
settled what was taken on trust and came twice. Amounts are in the currency's minor unit.
"""

from typing import Final

from msgspec import Struct, field

ANYWHERE_NAME: Final = "anywhere"
BEARERS: Final = ("issuer", "retailer", "shop")  # who bears a loss
CLASS: Final = -1  # in the place of a campaign: every campaign that has no terms of its own


class RiskTerms(Struct, frozen=True, kw_only=True):
    """How much may be taken on trust, of one campaign or of the class, from headquarters' last word to the next."""

    campaign: int  # or `CLASS`
    version: int
    currency: str
    per_code_minor: int  # the floor: of one voucher, never more than this
    per_device_minor: int
    per_shop_minor: int  # the cap
    worth_minor: int  # of one use of a voucher that names no value; at least 1
    list_age_s: int  # older than this, what headquarters last said of cancelled vouchers is too old to take any
    bearer: str  # one of `BEARERS`
    per_member_count: int | None = None  # uses of one known member within the window, in one shop; None: no cap
    per_member_minor: int | None = None  # what they may come to
    per_member_window_s: int = 86_400
    hq_live: bool = False  # also for class `hq_live` while headquarters cannot be asked; else that is refused

    @property
    def caps_members(self) -> bool:
        """Whether there is a cap for each member."""
        return self.per_member_count is not None or self.per_member_minor is not None


class OpenCode(Struct, frozen=True, kw_only=True):
    """A code that is the same for everybody. Shops know it by its hashes."""

    voucher_id: str
    campaign: int
    title_zh: str
    title_en: str
    not_before_s: int
    not_after_s: int
    digests: list[str]  # `verifiers.opaque.digest_of` each spelling
    allotment: int  # uses a shop asks for at a time
    per_member: int = 0  # uses of one member in one shop; 0: no limit
    value_minor: int = 0
    issuer: int = 1
    revoked: bool = False


class Conflict(Struct, frozen=True, kw_only=True):
    """How headquarters settled something this shop took on trust, of a voucher that came more often than it is good for."""

    redemption_id: str
    voucher_id: str
    campaign: int  # of the terms: a campaign, or `CLASS`
    outcome: str  # "good": it came first; "loss": it did not
    loss_minor: int
    bearer: str
    other_zh: str  # the shop it came from besides
    other_en: str
    at_us: int


class Anywhere(Struct, frozen=True, kw_only=True):
    """All of it."""

    terms: list[RiskTerms] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)  # cancelled, refunded, or copied: not to be taken on trust
    conflicts: list[Conflict] = field(default_factory=list)  # the newest
    codes: list[OpenCode] = field(default_factory=list)


class Known(Struct, frozen=True):
    """The document in force, as decisions ask for it."""

    issued_us: int = 0  # when headquarters signed it; 0: there is none
    terms: dict[int, RiskTerms] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    conflicts: tuple[Conflict, ...] = ()
    codes: dict[str, OpenCode] = field(default_factory=dict)  # by voucher
    digests: dict[str, str] = field(default_factory=dict)  # to voucher

    def terms_for(self, campaign: int) -> RiskTerms | None:
        """The campaign's own terms, else the class's; None: nothing of it may be taken on trust."""
        return self.terms.get(campaign) or self.terms.get(CLASS)


def known(said: Anywhere | None, issued_us: int) -> Known:
    """What a document comes to. A text that two codes claim stands for none."""
    if said is None:
        return Known()
    digests: dict[str, str] = {}
    twice = set[str]()
    for code in said.codes:
        for digest in code.digests:
            if digests.setdefault(digest, code.voucher_id) != code.voucher_id:
                twice.add(digest)
    return Known(
        issued_us, {one.campaign: one for one in said.terms}, frozenset(said.revoked), tuple(said.conflicts),
        {one.voucher_id: one for one in said.codes}, {text: voucher for text, voucher in digests.items() if text not in twice},
    )  # fmt: skip
