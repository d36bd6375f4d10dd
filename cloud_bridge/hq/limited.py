"""How often members used what limits its members: what an opening gives back to a box, and what each shop is told of the others.

Limited are campaigns in force with `per_member` or `per_member_day`, and open codes with `per_member`. Uses are the rows that joined a
member to a redemption; one that was reversed counts no more. A box is told of its own uses in an opening only, up to the marks that stand
there, and of everybody else's in the list of members: so it adds them up and counts nothing twice. Inside the caller's transaction.
"""

import datetime
from collections import defaultdict
from typing import Final

from msgspec import Struct

from cloud_bridge.hq import campaigns
from cloud_bridge.hq.ready import local_day, zone
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import MemberBound, RedemptionReversed
from gateway.rules.limits import of_members
from gateway.signed import Elsewhere, MemberUses

MICROS: Final = 1_000_000
# ruff: noqa: S608 - our own names, no values
_UNDATED: Final = (
    "(CASE WHEN EXISTS (SELECT 1 FROM undated d WHERE d.gateway = n.gateway AND d.type = 'MemberBound' AND d.wall_us = n.at_us"
    " AND d.received_us = n.received_us) THEN 1 ELSE 0 END)"
)
_COUNTS: Final = (
    " AND NOT EXISTS (SELECT 1 FROM uses r WHERE r.redemption_id = n.redemption_id AND r.redemption_id <> ''"
    " AND r.gateway = n.gateway AND r.kind = 'reversed')"
)


class Limited(Struct, frozen=True):
    """What limits its members."""

    campaigns: frozenset[int]
    codes: frozenset[str]  # open codes, by voucher

    def keys_of(self, campaign: int, voucher_id: str) -> list[tuple[int, str]]:
        """Under which a use counts: of a campaign, of an open code, or both."""
        found = [(campaign, "")] if campaign in self.campaigns else []
        return found + ([(0, voucher_id)] if voucher_id in self.codes else [])


def limited(db: Connection) -> Limited:
    """All of it."""
    found = {one.campaign.campaign for one in campaigns.in_force(db) if not one.campaign.withdrawn and of_members(one.campaign.limits)}
    codes = {ref for (ref,) in db.execute("SELECT voucher_id FROM open_codes WHERE per_member > 0").fetchall()}
    return Limited(frozenset(found), frozenset(codes))


# ---------------------------------------------------------------- as rows arrive


def used(db: Connection, event: MemberBound) -> None:
    """Effect of a row, beside others: the other shops are to hear of a member's use."""
    if event.redemption_id is not None:
        _note(db, event.member_ref, event.campaign, event.voucher_id)


def taken_back(db: Connection, row: StoredRow, event: RedemptionReversed) -> None:
    """Effect of a row, beside others: or that it counts no more."""
    sql = "SELECT member_ref, campaign, voucher_id FROM bindings WHERE gateway = ? AND redemption_id = ?"
    found = db.execute(sql, (row.gateway, event.redemption_id)).fetchone()
    if found is not None:
        _note(db, *found)


def _note(db: Connection, member_ref: str, campaign: int, voucher_id: str) -> None:
    of_code = "SELECT 1 FROM open_codes WHERE voucher_id = ? AND per_member > 0"
    if _limits_members(db, campaign) or db.execute(of_code, (voucher_id,)).fetchone():
        db.execute("INSERT INTO limits_untold VALUES (?) ON CONFLICT (member_ref) DO NOTHING", (member_ref,))


def _limits_members(db: Connection, campaign: int) -> bool:
    try:
        found = campaigns.one(db, campaign)
    except RefusedAsk:  # a newer release wrote it: then it may
        return True
    return found is not None and of_members(found.limits)


def untold(db: Connection) -> bool:
    """Whether shops have to hear of uses."""
    return db.execute("SELECT 1 FROM limits_untold LIMIT 1").fetchone() is not None


def tell(db: Connection) -> set[str]:
    """The regions whose shops hear of them now: their members' entries are new."""
    found = db.execute("SELECT m.member_ref, m.region FROM limits_untold u JOIN members m ON m.member_ref = u.member_ref").fetchall()
    sql = "SELECT coalesce(max(change), 0), coalesce((SELECT max(through) FROM member_lists), 0) FROM members"
    newest = int(max(db.execute(sql).fetchone()))
    for change, (ref, _) in enumerate(found, newest + 1):
        db.execute("UPDATE members SET change = ? WHERE member_ref = ?", (change, ref))
    db.execute("DELETE FROM limits_untold")
    return {str(region) for _, region in found}


# ---------------------------------------------------------------- what boxes are told


def of_box(db: Connection, gateway: str, timezone: str) -> list[MemberUses]:
    """For an opening: members' uses at this box of what is limited, by the shop's days."""
    known, counts = limited(db), dict[tuple[str, int, str, str], int]()
    if not known.campaigns and not known.codes:
        return []
    sql = (
        f"SELECT n.member_ref, n.campaign, n.voucher_id, n.units, n.at_us, {_UNDATED} FROM bindings n"
        f" JOIN members m ON m.member_ref = n.member_ref WHERE n.gateway = ?{_COUNTS}"
    )
    for ref, campaign, voucher_id, units, at_us, is_undated in db.execute(sql, (gateway,)).fetchall():
        day = "" if is_undated else local_day(at_us, timezone)
        for of_campaign, code in known.keys_of(campaign, voucher_id):
            place = ref, of_campaign, code, day
            counts[place] = counts.get(place, 0) + units
    return [MemberUses(*place, uses) for place, uses in sorted(counts.items())]


def elsewhere(db: Connection, row: BoxRow, region: str, after: int, now_us: int) -> dict[str, list[Elsewhere]]:
    """For the list of members: their uses at every other box, of those who have changed since."""
    known, counts = limited(db), defaultdict[tuple[str, int, str], list[int]](lambda: [0, 0, 0])
    if not known.campaigns and not known.codes:
        return {}
    day, from_us, to_us = today(now_us, row.timezone)
    sql = (
        "SELECT n.member_ref, n.campaign, n.voucher_id, n.units, n.at_us,"
        f" {_UNDATED} FROM members m JOIN bindings n ON n.member_ref = m.member_ref"
        f" WHERE m.region = ? AND m.change > ? AND n.gateway <> ?{_COUNTS}"
    )
    for ref, campaign, voucher_id, units, at_us, is_undated in db.execute(sql, (region, after, row.gateway)).fetchall():
        for of_campaign, code in known.keys_of(campaign, voucher_id):
            found = counts[ref, of_campaign, code]
            found[0] += units
            found[1] += units if not is_undated and from_us <= at_us < to_us else 0
            found[2] += units if is_undated else 0
    told: dict[str, list[Elsewhere]] = defaultdict(list)
    for (ref, of_campaign, code), (uses, on_day, undated) in sorted(counts.items()):
        told[ref].append(Elsewhere(of_campaign, code, uses, day, on_day, undated))
    return told


def today(now_us: int, timezone: str) -> tuple[str, int, int]:
    """A shop's day, its first moment and the next day's, µs since 1970 UTC."""
    day = local_day(now_us, timezone)
    local, first = zone(timezone), datetime.date.fromisoformat(day)
    bounds = (datetime.datetime.combine(one, datetime.time(), local) for one in (first, first + datetime.timedelta(days=1)))
    low, high = (int(moment.timestamp()) * MICROS for moment in bounds)
    return day, low, high
