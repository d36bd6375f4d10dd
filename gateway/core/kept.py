"""A document of headquarters that this box has cut down by itself: what had to be forgotten is gone, so HQ's signature is, too.

In its place stands a MAC under a key that only this box has. `TAG | HMAC-SHA-256 (32) | zstd of JSON`.
"""

import hmac
from typing import Final

import msgspec
from backports import zstd

from gateway.errors import MalformedFrame
from gateway.signed import MAX_UNPACKED_B, Document, unpack_limited

TAG: Final = b"SGX1"
MAC_B: Final = 32


def keep(document: Document, secret: bytes) -> bytes:
    """The document as it is stored."""
    body = zstd.compress(msgspec.json.encode(document), 3)
    return TAG + _mac(secret, body) + body


def is_kept(sealed: bytes) -> bool:
    """Whether this box has written it, not headquarters."""
    return sealed[: len(TAG)] == TAG


def kept(sealed: bytes, secret: bytes) -> Document:
    """The document.

    Raises:
        MalformedFrame: Not written by this box.
    """
    mac, body = sealed[len(TAG) : len(TAG) + MAC_B], sealed[len(TAG) + MAC_B :]
    if not is_kept(sealed) or not hmac.compare_digest(mac, _mac(secret, body)):
        raise MalformedFrame("a document that neither headquarters nor this box wrote", "It will be fetched again")
    try:
        return msgspec.json.decode(unpack_limited(body, MAX_UNPACKED_B), type=Document)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedFrame("a document of another release") from error


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(hmac.digest(secret, b"documents this box cut down", "sha256"), body, "sha256")
