"""What a presented text or byte string is, before anybody looks inside.

Recognised by shape alone: nothing here verifies, resolves or remembers. Card-like numbers (13 to 19 digits that pass Luhn's
check and are no GTIN symbol) are recognised so that they can be dropped without a trace.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.errors import MalformedFrame

MAX_PAYLOAD_B: Final = 4_296  # the longest alphanumeric QR
TOKEN_PREFIX: Final = "V1:"  # noqa: S105 - no password; a test keeps it in step with `gateway.token`, which may not be imported
CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SHORT_LETTERS: Final = 12  # 60 bits of identifier
CHECK_LETTERS: Final = 2
CHECK_PRIME: Final = 1021  # the largest prime below 32²: finds every single slip and every swap of two letters
GTIN_SYMBOLS: Final = ("]E", "]e", "]C1", "]d2", "]Q3")  # symbology identifiers under which 13 digits are goods


class CodeKind(StrEnum):
    """What it looks like."""

    TOKEN = "token"  # noqa: S105 - one of our signed tokens; only its signature says whether it is
    SHORT = "short"  # a typed code with its check letters right
    MISTYPED = "mistyped"  # shaped like a typed code, its check letters wrong
    CARD = "card"  # looks like a payment card number: dropped, never logged
    OTHER = "other"


class Recognised(Struct, frozen=True):
    """A code and its kind; `text` is empty for cards."""

    kind: CodeKind
    text: str = ""


def recognise(payload: bytes, symbology_id: str = "]X0") -> Recognised:
    """Say what a presented code is. Total: any bytes have a kind."""
    if len(payload) > MAX_PAYLOAD_B:
        return Recognised(CodeKind.OTHER)
    text = payload.decode("utf-8", "replace").strip("\x00\r\n\t ")
    if text.startswith(TOKEN_PREFIX):
        return Recognised(CodeKind.TOKEN, text)
    if _is_card(text, symbology_id):
        return Recognised(CodeKind.CARD)
    letters = normalise_typed(text)
    if _is_short_shaped(letters):
        right = letters[SHORT_LETTERS:] == check_letters(letters[:SHORT_LETTERS])
        return Recognised(CodeKind.SHORT if right else CodeKind.MISTYPED, letters)
    return Recognised(CodeKind.OTHER, text)


def normalise_typed(text: str) -> str:
    """Upper case, full-width letters narrowed, separators gone, O I L read as 0 1 1 (Crockford)."""
    return _bare(text).upper().translate(str.maketrans("OIL", "011"))


def _bare(text: str) -> str:
    narrow = "".join(chr(ord(c) - 0xFEE0) if "！" <= c <= "～" else c for c in text)
    return re.sub(r"[\s\-‐‑–—_.]", "", narrow)


def check_letters(letters: str) -> str:
    """The two check letters of a short code's letters."""
    value = 0
    for letter in letters:
        value = (value * 32 + CROCKFORD.index(letter)) % CHECK_PRIME
    check = value * 32 * 32 % CHECK_PRIME
    return CROCKFORD[check // 32] + CROCKFORD[check % 32]


def short_code(identifier: int) -> str:
    """The typed form of a 60-bit identifier, such as `0000-0000-002A-1B`... grouped for the eye.

    Raises:
        ValueError: The identifier has more than 60 bits.
    """
    if not 0 <= identifier < 1 << 60:
        raise ValueError("a short code holds 60 bits")
    letters = "".join(CROCKFORD[identifier >> shift & 31] for shift in range(55, -1, -5))
    whole = letters + check_letters(letters)
    return "-".join(whole[i : i + 4] for i in range(0, len(whole), 4))


def short_identifier(text: str) -> int:
    """The identifier in a typed code.

    Raises:
        MalformedFrame: Not the shape of one, or the check letters are wrong.
    """
    letters = normalise_typed(text)
    if not _is_short_shaped(letters) or letters[SHORT_LETTERS:] != check_letters(letters[:SHORT_LETTERS]):
        raise MalformedFrame("not a short code", "Type the fourteen letters under the QR code")
    value = 0
    for letter in letters[:SHORT_LETTERS]:
        value = value * 32 + CROCKFORD.index(letter)
    return value


def _is_short_shaped(letters: str) -> bool:
    return len(letters) == SHORT_LETTERS + CHECK_LETTERS and all(letter in CROCKFORD for letter in letters)


def _is_card(text: str, symbology_id: str) -> bool:
    digits = _bare(text)
    if not (13 <= len(digits) <= 19 and digits.isascii() and digits.isdigit()) or symbology_id.startswith(GTIN_SYMBOLS):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
