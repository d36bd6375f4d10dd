"""Codes that carry no signature, such as a partner's printed numbers: known by a list headquarters has signed for this shop.

The list holds hashes, so a stolen disk or a shoulder behind the screen gives no codes away; a code that can be guessed can also be
guessed from its hash. Upper and lower case, spaces and hyphens make no difference, for codes are typed, too.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from gateway.codes import listed_letters
from gateway.signed import Voucher

DIGEST_B: Final = 16


def digest_of(code: str) -> str:
    """What a list holds of a code: 32 hex digits.

    Raises:
        ValueError: No code a list may know: empty, or of more than 128 letters.
    """
    letters = listed_letters(code)
    if not letters:
        raise ValueError("a listed code has 1 to 128 letters")
    return hashlib.sha256(b"SGO1 code\n" + letters.encode("utf-8", "surrogatepass")).digest()[:DIGEST_B].hex()


def index(vouchers: Iterable[Voucher]) -> dict[str, str]:
    """Which voucher each listed code stands for. A code that two vouchers claim stands for none."""
    found: dict[str, str] = {}
    twice = set[str]()
    for voucher in vouchers:
        for digest in voucher.codes:
            if found.setdefault(digest, voucher.voucher_id) != voucher.voucher_id:
                twice.add(digest)
    return {digest: voucher_id for digest, voucher_id in found.items() if digest not in twice}


def find(typed: str, codes: dict[str, str]) -> str | None:
    """The voucher a presented code stands for; `typed` is `Recognised.typed`."""
    return codes.get(digest_of(typed)) if typed and codes else None
