"""Members as headquarters knows them, and what shops are told of them. Everything here runs inside the caller's transaction.

A member is a random reference. Their telephone number comes in, is hashed with the region's secret and is gone; so are the barcodes of
their old cards. Shops of a region are told all of its members in one document and, on top, those who have changed since in another:
a change is small, and an erased member is in neither.
"""

import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq import limited
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway import phones
from gateway.codes import is_cardlike, listed_letters, short_code
from gateway.errors import MalformedFrame
from gateway.signed import CONSENTS, MemberEntry, MemberList, public_from_hex
from gateway.token import HOME_ISSUER, Claims, TokenKind, voucher_ref
from gateway.wrapped import wrap

REGIONS: Final = {"Asia/Taipei": "TW", "Asia/Hong_Kong": "HK", "Asia/Macau": "MO", "Asia/Tokyo": "JP", "Asia/Singapore": "SG"}
ELSEWHERE: Final = "TW"
MOST_MEMBERS: Final = 50_000  # of a region: some 6 MB of a document unpacked, and 50 MB of a box's memory
MOST_RECENT: Final = 500  # changes before the whole list is told again
MOST_TAGS: Final = 20
MOST_CARDS: Final = 20  # of one member
FEWEST_LETTERS: Final = 6  # of an old card's barcode: a shorter one is typed by accident
PURPOSE: Final = b"members\n"  # and the box's name: what the wrapped secret is for


class MemberAsk(Struct, frozen=True, kw_only=True):
    """A member to be made, or found again. Consents are added to none."""

    region: str = ELSEWHERE
    phone: str = ""  # as typed; empty: none
    old_cards: Sequence[str] = ()
    tier: str = ""
    consents: Sequence[str] = ()
    points: int = 0


class MemberRow(Struct, frozen=True):
    """A member as stored; `has_phone` is all that is told of the number."""

    member_ref: str
    region: str
    has_phone: bool
    code: str
    token: str
    tier: str
    consents: list[str]
    points: int
    tags: list[tuple[str, int]]
    cards: int


class Signing(Struct, frozen=True):
    """What it takes to make members."""

    secret_of: Callable[[str], bytes]  # of a region
    sign: Callable[[Claims], str]
    key_id: int
    new_identifier: Callable[[], int]


def region_of(row: BoxRow) -> str:
    """Whose telephone numbers are typed in a shop: by its time zone."""
    return REGIONS.get(row.timezone, ELSEWHERE)


def make(db: Connection, ask: MemberAsk, signing: Signing, now_us: int) -> tuple[MemberRow, bool]:
    """A new member, or the one who has that number, or, if none is given, that card; with it, whether they are new.

    Raises:
        RefusedAsk: No number of that region, an old card that cannot be mapped or is another member's, or too many members.
    """
    secret = signing.secret_of(ask.region)
    key = phones.phone_key(secret, _number(ask)) if ask.phone else None
    if key is None and not ask.old_cards:
        raise RefusedAsk(422, "a member needs a telephone number or an old card", "Send `phone` or `old_cards`")
    known = _by_key(db, ask.region, key) if key else _by_card(db, ask, secret)
    if known is None:
        known, is_new = _insert(db, ask, key, signing, now_us), True
    else:
        is_new = False
    for place, card in enumerate(ask.old_cards, 1):
        _map_card(db, ask.region, known, place, card, secret)
    if ask.old_cards and not is_new:
        _touch(db, known)
    return one(db, known), is_new


def one(db: Connection, member_ref: str) -> MemberRow:
    """A member.

    Raises:
        RefusedAsk: There is none.
    """
    sql = "SELECT member_ref, region, phone_key, code, token, tier, consents, points FROM members WHERE member_ref = ?"
    found = db.execute(sql, (member_ref,)).fetchone()
    if found is None:
        raise RefusedAsk(404, f"there is no member {member_ref}")
    ref, region, key, code, token, tier, consents, points = found
    tags = [(tag, until) for tag, until in db.execute("SELECT tag, not_after_s FROM member_tags WHERE member_ref = ? ORDER BY tag", (ref,))]
    cards = db.execute("SELECT count(*) FROM member_cards WHERE member_ref = ?", (ref,)).fetchone()[0]
    return MemberRow(ref, region, key is not None, code, token, tier, _words(consents), max(0, points), tags, cards)


def change(db: Connection, member_ref: str, said: dict[str, Any]) -> MemberRow:
    """Change tier, consents or the points shown; what is not said stays.

    Raises:
        RefusedAsk: There is no such member, or no such consent.
    """
    held = one(db, member_ref)
    consents = _known_consents(said.get("consents", held.consents))
    values = (said.get("tier", held.tier), _text(consents), said.get("points"), member_ref)
    db.execute("UPDATE members SET tier = ?, consents = ?, points = coalesce(?, points) WHERE member_ref = ?", values)
    _touch(db, member_ref)
    return one(db, member_ref)


def move_points(db: Connection, member_ref: str, points: int) -> None:
    """So many points more, or less, than were shown. Shown is never less than none; kept it is, since after a restore a shop that spent may
    be heard before the one where they were earned."""
    db.execute("UPDATE members SET points = points + ? WHERE member_ref = ?", (points, member_ref))
    _touch(db, member_ref)


def tag(db: Connection, member_ref: str, word: str, not_after_s: int) -> MemberRow:
    """Have staff see a word beside a member until a time; a time that has passed takes it away.

    Raises:
        RefusedAsk: There is no such member, or they have too many.
    """
    held = one(db, member_ref)
    if word not in dict(held.tags) and len(held.tags) >= MOST_TAGS:
        raise RefusedAsk(409, f"a member has at most {MOST_TAGS} tags", "Take one away first")
    sql = "INSERT INTO member_tags VALUES (?, ?, ?) ON CONFLICT (member_ref, tag) DO UPDATE SET not_after_s = excluded.not_after_s"
    db.execute(sql, (member_ref, word, not_after_s))
    _touch(db, member_ref)
    return one(db, member_ref)


def expire(db: Connection, now_s: int) -> set[str]:
    """Delete the tags whose time is over; the regions that had any."""
    sql = "SELECT DISTINCT region FROM members m JOIN member_tags t ON t.member_ref = m.member_ref WHERE t.not_after_s <= ?"
    regions = {region for (region,) in db.execute(sql, (now_s,))}
    db.execute("DELETE FROM member_tags WHERE not_after_s <= ?", (now_s,))
    return regions


def erase(db: Connection, member_ref: str) -> str | None:
    """Delete all there is of a member but the rows that name them by reference; their region, or None: there was no such member."""
    found = db.execute("DELETE FROM members WHERE member_ref = ? RETURNING region", (member_ref,)).fetchone()
    for table in ("member_tags", "member_cards", "voucher_members", "point_accounts", "checkins", "member_consents", "point_debts"):
        db.execute(f"DELETE FROM {table} WHERE member_ref = ?", (member_ref,))  # noqa: S608 - constant text
    return None if found is None else str(found[0])


def give(db: Connection, voucher_id: str, member_ref: str) -> None:
    """Make a voucher a member's own: whoever redeems it is them, and it counts for them.

    Raises:
        RefusedAsk: There is no such member, or they have not agreed to be joined to what they use.
    """
    if "bind" not in one(db, member_ref).consents:
        raise RefusedAsk(409, "this member has not agreed to be joined to what they use", "Ask for the consent `bind` first")
    db.execute("INSERT INTO voucher_members VALUES (?, ?)", (voucher_id, member_ref))


def owners(db: Connection, gateway: str) -> dict[str, str]:
    """Whose the vouchers of a shop are, of those that are anybody's."""
    sql = "SELECT o.voucher_id, o.member_ref FROM voucher_members o JOIN vouchers v ON v.voucher_id = o.voucher_id WHERE v.gateway = ?"
    return dict(db.execute(sql, (gateway,)).fetchall())


# ---------------------------------------------------------------- what shops are told


def told(db: Connection, row: BoxRow, name: str, version: int, secret: bytes, now_us: int) -> MemberList:
    """What a box is told in a document of that name and version; it is written down that it was."""
    region = region_of(row)
    if name == "members":
        through = _newest(db)
        _note(db, row, version, through, now_us)
        entries, cards = _entries(db, row, -1, now_us), _cards(db, region, -1)
        wrapped = wrap(secret, public_from_hex(row.public), PURPOSE + row.gateway.encode()) if row.public else ""
        return MemberList(region, wrapped, 0, entries, cards)
    base, through = db.execute("SELECT version, through FROM member_lists WHERE gateway = ?", (row.gateway,)).fetchone() or (0, -1)
    _note(db, row, base, through, now_us)
    return MemberList(region, "", base, _entries(db, row, through, now_us), _cards(db, region, through))


def is_long(db: Connection, row: BoxRow) -> bool:
    """Whether so many have changed that the box had better be told all of them again."""
    found = db.execute("SELECT through FROM member_lists WHERE gateway = ?", (row.gateway,)).fetchone()
    counted = "SELECT count(*) FROM members WHERE region = ? AND change > ?"
    return found is None or db.execute(counted, (region_of(row), found[0])).fetchone()[0] > MOST_RECENT


def told_before(db: Connection, us: int) -> set[str]:
    """The boxes that were told nothing of members since then."""
    return {gateway for (gateway,) in db.execute("SELECT gateway FROM member_lists WHERE told_us < ?", (us,))}


def _note(db: Connection, row: BoxRow, version: int, through: int, now_us: int) -> None:
    sql = (
        "INSERT INTO member_lists VALUES (?, ?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET version = excluded.version,"
        " through = excluded.through, told_us = excluded.told_us"
    )
    db.execute(sql, (row.gateway, version, through, now_us))


def _entries(db: Connection, row: BoxRow, after: int, now_us: int) -> list[MemberEntry]:
    region, now_s = region_of(row), now_us // 1_000_000
    sql = "SELECT member_ref, phone_key, code, tier, consents, points FROM members WHERE region = ? AND change > ? ORDER BY member_ref"
    found = db.execute(sql, (region, after)).fetchall()
    tags: dict[str, list[tuple[str, int]]] = defaultdict(list)
    tagged = (
        "SELECT t.member_ref, t.tag, t.not_after_s FROM member_tags t JOIN members m ON m.member_ref = t.member_ref"
        " WHERE m.region = ? AND m.change > ? AND t.not_after_s > ? ORDER BY t.tag"
    )
    for ref, word, until_s in db.execute(tagged, (region, after, now_s)):
        tags[ref].append((word, until_s))
    said: dict[str, list[tuple[str, bool, int]]] = defaultdict(list)
    words = (
        "SELECT c.member_ref, c.consent, c.given, c.at_us FROM member_consents c JOIN members m ON m.member_ref = c.member_ref"
        " WHERE m.region = ? AND m.change > ? ORDER BY c.consent"
    )
    for ref, consent, given, at_us in db.execute(words, (region, after)):
        said[ref].append((consent, bool(given), at_us))
    used = limited.elsewhere(db, row, region, after, now_us)
    entries = []
    for ref, key, code, tier, consents, points in found:
        agreed = _words(consents)
        shown = tags[ref] if "preferences" in agreed else []  # staff see them with consent only, so shops are not told otherwise
        entries.append(MemberEntry(ref, key or "", code, tier, agreed, max(0, points), shown, said[ref], used.get(ref, [])))
    return entries


def _cards(db: Connection, region: str, after: int) -> list[tuple[str, str]]:
    sql = (
        "SELECT c.card_key, c.member_ref FROM member_cards c JOIN members m ON m.member_ref = c.member_ref"
        " WHERE c.region = ? AND m.change > ? ORDER BY c.card_key"
    )
    return [(key, ref) for key, ref in db.execute(sql, (region, after))]


# ---------------------------------------------------------------- inside


def _number(ask: MemberAsk) -> str:
    try:
        return phones.e164(ask.phone, ask.region)
    except MalformedFrame as error:
        raise RefusedAsk(422, str(error), error.hint) from error


def _by_key(db: Connection, region: str, key: str) -> str | None:
    found = db.execute("SELECT member_ref FROM members WHERE region = ? AND phone_key = ?", (region, key)).fetchone()
    return None if found is None else str(found[0])


def _by_card(db: Connection, ask: MemberAsk, secret: bytes) -> str | None:
    """Who has the first of the old cards: a list without numbers may be sent again, too."""
    key = phones.card_key(secret, listed_letters(ask.old_cards[0]))
    found = db.execute("SELECT member_ref FROM member_cards WHERE region = ? AND card_key = ?", (ask.region, key)).fetchone()
    return None if found is None else str(found[0])


def _insert(db: Connection, ask: MemberAsk, key: str | None, signing: Signing, now_us: int) -> str:
    if db.execute("SELECT count(*) FROM members WHERE region = ?", (ask.region,)).fetchone()[0] >= MOST_MEMBERS:
        raise RefusedAsk(409, f"a region has at most {MOST_MEMBERS:,} members", "Erase those who have left")
    ref, identifier = phones.as_reference(secrets.token_bytes(16)), signing.new_identifier()
    claims = Claims(kind=TokenKind.MEMBER, key_id=signing.key_id, issuer=HOME_ISSUER, identifier=identifier, not_after_s=2**32 - 1, uses=1)
    values = (
        ref, ask.region, key, voucher_ref(HOME_ISSUER, identifier), signing.sign(claims), ask.tier, _text(_known_consents(ask.consents)),
        ask.points, now_us, _newest(db) + 1,
    )  # fmt: skip
    db.execute("INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    return ref


def _map_card(db: Connection, region: str, member_ref: str, place: int, card: str, secret: bytes) -> None:
    """Errors name its place: barcodes stand in no answer and no log."""
    if is_cardlike(card):
        hint = "Every reader of the chain drops such numbers at once, so nobody could be known by it: give this member a new code"
        raise RefusedAsk(422, f"old card {place} reads like the number of a payment card", hint)
    letters = listed_letters(card)
    if len(letters) < FEWEST_LETTERS:
        raise RefusedAsk(422, f"old card {place} is too short or too long", f"From {FEWEST_LETTERS} to 128 letters")
    key = phones.card_key(secret, letters)
    held = db.execute("SELECT member_ref FROM member_cards WHERE region = ? AND card_key = ?", (region, key)).fetchone()
    if held is not None and held[0] != member_ref:
        raise RefusedAsk(409, f"old card {place} is another member's", "Look which of the two lines is right")
    db.execute("INSERT INTO member_cards VALUES (?, ?, ?) ON CONFLICT (region, card_key) DO NOTHING", (region, key, member_ref))
    if db.execute("SELECT count(*) FROM member_cards WHERE member_ref = ?", (member_ref,)).fetchone()[0] > MOST_CARDS:
        raise RefusedAsk(409, f"a member has at most {MOST_CARDS} old cards")


def _known_consents(words: Sequence[str]) -> list[str]:
    for word in words:
        if word not in CONSENTS:
            raise RefusedAsk(422, f"there is no consent {word[:40]}", f"Known: {', '.join(CONSENTS)}")
    return sorted(set(words))


def _touch(db: Connection, member_ref: str) -> None:
    db.execute("UPDATE members SET change = ? WHERE member_ref = ?", (_newest(db) + 1, member_ref))


def _newest(db: Connection) -> int:
    """The highest change there is, of members or of lists: one that was erased had perhaps the highest."""
    found = db.execute("SELECT coalesce(max(change), 0), coalesce((SELECT max(through) FROM member_lists), 0) FROM members").fetchone()
    return int(max(found))


def _text(words: Sequence[str]) -> str:
    return msgspec.json.encode(list(words)).decode()


def _words(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str])


def typed_code(row: MemberRow) -> str:
    """The member's code as people type it."""
    return short_code(int(row.code, 16))
