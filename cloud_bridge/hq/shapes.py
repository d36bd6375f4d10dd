"""What a voucher is beyond so many uses, and what a shop may give out of a campaign. Every function runs inside the caller's transaction.

A voucher without a line in `voucher_shapes` is an ordinary one. The net of uses is the sum over the table `uses`: a reversal stands
there with its units below zero.
"""

from typing import Final

import msgspec
from msgspec import Struct, field

from cloud_bridge.hq.ready import local_day
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.signed import CampaignLimit, GivenOut
from gateway.token import Flag

MOST_WINDOWS: Final = 20
NET: Final = "kind IN ('redeemed', 'reversed')"  # the lines of `uses` whose units sum up to what counts


class Shape(Struct, frozen=True):
    """How a voucher may be used."""

    partial: bool = False  # its value is spent in parts
    practice: bool = False  # for training: nothing counts
    windows: list[tuple[int, int]] = field(default_factory=list)  # booked slots (from, to), seconds since 1970 UTC

    @property
    def flags(self) -> int:
        """As its token says it."""
        return (Flag.PARTIAL if self.partial else 0) | (Flag.PRACTICE if self.practice else 0)


ORDINARY: Final = Shape()


def check(shape: Shape, value_minor: int) -> None:
    """Look whether a shape makes sense.

    Raises:
        RefusedAsk: 422, it does not.
    """
    if shape.partial and value_minor <= 0:
        raise RefusedAsk(
            422, "a voucher that is spent in parts needs a value", "name `value_minor`", field="value_minor", code="refused.partial_value"
        )
    if len(shape.windows) > MOST_WINDOWS or any(first >= last for first, last in shape.windows):
        why = f"at most {MOST_WINDOWS} windows, each ending after it begins"
        raise RefusedAsk(422, why, field="windows", code="refused.windows")


def note(db: Connection, voucher_id: str, shape: Shape) -> None:
    """Remember a voucher's shape."""
    if shape != ORDINARY:
        windows = msgspec.json.encode(shape.windows).decode("ascii")
        db.execute("INSERT INTO voucher_shapes VALUES (?, ?, ?, ?)", (voucher_id, int(shape.partial), int(shape.practice), windows))


def note_channel(db: Connection, voucher_id: str, channel: str) -> None:
    """Remember which channel a voucher was issued for."""
    if channel:
        db.execute("INSERT INTO voucher_channels VALUES (?, ?)", (voucher_id, channel))


def shapes(db: Connection, gateway: str) -> dict[str, Shape]:
    """Of a box's vouchers, those that are not ordinary."""
    found = db.execute(
        "SELECT s.voucher_id, s.partial, s.practice, s.windows FROM voucher_shapes s JOIN vouchers v ON v.voucher_id = s.voucher_id"
        " WHERE v.gateway = ?", (gateway,),
    )  # fmt: skip
    return {
        voucher_id: Shape(bool(partial), bool(practice), msgspec.json.decode(windows, type=list[tuple[int, int]]))
        for voucher_id, partial, practice, windows in found.fetchall()
    }


def set_limit(db: Connection, gateway: str, limit: CampaignLimit) -> None:
    """Say what a shop may give out of a campaign; it replaces what was said before."""
    values = (gateway, limit.campaign, limit.stock, limit.daily, int(limit.session), limit.reverse_s)
    db.execute("DELETE FROM campaign_limits WHERE gateway = ? AND campaign = ?", values[:2])
    db.execute("INSERT INTO campaign_limits VALUES (?, ?, ?, ?, ?, ?)", values)


def limits(db: Connection, gateway: str) -> list[CampaignLimit]:
    """What a shop may give out, campaign by campaign."""
    asked = "SELECT campaign, stock, daily, session, reverse_s FROM campaign_limits WHERE gateway = ? ORDER BY campaign"
    return [
        CampaignLimit(campaign, stock, daily, bool(session), reverse_s)
        for campaign, stock, daily, session, reverse_s in db.execute(asked, (gateway,)).fetchall()
    ]


def given(db: Connection, gateway: str, timezone: str) -> list[GivenOut]:
    """What a box has given out of the campaigns that have a limit there, by the shop's days, less what was reversed."""
    counts: dict[tuple[int, str], int] = {}
    found = db.execute(
        f"SELECT u.campaign, u.at_us, u.units FROM uses u JOIN campaign_limits l ON l.gateway = u.gateway AND l.campaign = u.campaign"  # noqa: S608
        f" WHERE u.gateway = ? AND {NET}", (gateway,),
    )  # fmt: skip
    for campaign, at_us, units in found.fetchall():
        place = campaign, local_day(at_us, timezone)
        counts[place] = counts.get(place, 0) + units
    return [GivenOut(*place, units) for place, units in sorted(counts.items()) if units]
