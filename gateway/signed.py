"""What HQ says, signed: acknowledgements, answers to heartbeats, manifests and documents; and the seal itself.

A sealed message is `TAG (4 bytes) | Ed25519 signature (64) | zstd of JSON`. The signature covers tag and compressed bytes, so
nothing is unpacked before it is verified, and a message of one kind never passes for another. Unpacking stops at a limit.
"""

import hashlib
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec
from backports import zstd
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct, field

from gateway.anywhere import ANYWHERE_NAME as ANYWHERE_NAME
from gateway.anywhere import Anywhere as Anywhere
from gateway.claimed import AssignmentStand as AssignmentStand
from gateway.claimed import Claim as Claim
from gateway.claimed import Claimed as Claimed
from gateway.claimed import Grant as Grant
from gateway.claimed import Lend as Lend
from gateway.claimed import Recall as Recall
from gateway.errors import MalformedFrame
from gateway.memberlist import CONSENTS as CONSENTS
from gateway.memberlist import Elsewhere as Elsewhere
from gateway.memberlist import MemberEntry as MemberEntry
from gateway.memberlist import MemberList as MemberList
from gateway.memberlist import MemberTrust as MemberTrust
from gateway.memberlist import MemberUses as MemberUses

TAG_B: Final = 4
SIGNATURE_B: Final = 64
MAX_UNPACKED_B: Final = 16 * 1024 * 1024
ACK_TAG: Final = b"SGA1"
ASK_TAG: Final = b"SGQ1"
BEAT_TAG: Final = b"SGB1"
ANSWER_TAG: Final = b"SGH1"
BATCH_TAG: Final = b"SGR2"
CLAIM_TAG: Final = b"SGL1"
CLAIMED_TAG: Final = b"SGY1"
RECALL_TAG: Final = b"SGW1"
LEND_TAG: Final = b"SGE1"
RENEW_TAG: Final = b"SGN1"
RENEWED_TAG: Final = b"SGC1"
MANIFEST_TAG: Final = b"SGM1"
DOCUMENT_TAG: Final = b"SGD1"

T = TypeVar("T")
_encoder = msgspec.json.Encoder()


def seal(tag: bytes, message: Struct, key: Ed25519PrivateKey) -> bytes:
    """A message under a signature."""
    body = zstd.compress(_encoder.encode(message), 3)
    return tag + key.sign(tag + body) + body


def unseal(tag: bytes, sealed: bytes, keys: Iterable[Ed25519PublicKey], shape: type[T], limit_b: int = MAX_UNPACKED_B) -> T:
    """The message, if one of the keys signed it.

    Raises:
        MalformedFrame: Another tag, no valid signature, larger than `limit_b` unpacked, or not of that shape.
    """
    if len(sealed) <= TAG_B + SIGNATURE_B or sealed[:TAG_B] != tag:
        raise MalformedFrame(f"not a sealed message of kind {tag.decode('ascii')}")
    signature, body = sealed[TAG_B : TAG_B + SIGNATURE_B], sealed[TAG_B + SIGNATURE_B :]
    if not any(_signed_by(key, signature, tag + body) for key in keys):
        raise MalformedFrame("nobody known signed this message", "Check that box and headquarters are enrolled with each other")
    try:
        return msgspec.json.decode(unpack_limited(body, limit_b), type=shape)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedFrame(f"a signed message of another shape: {error}", "Check that both ends run compatible releases") from error


def unpack_limited(body: bytes, limit_b: int) -> bytes:
    """Decompress one zstd frame.

    Raises:
        MalformedFrame: Not zstd, cut short, or larger than the limit.
    """
    decompressor = zstd.ZstdDecompressor()
    try:
        out = decompressor.decompress(body, max_length=limit_b + 1)
    except zstd.ZstdError as error:
        raise MalformedFrame("not zstd") from error
    if len(out) > limit_b:
        raise MalformedFrame(f"unpacks to more than {limit_b} bytes")
    if not decompressor.eof:
        raise MalformedFrame("a zstd frame cut short")
    return out


def _signed_by(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def public_hex(key: Ed25519PublicKey) -> str:
    """A public key as 64 hex digits."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def public_from_hex(text: str) -> Ed25519PublicKey:
    """The public key of 64 hex digits.

    Raises:
        MalformedFrame: Not that.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError as error:
        raise MalformedFrame("not an Ed25519 public key of 64 hex digits") from error


# ---------------------------------------------------------------- the road


class Ack(Struct, frozen=True):
    """HQ has committed the rows of one lane of one epoch up to `seq`, the row whose chain head is `head`.

    `mark` is how far HQ has come in all; `hq_time_us` is HQ's clock at signing; `backed_up` is how far the oldest backup reaches
    that HQ may still be restored from. `opening` is the number of the opening HQ has pressed for that epoch: the box has to wait
    for it; 0 means that HQ knows nothing that speaks against this epoch.
    """

    gateway: str
    epoch: str
    lane: int
    seq: int
    head: str
    mark: int
    hq_time_us: int
    backed_up: int = 0
    opening: int = 0


class Ask(Struct, frozen=True):
    """HQ wants what comes after row `from_seq` of a lane again: it was restored from a backup and lost what it had acknowledged.

    It moves a box's cursor back there and needs no chain head, since a row that HQ lost has none there.
    """

    gateway: str
    epoch: str
    lane: int
    from_seq: int
    hq_time_us: int


class Beat(Struct, frozen=True):
    """The bridge is alive: where the ledger stands, by the current epoch's lanes, and how many rows wait.

    `proven` says whether the current epoch was admitted; `parent` and `parent_heads` are what it continues. A release that says
    nothing of it counts as proven.
    """

    gateway: str
    number: int
    epoch: str
    last: dict[int, int]
    cursor: dict[int, int]
    waiting: int
    sent_us: int
    proven: bool = True
    parent: str | None = None
    parent_heads: dict[int, tuple[int, str]] = field(default_factory=dict)


class BeatAnswered(Struct, frozen=True):
    """HQ heard beat `number`: the line is up end to end, and this is HQ's time.

    `spread_s` is over how many seconds HQ wants its boxes to come back, each at a random moment, should they all lose their line.
    """

    gateway: str
    number: int
    hq_time_us: int
    spread_s: float = 0.0


class Renew(Struct, frozen=True):
    """A box asks for its next certificate, for a key it has just made. Signed by the box."""

    gateway: str
    csr: str  # PEM
    asked_us: int


class Renewed(Struct, frozen=True):
    """HQ's answer: the next certificate, PEM. A box that was revoked gets none."""

    gateway: str
    certificate: str


# ---------------------------------------------------------------- documents


class DocumentRef(Struct, frozen=True):
    """One document of a manifest."""

    name: str
    version: int
    sha256: str
    size_b: int


class Manifest(Struct, frozen=True):
    """Which documents a box should have."""

    gateway: str
    documents: list[DocumentRef]
    issued_us: int


class TokenKey(Struct, frozen=True):
    """A key that signs tokens and grants of an issuer. Times are seconds since 1970 UTC, 0: never."""

    key_id: int
    issuer: int
    public: str  # 64 hex digits
    issuer_zh: str = ""
    issuer_en: str = ""
    retired_s: int = 0  # it signs nothing more from here on; a token that begins later is not its issuer's
    honoured_until_s: int = 0  # what it signed is good until then at most
    revoked: bool = False  # stolen: nothing it ever signed is good


class IssuerKey(Struct, frozen=True, kw_only=True):
    """A key that signs codes in another format than our own. An unknown `format` is left aside and reported."""

    format: str  # one of `FORMATS`
    issuer: int
    public: str  # 64 hex digits
    key_id: str = ""  # the `kid`: of a JWT as it stands, of a CWT in hex; pretix tickets name none
    iss: str = ""  # whom a JWT or CWT must say it is of
    audience: str = ""  # whom it must be for, if it says so
    store: int = 0  # its vouchers are for this one shop; 0: each names its own
    campaigns: dict[str, int] = field(default_factory=dict)  # item ("3", of pretix also "3/1", "3/1/9") to campaign; empty: any item
    issuer_zh: str = ""
    issuer_en: str = ""
    retired_s: int = 0
    honoured_until_s: int = 0
    revoked: bool = False


FORMATS: Final = ("cwt", "jwt", "pretix")


class Voucher(Struct, frozen=True):
    """What the shop should show for a voucher, and whether it was revoked. The token alone suffices to redeem."""

    voucher_id: str
    campaign: int
    title_zh: str
    title_en: str
    not_before_s: int
    not_after_s: int
    issuer: int = 1
    uses: int = 1
    value_minor: int = 0
    revoked: bool = False
    codes: list[str] = field(default_factory=list)  # `verifiers.opaque.digest_of` the codes without signature that stand for it
    partial: bool = False  # `value_minor` is a face value that is spent in parts
    practice: bool = False  # for training: everything happens, nothing counts
    windows: list[tuple[int, int]] = field(default_factory=list)  # booked slots (from, to), seconds since 1970 UTC; none: at any time
    member_ref: str = ""  # it was issued for them, who agreed to be joined to its use; empty: for whoever holds it


class Order(Struct, frozen=True):
    """An order to collect. `number` is what people say aloud; `customer` is masked already, such as 陳○明."""

    order_id: str  # `voucher_ref` form of the pickup token's identifier
    number: str
    customer: str
    parcels: int
    lines: list[str] = field(default_factory=list)
    cancelled: bool = False


class Staff(Struct, frozen=True):
    """Who works here. The PIN is an argon2id hash."""

    staff_ref: str
    name: str
    pin_hash: str
    roles: list[str]


class CampaignLimit(Struct, frozen=True):
    """What one shop may give out for the vouchers of a campaign: a stock of prizes, or the seats of a session."""

    campaign: int
    stock: int | None = None  # uses in all, reversed ones not counted; None: no end
    daily: int | None = None  # uses on one of the shop's days
    session: bool = False  # `stock` are seats: it is full, not sold out
    reverse_s: int | None = None  # how long a redemption may be taken back at the shop; None: as the box is configured


class UsedVoucher(Struct, frozen=True, array_like=True):
    """How often HQ knows a voucher to be used, less what was reversed, and when, where and by whom last."""

    voucher_id: str
    uses: int
    at_us: int
    station: str
    staff: str | None
    spent_minor: int = 0  # of a face value


class GivenOut(Struct, frozen=True, array_like=True):
    """How many uses of a campaign's vouchers HQ knows on one of the shop's days, less what was reversed."""

    campaign: int
    day: str  # such as "2026-11-22"
    uses: int


class OrderStand(Struct, frozen=True, array_like=True):
    """Where HQ last saw an order: a state of `cloud_bridge.hq.effects`, and the compartment it was in."""

    order_id: str
    state: str
    bank: str
    compartment: int
    at_us: int


class Opening(Struct, frozen=True):
    """HQ's word on a start that cannot be believed from its disk alone: what was used and handed over, as far as HQ knows.

    `marks` is how far HQ had each epoch's lane 0 when it counted, so a box adds exactly what HQ did not have yet.
    """

    epoch: str  # the one start it opens
    marks: dict[str, int]  # epoch name to the last row of lane 0 that is counted in here
    used: list[UsedVoucher] = field(default_factory=list)
    orders: list[OrderStand] = field(default_factory=list)
    given: list[GivenOut] = field(default_factory=list)
    assigned: list[AssignmentStand] = field(default_factory=list)
    settled_s: int = 0  # the highest settled mark HQ has of this box, from whatever line
    members: list[MemberUses] | None = None  # what limits its members; None: headquarters of an earlier release has not counted that
    trusted: list[MemberTrust] = field(default_factory=list)  # what members took on trust within the windows of the terms


class Document(Struct, frozen=True):
    """A whole, versioned document for one box. Exactly the lists its name stands for are filled."""

    gateway: str
    name: str  # one of `DOCUMENT_NAMES` or `RARE_NAMES`
    version: int
    issued_us: int
    keys: list[TokenKey] = field(default_factory=list)
    vouchers: list[Voucher] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    staff: list[Staff] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)  # identifiers of the shop's devices that HQ revoked, all of them
    retired: bool = False  # in "devices" only: this box itself was revoked and serves nobody any more
    issuer_keys: list[IssuerKey] = field(default_factory=list)  # in "keys": of issuers with formats of their own
    limits: list[CampaignLimit] = field(default_factory=list)  # in "vouchers", beside them
    opening: Opening | None = None  # in "opening" only; its version is the opening's number
    campaigns: list[msgspec.Raw] = field(default_factory=list)  # each read for itself, by `gateway.rules.definitions`
    rates: list[msgspec.Raw] = field(default_factory=list)  # in "campaigns", beside them; read by `gateway.rules.points`
    members: MemberList | None = None  # in "members" (all of them) and "members_recent" (who has changed since)
    anywhere: Anywhere | None = None  # in "anywhere" only


MEMBER_NAMES: Final = ("members", "members_recent")
DOCUMENT_NAMES: Final = ("keys", "vouchers", "orders", "staff", "devices", "campaigns", *MEMBER_NAMES)  # every box has each of these
OPENING_NAME: Final = "opening"  # pressed for a start that needs one
RARE_NAMES: Final = (OPENING_NAME, ANYWHERE_NAME)  # there is none until there is something to say


def digest(sealed: bytes) -> str:
    """SHA-256 of a sealed document's bytes, in hex: what a manifest names."""
    return hashlib.sha256(sealed).hexdigest()
