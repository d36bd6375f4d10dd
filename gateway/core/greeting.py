"""A member's code or old card shown at a station: who that is goes into a row, and the screen says only that it was recognised."""

from collections.abc import Callable
from typing import Final

from gateway.clock import Clock
from gateway.codes import Recognised
from gateway.core.accounts import Account
from gateway.core.members import Found, Member, Members
from gateway.core.verdict import Verdict
from gateway.events import CodePresented, MemberRecognised
from gateway.rules import answers
from gateway.rules.answers import ShownMember
from gateway.token import HOME_ISSUER, points_ref
from gateway.verifiers import Presented

Refuse = Callable[[str, CodePresented, str, str | None, Clock], Verdict]
FOR_EVER_S: Final = 2**32 - 1


class Greeting:
    """Decides on what names a member."""

    def __init__(self, members: Members, clock: Clock, refuse: Refuse) -> None:
        self._members = members
        self._clock = clock
        self._refuse = refuse

    def present(self, shown: Presented | Recognised, code: CodePresented, station: str, staff: str | None) -> Verdict | None:
        """The verdict; None: a code without signature that is nobody's."""
        if isinstance(shown, Recognised):
            found = self._members.by_typed(shown)
            return None if found is None else self._recognised(found[0], found[1], code, station, staff)
        whose = self._members.by_code(shown)
        if isinstance(whose, Found):
            return self._recognised(whose.member, "code", code, station, staff)
        return self._refuse(whose.reason, code, station, staff, self._clock)

    def account(self, shown: Presented) -> Account | None:
        """The points of the member whose code this is: a signed code spends them, a telephone number or an old card never does."""
        whose = self._members.by_code(shown)
        return (
            Account(points_ref(whose.member.member_ref), 0, HOME_ISSUER, 0, FOR_EVER_S, points=True) if isinstance(whose, Found) else None
        )

    def _recognised(self, member: Member, how: str, code: CodePresented, station: str, staff: str | None) -> Verdict:
        now = self._clock.now()
        row = MemberRecognised(code.presentation_id, member.member_ref, how, station, code.read_point, staff, now)
        shown = ShownMember(member.points, member.as_of_s, member.is_stale)
        return Verdict(answer=answers.decision("recognised", now.wall_us, member=shown), station=station, rows=[row])
