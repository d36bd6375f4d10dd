"""What shops are told: vouchers, orders, staff and keys, as signed, versioned documents, and the manifest that names them.

A change and the document that carries it are one transaction: a voucher whose document was not sealed does not exist. Each
document is whole and for one box, so its version and hash say all; what has expired long ago is left out.
"""

import hashlib
import hmac
import secrets
import unicodedata
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from cloud_bridge.envelope import CHUNK_B, Chunk, Want
from cloud_bridge.hq import campaign_sheets, campaigns, contents, devices, issuers, members, rates, risks, shapes
from cloud_bridge.hq.registry import BoxRow, RefusedAsk, box_of_store
from cloud_bridge.hq.store import Connection
from gateway.codes import is_cardlike, short_code
from gateway.phones import region_secret
from gateway.rules.definitions import encode_campaign
from gateway.signed import (
    ANYWHERE_NAME,
    DOCUMENT_NAMES,
    DOCUMENT_TAG,
    MANIFEST_TAG,
    MEMBER_NAMES,
    OPENING_NAME,
    RENEWED_TAG,
    CampaignLimit,
    Document,
    DocumentRef,
    Manifest,
    Opening,
    Order,
    Renewed,
    Staff,
    TokenKey,
    Voucher,
    digest,
    seal,
    unseal,
)
from gateway.token import HOME_ISSUER, Claims, TokenKind, VoucherClass, sign, voucher_ref
from provisioning.authority import Authority

ISSUER: Final = HOME_ISSUER
DAY_S: Final = 86_400
KEPT_DAYS: Final = 30  # a shop can still say "expired" rather than "unknown" for a while
ORDER_DAYS: Final = 14
START_SLACK_S: Final = 600  # a shop's clock may be a little behind ours; its voucher should work at once
MOST_CAMPAIGNS_B: Final = 8 * 1024 * 1024  # half the seal's limit


class VoucherAsk(Struct, frozen=True, kw_only=True):
    """A voucher to issue."""

    store: str
    title_zh: str
    title_en: str
    valid_days: int = 30
    campaign: int = 1
    uses: int = 1
    value_minor: int = 0
    shape: shapes.Shape = shapes.ORDINARY
    channel: str = ""
    member_ref: str = ""  # it is for them; empty: for whoever holds it


class Issued(Struct, frozen=True):
    """What was issued: the identifier, its token's text and the form people type."""

    identifier: str
    token: str
    short_code: str
    box: BoxRow
    number: str = ""  # of an order


class Press:
    """Makes codes and documents, signed with headquarters' keys. Every method runs inside the caller's transaction."""

    def __init__(self, authority: Authority, floor: int = 0) -> None:
        self._authority = authority
        self._floor = floor  # after a restore: shops hold versions this database never heard of

    @property
    def own_keys(self) -> dict[int, Ed25519PrivateKey]:
        """The keys headquarters signs codes with."""
        return self._authority.token_keys

    def issue_voucher(self, db: Connection, ask: VoucherAsk, now_us: int) -> Issued:
        """Issue a voucher bound to one shop.

        Raises:
            RefusedAsk: No such shop, or too much for its document.
        """
        row = box_of_store(db, ask.store)
        issued = self.make_voucher(db, ask, row, issuers.signing_key_id(db, self.own_keys), now_us)
        self.seal(db, row, "vouchers", now_us)
        return issued

    def make_voucher(self, db: Connection, ask: VoucherAsk, row: BoxRow, key_id: int, now_us: int) -> Issued:
        """Store a voucher bound to one shop; the shop's list is not made anew.

        Raises:
            RefusedAsk: Its shape makes no sense.
        """
        shapes.check(ask.shape, ask.value_minor)
        now_s = now_us // 1_000_000
        identifier = new_identifier()
        claims = Claims(
            kind=TokenKind.VOUCHER, key_id=key_id, issuer=ISSUER, identifier=identifier,
            campaign=ask.campaign, store=row.number, not_before_s=now_s - START_SLACK_S, not_after_s=now_s + ask.valid_days * DAY_S,
            voucher_class=VoucherClass.STORE_BOUND, uses=ask.uses, value_minor=ask.value_minor, flags=ask.shape.flags,
        )  # fmt: skip
        issued = Issued(voucher_ref(ISSUER, identifier), self.sign(claims), short_code(identifier), row)
        db.execute(
            "INSERT INTO vouchers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
            (
                issued.identifier, row.gateway, ask.campaign, ask.title_zh, ask.title_en, claims.not_before_s, claims.not_after_s,
                ask.uses, ask.value_minor, issued.token, issued.short_code, now_us,
            ),
        )  # fmt: skip
        if ask.member_ref:
            members.give(db, issued.identifier, ask.member_ref)
        shapes.note(db, issued.identifier, ask.shape)
        shapes.note_channel(db, issued.identifier, ask.channel)
        return issued

    def link_secret(self, piece: str, size_b: int) -> bytes:
        """The secret in the link of a voucher issued by the thousand: told again whenever its piece is asked for, and stored nowhere."""
        root = hashlib.sha256(b"SGK1 link\n" + self._authority.root.private_bytes_raw()).digest()
        return hmac.digest(root, piece.encode(), "sha256")[:size_b]

    def member_secret(self, region: str) -> bytes:
        """The key of a region's telephone numbers: told again whenever it is asked for, and stored nowhere."""
        return region_secret(self._authority.root.private_bytes_raw(), region)

    def set_limit(self, db: Connection, store: str, limit: CampaignLimit, now_us: int) -> BoxRow:
        """Say what a shop may give out of a campaign.

        Raises:
            RefusedAsk: No such shop.
        """
        row = box_of_store(db, store)
        shapes.set_limit(db, row.gateway, limit)
        self.seal(db, row, "vouchers", now_us)
        return row

    def place_order(self, db: Connection, store: str, customer: str, lines: list[str], parcels: int, now_us: int) -> Issued:
        """Take an order to be collected in a shop. The customer's full name is masked here and stored nowhere.

        Raises:
            RefusedAsk: No such shop, or too much for its document.
        """
        row = box_of_store(db, store)
        identifier = new_identifier()
        not_after_s = now_us // 1_000_000 + ORDER_DAYS * DAY_S
        claims = Claims(
            kind=TokenKind.PICKUP, key_id=issuers.signing_key_id(db, self.own_keys), issuer=ISSUER, identifier=identifier, store=row.number,
            not_before_s=now_us // 1_000_000 - START_SLACK_S, not_after_s=not_after_s,
        )  # fmt: skip
        count = db.execute("SELECT count(*) FROM orders WHERE gateway = ?", (row.gateway,)).fetchone()[0]
        issued = Issued(voucher_ref(ISSUER, identifier), self.sign(claims), short_code(identifier), row, f"A{count + 1:03d}")
        db.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
            (
                issued.identifier, row.gateway, issued.number, masked(customer), parcels, msgspec.json.encode(lines).decode("utf-8"),
                issued.token, issued.short_code, not_after_s, now_us,
            ),
        )  # fmt: skip
        self.seal(db, row, "orders", now_us)
        return issued

    def revoke_voucher(self, db: Connection, voucher_id: str, now_us: int) -> BoxRow:
        """Cancel a voucher; the shop refuses it from the next document on.

        Raises:
            RefusedAsk: There is no such voucher.
        """
        db.execute("DELETE FROM unlisted WHERE voucher_id = ?", (voucher_id,))  # the shop has to hear of it by name
        return self._strike(db, "UPDATE vouchers SET revoked = 1 WHERE voucher_id = ? RETURNING gateway", voucher_id, "vouchers", now_us)

    def cancel_order(self, db: Connection, order_id: str, now_us: int) -> BoxRow:
        """Cancel an order; the shop refuses to hand it over from the next document on.

        Raises:
            RefusedAsk: There is no such order.
        """
        return self._strike(db, "UPDATE orders SET cancelled = 1 WHERE order_id = ? RETURNING gateway", order_id, "orders", now_us)

    def seal_all(self, db: Connection, row: BoxRow, now_us: int) -> None:
        """Make every document of a box anew."""
        for name in DOCUMENT_NAMES:
            if name != "members_recent":  # comes with "members"
                self.seal(db, row, name, now_us)
        if risks.exists(db):
            self.seal_anywhere(db, row, now_us)

    def seal(self, db: Connection, row: BoxRow, name: str, now_us: int) -> None:
        """Make the next version of a document."""
        version = self._next_version(db, row, name)
        if name in MEMBER_NAMES:
            told = members.told(db, row, name, version, self.member_secret(members.region_of(row)), now_us)
            self._put(db, Document(row.gateway, name, version, now_us, members=told))
            if name == "members":  # what went on top of the list before does not go on top of this one
                self.seal(db, row, "members_recent", now_us)
            return
        blank = Document(row.gateway, name, version, now_us)
        retired = name == "devices" and devices.is_retired(db, row.gateway)
        more: dict[str, Any] = {"issuer_keys": issuers.listed(db, self.own_keys)[1]} if name == "keys" else {}
        if name == "vouchers":
            more["limits"] = shapes.limits(db, row.gateway)
        self._put(db, msgspec.structs.replace(blank, retired=retired, **{name: self._content(db, row, name, now_us)}, **more))

    def seal_campaigns(self, db: Connection, rows: list[BoxRow], now_us: int) -> None:
        """Make the next campaigns of many boxes.

        Raises:
            RefusedAsk: More than a shop takes.
        """
        found = [one.campaign for one in campaigns.in_force(db)]
        definitions = {one.campaign: msgspec.Raw(encode_campaign(one)) for one in found}
        for row in rows:
            told, left_out = campaigns.told(found, row.number)
            campaigns.look_for_room(left_out, now_us)
            raw = [definitions[one.campaign] for one in told]
            if sum(len(bytes(one)) for one in raw) > MOST_CAMPAIGNS_B:
                raise RefusedAsk(409, f"a shop's campaigns take at most {MOST_CAMPAIGNS_B} bytes", "Name categories instead of SKUs")
            version = self._next_version(db, row, "campaigns")
            self._put(db, Document(row.gateway, "campaigns", version, now_us, campaigns=raw))
            campaign_sheets.note(db, row.gateway, version, told, now_us)

    def seal_opening(self, db: Connection, row: BoxRow, opening: Opening, now_us: int) -> int:
        """Make the next opening of a box; its number."""
        number = self._next_version(db, row, OPENING_NAME)
        self._put(db, Document(row.gateway, OPENING_NAME, number, now_us, opening=opening))
        return number

    def seal_anywhere(self, db: Connection, row: BoxRow, now_us: int) -> None:
        """Make the next version of what any shop may honour."""
        version = self._next_version(db, row, ANYWHERE_NAME)
        self._put(db, Document(row.gateway, ANYWHERE_NAME, version, now_us, anywhere=risks.told(db, row, now_us)))
        db.put("anywhere_told", [(row.gateway, now_us, 0)], "(gateway) DO UPDATE SET told_us = excluded.told_us, wanted = 0")

    def seal_after_restore(self, db: Connection, row: BoxRow, now_us: int) -> None:
        """Make a box's documents anew if they are of before the restore: what the shop holds is newer than those."""
        found = db.execute("SELECT name, version FROM documents WHERE gateway = ?", (row.gateway,)).fetchall()
        for name, version in found:
            if version < self._floor and name in DOCUMENT_NAMES:
                self.seal(db, row, name, now_us)
            elif version < self._floor and name == ANYWHERE_NAME:
                self.seal_anywhere(db, row, now_us)

    def seal_new_keys(self, db: Connection, row: BoxRow, now_us: int) -> None:
        """Make a box's `keys` anew if it has others than are in force: a key of ours came with this start."""
        found = db.execute("SELECT sealed FROM documents WHERE gateway = ? AND name = 'keys'", (row.gateway,)).fetchone()
        if found is None:
            return  # not enrolled yet
        held = unseal(DOCUMENT_TAG, bytes(found[0]), [self._authority.root_public], Document)
        if (held.keys, held.issuer_keys) != issuers.listed(db, self.own_keys):
            self.seal(db, row, "keys", now_us)

    def _next_version(self, db: Connection, row: BoxRow, name: str) -> int:
        found = db.execute("SELECT version FROM documents WHERE gateway = ? AND name = ?", (row.gateway, name)).fetchone()
        return max((found[0] if found else 0) + 1, self._floor)

    def _put(self, db: Connection, document: Document) -> None:
        sealed = seal(DOCUMENT_TAG, rates.added(db, document), self._authority.root)
        db.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT (gateway, name) DO UPDATE SET version = excluded.version,"
            " sealed = excluded.sealed",
            (document.gateway, document.name, document.version, sealed),
        )

    def manifest(self, db: Connection, row: BoxRow, now_us: int) -> bytes:
        """The sealed manifest of a box."""
        found = db.execute("SELECT name, version, sealed FROM documents WHERE gateway = ? ORDER BY name", (row.gateway,)).fetchall()
        refs = [DocumentRef(name, version, digest(sealed), len(sealed)) for name, version, sealed in found]
        return seal(MANIFEST_TAG, Manifest(row.gateway, refs, now_us), self._authority.root)

    def renew(self, csr_pem: str, gateway: str) -> bytes:
        """A box's next certificate, sealed.

        Raises:
            MalformedFrame: What it hands over is no request that its key signed.
        """
        return seal(RENEWED_TAG, Renewed(gateway, self._authority.issue_client(csr_pem, gateway)), self._authority.root)

    def sign(self, claims: Claims) -> str:
        """The text of a token."""
        return sign(claims, self._authority.token_keys[claims.key_id])

    def _strike(self, db: Connection, statement: str, identifier: str, document: str, now_us: int) -> BoxRow:
        found = db.execute(statement, (identifier,)).fetchone()
        if found is None:
            raise RefusedAsk(404, f"there is no {identifier}")
        row = box_of_store(db, db.execute("SELECT store FROM boxes WHERE gateway = ?", found).fetchone()[0])
        self.seal(db, row, document, now_us)
        return row

    def _content(
        self, db: Connection, row: BoxRow, name: str, now_us: int
    ) -> list[TokenKey] | list[Voucher] | list[Order] | list[Staff] | list[str] | list[msgspec.Raw]:
        oldest_s = now_us // 1_000_000 - KEPT_DAYS * DAY_S
        if name == "keys":
            return issuers.listed(db, self.own_keys)[0]
        if name == "devices":
            return devices.revoked_devices(db, row.gateway)
        if name == "campaigns":
            told = campaigns.of_store(db, row.number)
            campaign_sheets.note(db, row.gateway, self._next_version(db, row, name), told, now_us)
            return [msgspec.Raw(encode_campaign(one)) for one in told]
        if name == "vouchers":
            return contents.vouchers(db, row.gateway, oldest_s)
        return contents.orders(db, row.gateway, oldest_s) if name == "orders" else contents.staff(db, row.gateway)


def chunk_of(db: Connection, gateway: str, want: Want) -> Chunk | None:
    """The wanted piece, if that version of the document is the box's own; None otherwise."""
    found = db.execute(
        "SELECT sealed FROM documents WHERE gateway = ? AND name = ? AND version = ?", (gateway, want.name, want.version)
    ).fetchone()
    if found is None or not 0 <= want.offset < len(found[0]):
        return None
    sealed = found[0]
    return Chunk(want.name, want.version, want.offset, len(sealed), sealed[want.offset : want.offset + CHUNK_B])


def newest_chunk(db: Connection, gateway: str, name: str, offset: int) -> Chunk | None:
    """A piece of a document's version in force; None: it ends before."""
    found = db.execute("SELECT version FROM documents WHERE gateway = ? AND name = ?", (gateway, name)).fetchone()
    return chunk_of(db, gateway, Want(name, found[0], offset)) if found else None


def masked(name: str) -> str:
    """A name nobody can be called by, yet its owner knows: 陳小明 becomes 陳○明, 王明 王○, Ann Lee A○○ L○○.

    Of a name written without spaces in Chinese characters the first and, from three on, the last stay.
    """
    words = unicodedata.normalize("NFC", name).split()
    if len(words) == 1 and not words[0].isascii():
        word = words[0]
        return word[0] + "○" * (len(word) - 2) + word[-1] if len(word) > 2 else word[0] + "○"
    return " ".join(word[0] + "○" * max(1, len(word) - 1) for word in words)


def new_identifier() -> int:
    """60 random bits whose typed form no shop takes for a card: one in a hundred million is all digits."""
    while is_cardlike(short_code(identifier := secrets.randbits(60))):
        pass
    return identifier
