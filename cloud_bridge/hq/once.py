"""Asked again, done once: what bears an `Idempotency-Key` happens in one transaction with the note that it has happened.

A web shop that heard no answer asks again with the same key and the same body, and gets what its first request made, whether that
request is still under way, was answered, or headquarters fell over in between. The same key with another body is refused.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Depends, Header, Request
from msgspec import Struct

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.codes import holds_card

KEPT_US: Final = 30 * 86_400 * 1_000_000  # nobody asks again after a month
T = TypeVar("T")


class Once(Struct, frozen=True):
    """A request's key, and what it asks for, as a hash."""

    key: str
    asked_sha256: str

    @property
    def digests(self) -> tuple[str, str]:
        """Of the key and of what is asked, 64 bits each: what outlives a restore is kept short."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:16], self.asked_sha256[:16]


class Made(Struct, Generic[T], frozen=True):
    """What a request made: its identifier; `fresh` is None where an earlier request with the key had made it."""

    identifier: str
    fresh: T | None


async def once_of(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key", pattern=r"^[!-~]{8,128}$", description="New for each request, the same for each retry, kept 30 days."
        ),
    ] = None,
) -> Once | None:
    """A dependency: the key of a request, if it bears one."""
    if key is None:
        return None
    if holds_card(key):
        raise RefusedAsk(422, "this Idempotency-Key looks like the number of a payment card", "Take 32 random hex digits")
    asked = hashlib.sha256(request.url.path.encode() + b"\0" + await request.body())
    return Once(key, asked.hexdigest())


Asking = Annotated[Once | None, Depends(once_of)]


def do(db: Connection, once: Once | None, now_us: int, make: Callable[[Connection], T], name_of: Callable[[T], str]) -> Made[T]:
    """Make something, unless a request with this key has made it. Inside a transaction.

    Raises:
        RefusedAsk: The key was another request's, or what `make` raises; then the key is free.
    """
    if once is None:
        fresh = make(db)
        return Made(name_of(fresh), fresh)
    before: Any = db.execute("SELECT asked_sha256, identifier FROM asked_once WHERE key = ?", (once.key,)).fetchone()
    if before is not None:
        refuse_other(before[0] == once.asked_sha256)
        return Made(str(before[1]), None)
    fresh = make(db)
    db.execute("DELETE FROM asked_once WHERE at_us < ?", (now_us - KEPT_US,))
    db.execute("INSERT INTO asked_once VALUES (?, ?, ?, ?)", (once.key, once.asked_sha256, name_of(fresh), now_us))
    return Made(name_of(fresh), fresh)


def refuse_other(is_same: bool) -> None:
    """Look whether a key comes with the request it came with before.

    Raises:
        RefusedAsk: It is another one.
    """
    if not is_same:
        raise RefusedAsk(422, "this Idempotency-Key was used for another request", "Take a new key for each request")
