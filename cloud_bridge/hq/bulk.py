"""Vouchers by the thousand. Each is a *piece* of an order and has a key: asked for again, the same voucher is told, and none is made.

A piece for a shop is a voucher bound to it; a piece for no shop is one that any shop honours by headquarters' assignment. A shop's
list stays short: of vouchers by the thousand it names as many as fit into half of it, so that single ones find room beside them.
Those beyond are honoured all the same, for their signed code says everything; only typing their letters does not work.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from fastapi import APIRouter
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq import assigned_api, assignments, issuers, registry, risks
from cloud_bridge.hq.api import Words
from cloud_bridge.hq.contents import MOST_LIVE
from cloud_bridge.hq.documents import DAY_S, KEPT_DAYS, Press, VoucherAsk
from cloud_bridge.hq.feed import Change
from cloud_bridge.hq.intake import RowRefused
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Connection
from gateway.anywhere import RiskTerms

AT_ONCE: Final = 500  # pieces of one transaction: some 0.2 s, during which no row of a shop is taken
MOST_LISTED: Final = MOST_LIVE // 2
MOST_USES: Final = 255
MOST_MINOR: Final = 2**32 - 1
MOST_DAYS: Final = 3_650


class Piece(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One voucher that is wanted."""

    piece: str  # its key
    store: str = ""  # empty: any shop
    title_zh: str
    title_en: str = ""
    uses: int = 1
    value_minor: int = 0
    valid_days: int = 30
    campaign: int = 1
    voucher_class: str = ""  # empty: bound to its shop, or granted


class Made(Struct, frozen=True, kw_only=True):
    """A voucher that was issued, now or before."""

    piece: str
    voucher_id: str
    store: str
    title_zh: str
    title_en: str
    value_minor: int
    not_after_s: int
    token: str
    short_code: str
    typed: bool  # whether the letters of `short_code` may be typed in its shop
    secret: str  # of the link of a voucher for any shop, hex
    new: bool


class NewPiece(BaseModel):
    """One voucher of many."""

    model_config = ConfigDict(extra="forbid")
    piece: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{8,80}$", description="Its key: asked for again, the same voucher is told.")]
    store: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,40}$", description="Empty: any shop, by headquarters' assignment.")] = ""
    title_zh: Words
    title_en: str = Field("", max_length=80)
    uses: Annotated[int, Field(ge=1, le=MOST_USES)] = 1
    value_minor: Annotated[int, Field(ge=0, le=MOST_MINOR)] = 0
    valid_days: Annotated[int, Field(ge=1, le=MOST_DAYS)] = 30
    campaign: Annotated[int, Field(ge=0, le=MOST_MINOR)] = 1
    voucher_class: Literal["", "store_bound", "granted", "hq_live", "leased", "bounded_risk"] = Field(
        "", description="Empty: bound to its shop, or granted. A store_bound one names its shop, any other none."
    )


class NewPieces(BaseModel):
    """Many vouchers: all of them are issued, or none."""

    model_config = ConfigDict(extra="forbid")
    pieces: Annotated[list[NewPiece], Field(min_length=1, max_length=AT_ONCE)]


def issue(db: Connection, press: Press, pieces: Sequence[Piece], now_us: int) -> tuple[list[Made], list[BoxRow]]:
    """Issue what was not issued before, inside the caller's transaction; every voucher asked for, and boxes whose list changed.

    Raises:
        RowRefused: Some shop does not exist; by place.
    """
    known = {row.store: row for row in registry.boxes(db)}
    terms = risks.in_force(db)
    wrong = {place: why for place, one in enumerate(pieces) if (why := _wrong(one, known, terms))}
    if wrong:
        raise RowRefused(wrong, "vouchers cannot be issued")
    key_id, listed, made = issuers.signing_key_id(db, press.own_keys), _Listed(db, now_us), list[Made]()
    for one in pieces:
        found = _find(db, press, one.piece)
        if found is None:
            found = _for_shop(db, press, one, known[one.store], key_id, now_us) if one.store else _for_any(db, press, one, key_id, now_us)
            db.execute("INSERT INTO pieces VALUES (?, ?)", (one.piece, found.voucher_id))
            if one.store:
                found = msgspec.structs.replace(found, typed=listed.take(known[one.store], found.voucher_id))
        made.append(found)
    for row in listed.changed:
        press.seal(db, row, "vouchers", now_us)
    return made, listed.changed


def _wrong(one: Piece, known: dict[str, BoxRow], terms: list[RiskTerms]) -> str:
    """Why a piece cannot be issued; empty: it can."""
    if one.store and one.store not in known:
        return f"there is no shop {one.store}"
    if one.voucher_class not in ("", "store_bound", *assigned_api.CLASSES):
        return f"nobody knows the class {one.voucher_class[:20]}: store_bound, " + ", ".join(assigned_api.CLASSES)
    if one.voucher_class and (one.voucher_class == "store_bound") is not bool(one.store):
        return (
            "a store_bound voucher names its shop" if not one.store else f"a {one.voucher_class} voucher is for any shop: leave store empty"
        )
    if one.voucher_class == "bounded_risk" and risks.terms_for(terms, one.campaign) is None:
        return f"campaign {one.campaign} has no terms of what shops may take on trust: declare them (POST /api/risk/terms)"
    return ""


class _Listed:
    """How many vouchers the shops' lists hold, as they grow."""

    def __init__(self, db: Connection, now_us: int) -> None:
        self._db = db
        self._oldest_s = now_us // 1_000_000 - KEPT_DAYS * DAY_S
        self._count: dict[str, int] = {}
        self.changed: list[BoxRow] = []

    def take(self, row: BoxRow, voucher_id: str) -> bool:
        """Put a new voucher into its shop's list if it may be in there."""
        if row.gateway not in self._count:
            counted = (
                "SELECT count(*) FROM vouchers v WHERE v.gateway = ? AND v.not_after_s >= ? AND v.voucher_id <> ?"
                " AND NOT EXISTS (SELECT 1 FROM unlisted u WHERE u.voucher_id = v.voucher_id)"
            )
            self._count[row.gateway] = self._db.execute(counted, (row.gateway, self._oldest_s, voucher_id)).fetchone()[0]
        if self._count[row.gateway] >= MOST_LISTED:
            self._db.execute("INSERT INTO unlisted VALUES (?)", (voucher_id,))
            return False
        self._count[row.gateway] += 1
        if row not in self.changed:
            self.changed.append(row)
        return True


def _for_shop(db: Connection, press: Press, one: Piece, row: BoxRow, key_id: int, now_us: int) -> Made:
    ask = VoucherAsk(
        store=one.store, title_zh=one.title_zh, title_en=one.title_en or one.title_zh, valid_days=one.valid_days, campaign=one.campaign,
        uses=one.uses, value_minor=one.value_minor,
    )  # fmt: skip
    issued = press.make_voucher(db, ask, row, key_id, now_us)
    return Made(
        piece=one.piece, voucher_id=issued.identifier, store=one.store, title_zh=ask.title_zh, title_en=ask.title_en,
        value_minor=one.value_minor, not_after_s=now_us // 1_000_000 + one.valid_days * DAY_S, token=issued.token,
        short_code=issued.short_code, typed=True, secret="", new=True,
    )  # fmt: skip


def _for_any(db: Connection, press: Press, one: Piece, key_id: int, now_us: int) -> Made:
    asked = assigned_api.NewAssigned(
        title_zh=one.title_zh, title_en=one.title_en, valid_days=one.valid_days, campaign=one.campaign, uses=one.uses,
        value_minor=one.value_minor, voucher_class=cast(Any, one.voucher_class or "granted"),
    )  # fmt: skip
    row, secret = assigned_api.issue(press, asked, now_us, key_id, press.link_secret(one.piece, assigned_api.SECRET_B))
    assignments.insert(db, row)
    return Made(
        piece=one.piece, voucher_id=row.voucher_id, store="", title_zh=row.title_zh, title_en=row.title_en, value_minor=row.value_minor,
        not_after_s=row.not_after_s, token=row.token, short_code=row.short_code, typed=False, secret=secret, new=True,
    )  # fmt: skip


def _find(db: Connection, press: Press, piece: str) -> Made | None:
    found = db.execute("SELECT voucher_id FROM pieces WHERE piece = ?", (piece,)).fetchone()
    if found is None:
        return None
    columns = "title_zh, title_en, {0}.value_minor, {0}.not_after_s, {0}.token, {0}.short_code"
    bound = db.execute(
        f"SELECT b.store, u.voucher_id IS NULL, {columns.format('v')} FROM vouchers v JOIN boxes b ON b.gateway = v.gateway"  # noqa: S608
        " LEFT JOIN unlisted u ON u.voucher_id = v.voucher_id WHERE v.voucher_id = ?", found,
    ).fetchone()  # fmt: skip
    secret = ""
    if bound is None:
        held = db.execute(f"SELECT '', 0, {columns.format('a')} FROM assigned a WHERE a.voucher_id = ?", found).fetchone()  # noqa: S608
        bound, secret = held, press.link_secret(piece, assigned_api.SECRET_B).hex()
    store, typed, title_zh, title_en, value_minor, not_after_s, token, short_code = bound
    return Made(
        piece=piece, voucher_id=found[0], store=store, title_zh=title_zh, title_en=title_en, value_minor=value_minor,
        not_after_s=not_after_s, token=token, short_code=short_code, typed=bool(typed), secret=secret, new=False,
    )  # fmt: skip


def bulk_routes(office: Office) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api", tags=["vouchers"])

    @router.post("/issue", status_code=201, summary="Issue many vouchers, all or none; those issued before are told again")
    async def many(body: NewPieces) -> list[dict[str, Any]]:
        pieces = [Piece(**one.model_dump()) for one in body.pieces]
        made, changed = await office.store.write(lambda db: issue(db, office.press, pieces, office.now_us()))
        for row in changed:
            await office.ingest.announce(row)
        if changed:
            office.feed.tell(Change())
        return [dict(msgspec.to_builtins(one)) for one in made]

    return router
