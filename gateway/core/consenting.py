"""A screen asks whether what somebody does is to be joined to their membership, and holds the answer for the few seconds it is good for.

One question stands on a station's screen at a time. It comes after a redemption nobody was joined to, and after a member's code. Yes to
the first asks for the member's code; yes to a code that is known joins the redemption before it, or the next one at that station. No,
silence and a restart join nothing; nothing of a question is on the disk. What was said with a code is a row
(`MemberConsented`), committed with the row that joins. Touches: one for the answer, and the code.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.core.requests import own_id
from gateway.core.verdict import Actor, Verdict
from gateway.events import CodePresented, MemberConsented, MemberRecognised, RedemptionReversed, Row, VoucherRedeemed
from gateway.roll import Roll
from gateway.rules import answers
from gateway.rules.answers import Asking
from gateway.rules.consent import BIND, IN_FORCE, Consents, Standing, Word, standing, told_word
from gateway.rules.marks import NOWHERE, RowPlace

SCREENED: Final = ("scanner@", "typed@", "camera@", "picture@")  # somebody stands before the station's screen
ASK_S: Final = 25.0  # to read three sentences and touch; then it is no
CODE_S: Final = 40.0  # to take out a phone and show a code
NEXT_S: Final = 40.0  # until the redemption that is to be joined
LATE_S: Final = 3.0  # what a slow touch may add to what the screen showed
Join = Callable[[VoucherRedeemed, str, str], tuple[list[Row], str]]  # rows that join it, or why it is not joined


class Question(Struct, frozen=True):
    """What stands on a station's screen."""

    offer_id: str
    state: str  # of `gateway.rules.answers.Asking`, or "next": a yes that waits for a redemption
    until_ns: int  # CLOCK_BOOTTIME
    redemption: VoucherRedeemed | None = None  # what it is about
    member_ref: str = ""  # whose code was shown
    how: str = ""


class Consenting:
    """The questions of all stations, and the last word of each member.

    Args:
        join: Rows that join a redemption to a member.
    """

    def __init__(self, roll: Roll, clock: Clock, join: Join) -> None:
        self._roll = roll
        self._clock = clock
        self._join = join
        self._consents = Consents()
        self._questions: dict[str, Question] = {}  # by station

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows this lives on: `tell(fold, *kinds)`."""
        tell(self._consents.fold, MemberConsented)
        tell(self._dropped, RedemptionReversed)

    def word(self, member_ref: str) -> Word | None:
        """A member's last word."""
        entry = self._roll.by_ref(member_ref)
        return self._consents.last(member_ref, told_word(entry.consents, entry.said) if entry is not None else None)

    def is_withdrawn(self, member_ref: str | None) -> bool:
        """Whether nothing may be joined to a member."""
        return member_ref is not None and standing(self.word(member_ref)) is Standing.WITHDRAWN

    # ------------------------------------------------------------ a code was shown

    def waiting(self, code: CodePresented, station: str) -> tuple[str, str] | None:
        """Who said yes at a station and waits for a redemption: member and how they showed who they are."""
        question = self._at(station)
        fits = question is not None and question.state == "next" and code.read_point.startswith(SCREENED)
        return (question.member_ref, question.how) if question is not None and fits else None

    def follow(self, verdict: Verdict, code: CodePresented) -> Verdict:
        """The verdict on a code with what the screen asks after it, or with what a code that was waited for joins."""
        if not code.read_point.startswith(SCREENED) or verdict.answer.practice or verdict.wait is not None or not len(self._roll):
            return verdict
        row = next((row for row in verdict.rows if isinstance(row, VoucherRedeemed | MemberRecognised)), None)
        if isinstance(row, VoucherRedeemed):
            self._questions.pop(verdict.station, None)
            return verdict if verdict.answer.binding else self._ask(verdict, answers.ASK, redemption=row)
        return self._known(verdict, row) if row is not None else verdict

    def _known(self, verdict: Verdict, row: MemberRecognised) -> Verdict:
        before = self._at(verdict.station)
        about = before.redemption if before is not None else None
        if before is not None and before.state == answers.CODE and about is not None:
            del self._questions[verdict.station]
            return self._joined(verdict, about, (row.member_ref, row.how), None, [*verdict.rows])
        word = self.word(row.member_ref)
        agreed = word is not None and word.given and word.version in ("", IN_FORCE)
        return self._ask(verdict, answers.STANDING if agreed else answers.ASK, redemption=about, member_ref=row.member_ref, how=row.how)

    def _ask(self, verdict: Verdict, state: str, **about: object) -> Verdict:
        question = self._put(verdict.station, state, ASK_S, Question(own_id(), state, 0), **about)
        verdict.answer = msgspec.structs.replace(verdict.answer, consent=Asking(question.offer_id, IN_FORCE, state, ASK_S))
        return verdict

    # ------------------------------------------------------------ the answer

    def answer(self, offer_id: str, station: str, actor: Actor, *, yes: bool) -> Verdict:
        """What becomes of a question that was answered by a touch."""
        now, question = self._clock.now(), self._at(station)
        if question is None or question.offer_id != offer_id:
            return Verdict(answer=answers.refusal("consent_over", now.wall_us), station=station)
        del self._questions[station]
        if not yes:
            return self._no(question, station, actor)
        if not question.member_ref:
            waiting = self._put(station, answers.CODE, CODE_S, question)
            asking = Asking(waiting.offer_id, IN_FORCE, answers.CODE, CODE_S)
            return Verdict(
                answer=answers.decision("show_member", now.wall_us, consent=asking, redemption_id=_about(question)), station=station
            )
        who, blank = (question.member_ref, question.how), Verdict(answer=answers.decision("joined", now.wall_us), station=station)
        if question.redemption is not None:
            return self._joined(blank, question.redemption, who, actor.device, [])
        blank.rows = self._given(*who, None, station, actor.device)
        waiting = self._put(station, "next", NEXT_S, question)
        blank.answer = answers.decision("join_next", now.wall_us, consent=Asking(waiting.offer_id, IN_FORCE, answers.NEXT, NEXT_S))
        return blank

    def _no(self, question: Question, station: str, actor: Actor) -> Verdict:
        now = self._clock.now()
        if question.state != answers.STANDING:
            return Verdict(answer=answers.decision("not_joined", now.wall_us, redemption_id=_about(question)), station=station)
        row = MemberConsented(question.member_ref, BIND, False, IN_FORCE, question.how, None, station, actor.device, now)
        return Verdict(answer=answers.decision("consent_withdrawn", now.wall_us), station=station, rows=[row])

    def _joined(self, verdict: Verdict, about: VoucherRedeemed, who: tuple[str, str], device: str | None, rows: list[Row]) -> Verdict:
        """The redemption before is joined, unless its campaign says otherwise; what was said with the code stands in either case."""
        now, (joining, refused) = self._clock.now(), self._join(about, *who)
        given = self._given(*who, None if refused else about.redemption_id, verdict.station, device)
        verdict.rows = [*rows, *given, *([] if refused else joining)]
        verdict.answer = (
            answers.refusal(refused, now.wall_us, reference=about.voucher_id)
            if refused
            else answers.decision("joined", now.wall_us, reference=about.voucher_id, binding="bound", redemption_id=about.redemption_id)
        )
        return verdict

    def _given(self, member_ref: str, how: str, redemption_id: str | None, station: str, device: str | None) -> list[Row]:
        """The row of a yes; none if the same was said before and nothing is joined with it."""
        word = self.word(member_ref)
        if redemption_id is None and word is not None and word.given and word.version in ("", IN_FORCE):
            return []
        return [MemberConsented(member_ref, BIND, True, IN_FORCE, how, redemption_id, station, device, self._clock.now())]

    # ------------------------------------------------------------ inside

    def _at(self, station: str) -> Question | None:
        question = self._questions.get(station)
        if question is not None and self._clock.boottime_ns() > question.until_ns:
            del self._questions[station]
            return None
        return question

    def _put(self, station: str, state: str, for_s: float, question: Question, **about: object) -> Question:
        until_ns = self._clock.boottime_ns() + int((for_s + LATE_S) * 1e9)
        self._questions[station] = msgspec.structs.replace(question, state=state, until_ns=until_ns, **about)
        return self._questions[station]

    def _dropped(self, row: RedemptionReversed, place: RowPlace = NOWHERE) -> None:
        """What was taken back is nobody's any more."""
        for station, question in list(self._questions.items()):
            if question.redemption is not None and question.redemption.redemption_id == row.redemption_id:
                del self._questions[station]


def _about(question: Question) -> str:
    return question.redemption.redemption_id if question.redemption is not None else ""
