"""Members at the shop: found by telephone number, by their code or by an old card; and how often somebody may look for a number.

A typed number lives in the caller's hands only: here it becomes a keyed hash and is gone. Nothing here writes by itself but the row
of each look-up, which says whether somebody was found; so finding nobody takes as long as finding somebody. Numbers of nobody are
counted for each device and each person, by those rows: after too many nothing is found by number, until a manager opens it again.
That outlives a restart, since the rows do. Codes are signed and need no such guard.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct, field

from gateway import phones
from gateway.clock import Clock
from gateway.codes import CodeKind, Recognised, listed_letters, short_identifier
from gateway.config import MembersTable
from gateway.core.kept import keep
from gateway.errors import MalformedFrame
from gateway.events import (
    CatalogApplied,
    LookupsLocked,
    LookupsUnlocked,
    MemberLookedUp,
    MemberRecognised,
    Row,
    SubjectKind,
    TimeTrust,
    VisitStarted,
)  # fmt: skip
from gateway.ledger import StoredDocument
from gateway.roll import Roll
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.signed import MemberEntry
from gateway.token import HOME_ISSUER, voucher_ref
from gateway.verifiers import Presented
from gateway.wrapped import unwrap

log = logging.getLogger(__name__)

PURPOSE: Final = b"members\n"
ALERT_US: Final = 60 * 1_000_000  # how long staff see that a member is there
MOST_ALERTS: Final = 20
SWEEP_S: Final = 60.0


class Member(Struct, frozen=True):
    """A member as this shop knows them."""

    member_ref: str
    tier: str
    consents: list[str]
    tags: list[str]  # for staff's eyes; none without the consent `preferences`
    points: int  # as headquarters last said; what may be spent is decided elsewhere
    as_of_s: int  # it was so then, seconds since 1970 UTC
    is_stale: bool  # that is longer ago than `[members] cache_h`


class Asker(Struct, frozen=True):
    """Who looks for a number, and where. A person is counted before the device they use."""

    station: str
    staff: str | None = None
    device: str | None = None

    @property
    def by(self) -> str:
        """Who is counted."""
        return self.staff or self.device or self.station


class Found(Struct, frozen=True):
    """A member, and the rows that say they were looked for: commit them, with whatever else is decided."""

    member: Member
    rows: list[Row] = field(default_factory=list)


class NotFound(Struct, frozen=True):
    """Nobody: `reason` is a key of `gateway.rules.reasons.REASONS`. The rows as in `Found`."""

    reason: str
    rows: list[Row] = field(default_factory=list)


class Locked(Struct, frozen=True):
    """Too many numbers of nobody came from there; a manager has to open it again. The rows as in `Found`: nobody was found."""

    by: str
    rows: list[Row] = field(default_factory=list)
    reason: str = "lookups_locked"


class TierAlert(Struct, frozen=True):
    """For staff only: a member is at a station, or, having agreed to that, near a beacon. Tier, no amount, no reference."""

    number: int
    station: str
    tier: str
    how: str  # "code", "card", "phone" or "beacon"
    at_us: int


class Members:
    """Asks the roll.

    Args:
        box_key: The key this box signs with, which alone opens the wrapped secret; None: nobody is found by number or old card.
        secret: Known to this box alone: key of the documents it has cut down.
        commit: Appends rows with a document and folds them at once; done after the fsync.
        tell: Something staff see has changed.
    """

    def __init__(
        self, table: MembersTable, gateway: str, roll: Roll, clock: Clock, box_key: Ed25519PrivateKey | None, secret: bytes,
        commit: "Callable[[list[Row], StoredDocument | None], asyncio.Future[None]]", tell: Callable[[], None],
    ) -> None:  # fmt: skip
        self._table = table
        self._gateway = gateway
        self._roll = roll
        self._clock = clock
        self._box_key = box_key
        self._own = secret
        self._commit = commit
        self._tell = tell
        self._opened: tuple[str, bytes | None] = ("", None)  # the wrapped secret, and what was in it
        self._wrong: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=table.wrong_tries))  # when, by whom is counted
        self._locked: dict[str, int] = {}  # since when
        self._alerts: deque[TierAlert] = deque(maxlen=MOST_ALERTS)
        self._alert_number = 0
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ finding

    def by_phone(self, typed: str, asker: Asker) -> Found | NotFound | Locked:
        """Who has a number, as typed. Commit the rows it comes with before the answer is given."""
        is_locked, secret = asker.by in self._locked, self._secret()
        if secret is None:
            return Locked(asker.by) if is_locked else NotFound("no_members")
        try:
            key = phones.phone_key(secret, phones.e164(typed, self._table.region or self._roll.region))
        except MalformedFrame:
            return Locked(asker.by) if is_locked else NotFound("not_a_number")
        found = self._roll.by_phone(key)
        if is_locked:  # the same work and the same row, so that nobody tells it by its time
            return Locked(asker.by, [self._looked_up(asker, None)])
        rows: list[Row] = [self._looked_up(asker, found)]
        if found is not None:
            return Found(self.as_member(found), rows)
        if self._wrong_lately(asker.by) + 1 >= self._table.wrong_tries:
            rows.append(LookupsLocked(asker.by, self._table.wrong_tries, asker.station, asker.staff, asker.device, self._clock.now()))
        return NotFound("unknown_member", rows)

    @property
    def is_told(self) -> bool:
        """Whether this shop can find anybody by number."""
        return self._secret() is not None

    def key_of(self, typed: str) -> str | None:
        """The key of a typed number; None: no number, or this shop was not told of its members."""
        secret = self._secret()
        if secret is None:
            return None
        try:
            return phones.phone_key(secret, phones.e164(typed, self._table.region or self._roll.region))
        except MalformedFrame:
            return None

    def by_code(self, shown: Presented) -> Found | NotFound:
        """Whose code a verified token of kind MEMBER is."""
        earliest_us, latest_us = self._clock.bounds_us()
        if shown.terms.not_after_s < (latest_us or earliest_us) // 1_000_000:
            return NotFound("expired")
        found = self._roll.by_code(shown.terms.voucher_id)
        return NotFound("unknown_member_code") if found is None else Found(self.as_member(found))

    def by_typed(self, code: Recognised) -> tuple[Member, str] | None:
        """Whose old card a code without signature is, or whose code it is that was typed in; None: nobody's. With it, how."""
        if code.kind is CodeKind.SHORT and (found := self._roll.by_code(_reference(code.text))) is not None:
            return self.as_member(found), "code"
        secret = self._secret() if code.typed else None
        card = self._roll.by_card(phones.card_key(secret, listed_letters(code.typed))) if secret is not None else None
        return None if card is None else (self.as_member(card), "card")

    def by_ref(self, member_ref: str) -> Member | None:
        """The member of a reference; None: erased, or of another region."""
        found = self._roll.by_ref(member_ref)
        return None if found is None else self.as_member(found)

    def as_member(self, entry: MemberEntry) -> Member:
        """An entry of the roll as it is shown now."""
        now_s, as_of_s = self._clock.now().wall_us // 1_000_000, self._roll.as_of_s
        tags = [word for word, until_s in entry.tags if until_s > now_s]
        is_stale = abs(now_s - as_of_s) > self._table.cache_h * 3600
        return Member(entry.member_ref, entry.tier, entry.consents, tags, entry.points, as_of_s, is_stale)

    def _looked_up(self, asker: Asker, found: MemberEntry | None) -> MemberLookedUp:
        ref = None if found is None else found.member_ref
        return MemberLookedUp(asker.station, asker.staff, asker.device, asker.by, ref, self._clock.now())

    def _secret(self) -> bytes | None:
        wrapped = self._roll.secret
        if wrapped != self._opened[0]:
            self._opened = (wrapped, self._unwrapped(wrapped))
        return self._opened[1]

    def _unwrapped(self, wrapped: str) -> bytes | None:
        if not wrapped or self._box_key is None:
            return None
        try:
            return unwrap(wrapped, self._box_key, PURPOSE + self._gateway.encode())
        except MalformedFrame as error:
            log.warning("members cannot be found by number: %s", error)
            return None

    # ------------------------------------------------------------ the guard

    @property
    def locked(self) -> dict[str, int]:
        """Who may not look for numbers, and since when (µs since 1970 UTC)."""
        return dict(self._locked)

    async def unlock(self, by: str, manager: str) -> bool:
        """Let somebody look again; False: they may. Returns after the commit."""
        if by not in self._locked:
            return False
        await asyncio.shield(self._commit([LookupsUnlocked(by, manager, self._clock.now())], None))
        return True

    def fold(self, row: MemberLookedUp | LookupsLocked | LookupsUnlocked, place: RowPlace = NOWHERE) -> None:
        """Take a row of the ledger."""
        if isinstance(row, LookupsUnlocked):
            self._locked.pop(row.by, None)
            self._wrong.pop(row.by, None)
        elif isinstance(row, LookupsLocked):
            self._locked[row.by] = row.event_time.wall_us
        elif row.member_ref is None:
            self._wrong[row.by].append(row.event_time.wall_us)

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows that this lives on: `tell(fold, *kinds)`."""
        tell(self.fold, MemberLookedUp, LookupsLocked, LookupsUnlocked)
        tell(self.see, MemberRecognised, VisitStarted)

    def _wrong_lately(self, by: str) -> int:
        now_us = self._clock.now().wall_us
        return sum(abs(now_us - at_us) < self._table.wrong_window_s * 1_000_000 for at_us in self._wrong.get(by, ()))

    # ------------------------------------------------------------ what staff see

    def alerts(self) -> list[TierAlert]:
        """Members who are there now, newest first; for signed-in staff only."""
        since_us = self._clock.now().wall_us - ALERT_US
        return [alert for alert in reversed(self._alerts) if alert.at_us > since_us]

    def alert(self, member_ref: str, station: str, how: str) -> None:
        """Tell staff quietly that a member is there. Call it after the commit of what it rests on."""
        found = self._roll.by_ref(member_ref)
        if found is None or not found.tier or (how == "beacon" and "beacon" not in found.consents):
            return
        self._alert_number += 1
        self._alerts.append(TierAlert(self._alert_number, station, found.tier, how, self._clock.now().wall_us))
        self._tell()

    def see(self, row: MemberRecognised | VisitStarted, place: RowPlace = NOWHERE) -> None:
        """A row that may be an alert; those of earlier lives are none."""
        if abs(self._clock.now().wall_us - row.event_time.wall_us) > ALERT_US:
            return
        if isinstance(row, MemberRecognised):
            self.alert(row.member_ref, row.station, row.how)
        elif row.subject_kind is SubjectKind.MEMBER:
            self.alert(row.subject, row.zone, "beacon")

    # ------------------------------------------------------------ forgetting

    def sweep(self) -> None:
        """Forget tags whose time is over, in memory and on the disk; a line to headquarters is not needed."""
        now = self._clock.now()
        ended = self._roll.expire(now.wall_us // 1_000_000) if now.trust is not TimeTrust.UNTRUSTED else []
        for document in ended:
            stored = StoredDocument(document.name, document.version, keep(document, self._own))
            self._commit([CatalogApplied(document.name, document.version, "", self._clock.now())], stored)
            self._tell()

    def watch(self) -> None:
        """Sweep now and from now on, on the running loop."""
        self.sweep()
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self.watch)

    def rest(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()


def _reference(letters: str) -> str:
    return voucher_ref(HOME_ISSUER, short_identifier(letters))
