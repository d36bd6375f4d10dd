"""One event per presentation, however many frames show the code.

A text is *present* from the look that first believes it until it has been missed in `GONE_LOOKS` looks in a row and for
`GONE_S`, counted from the first miss; only then does showing it again count again, with a new presentation id. Looks that did
not happen (the picture did not change, frames were dropped) prove nothing and make nothing absent.

A linear code that only one library reads needs votes: the same text in `VOTES` different looks within `VOTE_S`. Misreads of a
moving symbol differ from frame to frame; the right text does not. Two texts in one look are two presentations.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

GONE_S: Final = 1.0  # a hand that shakes blurs a code for up to half a second
GONE_LOOKS: Final = 3
VOTES: Final = 3
VOTE_S: Final = 3.0  # zbar alone looks once a second
MAX_CANDIDATES: Final = 64  # a flood of misreads, say by a moving newspaper, forgets the oldest

NS_PER_S: Final = 1_000_000_000


@dataclass(slots=True)
class _Present:
    missed_looks: int = 0
    missed_ns: int = 0  # the first look of the row that missed it


@dataclass(slots=True)
class Presence:
    """What lies before one camera; `mint` makes presentation ids of 32 hex digits."""

    mint: Callable[[], str]
    _present: dict[bytes, _Present] = field(default_factory=dict)
    _votes: dict[bytes, list[int]] = field(default_factory=dict)

    def look(self, now_ns: int, seen: Mapping[bytes, bool]) -> list[tuple[bytes, str]]:
        """Take one look: payload to whether the reader confirmed it. Returns what is newly presented, with its id."""
        self._age(now_ns, seen)
        new = [payload for payload, confirmed in seen.items() if self._is_new(now_ns, payload, confirmed)]
        for payload in self._present.keys() & seen.keys():
            self._present[payload] = _Present()
        for payload in new:
            self._present[payload] = _Present()
            self._votes.pop(payload, None)
        return [(payload, self.mint()) for payload in new]

    @property
    def present(self) -> frozenset[bytes]:
        """The codes that lie there now."""
        return frozenset(self._present)

    def clear(self) -> None:
        """The camera was away: whatever it sees next is shown anew."""
        self._present.clear()
        self._votes.clear()

    def _age(self, now_ns: int, seen: Iterable[bytes]) -> None:
        for payload in self._present.keys() - set(seen):
            known = self._present[payload]
            known.missed_ns = known.missed_ns if known.missed_looks else now_ns
            known.missed_looks += 1
            if known.missed_looks >= GONE_LOOKS and now_ns - known.missed_ns >= GONE_S * NS_PER_S:
                del self._present[payload]

    def _is_new(self, now_ns: int, payload: bytes, confirmed: bool) -> bool:
        if payload in self._present:
            return False
        return confirmed or self._voted(now_ns, payload)

    def _voted(self, now_ns: int, payload: bytes) -> bool:
        votes = [then for then in self._votes.pop(payload, []) if now_ns - then <= VOTE_S * NS_PER_S]
        self._votes[payload] = [*votes, now_ns][-VOTES:]  # last place: the oldest candidate is the first to be forgotten
        while len(self._votes) > MAX_CANDIDATES:
            del self._votes[next(iter(self._votes))]
        return len(self._votes[payload]) >= VOTES
