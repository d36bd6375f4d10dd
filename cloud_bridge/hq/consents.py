"""What members said last to each consent: at a shop's screen, by a row, or to headquarters. Inside the caller's transaction.

Of two words the later one counts, whichever arrives first; of two in one moment the withdrawal. Shops are told the last word with its
time, so that a shop knows whether its own is newer. A member nobody knows (any more) says nothing: the row stays, and leads to nobody.
"""

from typing import Any

from cloud_bridge.hq import members
from cloud_bridge.hq.members import MemberRow
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import MemberConsented, TimeTrust


def said(db: Connection, row: StoredRow, event: MemberConsented) -> None:
    """Effect of a row: a member touched yes or no. A clock that was not believed counts as the moment of arrival."""
    at_us = row.received_us if event.event_time.trust is TimeTrust.UNTRUSTED else event.event_time.wall_us
    if not is_known(db, event.member_ref) or not _note(
        db, (event.member_ref, event.consent, int(event.given), event.text_version, row.gateway, at_us, 1)
    ):
        return
    held = members.one(db, event.member_ref).consents
    now = sorted({*held, event.consent}) if event.given else [one for one in held if one != event.consent]
    if now != held:
        members.change(db, event.member_ref, {"consents": now})


def change(db: Connection, member_ref: str, asked: dict[str, Any], now_us: int) -> MemberRow:
    """Change a member as headquarters' people say; what they say of consents is the member's word from now on.

    Raises:
        RefusedAsk: As `members.change`.
    """
    before = set(members.one(db, member_ref).consents)
    row = members.change(db, member_ref, asked)
    if asked.get("consents") is not None:
        for consent in sorted(before ^ set(row.consents) | set(row.consents)):
            _note(db, (member_ref, consent, int(consent in row.consents), "", "", now_us, 0))
    return row


def is_withdrawn(db: Connection, member_ref: str, at_us: int) -> bool:
    """Whether nothing that happened then may be joined to a member."""
    sql = "SELECT 1 FROM member_consents WHERE member_ref = ? AND consent = 'bind' AND given = 0 AND at_us <= ?"
    return db.execute(sql, (member_ref, at_us)).fetchone() is not None


def untold(db: Connection) -> bool:
    """Whether shops have to hear of what was said at one of them."""
    return db.execute("SELECT 1 FROM member_consents WHERE untold = 1 LIMIT 1").fetchone() is not None


def tell(db: Connection) -> set[str]:
    """The regions whose shops hear of it now."""
    sql = "SELECT DISTINCT m.region FROM member_consents c JOIN members m ON m.member_ref = c.member_ref WHERE c.untold = 1"
    regions = {str(region) for (region,) in db.execute(sql).fetchall()}
    db.execute("UPDATE member_consents SET untold = 0 WHERE untold = 1")
    return regions


def history(db: Connection, member_ref: str) -> list[dict[str, Any]]:
    """The last word on each consent, and the text it was said to."""
    names = ("consent", "given", "text_version", "store", "at_us")
    sql = (
        "SELECT c.consent, c.given, c.text_version, coalesce(b.store, ''), c.at_us FROM member_consents c"
        " LEFT JOIN boxes b ON b.gateway = c.gateway WHERE c.member_ref = ? ORDER BY c.consent"
    )
    return [dict(zip(names, row, strict=True)) | {"given": bool(row[1])} for row in db.execute(sql, (member_ref,)).fetchall()]


def is_known(db: Connection, member_ref: str) -> bool:
    """Whether there is such a member."""
    return db.execute("SELECT 1 FROM members WHERE member_ref = ?", (member_ref,)).fetchone() is not None


def _note(db: Connection, values: tuple[str, str, int, str, str, int, int]) -> bool:
    """Write a word down, if none is newer."""
    sql = (
        "INSERT INTO member_consents VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (member_ref, consent) DO UPDATE SET given = excluded.given,"
        " text_version = excluded.text_version, gateway = excluded.gateway, at_us = excluded.at_us, untold = excluded.untold"
        " WHERE excluded.at_us > member_consents.at_us"
        " OR (excluded.at_us = member_consents.at_us AND excluded.given < member_consents.given)"
    )
    return bool(db.execute(sql, values).rowcount)
