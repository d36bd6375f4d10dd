"""The holder's secret: who has the link of a voucher may fetch its grant; who has only seen its QR code may not.

128 random bits in the link a shopper got, behind `#`, so that no browser sends them along and no log has them. Headquarters keeps
their hash. They are random and not guessed by trying, so a plain hash will do; it is of this voucher's secret and of no other's.
"""

import hashlib
import hmac
import re
from typing import Final

from gateway.errors import MalformedFrame

SECRET_B: Final = 16
SHAPE: Final = re.compile(r"[0-9a-f]{32}")


def link(page: str, voucher_id: str, secret: bytes) -> str:
    """What is sent to the shopper: the voucher's page at headquarters, such as `https://hq.example/v/00000000000002a#…`.

    Raises:
        ValueError: The secret does not have 16 bytes.
    """
    if len(secret) != SECRET_B:
        raise ValueError(f"a holder's secret has {SECRET_B} bytes")
    return f"{page.rstrip('/')}/v/{voucher_id}#{secret.hex()}"


def kept(voucher_id: str, secret: bytes) -> bytes:
    """What headquarters keeps of a secret: 32 bytes."""
    return hashlib.sha256(b"SGH1 holder\n" + voucher_id.encode("utf-8", "surrogatepass") + b"\n" + secret).digest()


def read(text: str) -> bytes:
    """The secret of what stands behind a link's `#`.

    Raises:
        MalformedFrame: Not 32 hex digits.
    """
    if not SHAPE.fullmatch(text):
        raise MalformedFrame("not a holder's secret", "Open the voucher by the link it came with")
    return bytes.fromhex(text)


def holds(voucher_id: str, text: str, kept_digest: bytes) -> bool:
    """Whether who shows this text has the voucher's link. Any text is an answer; it takes as long for every one of them."""
    try:
        secret = read(text)
    except MalformedFrame:
        return False
    return hmac.compare_digest(kept(voucher_id, secret), kept_digest)
