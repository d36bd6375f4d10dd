"""From a typed telephone number to the key under which a member is found. Pure, given the secret.

There are few telephone numbers: whoever has a plain hash of one tries them all in minutes. So a number is hashed with a secret
that headquarters makes for each region of the chain, and neither the number nor the secret is ever stored beside the result.

A region's secret is 32 bytes, the key of an HMAC, until it is exchanged for the first time. From then on it has a second part: the HMAC's
result becomes a point, and that is turned by a secret number (`gateway.blinded`), which headquarters exchanges without knowing a number.
The first part stays then, and need be no secret any more.
"""

import base64
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from gateway import blinded
from gateway.errors import MalformedFrame

MAX_TYPED: Final = 40  # letters; the longest number has 15 digits
KEY_B: Final = 16  # of HMAC-SHA-256: 128 bits
SECRET_B: Final = 32
EXCHANGED: Final = b"\2"
EXCHANGED_B: Final = 1 + SECRET_B + blinded.SCALAR_B
NUMBER_LIKE: Final = re.compile(r"[+0][0-9]{7,14}")  # as people write it, or with the country's code; separators gone
WITHOUT: Final = "Install store-gateway[members]"
HINT: Final = "Type the whole number, with + and the country's code if it is a foreign one"


def e164(typed: str, region: str) -> str:
    """A typed number as the world writes it, such as +886912345678.

    Args:
        typed: As people type it, full-width digits and separators among them. Untrusted, any length.
        region: ISO 3166 country whose numbers are meant when no country is typed, such as "TW".

    Raises:
        MalformedFrame: No number that the region's plan has. The text is not repeated in the error.
    """
    try:
        import phonenumbers  # its tables take megabytes: only who asks for a member loads them
    except ImportError as error:
        raise MalformedFrame("telephone numbers cannot be read on this box", WITHOUT) from error

    if not typed or len(typed) > MAX_TYPED:
        raise MalformedFrame("not a telephone number", HINT)
    text = unicodedata.normalize("NFKC", typed)
    if not any(letter.isdecimal() for letter in text) or any(letter.isalpha() for letter in text):
        raise MalformedFrame("not a telephone number", HINT)
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException as error:
        raise MalformedFrame("not a telephone number", HINT) from error
    if number.extension or not phonenumbers.is_valid_number(number):
        raise MalformedFrame("no telephone number of its country's plan", HINT)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def is_number(text: str, region: str) -> bool:
    """Whether a text is a telephone number and nothing else; most texts are told from one without its tables."""
    if not NUMBER_LIKE.fullmatch(text):
        return False
    try:
        return bool(e164(text, region or "TW"))
    except MalformedFrame:
        return False


def phone_key(secret: bytes, number: str) -> str:
    """The key of a number in E.164, as shops know it: 32 hex digits."""
    return told_key(phone_index(secret, number))


def phone_index(secret: bytes, number: str) -> str:
    """The same as headquarters keeps it: 32 hex digits, or, once the secret was exchanged, the 64 of a turned point."""
    return _index(secret, bytes.fromhex(phone_print(secret, number)))


def phone_print(secret: bytes, number: str) -> str:
    """What of a number stays the same whenever the secret is exchanged: 32 hex digits, HMAC-SHA-256 cut to 128 bits."""
    return hmac.digest(_first(secret), b"phone\n" + number.encode(), "sha256")[:KEY_B].hex()


def card_key(secret: bytes, letters: str) -> str:
    """The key of an old member card's barcode (`codes.listed_letters`): 32 hex digits; never that of a telephone number."""
    return told_key(card_index(secret, letters))


def card_index(secret: bytes, letters: str) -> str:
    """The same as headquarters keeps it."""
    inner = hmac.digest(_first(secret), b"card\n" + letters.encode("utf-8", "surrogatepass"), "sha256")[:KEY_B]
    return _index(secret, inner)


def told_key(index: str) -> str:
    """What shops are told of a key that headquarters keeps: no shop can turn it on."""
    return index if len(index) == 2 * KEY_B else hashlib.sha256(b"SGK2 key\n" + bytes.fromhex(index)).digest()[:KEY_B].hex()


def exchanged(first: bytes, scalar: bytes) -> bytes:
    """A region's secret that was exchanged: 65 bytes, of its first part and a secret number."""
    return EXCHANGED + first + scalar


def mover(old: bytes, new: bytes) -> Callable[[str], str]:
    """What moves a key that headquarters keeps from an old secret of a region on to its new one. The number is not needed."""
    scalar, step = _scalar(new), blinded.onward(_scalar(old), _scalar(new)) if _is_exchanged(old) else b""

    def move(index: str) -> str:
        if step:
            return blinded.turned(bytes.fromhex(index), step).hex()
        return blinded.turned(blinded.point_of(bytes.fromhex(index)), scalar).hex()

    return move


def sale_ref(key: str, sale_id: str) -> str:
    """What a sale's row says of a number of that key: 32 hex digits, another one in each sale, and of no use without the key."""
    return hmac.digest(bytes.fromhex(key), b"sale\n" + sale_id.encode(), "sha256")[:KEY_B].hex()


def region_secret(chain: bytes, region: str) -> bytes:
    """A region's secret, from the chain's: so that the tables of two regions cannot be joined."""
    return hmac.digest(hashlib.sha256(b"SGK1 members\n" + chain).digest(), region.encode(), "sha256")


def region_secrets(chain: bytes, region: str) -> bytes:
    """For headquarters: a region's secret as it is before it was ever exchanged, and what the later ones are made with; 64 bytes."""
    return region_secret(chain, region) + hmac.digest(hashlib.sha256(b"SGK2 members\n" + chain).digest(), region.encode(), "sha256")


def _is_exchanged(secret: bytes) -> bool:
    return len(secret) == EXCHANGED_B and secret[:1] == EXCHANGED


def _first(secret: bytes) -> bytes:
    return secret[1 : 1 + SECRET_B] if _is_exchanged(secret) else secret


def _scalar(secret: bytes) -> bytes:
    return secret[1 + SECRET_B :]


def _index(secret: bytes, inner: bytes) -> str:
    return blinded.turned(blinded.point_of(inner), _scalar(secret)).hex() if _is_exchanged(secret) else inner.hex()


def as_reference(random: bytes) -> str:
    """A member's reference from 16 random bytes: 26 letters of base32. It says nothing about the telephone number."""
    return base64.b32encode(random).decode("ascii").rstrip("=").lower()
