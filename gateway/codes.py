"""What a presented text or byte string is, before anybody looks inside.

Recognised by shape alone: nothing here verifies, resolves or remembers. Card-like numbers (13 to 19 digits that pass Luhn's
check and are no GTIN symbol; what a magnetic stripe says) come before anything else, to be dropped without a trace.

docs/codes.md has the table of every code the shop understands.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.errors import MalformedFrame

MAX_PAYLOAD_B: Final = 4_296  # the longest alphanumeric QR
# Tests keep these in step with the modules that read them, which may not be imported here.
TOKEN_PREFIX: Final = "V1:"  # noqa: S105 - no password
GRANT_PREFIX: Final = "G1:"
CWT_PREFIX: Final = "CWT:"
JWT_START: Final = "eyJ"  # base64url of `{"`
PRETIX_SHAPE: Final = re.compile(r"={0,2}[A-Za-z0-9+/]{96,1024}QA")  # base64 of 01 0x, written backwards
CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SHORT_LETTERS: Final = 12  # 60 bits of identifier
CHECK_LETTERS: Final = 2
CHECK_PRIME: Final = 1021  # the largest prime below 32²: finds every single slip and every swap of two letters
MAX_TYPED: Final = 128  # letters of a code that a list may know
SEPARATORS: Final = r"\s\-_.·・\u00ad\u200b\u2010-\u2015\u2060\u2212\u2500\u30fc\ufe58\ufe63\uff0d\uff3f\uff0e\ufeff"
SEPARATOR: Final = re.compile(f"[{SEPARATORS}]")
NUMBER_SHAPE: Final = re.compile(f"[0-9０-９{SEPARATORS}]+")
STRIPE: Final = re.compile(r"%?[Bb][0-9 ]{13,23}\^|;?[0-9]{13,19}=[0-9]")  # tracks 1 and 2 of a card, ISO/IEC 7813
WIDE: Final = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}  # full-width letters to the usual ones
ALIKE: Final = str.maketrans("OIL", "011")
# A run of digits inside a text, not inside a word: identifiers in hex are no cards.
LONG_RUN: Final = re.compile(f"(?<![0-9A-Za-z])[0-9](?:[{SEPARATORS}]?[0-9]){{12,18}}(?![0-9A-Za-z])")
LOOKED_AFTER: Final = frozenset({"code", "codes", "phone", "old_cards"})  # fields whose readers drop cards themselves, and say so
OWN_NUMBERS: Final = frozenset({"authorization_id", "redemption_id", "redemption_ids", "order_id", "presentation_id", "key"})
GTIN_SYMBOLS: Final = ("]E", "]e", "]C1", "]d2", "]Q3")  # symbology identifiers under which 13 digits are goods


class CodeKind(StrEnum):
    """What it looks like."""

    TOKEN = "token"  # noqa: S105 - one of our signed tokens; only its signature says whether it is
    GRANT = "grant"  # a phone brings headquarters' leave
    CWT = "cwt"
    JWT = "jwt"
    PRETIX = "pretix"
    SHORT = "short"  # a typed code with its check letters right
    MISTYPED = "mistyped"  # shaped like a typed code, its check letters wrong
    CARD = "card"  # looks like a payment card number: dropped, never logged
    OTHER = "other"


class Recognised(Struct, frozen=True):
    """A code and its kind.

    `text` is what to verify (of SHORT and MISTYPED: their letters); `typed` is how a list would know a code that carries no
    signature. Both are empty for cards, `typed` also for what is too long to be in a list.
    """

    kind: CodeKind
    text: str = ""
    typed: str = ""


def recognise(payload: bytes, symbology_id: str = "]X0") -> Recognised:
    """Say what a presented code is. Total: any bytes have a kind."""
    if len(payload) > MAX_PAYLOAD_B:
        return Recognised(CodeKind.OTHER)
    text = payload.decode("utf-8", "replace").strip("\x00\r\n\t ")
    if is_cardlike(text, symbology_id):
        return Recognised(CodeKind.CARD)
    signed = _signed_kind(text)
    if signed is not None:
        return Recognised(signed, text)
    letters, typed = normalise_typed(text), listed_letters(text)
    if _is_short_shaped(letters):
        right = letters[SHORT_LETTERS:] == check_letters(letters[:SHORT_LETTERS])
        return Recognised(CodeKind.SHORT if right else CodeKind.MISTYPED, letters, typed)
    return Recognised(CodeKind.OTHER, text, typed)


def _signed_kind(text: str) -> CodeKind | None:
    if text.startswith(TOKEN_PREFIX):
        return CodeKind.TOKEN
    if text.startswith(GRANT_PREFIX):
        return CodeKind.GRANT
    if text.startswith(CWT_PREFIX):
        return CodeKind.CWT
    if text.startswith(JWT_START) and text.count(".") == 2:
        return CodeKind.JWT
    return CodeKind.PRETIX if text.endswith("QA") and PRETIX_SHAPE.fullmatch(text) else None


def normalise_typed(text: str) -> str:
    """Upper case, full-width letters narrowed, separators gone, O I L read as 0 1 1 (Crockford)."""
    return _bare(text).translate(ALIKE)


def listed_letters(text: str) -> str:
    """How a list knows a code: upper case, full-width letters narrowed, separators gone; empty: too long for any list."""
    bare = _bare(text)
    return bare if len(bare) <= MAX_TYPED else ""


def _bare(text: str) -> str:
    bare = SEPARATOR.sub("", text.translate(WIDE))
    return bare.upper() if bare.isascii() else bare  # beyond ASCII upper case may have more letters than lower case


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


def is_cardlike(text: str, symbology_id: str = "]X0") -> bool:
    """Whether it looks like the number of a payment card, or what its magnetic stripe says."""
    if STRIPE.match(text):
        return True
    if not NUMBER_SHAPE.fullmatch(text) or symbology_id.startswith(GTIN_SYMBOLS):
        return False
    digits = _bare(text)
    return 13 <= len(digits) <= 19 and digits.isascii() and digits.isdigit() and _passes_luhn(digits)


def holds_card(text: str) -> bool:
    """Whether a text people or machines fill in, such as a name or an SKU, has the number of a payment card in it.

    Goods are none: 13 or 14 digits whose GS1 check digit is right, which one in ten card numbers of those lengths passes too.
    """
    narrow = text.translate(WIDE)
    if STRIPE.search(narrow):
        return True
    found = (SEPARATOR.sub("", run.group()) for run in LONG_RUN.finditer(narrow))
    return any(_passes_luhn(digits) and not _is_gtin(digits) for digits in found if digits.isascii() and digits.isdigit())


def card_field(value: object) -> str | None:
    """Which field of a JSON value holds a card number, such as `basket.lines.0.sku`; None: none does.

    Not looked at: `LOOKED_AFTER`, and `OWN_NUMBERS`, of which one in twenty thousand would be taken for a card.
    """
    return _found(value, holds_card, "")


def sku_field(value: object) -> str | None:
    """Which `sku` of a JSON value is a bare number that nothing tells from a card's; None: none is.

    13 to 19 digits without GS1's check digit: one in ten would pass Luhn's check, so all are refused rather than some at random.
    """
    return _found(value, _is_bare_number, "sku")


def _is_bare_number(text: str) -> bool:
    return 13 <= len(text) <= 19 and text.isascii() and text.isdigit() and not _is_gtin(text)


def _found(value: object, wrong: Callable[[str], bool], field: str) -> str | None:
    """Where a text is wrong, in every field or only in those of that name."""
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        path, one = waiting.pop()
        if isinstance(one, str) and wrong(one) and path.rpartition(".")[2].endswith(field):
            return path
        if isinstance(one, dict):
            named = {name: inner for name, inner in one.items() if name not in LOOKED_AFTER | OWN_NUMBERS}
            if not field and any(wrong(str(name)) for name in named):
                return path
            waiting += [(f"{path}.{name}".lstrip("."), inner) for name, inner in named.items()]
        if isinstance(one, list):
            waiting += [(f"{path}.{at}".lstrip("."), inner) for at, inner in enumerate(one)]
    return None


def _is_gtin(digits: str) -> bool:
    """Whether it is the number of goods: GS1's check digit, weights 3 and 1 from the right."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    return len(digits) in (13, 14) and total % 10 == 0


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
