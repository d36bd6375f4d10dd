"""From a typed telephone number to the key under which a member is found. Pure, given the secret.

There are few telephone numbers: whoever has a plain hash of one tries them all in minutes. So a number is hashed with a secret
that headquarters makes for each region of the chain, and neither the number nor the secret is ever stored beside the result.
"""

import base64
import hashlib
import hmac
import re
import unicodedata
from typing import Final

from gateway.errors import MalformedFrame

MAX_TYPED: Final = 40  # letters; the longest number has 15 digits
KEY_B: Final = 16  # of HMAC-SHA-256: 128 bits
SECRET_B: Final = 32
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
    """The key of a number in E.164: 32 hex digits, HMAC-SHA-256 cut to 128 bits."""
    return hmac.digest(secret, b"phone\n" + number.encode(), "sha256")[:KEY_B].hex()


def card_key(secret: bytes, letters: str) -> str:
    """The key of an old member card's barcode (`codes.listed_letters`): 32 hex digits; never that of a telephone number."""
    return hmac.digest(secret, b"card\n" + letters.encode("utf-8", "surrogatepass"), "sha256")[:KEY_B].hex()


def sale_ref(key: str, sale_id: str) -> str:
    """What a sale's row says of a number of that key: 32 hex digits, another one in each sale, and of no use without the key."""
    return hmac.digest(bytes.fromhex(key), b"sale\n" + sale_id.encode(), "sha256")[:KEY_B].hex()


def region_secret(chain: bytes, region: str) -> bytes:
    """A region's secret, from the chain's: so that the tables of two regions cannot be joined."""
    return hmac.digest(hashlib.sha256(b"SGK1 members\n" + chain).digest(), region.encode(), "sha256")


def as_reference(random: bytes) -> str:
    """A member's reference from 16 random bytes: 26 letters of base32. It says nothing about the telephone number."""
    return base64.b32encode(random).decode("ascii").rstrip("=").lower()
