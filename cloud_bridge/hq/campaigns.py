"""Which campaigns headquarters has published: every version is kept, the highest of a number is in force. Inside a transaction."""

import datetime
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from msgspec import Struct

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.rules.definitions import Campaign, CampaignError, encode_campaign, read_campaign
from gateway.rules.limits import of_members

MOST_LIVE: Final = 500  # of one shop: some 300 kB, and a price tries each of them
IN_FORCE: Final = "version = (SELECT max(c.version) FROM campaigns c WHERE c.campaign = campaigns.campaign)"


class Published(Struct, frozen=True):
    """A campaign in force, and since when."""

    campaign: Campaign
    published_us: int


def publish(db: Connection, campaign: Campaign, now_us: int) -> Campaign | None:
    """Put a version in force.

    Returns:
        What it replaces, or itself where it was published before as it is; None: its number is new.

    Raises:
        RefusedAsk: A version that is not above the one in force.
    """
    held = one(db, campaign.campaign)
    if held is not None and held.version >= campaign.version:
        if held == campaign:
            return held
        raise RefusedAsk(
            409, f"version {held.version} of campaign {campaign.campaign} is in force", f"Publish this as version {held.version + 1}",
            field="version", code="refused.version",
        )  # fmt: skip
    definition = encode_campaign(campaign).decode("utf-8")
    db.execute("INSERT INTO campaigns VALUES (?, ?, ?, ?)", (campaign.campaign, campaign.version, definition, now_us))
    if of_members(campaign.limits):  # what was used before counts, too: shops are to hear of it
        refs = "SELECT DISTINCT member_ref FROM bindings WHERE campaign = ? ORDER BY member_ref"
        db.execute(f"INSERT INTO limits_untold {refs} ON CONFLICT (member_ref) DO NOTHING", (campaign.campaign,))
    return held


def in_force(db: Connection) -> Iterator[Published]:
    """Every campaign in force, by number."""
    found = db.execute(f"SELECT definition, published_us FROM campaigns WHERE {IN_FORCE} ORDER BY campaign")  # noqa: S608 - constant text
    for definition, published_us in found.fetchall():
        yield Published(_read(definition), published_us)


def of_store(db: Connection, number: int) -> list[Campaign]:
    """The campaigns that a shop is told of. It depends on nothing but what was published, so a price here is the shop's price."""
    return told([found.campaign for found in in_force(db)], number)[0]


def told(found: Iterable[Campaign], number: int) -> tuple[list[Campaign], list[Campaign]]:
    """What of all campaigns in force a shop is told of, and what it is not: first those withdrawn, then those that end first."""
    concerning = [one for one in found if one.is_for(number)]
    concerning.sort(key=lambda one: (not one.withdrawn, one.window.last_day or datetime.date.max, one.campaign), reverse=True)
    return sorted(concerning[:MOST_LIVE], key=lambda one: one.campaign), concerning[MOST_LIVE:]


def look_for_room(left_out: Iterable[Campaign], now_us: int) -> None:
    """Before a shop is told of one more.

    Raises:
        RefusedAsk: One that is not over is left out for it.
    """
    yesterday = datetime.datetime.fromtimestamp(now_us / 1e6, datetime.UTC).date() - datetime.timedelta(days=1)
    if any(not one.withdrawn and (one.window.last_day is None or one.window.last_day >= yesterday) for one in left_out):
        raise RefusedAsk(409, f"a shop has at most {MOST_LIVE} live campaigns", "Withdraw those that are over, or give them a last day")


def one(db: Connection, number: int) -> Campaign | None:
    """The version in force of a campaign; None: its number is free."""
    found = db.execute("SELECT definition FROM campaigns WHERE campaign = ? ORDER BY version DESC LIMIT 1", (number,)).fetchone()
    return _read(found[0]) if found else None


@lru_cache(maxsize=2048)
def _read(definition: str) -> Campaign:
    read = read_campaign(definition.encode())
    if isinstance(read, CampaignError):
        raise RefusedAsk(500, f"a stored campaign cannot be read: {read.problem}", "A newer release wrote it: start that one")
    return read
