"""Members as headquarters tells a shop of them: made-up people with keyed numbers, codes and cards."""

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import phones
from gateway.codes import listed_letters
from gateway.core.passes import Signer
from gateway.signed import DOCUMENT_TAG, Document, MemberEntry, MemberList, seal
from gateway.token import Claims, TokenKind, sign, voucher_ref
from gateway.wrapped import wrap
from tests.conftest import HQ_KEY, TOKEN_KEY
from tests.gateway.core.shop import END_S, GATEWAY

BOX_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(7, 39)))
SIGNER = Signer("", BOX_KEY)
SECRET = phones.region_secret(b"a chain's own key", "TW")
PHONE, CARD = "+886912345678", "OLD-CARD 7731"
REF, OTHER = (phones.as_reference(bytes([number]) * 16) for number in (1, 2))
CODE, OTHER_CODE = 0x31, 0x32


def key_of(phone: str) -> str:
    return phones.phone_key(SECRET, phone)


GOLD = MemberEntry(REF, key_of(PHONE), voucher_ref(1, CODE), "gold", ["bind", "preferences"], 300)
PLAIN = MemberEntry(OTHER, key_of("+886987654321"), voucher_ref(1, OTHER_CODE), "", [], 0)


def member_token(identifier: int = CODE, not_after_s: int = END_S) -> bytes:
    return sign(Claims(kind=TokenKind.MEMBER, key_id=1, issuer=1, identifier=identifier, not_after_s=not_after_s), TOKEN_KEY).encode()


def whole(*entries: MemberEntry, version: int = 1, issued_us: int = 0, card: str = CARD, whose: str = REF) -> bytes:
    """The sealed list of all members."""
    cards = [(phones.card_key(SECRET, listed_letters(card)), whose)] if card else []
    listed = MemberList("TW", wrap(SECRET, BOX_KEY.public_key(), b"members\n" + GATEWAY.encode()), 0, list(entries), cards)
    return seal(DOCUMENT_TAG, Document(GATEWAY, "members", version, issued_us, members=listed), HQ_KEY)


def recent(*entries: MemberEntry, base: int = 1, version: int = 1, issued_us: int = 0) -> bytes:
    """The sealed list of who has changed."""
    listed = MemberList("TW", base=base, entries=list(entries))
    return seal(DOCUMENT_TAG, Document(GATEWAY, "members_recent", version, issued_us, members=listed), HQ_KEY)


def tagged(entry: MemberEntry, *tags: tuple[str, int]) -> MemberEntry:
    return msgspec.structs.replace(entry, tags=list(tags))
