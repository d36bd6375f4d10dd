"""Requests that were decided, by their idempotency key: asked again, they get the same bytes."""

import asyncio
import hashlib

from msgspec import Struct

from gateway import codes
from gateway.errors import StoreError
from gateway.events import CodePresented


class ConflictingKey(StoreError):
    """The same idempotency key came with another request."""


class Request(Struct):
    """What it was, and its answer, which is done after the commit."""

    fingerprint: bytes
    answer: "asyncio.Future[bytes]"
    shown: bool = True  # False: decided in an earlier life of this process; its screen may never have said so


def fingerprint(code: CodePresented, station: str, staff: str | None) -> bytes:
    """What was asked, in 16 bytes. Of codes that are not ours only the kind goes in: a hash of a number is still the number."""
    found = codes.recognise(code.payload, code.symbology_id)
    ours = found.kind in (codes.CodeKind.TOKEN, codes.CodeKind.SHORT)
    return digest("present", found.kind, found.text if ours else "", station, staff or "")


def digest(*parts: str) -> bytes:
    """The parts of a request in 16 bytes."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).digest()
