"""Who is signed in, and who has tried too often. In memory only: a restart signs everybody out.

Tries are counted per person, before the PIN is checked, so tries at the same time count too. After five wrong ones each further
one must wait, twice as long each time, on the clock that cannot be set; nobody else has to wait.
"""

import secrets
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.clock import Clock

SESSION_NS: Final = 8 * 3600 * 10**9  # a shift
MAX_SESSIONS: Final = 64  # beyond it the oldest is signed out
FREE_TRIES: Final = 5
FIRST_WAIT_NS: Final = 30 * 10**9
LONGEST_WAIT_NS: Final = 3600 * 10**9


class Session(Struct, frozen=True):
    """One person on one phone."""

    staff_ref: str
    ends_ns: int
    device_id: str  # whose loss ends it


class Sessions:
    """Signed-in people by the secret in their cookie.

    Args:
        is_revoked: Whether a device lost its right. Its sessions end with it, also if its key is no longer shown.
    """

    def __init__(self, clock: Clock, is_revoked: Callable[[str], bool] = lambda device_id: False) -> None:
        self._clock = clock
        self._is_revoked = is_revoked
        self._sessions: dict[str, Session] = {}

    def open(self, staff_ref: str, device_id: str = "") -> str:
        """Sign in; the secret to put in the cookie."""
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = Session(staff_ref, self._clock.boottime_ns() + SESSION_NS, device_id)
        return secret

    def whose(self, secret: str | None) -> str | None:
        """The staff reference behind a cookie; None: nobody's, or over."""
        session = self._sessions.get(secret or "")
        if session is None or session.ends_ns <= self._clock.boottime_ns() or self._is_revoked(session.device_id):
            self._sessions.pop(secret or "", None)
            return None
        return session.staff_ref

    def close(self, secret: str | None) -> None:
        """Sign out."""
        self._sessions.pop(secret or "", None)


class Tries:
    """Wrong PINs by person. Only people who work here are counted, so this stays small."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: dict[str, tuple[int, int]] = {}  # staff reference to (tries since the last right one, earliest next, ns)

    def begin(self, staff_ref: str) -> float:
        """Count a try; 0.0: go on, else the seconds to wait, and the try does not count."""
        count, not_before_ns = self._tries.get(staff_ref, (0, 0))
        now_ns = self._clock.boottime_ns()
        if now_ns < not_before_ns:
            return (not_before_ns - now_ns) / 1e9
        count += 1
        wait_ns = 0 if count < FREE_TRIES else min(FIRST_WAIT_NS << min(count - FREE_TRIES, 16), LONGEST_WAIT_NS)
        self._tries[staff_ref] = (count, now_ns + wait_ns if wait_ns else 0)
        return 0.0

    def right(self, staff_ref: str) -> None:
        """The PIN was right."""
        self._tries.pop(staff_ref, None)
