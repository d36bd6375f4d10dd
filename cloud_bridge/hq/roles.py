"""Who may do what at headquarters: one table of every route, with the role it wants. Pure.

A sign-in has one role or several; `admin` may everything. A path that is not in the table is nobody's but the administrator's, so a route
that was forgotten here is closed, not open; a test walks every route of the application and names the one that is missing. Literal
parts of a path go before parameters, as they do in the application.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Role(StrEnum):
    """What a sign-in is for."""

    READER = "reader"  # numbers and reports; no code that is worth money
    ISSUER = "issuer"  # vouchers, orders, limits and campaigns: issue, publish, cancel
    EVENTS = "events"  # every row shops told, identifiers of vouchers among them: for programs
    MEMBERS = "members"  # look up, change, erase members
    INSTALLER = "installer"  # boxes, their labels, their shop's people and devices
    ADMIN = "admin"  # everything, and makes keys


class Reach(StrEnum):
    """Routes that want no role."""

    ANYBODY = "anybody"  # without a sign-in: what is there proves itself otherwise
    SIGNED_IN = "signed in"  # whoever has signed in


Wanted = Role | Reach
_TABLE: Final[dict[Wanted, str]] = {
    Reach.ANYBODY: """
        GET /healthz | GET /openapi.json | GET /login | POST /login | GET /static | GET /favicon.ico
        GET /v/{voucher_id} | POST /v/{voucher_id}/show | POST /v/{voucher_id}/grant
        GET /g/{blob} | GET /G/{blob} | POST /g/shop | GET /c/{blob} | GET /C/{blob}""",
    Reach.SIGNED_IN: "GET /account | POST /logout",
    Role.READER: """
        GET / | GET /live | GET /uplift | GET /settlement
        GET /api/stores | GET /api/stores/{store}/counts | GET /api/books | GET /api/funnel
        GET /api/uplift | GET /api/settlement | GET /api/settlement.csv | GET /api/signals | GET /api/risk | GET /api/risk/terms
        GET /api/exposure | GET /api/points | GET /api/revisits | GET /api/sales | GET /metrics
        GET /api/returns | GET /api/points/rates""",
    Role.ISSUER: """
        GET /vouchers | GET /vouchers/{voucher_id} | GET /live/vouchers/{voucher_id}
        GET /orders | GET /orders/{order_id} | GET /live/orders/{order_id}
        GET /limits | GET /campaigns | GET /campaigns/new | GET /campaigns/{campaign}
        POST /api/vouchers | GET /api/vouchers | GET /api/vouchers/{voucher_id} | GET /api/vouchers/{voucher_id}/qr.{form}
        POST /api/vouchers/{voucher_id}/online-use | POST /api/vouchers/{voucher_id}/revoke | POST /api/vouchers/{voucher_id}/show
        POST /api/vouchers/{voucher_id}/codes | POST /api/issue
        POST /api/orders | GET /api/orders | GET /api/orders/{order_id} | GET /api/orders/{order_id}/qr.{form}
        POST /api/orders/{order_id}/cancel | POST /api/orders/{order_id}/show
        POST /api/assigned | GET /api/assigned/{voucher_id} | POST /api/assigned/{voucher_id}/{wish}
        POST /api/assigned/{voucher_id}/credit | POST /api/assigned/{voucher_id}/lend
        POST /api/open-codes | GET /api/open-codes | GET /api/open-codes/{voucher_id}
        GET /api/stores/{store}/limits | POST /api/stores/{store}/limits
        POST /api/campaigns | GET /api/campaigns | POST /api/campaigns/check | GET /api/campaigns/{campaign}/shops | POST /api/price
        POST /api/checkins | PUT /api/checkins/offer | POST /api/points/rates""",
    Role.EVENTS: "GET /api/feed | GET /api/events",
    Role.MEMBERS: """
        POST /api/members | POST /api/members/import | GET /api/members/{member_ref} | PATCH /api/members/{member_ref}
        DELETE /api/members/{member_ref} | POST /api/members/{member_ref}/tags | GET /api/members/{member_ref}/qr.{form}
        GET /api/members/{member_ref}/points | GET /api/members/{member_ref}/uses
        GET /api/members/{member_ref}/consents""",
    Role.INSTALLER: """
        GET /devices | GET /live/devices
        POST /api/boxes | GET /api/boxes | POST /api/boxes/batch | POST /api/boxes/{gateway}/revoke
        POST /api/stores/{store}/staff | POST /api/stores/{store}/wan
        GET /api/stores/{store}/devices | POST /api/stores/{store}/devices/{device_id}/revoke""",
    Role.ADMIN: """
        GET /keys | GET /journal | GET /api/keys | POST /api/keys | POST /api/keys/{name}/revoke | GET /api/journal
        GET /issuers | GET /api/issuers | POST /api/issuers/keys | PUT /api/issuers/keys/{public}
        POST /api/risk/terms | POST /api/boxes/{gateway}/destroyed | POST /api/backups""",
}
TABLE: Final[dict[str, Wanted]] = {
    " ".join(entry.split()): wanted
    for wanted, text in _TABLE.items()
    for line in text.splitlines()
    for entry in line.split("|")
    if entry.strip()
}
# Changes nothing, or nothing that counts.
QUIET: Final = frozenset({"POST /api/price", "POST /api/campaigns/check", "POST /logout"})
# Looking is what matters here: at one person, or at codes that are worth money.
NOTED_LOOKS: Final = frozenset(
    {f"GET /api/members/{{member_ref}}{more}" for more in ("", "/qr.{form}", "/points", "/uses", "/consents")} | {"GET /api/settlement.csv"}
)  # fmt: skip
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
HOMES: Final = ((Role.READER, "/"), (Role.ISSUER, "/vouchers"), (Role.INSTALLER, "/devices"))


class Who(Struct, frozen=True):
    """Somebody who has signed in."""

    name: str
    roles: frozenset[Role]

    def may(self, wanted: Wanted | str) -> bool:
        """Whether a role is theirs."""
        return wanted in (Reach.ANYBODY, Reach.SIGNED_IN) or Role.ADMIN in self.roles or wanted in self.roles

    @property
    def home(self) -> str:
        """The page they see first."""
        return next((page for role, page in HOMES if self.may(role)), "/account")


class Entry(Struct, frozen=True):
    """A route of the table that a request means."""

    route: str  # a key of `TABLE`
    wanted: Wanted
    about: dict[str, str]  # what stands in the place of the path's parameters

    @property
    def is_noted(self) -> bool:
        """Whether the journal says who did it."""
        if self.wanted is Reach.ANYBODY or self.route in QUIET:
            return False
        return self.route in NOTED_LOOKS or self.route.partition(" ")[0] not in SAFE_METHODS


def find(method: str, path: str) -> Entry | None:
    """The entry for a request; None: the table has none. Any text as path is answered in time linear in its length."""
    method = "GET" if method == "HEAD" else method
    if path.startswith("/static/"):
        path = "/static"
    found = [(route, match) for route, pattern in _PATTERNS.get(method, ()) if (match := pattern.fullmatch(path))]
    if not found:
        return None
    route, match = min(found, key=lambda one: len(one[1].groupdict()))
    return Entry(route, TABLE[route], match.groupdict())


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", path)
    return re.compile("".join(f"(?P<{part[1:-1]}>[^/]+)" if part.startswith("{") else re.escape(part) for part in parts))


_PATTERNS: Final[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}
for _route in TABLE:
    _PATTERNS.setdefault(_route.partition(" ")[0], []).append((_route, _pattern(_route.partition(" ")[2])))
