"""Requests that were decided, by their idempotency key: asked again, they get the same bytes."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final, Generic, TypeVar

from msgspec import Struct

from gateway import codes
from gateway.errors import StoreError
from gateway.events import CodePresented
from gateway.ledger import StoredAnswer
from gateway.ledger.keeping import ANSWERS_US
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.rules.marks import RowPlace

# Nobody can guess a signed code, and a typed one says nothing about a person.
OURS: Final = frozenset(codes.CodeKind) - {codes.CodeKind.CARD, codes.CodeKind.MISTYPED, codes.CodeKind.OTHER}
V = TypeVar("V")
ANSWERS_NS: Final = ANSWERS_US * 1000
FORGOTTEN_AT_ONCE: Final = 2


class ConflictingKey(StoreError):
    """The same idempotency key came with another request."""


class Request(Struct, gc=False):  # kept by the ten thousand, and in no cycle once it is answered
    """What it was, and its answer: those who wait for it until the commit, bytes from then on."""

    fingerprint: bytes
    answer: "list[asyncio.Future[bytes]] | bytes"
    asked_ns: int  # CLOCK_BOOTTIME
    place: RowPlace  # no row of it stands behind this one
    shown: bool = True  # False: decided in an earlier life of this process; its screen may never have said so


class Past(Struct, frozen=True):
    """What tells how old an answer is, and whether headquarters has its rows."""

    now_ns: Callable[[], int]  # CLOCK_BOOTTIME
    place: Callable[[], RowPlace]  # of the last row that was decided
    is_acked: Callable[[RowPlace], bool]


class Requests(Generic[V]):
    """Everything that was asked, for 72 hours and until headquarters has acknowledged its rows; then it is forgotten.

    On the disk the ledger keeps the same answers as long or longer (`gateway.ledger.keeping`). Answers of earlier lives count from
    this start.

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
        past: Past,
        waits: "Callable[[V], tuple[asyncio.Future[str], Callable[[str], V]] | None]" = lambda verdict: None,
    ) -> None:
        self._past = past
        self._answer_of = answer_of
        self._commit = commit
        self._act = act
        self._waits = waits
        self._requests: dict[str, Request] = {}

    def remember(self, stored: dict[str, StoredAnswer]) -> None:
        """Take the answers of earlier lives."""
        now_ns, place = self._past.now_ns(), self._past.place()
        for key, answer in stored.items():
            self._requests[key] = Request(answer.request, answer.answer, now_ns, place, shown=False)

    def once(self, key: str, asked: bytes, source_id: str, judge: Callable[[], V]) -> Awaitable[bytes]:
        """The answer to a request: decided now, or what was decided when it was asked first.

        Raises:
            ConflictingKey: That key was another request.
        """
        known = self._requests.get(key)
        if known is not None:
            if known.fingerprint != asked:
                raise ConflictingKey("this key belongs to another request", "Take a new presentation_id for each code that is shown")
            return _given(known)
        self._forget()
        verdict = judge()
        request = self._requests[key] = Request(asked, [], self._past.now_ns(), self._past.place())
        given = _given(request)
        self._settle(key, source_id, verdict)
        return given

    def _settle(self, key: str, source_id: str, verdict: V) -> None:
        if (waiting := self._waits(verdict)) is not None:
            heard, again = waiting
            heard.add_done_callback(lambda done: self._settle(key, source_id, again(done.result())))
        else:
            self._answer(key, source_id, verdict)

    def _answer(self, key: str, source_id: str, verdict: V) -> None:
        request = self._requests[key]
        stored = StoredAnswer(key, request.fingerprint, answers.encode(self._answer_of(verdict)))
        commit = self._commit(verdict, source_id, stored)
        request.asked_ns, request.place = self._past.now_ns(), self._past.place()

        def act(_: "asyncio.Future[None]") -> None:
            self._act(verdict)
            waiting, request.answer = request.answer, stored.answer
            for one in waiting if isinstance(waiting, list) else ():
                if not one.done():  # who asked has gone: it is decided all the same
                    one.set_result(stored.answer)

        commit.add_done_callback(act)

    def __len__(self) -> int:
        return len(self._requests)

    def _forget(self) -> None:
        """Drop the oldest that nobody may ask for any more; two for each new one, so it never takes long and always catches up."""
        old_ns = self._past.now_ns() - ANSWERS_NS
        for key in list(islice(self._requests, FORGOTTEN_AT_ONCE)):
            request = self._requests[key]
            if request.asked_ns > old_ns or not self._past.is_acked(request.place):
                return
            del self._requests[key]

    def unshown(self, key: str) -> Answer | None:
        """The answer that was decided in an earlier life and may never have been shown; told once."""
        request = self._requests[key]
        if request.shown:
            return None
        request.shown = True
        return answers.decode(request.answer) if isinstance(request.answer, bytes) else None


def fingerprint(code: CodePresented, station: str, staff: str | None, *more: str) -> bytes:
    """What was asked, in 16 bytes. Of codes that are not ours only the kind goes in: a hash of a number is still the number."""
    found = codes.recognise(code.payload, code.symbology_id)
    ours = found.kind in OURS
    return digest("present", found.kind, found.text if ours else "", station, staff or "", *more)


def _given(request: Request) -> "asyncio.Future[bytes]":
    """The answer, once there is one: a future for each who asks, so that one who goes away takes nothing from the others."""
    given: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    if isinstance(request.answer, bytes):
        given.set_result(request.answer)
    else:
        request.answer.append(given)
    return given


def digest(*parts: str) -> bytes:
    """The parts of a request in 16 bytes."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).digest()


def own_id() -> str:
    """16 random hex digits that no guard takes for a card's number, so that callers may name them in any field."""
    while codes.is_cardlike(made := secrets.token_hex(8)):
        pass
    return made
