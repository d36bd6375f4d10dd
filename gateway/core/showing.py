"""What screens said of redemptions, at the desk: confirmed by a page, honoured by a person, rung up by a till.

Reads the books of `gateway.rules.screened` and makes verdicts, whose rows the desk commits and folds (DESIGN section 3, rule 9).
"""

import asyncio
import datetime
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.codes import normalise_typed
from gateway.core.counter import Counter
from gateway.core.devices import Devices
from gateway.core.verdict import Actor, Shown, Verdict
from gateway.events import (
    CodePresented,
    RedemptionRefused,
    RedemptionReversed,
    ResultShown,
    Row,
    TillCodeRung,
    UnseenHonoured,
    VoucherRedeemed,
)
from gateway.rules import answers, reasons
from gateway.rules.answers import Answer, Before
from gateway.rules.screened import TillCodes, Unseen, needs_screen

HONOUR_S: Final = 86_400  # who was not told comes back at once, or when the power does; after a day it is another matter
TILL: Final = "pos"
LISTED: Final = "till@"  # where codes come from that a till hands over in a list
SCREENED: Final = ("scanner@", "typed@", "camera@", "picture@")  # somebody stands before the station's screen
ANY: Final = None
AFTER_IT: Final = ("show_member", "joined", "not_joined")  # decisions about a redemption that stood on the screen just before
REPEATABLE: Final = ("already_redeemed", "exhausted")


class Showing:
    """The part of the desk that asks whether anybody was told.

    Args:
        commit: Appends rows; done after the fsync.
        admitted: Whether this start may decide.
        codes: Whether screens show codes for the till.
    """

    def __init__(
        self, counter: Counter, catalog: Catalog, clock: Clock, devices: Devices, commit: "Callable[[list[Row]], asyncio.Future[None]]",
        admitted: Callable[[], bool], *, prefix: str, codes: bool,
    ) -> None:  # fmt: skip
        self._counter = counter
        self._catalog = catalog
        self._clock = clock
        self._devices = devices
        self._commit = commit
        self._admitted = admitted
        self._shows_codes = codes
        self.unseen = Unseen(self._is_till)
        self.codes = TillCodes(self._is_till, prefix)

    # ------------------------------------------------------------ was it seen?

    async def shown(self, redemption_id: str, actor: Actor, station: str) -> bool:
        """Take a page's word that it has painted a redemption; False: nobody waits for that. Returns after the commit."""
        found = self.unseen.get(redemption_id)
        if found is None or found.before.station != station:
            return False
        row = ResultShown(redemption_id, found.voucher_id, station, actor.staff, actor.device, self._clock.now())
        await asyncio.shield(self._commit([row]))
        return True

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows that this lives on: `tell(fold, *kinds)`."""
        for fold in (self.unseen.fold, self.codes.fold) if self._shows_codes else (self.unseen.fold,):
            tell(fold, VoucherRedeemed, ResultShown, UnseenHonoured, TillCodeRung, RedemptionReversed)

    def tell(self, verdict: Verdict) -> Answer:
        """A verdict's answer as it is told: with the till's code, or in truer words if an earlier use was accepted and not shown."""
        verdict.answer = self._with_code(verdict) if verdict.answer.ok else self._explained(verdict)
        return verdict.answer

    def _explained(self, verdict: Verdict) -> Answer:
        """A station speaks of its own screen; a person, of every screen of the shop."""
        answer = verdict.answer
        if answer.reason not in REPEATABLE or answer.practice:
            return answer
        staff = next((row.staff for row in verdict.rows if isinstance(row, RedemptionRefused)), None)
        found = self.unseen.of(answer.reference, verdict.station if staff is None else ANY)
        if found is None or self._counter.age_s(found.at, unknown_s=0.0) > HONOUR_S:
            return answer
        words = reasons.unseen(self._clock_time(found.before.at_us), to_staff=staff is not None)
        return msgspec.structs.replace(
            answer, message=words.text, next_step=words.next_step, before=found.before, unseen=found.redemption_id
        )

    def honour(self, redemption_id: str, why: str, actor: Actor, shown: Shown) -> Verdict:
        """Let a person hand over what was accepted and never shown."""
        found, refused = self.unseen.get(redemption_id), self._refusal_of_honour(redemption_id)
        if refused is not None or found is None or actor.staff is None:
            return self.refuse(refused or "not_staff", redemption_id, shown, self.unseen.honoured(redemption_id))
        now = self._clock.now()
        row = UnseenHonoured(
            redemption_id, found.voucher_id, found.campaign, found.issuer, found.units, found.minor, shown.station, actor.staff,
            actor.device, why, now,
        )  # fmt: skip
        answer = answers.decision(
            "honoured", now.wall_us, reference=found.voucher_id, title=self._counter.title(found.voucher_id), redemption_id=redemption_id,
            before=found.before,
        )  # fmt: skip
        return Verdict(answer=answer, station=shown.station, rows=[row], silent=True)

    def _refusal_of_honour(self, redemption_id: str) -> str | None:
        if not self._admitted():
            return "not_admitted"
        found = self.unseen.get(redemption_id)
        if found is not None:
            return "too_late_to_honour" if self._counter.age_s(found.at, unknown_s=0.0) > HONOUR_S else None
        if self.unseen.honoured(redemption_id) is not None:
            return "already_honoured"
        use = self._counter.used.redemption(redemption_id)
        return "unknown_redemption" if use is None else "already_reversed" if use.is_reversed else "already_shown"

    # ------------------------------------------------------------ a till without an API

    def _with_code(self, verdict: Verdict) -> Answer:
        answer = verdict.answer
        if not self._shows_codes or answer.practice:
            return answer
        if answer.decision in AFTER_IT and answer.redemption_id:  # what the screen asked has hidden it, and the cashier may need it still
            code = self.codes.of(answer.redemption_id)
            return answer if self.codes.open(code) is None else msgspec.structs.replace(answer, till_code=code)
        if answer.decision != "redeemed":
            return answer
        use = next((row for row in verdict.rows if isinstance(row, VoucherRedeemed)), None)
        if use is not None and needs_screen(use, self._is_till):
            return msgspec.structs.replace(answer, till_code=self.codes.of(use.redemption_id))
        return answer

    def is_till_code(self, text: str) -> bool:
        """Whether it is spelled as a code that this shop's screens show."""
        return self._shows_codes and self.codes.is_ours(normalise_typed(text.strip()))

    def rung(self, code: CodePresented, station: str, staff: str | None, device: str | None = None) -> Verdict | None:
        """A till code came back; None: it is spelled as none of ours."""
        text = normalise_typed(code.payload.decode("utf-8", "replace").strip("\x00\r\n\t ")) if len(code.payload) < 64 else ""
        if self._catalog.retired or not self.is_till_code(text):
            return None
        shown, found = Shown(code.presentation_id, station, code.read_point, staff), self.codes.open(text)
        if found is None:
            before = self.codes.rung(text)
            return self.refuse("unknown_till_code" if before is None else "already_rung", *_of(before, shown))
        if not self._admitted():  # an old image may have forgotten that a till took it
            return self.refuse("not_admitted", found.redemption_id, shown)
        now = self._clock.now()
        row = TillCodeRung(found.redemption_id, found.voucher_id, text, station, code.read_point, staff, device, now)
        answer = answers.decision(
            "rung", now.wall_us, reference=found.voucher_id, title=self._counter.title(found.voucher_id),
            redemption_id=found.redemption_id, before=found.before,
        )  # fmt: skip
        return Verdict(answer=answer, station=station, rows=[row], silent=code.read_point.startswith(LISTED))

    def is_rung(self, redemption_id: str) -> bool:
        """Whether a till has taken its code."""
        found = self.codes.rung(self.codes.of(redemption_id))
        return found is not None and found[0] == redemption_id

    # ------------------------------------------------------------ inside

    def refuse(self, reason: str, redemption_id: str, shown: Shown, before: Before | None = None) -> Verdict:
        """A refusal about a redemption: an answer with its reason, and an event."""
        use, now = self._counter.used.redemption(redemption_id), self._clock.now()
        reference = use.voucher_id if use is not None else ""
        answer = answers.refusal(
            reason, now.wall_us, reference=reference, title=self._counter.title(reference), before=before,
            redemption_id=redemption_id if use is not None else "",
        )  # fmt: skip
        row = RedemptionRefused(shown.presentation_id, reference or None, reason, shown.station, shown.read_point, shown.staff, now)
        return Verdict(answer=answer, station=shown.station, rows=[row], silent=not shown.read_point.startswith(SCREENED))

    def _is_till(self, device_id: str | None) -> bool:
        return device_id is not None and self._devices.kind_of(device_id) == TILL

    def _clock_time(self, at_us: int) -> str:
        try:
            return datetime.datetime.fromtimestamp(at_us / 1e6, self._counter.zone).strftime("%H:%M")
        except (ValueError, OverflowError, OSError):
            return "--:--"  # no calendar has that moment


def _of(before: tuple[str, Before] | None, shown: Shown) -> tuple[str, Shown, Before | None]:
    return ("", shown, None) if before is None else (before[0], shown, before[1])
