"""Requests that were decided, by their idempotency key: asked again, they get the same bytes."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from msgspec import Struct

from gateway import codes
from gateway.errors import StoreError
from gateway.events import CodePresented
from gateway.ledger import StoredAnswer
from gateway.rules import answers
from gateway.rules.answers import Answer

V = TypeVar("V")


class ConflictingKey(StoreError):
    """The same idempotency key came with another request."""


class Request(Struct):
    """What it was, and its answer, which is done after the commit."""

    fingerprint: bytes
    answer: "asyncio.Future[bytes]"
    shown: bool = True  # False: decided in an earlier life of this process; its screen may never have said so


class Requests(Generic[V]):
    """Everything that was asked.

    Args:
        answer_of: The answer in a verdict.
        commit: Appends a verdict's rows with its stored answer; done after the fsync.
        act: What follows a verdict's commit.
        waits: What a verdict has to wait for, and how it is decided then; None: it is decided.
    """

    def __init__(
        self,
        answer_of: Callable[[V], Answer],
        commit: Callable[[V, str, StoredAnswer], "asyncio.Future[None]"],
        act: Callable[[V], None],
        waits: "Callable[[V], tuple[asyncio.Future[str], Callable[[str], V]] | None]" = lambda verdict: None,
    ) -> None:
        self._answer_of = answer_of
        self._commit = commit
        self._act = act
        self._waits = waits
        self._requests: dict[str, Request] = {}

    def remember(self, stored: dict[str, StoredAnswer]) -> None:
        """Take the answers of earlier lives."""
        for key, answer in stored.items():
            done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            done.set_result(answer.answer)
            self._requests[key] = Request(answer.request, done, shown=False)

    def once(self, key: str, asked: bytes, source_id: str, judge: Callable[[], V]) -> Awaitable[bytes]:
        """The answer to a request: decided now, or what was decided when it was asked first.

        Raises:
            ConflictingKey: That key was another request.
        """
        known = self._requests.get(key)
        if known is not None:
            if known.fingerprint != asked:
                raise ConflictingKey("this key belongs to another request", "Take a new presentation_id for each code that is shown")
            return asyncio.shield(known.answer)
        verdict = judge()
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._requests[key] = Request(asked, answered)
        if (waiting := self._waits(verdict)) is not None:
            heard, again = waiting
            heard.add_done_callback(lambda done: self._answer(key, source_id, again(done.result())))
        else:
            self._answer(key, source_id, verdict)
        return asyncio.shield(answered)

    def _answer(self, key: str, source_id: str, verdict: V) -> None:
        request = self._requests[key]
        answered, stored = request.answer, StoredAnswer(key, request.fingerprint, answers.encode(self._answer_of(verdict)))

        def act(_: "asyncio.Future[None]") -> None:
            self._act(verdict)
            answered.set_result(stored.answer)

        self._commit(verdict, source_id, stored).add_done_callback(act)

    def unshown(self, key: str) -> Answer | None:
        """The answer that was decided in an earlier life and may never have been shown; told once."""
        request = self._requests[key]
        if request.shown:
            return None
        request.shown = True
        return answers.decode(request.answer.result())


def fingerprint(code: CodePresented, station: str, staff: str | None) -> bytes:
    """What was asked, in 16 bytes. Of codes that are not ours only the kind goes in: a hash of a number is still the number."""
    found = codes.recognise(code.payload, code.symbology_id)
    ours = found.kind in (codes.CodeKind.TOKEN, codes.CodeKind.SHORT)
    return digest("present", found.kind, found.text if ours else "", station, staff or "")


def digest(*parts: str) -> bytes:
    """The parts of a request in 16 bytes."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).digest()
