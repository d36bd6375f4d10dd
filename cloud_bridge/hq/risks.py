"""Terms of what shops may take on trust, the document that tells them, and what it has cost. Inside the caller's transaction.

What a shop has open while nobody hears it is not known here: it is at most its cap, and the reports say so.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from cloud_bridge.hq import news
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Connection
from gateway.anywhere import Anywhere, Conflict, OpenCode, RiskTerms
from gateway.signed import MemberTrust
from gateway.verifiers import opaque

DAY_S: Final = 86_400
KEPT_DAYS: Final = 30
# ruff: noqa: S608 - names of our own tables and columns, no values
MOST_DENIED: Final = 20_000
MOST_CONFLICTS: Final = 200  # told to one shop; the reports have all
REFRESH: Final = 4  # a list is made anew when a quarter of its age is over
SHOP: Final = "coalesce(nullif({0}.name_zh, ''), {0}.store), coalesce(nullif({0}.name_en, ''), {0}.store)"
LOSS: Final = "CASE WHEN u.reversed = 0 THEN (u.exposure_minor * (u.units - u.good) + u.units - 1) / u.units ELSE 0 END"
_decode = msgspec.json.Decoder(RiskTerms).decode


def declare(db: Connection, terms: RiskTerms, now_us: int) -> RiskTerms:
    """Put terms in force, under the next version, and have every shop told."""
    last = db.execute("SELECT max(version) FROM risk_terms WHERE campaign = ?", (terms.campaign,)).fetchone()[0] or 0
    terms = msgspec.structs.replace(terms, version=last + 1)
    said = msgspec.json.encode(terms).decode()
    db.execute("INSERT INTO risk_terms VALUES (?, ?, ?, ?)", (terms.campaign, terms.version, said, now_us))
    news.tell_all(db)
    return terms


def in_force(db: Connection) -> list[RiskTerms]:
    """The newest terms of each campaign."""
    found = db.execute("SELECT campaign, said FROM risk_terms ORDER BY campaign, version").fetchall()
    return list({campaign: _decode(said) for campaign, said in found}.values())


def terms_for(terms: Iterable[RiskTerms], campaign: int) -> RiskTerms | None:
    """The campaign's own terms, else the class's."""
    known = {one.campaign: one for one in terms}
    return known.get(campaign) or known.get(-1)


# ---------------------------------------------------------------- of members

_BY_MEMBERS: Final = (
    "SELECT u.redemption_id, n.member_ref, u.campaign, u.exposure_minor, u.at_us, u.gateway FROM shared_uses u"
    " JOIN bindings n ON n.gateway = u.gateway AND n.redemption_id = u.redemption_id"
    " WHERE u.kind = 'risk' AND u.number = 0 AND u.exposure_minor > 0 AND u.reversed = 0 AND u.at_us >= ?"
)


def taken_by_members(db: Connection, gateway: str, now_us: int) -> list[MemberTrust]:
    """For an opening: what members took on trust at a box within the windows of the terms in force."""
    windows = [one.per_member_window_s for one in in_force(db) if one.caps_members]
    if not windows:
        return []
    oldest_us = now_us - max(windows) * 1_000_000
    found = db.execute(f"{_BY_MEMBERS} AND u.gateway = ? ORDER BY u.id", (oldest_us, gateway)).fetchall()
    return [MemberTrust(*one[:5]) for one in found]


def fast_members(db: Connection, since_us: int) -> list[dict[str, Any]]:
    """Members who took more on trust within a window than their terms let one shop give them, across all shops; the most of each."""
    caps, stores = {one.campaign: one for one in in_force(db) if one.caps_members}, dict(db.execute("SELECT gateway, store FROM boxes"))
    took: dict[tuple[str, int], list[tuple[int, int, str]]] = defaultdict(list)
    if caps:
        for _, ref, campaign, minor, at_us, gateway in db.execute(f"{_BY_MEMBERS} ORDER BY u.at_us, u.id", (since_us,)).fetchall():
            took[ref, campaign].append((at_us, minor, gateway))
    told = []
    for (ref, campaign), uses in sorted(took.items()):
        if campaign in caps and (one := _fastest(caps[campaign], uses)):
            told.append({"member_ref": ref, "campaign": campaign} | one | {"stores": [stores.get(box, box) for box in one["stores"]]})
    return told


def _fastest(terms: RiskTerms, uses: list[tuple[int, int, str]]) -> dict[str, Any]:
    """The window with the most uses of those above a cap; nothing: none is."""
    first, minor, best = 0, 0, dict[str, Any]()
    for last, (at_us, more, _) in enumerate(uses):
        minor += more
        while at_us - uses[first][0] >= terms.per_member_window_s * 1_000_000:
            minor -= uses[first][1]
            first += 1
        count = last - first + 1
        over = (terms.per_member_count is not None and count > terms.per_member_count) or (
            terms.per_member_minor is not None and minor > terms.per_member_minor
        )
        if over and (count, minor) > (best.get("uses", 0), best.get("exposure_minor", 0)):
            shops = sorted({gateway for _, _, gateway in uses[first : last + 1]})
            best = {"uses": count, "exposure_minor": minor, "stores": shops, "from_us": uses[first][0], "to_us": at_us}
    return best


# ---------------------------------------------------------------- what shops are told


def told(db: Connection, row: BoxRow, now_us: int) -> Anywhere:
    """The content of a box's document."""
    now_s = now_us // 1_000_000
    denied = db.execute(
        "SELECT voucher_id FROM not_on_trust WHERE not_after_s >= ? OR not_after_s = 0 ORDER BY voucher_id LIMIT ?", (now_s, MOST_DENIED)
    ).fetchall()
    codes = db.execute(
        "SELECT a.voucher_id, a.campaign, a.title_zh, a.title_en, o.not_before_s, a.not_after_s, o.texts, o.allotment, o.per_member,"
        " a.value_minor, a.stand FROM open_codes o JOIN assigned a ON a.voucher_id = o.voucher_id WHERE a.not_after_s >= ?"
        " ORDER BY a.issued_us",
        (now_s - KEPT_DAYS * DAY_S,),
    ).fetchall()
    return Anywhere(
        terms=in_force(db), revoked=[voucher_id for (voucher_id,) in denied],
        conflicts=_conflicts(db, row.gateway, now_us - KEPT_DAYS * DAY_S * 1_000_000), codes=[_code(*one) for one in codes],
    )  # fmt: skip


def _code(*said: Any) -> OpenCode:
    voucher_id, campaign, title_zh, title_en, not_before_s, not_after_s, texts, allotment, per_member, value_minor, stand = said
    state = msgspec.json.decode(stand)
    return OpenCode(
        voucher_id=voucher_id, campaign=campaign, title_zh=title_zh, title_en=title_en, not_before_s=not_before_s,
        not_after_s=not_after_s, digests=sorted({opaque.digest_of(text) for text in msgspec.json.decode(texts)}), allotment=allotment,
        per_member=per_member, value_minor=value_minor, revoked=bool(state.get("ended") or state.get("wish")),
    )  # fmt: skip


def _conflicts(db: Connection, gateway: str, oldest_us: int) -> list[Conflict]:
    """What this box took on trust of vouchers of which something is, or was, lost."""
    found = db.execute(
        f"SELECT u.redemption_id, u.voucher_id, u.campaign, u.units, u.good, {LOSS}, u.bearer, u.at_us,"
        " (SELECT o.gateway FROM shared_uses o WHERE o.voucher_id = u.voucher_id AND o.id <> u.id ORDER BY o.id LIMIT 1)"
        " FROM shared_uses u WHERE u.gateway = ? AND u.kind = 'risk' AND u.reversed = 0 AND u.at_us >= ? AND u.voucher_id IN (SELECT"
        " l.voucher_id FROM shared_uses l WHERE l.kind = 'risk' AND l.reversed = 0 AND l.good < l.units) ORDER BY u.id DESC LIMIT ?",
        (gateway, oldest_us, MOST_CONFLICTS),
    ).fetchall()
    names = {box: (zh, en) for box, zh, en in db.execute(f"SELECT b.gateway, {SHOP.format('b')} FROM boxes b").fetchall()}
    return [
        Conflict(
            redemption_id=redemption_id, voucher_id=voucher_id, campaign=campaign, outcome="loss" if good < units else "good",
            loss_minor=loss, bearer=bearer, other_zh=names.get(other, ("", ""))[0], other_en=names.get(other, ("", ""))[1], at_us=at_us,
        )
        for redemption_id, voucher_id, campaign, units, good, loss, bearer, at_us, other in reversed(found)
    ]  # fmt: skip


def exists(db: Connection) -> bool:
    """Whether there is anything to tell of."""
    return any(db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in ("risk_terms", "open_codes", "not_on_trust"))


def due(db: Connection, now_us: int, most: int) -> list[str]:
    """Boxes whose document has to be made: something is new, or a quarter of the list's age is over."""
    boxes = "SELECT t.gateway FROM anywhere_told t JOIN boxes b ON b.gateway = t.gateway WHERE"
    wanted = db.execute(f"{boxes} t.wanted = 1 ORDER BY t.gateway LIMIT ?", (most,)).fetchall()
    ages = [one.list_age_s for one in in_force(db)]
    oldest_us = now_us - min(ages) * 1_000_000 // REFRESH if ages else 0
    old = db.execute(f"{boxes} t.told_us < ? ORDER BY t.told_us LIMIT ?", (oldest_us, most)).fetchall()
    return list(dict.fromkeys(gateway for (gateway,) in [*wanted, *old]))[:most]


# ---------------------------------------------------------------- what it has cost


def describe(db: Connection, gateway: str) -> dict[str, Any]:
    """What a shop has taken on trust in all, what of it was loss, and who bears that; its caps."""
    found = db.execute(
        f"SELECT u.bearer, count(*), CAST(sum(u.exposure_minor) AS BIGINT), sum(CASE WHEN u.reversed = 0 AND u.good < u.units THEN 1 ELSE 0"
        f" END), CAST(sum({LOSS}) AS BIGINT) FROM shared_uses u WHERE u.gateway = ? AND u.kind = 'risk' AND u.number = 0"
        " GROUP BY u.bearer ORDER BY u.bearer",
        (gateway,),
    ).fetchall()
    return {
        "cap_minor": sum(one.per_shop_minor for one in in_force(db)), "taken": sum(int(one[1]) for one in found),
        "taken_minor": sum(int(one[2]) for one in found), "losses": sum(int(one[3]) for one in found),
        "realised_minor": sum(int(one[4]) for one in found), "borne_minor": {one[0]: int(one[4]) for one in found if one[4]},
    }  # fmt: skip


def with_open(said: dict[str, Any], is_current: bool) -> dict[str, Any]:
    """With what may be open: nothing while the shop is heard and nothing of it waits, else at most its cap."""
    return said | {"open_at_most_minor": 0 if is_current else said["cap_minor"]}


def losses(db: Connection) -> list[dict[str, Any]]:
    """Every loss, the newest first."""
    found = db.execute(
        f"SELECT u.redemption_id, u.voucher_id, b.store, u.bearer, u.units - u.good, {LOSS}, u.at_us, u.received_us"
        " FROM shared_uses u JOIN boxes b ON b.gateway = u.gateway WHERE u.kind = 'risk' AND u.reversed = 0 AND u.good < u.units"
        " ORDER BY u.id DESC LIMIT 1000"
    ).fetchall()
    names = ("redemption_id", "voucher_id", "store", "bearer", "units", "loss_minor", "at_us", "received_us")
    return [dict(zip(names, one, strict=True)) for one in found]
