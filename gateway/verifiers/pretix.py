"""Tickets of pretix's signature scheme 1, base64 written backwards.

Layout, big-endian::

    01 | payload length u16 | signature length u16 | payload | Ed25519 signature over the payload, 64 B

The payload is protobuf: 1 seed (string), 2 item, 3 variation, 4 subevent, 5 valid from, 6 valid until (Unix seconds). A ticket names
neither key nor event: each key headquarters lists is tried. Its item is mapped to a campaign by "ITEM", "ITEM/VARIATION" or
"ITEM/VARIATION/SUBEVENT"; a ticket for one date of a series only by the last, so that nobody comes on another day.

Fields nobody knows are refused rather than skipped: "valid until" was such a field once.

Source: pretix, `base/secrets.py` (Sig1TicketSecretGenerator) and `pretix_sig1.proto`.
"""

import base64
import binascii
import struct
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from gateway.codes import CodeKind
from gateway.errors import MalformedFrame
from gateway.token import SIGNATURE_B, BadSignature, UnknownKey
from gateway.verifiers.keyring import Held, Keyring
from gateway.verifiers.presented import FOREVER_S, Named, Presented, present

HEAD: Final = struct.Struct(">BHH")
VERSION: Final = 1
MAX_LETTERS: Final = 1_028
SEED, ITEM, VARIATION, SUBEVENT, VALID_FROM, VALID_UNTIL = range(1, 7)
VARINT, TEXT = 0, 2  # wire types
MAX_VARINT_B: Final = 9  # 63 bits: numbers here are not negative


class Ticket(Struct, frozen=True, kw_only=True):
    """What a ticket says; 0: not said."""

    seed: bytes
    item: int
    variation: int = 0
    subevent: int = 0
    valid_from_s: int = 0
    valid_until_s: int = 0


def verify(text: str, keys: Keyring) -> Presented:
    """The terms in a ticket.

    Raises:
        UnknownKey: Headquarters lists no such key at all.
        BadSignature: None of the keys signed it.
        CodeRefused: As `present`.
        MalformedFrame: Not the shape of a ticket.
    """
    payload, signature = _parts(text)
    ticket = _ticket(payload)
    held = _signer(keys, payload, signature)
    return present(CodeKind.PRETIX, held, _named(ticket))


def sign(ticket: Ticket, key: Ed25519PrivateKey) -> str:
    """The text of a ticket, as pretix writes it."""
    numbers = {
        ITEM: ticket.item, VARIATION: ticket.variation, SUBEVENT: ticket.subevent, VALID_FROM: ticket.valid_from_s,
        VALID_UNTIL: ticket.valid_until_s,
    }  # fmt: skip
    payload = bytes([SEED << 3 | TEXT, len(ticket.seed)]) + ticket.seed
    payload += b"".join(bytes([number << 3]) + _varint(value) for number, value in numbers.items() if value)
    return base64.b64encode(HEAD.pack(VERSION, len(payload), SIGNATURE_B) + payload + key.sign(payload)).decode("ascii")[::-1]


def _parts(text: str) -> tuple[bytes, bytes]:
    if len(text) > MAX_LETTERS:
        raise MalformedFrame("longer than any ticket")
    try:
        raw = base64.b64decode(text[::-1].encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedFrame("not base64") from error
    if len(raw) < HEAD.size or base64.b64encode(raw).decode("ascii")[::-1] != text:
        raise MalformedFrame("not the one spelling of a ticket")
    version, payload_b, signature_b = HEAD.unpack_from(raw)
    if version != VERSION or signature_b != SIGNATURE_B or len(raw) != HEAD.size + payload_b + signature_b:
        raise MalformedFrame("not a ticket of signature scheme 1")
    return raw[HEAD.size : HEAD.size + payload_b], raw[HEAD.size + payload_b :]


def _signer(keys: Keyring, payload: bytes, signature: bytes) -> Held:
    listed = keys.nameless(CodeKind.PRETIX)
    if not listed:
        raise UnknownKey("no key for tickets")
    for held in listed:
        try:
            held.check(signature, payload)
        except BadSignature:
            continue
        return held
    raise BadSignature("none of the keys for tickets signed this")


def _ticket(payload: bytes) -> Ticket:
    found: dict[int, Any] = {}
    at = 0
    while at < len(payload):
        key, at = _read_varint(payload, at)
        number, wire = key >> 3, key & 7
        if number in found or not SEED <= number <= VALID_UNTIL or wire != (TEXT if number == SEED else VARINT):
            raise MalformedFrame("a field twice, or one nobody knows", "A newer release may know it")
        found[number], at = _read_varint(payload, at)
        if wire == TEXT:
            found[number], at = payload[at : at + found[number]], at + found[number]
    if at != len(payload) or not found.get(SEED) or not found.get(ITEM):
        raise MalformedFrame("a ticket cut short, or without seed or item")
    return Ticket(
        seed=found[SEED], item=found[ITEM], variation=found.get(VARIATION, 0), subevent=found.get(SUBEVENT, 0),
        valid_from_s=found.get(VALID_FROM, 0), valid_until_s=found.get(VALID_UNTIL, 0),
    )  # fmt: skip


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(MAX_VARINT_B):
        if at + place >= len(payload):
            raise MalformedFrame("a ticket cut short")
        byte = payload[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            if byte == 0 and place:
                raise MalformedFrame("a number not in its shortest spelling")
            return value, at + place + 1
    raise MalformedFrame("a number of more than 63 bits")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _named(ticket: Ticket) -> Named:
    exact = f"{ticket.item}/{ticket.variation}/{ticket.subevent}"
    items = (exact,) if ticket.subevent else (exact, f"{ticket.item}/{ticket.variation}", str(ticket.item))
    return Named(
        name=ticket.seed, not_after_s=ticket.valid_until_s or FOREVER_S, not_before_s=ticket.valid_from_s, items=items,
    )  # fmt: skip
