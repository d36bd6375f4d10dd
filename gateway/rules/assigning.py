"""How headquarters assigns a voucher: free, assigned to one box under a number, wished back, free again, spent or ended.

Pure. Rules (DESIGN section 3, 1, 2, 4, 6 and 8). 1. Units that nobody holds are `left`; giving them to a box takes all of them (or, of
a balance, the share that was asked for) and counts the number up; any other box is told who holds them. 2. The same box is given
the same number again, with a later end; an assignment remembers the latest. 3. Units come back by the current holder's
`Released` of the current number, or by its `SettledThrough` at or after the latest end: both only if the row counts, which is
when it was written under the newest opening headquarters gave that box and nothing contradicts the start that wrote it. Or the
box is declared destroyed: then they come back at once and are booked as exposure. 4. A wish (cancel, refund, move) is granted when
nobody holds anything; until then nothing more is given. 5. What an unproven start is given names it, and is less by what is
known to be spent outside it. 6. Uses are counted under their number whenever they come; of a number that is over, as late. 7. What a
reversal takes back returns to the number it was spent under; if that is over, to what nobody holds, up to what had been counted
there. A destroyed box may spend it once more, so what comes back from there is booked, too. 8. Headquarters restored from a backup takes
the stand that left it last; rows that come again change nothing that they had changed in it before (`gateway.rules.recounted`).
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from gateway.rules.recounted import Counted, Told, absorbed, counting, due_again
from gateway.signed import AssignmentStand, Grant


class Wish(StrEnum):
    """What headquarters wants of a voucher as soon as nobody holds it."""

    NONE = ""
    MOVE = "move"
    CANCEL = "cancel"
    REFUND = "refund"


ENDED: Final = {Wish.CANCEL: "revoked", Wish.REFUND: "refunded"}  # wish to the reason shops give from then on


class Kept(Struct, frozen=True, array_like=True):
    """What one box holds."""

    gateway: str
    number: int
    units: int
    latest_s: int  # the latest end of everything given under this number
    spent: tuple[tuple[str, int], ...] = ()  # by start
    told: Told = ()  # by rows, ever

    @property
    def total_spent(self) -> int:
        """Units headquarters knows to be spent under it."""
        return sum(units for _, units in self.spent)


class Gone(Struct, frozen=True, array_like=True):
    """An assignment that is over."""

    gateway: str
    number: int
    latest_s: int
    units: int = 0
    spent: int = 0  # units known to be spent under it when it was over, less what was taken back since
    dark: bool = False  # its box was declared destroyed: it promised nothing
    late: int = 0  # units spent under it that came to be known after it was over
    told: Told = ()  # by rows, ever
    again: Told = ()  # of those, what will be told again, since headquarters was restored


class Credit(Struct, frozen=True, array_like=True):
    """A request that put something into a balance: hashes of its key and of what it asked for."""

    key: str
    asked: str
    at_s: int


class Stand(Struct, frozen=True):
    """One voucher or balance."""

    voucher_id: str
    left: int  # units nobody holds
    number: int = 0  # the highest that was given
    kept: tuple[Kept, ...] = ()
    gone: tuple[Gone, ...] = ()
    wish: Wish = Wish.NONE
    ended: str = ""  # why nothing is given any more
    exposed: int = 0  # units that came back from destroyed boxes: they may have been spent there
    late: int = 0  # units spent under numbers that were over
    told: int = 0  # how often something of it left headquarters: a later word replaces an earlier one
    taken: int = 0  # of `left`, by rows: what shops took on trust, less what was reversed; with `left` it is what left and came by words
    credited: int = 0  # of a balance: units put in after it was issued
    earned: int = 0  # of those, a member's points that rows earned: rows that come again after a restore earn nothing more
    credits: tuple[Credit, ...] = ()  # requests of the last month, so that one that is tried again counts once after a restore, too

    def kept_by(self, gateway: str) -> Kept | None:
        """What a box holds."""
        return next((one for one in self.kept if one.gateway == gateway), None)

    def over_at(self, gateway: str, number: int) -> Gone | None:
        """An assignment of a box that is over."""
        return next((one for one in self.gone if (one.gateway, one.number) == (gateway, number)), None)


class Asked(Struct, frozen=True):
    """What a box, or a shopper for it, asks for."""

    gateway: str
    epoch: str | None = None  # the start to name; None: any proven start of the box
    units: int = 0  # of a balance: the share; 0: all


class Given(Struct, frozen=True):
    """A stand after giving, and what is given."""

    stand: Stand
    grant: Grant


class Refused(Struct, frozen=True):
    """Why nothing is given; `holder` is the box that holds it."""

    reason: str  # a key of `gateway.rules.reasons.REASONS`
    holder: str = ""


class Assigner:
    """The rules. It keeps nothing; each method gives the stand that follows."""

    def give(self, stand: Stand, asked: Asked, issued_s: int, not_after_s: int) -> Given | Refused:
        """Assign to a box, or give what it holds once more with a later end."""
        mine = stand.kept_by(asked.gateway)
        refused = self._refusal(stand, mine, asked)
        if refused is not None:
            return refused
        if mine is None:
            units = min(stand.left, asked.units or stand.left)
            mine = Kept(asked.gateway, stand.number + 1, units, not_after_s)
            stand = replace(stand, left=self._rest(stand, units), number=stand.number + 1, kept=(*stand.kept, mine))
        else:
            mine, before = self._again(stand, mine, asked, not_after_s), mine
            left, number = self._rest(stand, mine.units - before.units), max(stand.number, mine.number)
            stand = replace(self._changed(stand, before, mine), left=left, number=number)
        grant = Grant(
            voucher_id=stand.voucher_id, number=mine.number, gateway=asked.gateway, units=self._units_for(mine, asked.epoch),
            not_after_s=not_after_s, issued_s=issued_s, epoch=asked.epoch,
        )  # fmt: skip
        return Given(replace(stand, told=stand.told + 1), grant)

    def use(self, stand: Stand, gateway: str, number: int, epoch: str, units: int) -> Stand:
        """A use has been received."""
        mine = stand.kept_by(gateway)
        if mine is None or mine.number != number:
            return self._used_late(stand, gateway, number, epoch, units)
        spent = dict(mine.spent)
        spent[epoch] = spent.get(epoch, 0) + units
        told = counting(mine.told, epoch, used=units)
        return self._changed(stand, mine, replace(mine, spent=tuple(sorted(spent.items())), told=told))

    def _used_late(self, stand: Stand, gateway: str, number: int, epoch: str, units: int) -> Stand:
        over = stand.over_at(gateway, number)
        if over is None:
            return replace(stand, late=stand.late + units)
        again, new = self._news(over, epoch, used=units)
        after = replace(over, late=over.late + new.used, told=counting(over.told, epoch, used=new.used), again=again)
        return replace(stand, late=stand.late + new.used, gone=_with(stand.gone, over, after))

    def taken_back(self, stand: Stand, gateway: str, number: int, epoch: str, units: int) -> Stand:
        """A reversal has been received, of a use by the start `epoch`; the caller counts each redemption once."""
        mine = stand.kept_by(gateway)
        if mine is not None and mine.number == number:
            spent = dict(mine.spent)
            spent[epoch] = max(0, spent.get(epoch, 0) - units)
            told = counting(mine.told, epoch, back=units)
            return self._changed(stand, mine, replace(mine, spent=tuple(sorted(spent.items())), told=told))
        over = stand.over_at(gateway, number)
        if over is None:
            return replace(stand, late=max(0, stand.late - units))
        again, new = self._news(over, epoch, back=units)
        late = self._late_first(over, new.back)
        counted = min(new.back - late, over.spent)
        back = self._returned(over, counted)
        told = counting(over.told, epoch, back=new.back)
        after = replace(over, spent=over.spent - counted, late=over.late - late, told=told, again=again)
        gone, exposed = _with(stand.gone, over, after), stand.exposed + self._booked(over, back)
        return replace(stand, left=stand.left + back, gone=gone, exposed=exposed, late=max(0, stand.late - late))

    def credit(self, stand: Stand, units: int, by: Credit | None = None, kept_s: int = 0) -> Stand:
        """More is put into a balance, once for each request; `kept_s`: so long requests are remembered."""
        if by is not None and any(one.key == by.key for one in stand.credits):
            return stand
        credits = (*(one for one in stand.credits if one.at_s >= by.at_s - kept_s), by) if by is not None else stand.credits
        return replace(stand, left=stand.left + units, credited=stand.credited + units, told=stand.told + 1, credits=credits)

    def earn(self, stand: Stand, total: int) -> Stand:
        """Rows have earned so many points in all: what is not in the account yet is put in."""
        more = total - stand.earned
        if more <= 0 or stand.ended:
            return stand
        return replace(stand, left=stand.left + more, credited=stand.credited + more, earned=total)

    def unearn(self, stand: Stand, total: int) -> Stand:
        """Rows have earned only so many points after all: what is free of the difference is taken back, and never more than is free."""
        back = max(0, min(stand.earned - total, stand.left))
        return replace(stand, left=stand.left - back, credited=stand.credited - back, earned=stand.earned - back)

    def released(self, stand: Stand, gateway: str, number: int, counts: bool) -> Stand:
        """A box gave a number back."""
        mine = stand.kept_by(gateway)
        if mine is None or not counts or not self._is_current(mine, number) or not self._is_unspent(mine):
            return stand
        return self._freed(stand, mine, 0)

    def settled(self, stand: Stand, gateway: str, through_s: int, counts: bool) -> Stand:
        """A box promised never to honour again what ends by then."""
        mine = stand.kept_by(gateway)
        return self._freed(stand, mine, 0) if mine is not None and counts and self._is_past(mine, through_s) else stand

    def destroyed(self, stand: Stand, gateway: str) -> Stand:
        """A box is declared destroyed: what it holds comes back, and may have been spent all the same."""
        mine = stand.kept_by(gateway)
        return stand if mine is None else self._freed(replace(stand, told=stand.told + 1), mine, self._exposure(mine), dark=True)

    def wished(self, stand: Stand, wish: Wish) -> Stand:
        """Headquarters wants it back; what nobody holds it has at once."""
        return stand if stand.ended else self._finished(replace(stand, wish=wish))

    def recalled(self, stand: Stand, journalled: Stand) -> Stand:
        """After a restore: the stand that left headquarters last, with the uses the restored store has; rows that come again add theirs."""
        if journalled.told <= stand.told:
            return stand
        before: list[Kept | Gone] = [*stand.kept, *stand.gone]
        known = {(one.gateway, one.number): one for one in before}
        held = [(one, known.get((one.gateway, one.number))) for one in journalled.kept]
        kept = tuple(
            replace(one, spent=(), told=()) if not isinstance(old, Kept) else replace(one, spent=old.spent, told=old.told)
            for one, old in held
        )
        gone = tuple(self._over_again(one, known.get((one.gateway, one.number))) for one in journalled.gone)
        late = stand.late + sum(one.late for one in journalled.gone) - sum(one.late for one in stand.gone)
        left = journalled.left + journalled.taken - stand.taken
        return replace(journalled, kept=kept, gone=gone, late=late, left=left, taken=stand.taken)

    def counts(self, written_under: int, newest: int, contradicted: bool) -> bool:
        """Whether a `Released` or `SettledThrough` frees: numbers of openings, and whether anything speaks against the start."""
        return written_under >= newest and not contradicted

    def told(self, stand: Stand, gateway: str, settled_s: int) -> list[AssignmentStand]:
        """What an opening tells a box of a voucher: what it holds, or that what it held and has not settled is over."""
        mine = stand.kept_by(gateway)
        if mine is not None:
            return [AssignmentStand(stand.voucher_id, mine.number, mine.units, mine.total_spent, mine.latest_s, True)]
        over = [one for one in stand.gone if one.gateway == gateway and one.latest_s > settled_s]
        return [AssignmentStand(stand.voucher_id, one.number, 0, 0, one.latest_s, False) for one in over[-1:]]

    # ------------------------------------------------------------ clauses

    def _refusal(self, stand: Stand, mine: Kept | None, asked: Asked) -> Refused | None:
        if stand.ended:
            return Refused(stand.ended)
        if mine is None and not self._may_share(stand, asked):
            return Refused("assigned_elsewhere", stand.kept[0].gateway)
        if stand.wish is not Wish.NONE:
            return Refused("recalled")
        if mine is not None and mine.total_spent >= mine.units and not (asked.units and stand.left):
            return Refused("already_redeemed")
        return Refused("already_redeemed") if mine is None and stand.left <= 0 else None

    def _may_share(self, stand: Stand, asked: Asked) -> bool:
        """Only a balance may lie with several boxes, each with its share."""
        return not stand.kept or (asked.units > 0 and stand.left > 0)

    def _rest(self, stand: Stand, given: int) -> int:
        return stand.left - given

    def _again(self, stand: Stand, mine: Kept, asked: Asked, not_after_s: int) -> Kept:
        """The same number, a later end; of a balance, more when less is left of it than was asked for."""
        more = max(0, min(stand.left, asked.units - (mine.units - mine.total_spent)))
        return replace(mine, units=mine.units + more, latest_s=self._latest(mine, not_after_s))

    def _latest(self, mine: Kept, not_after_s: int) -> int:
        return max(mine.latest_s, not_after_s)

    def _units_for(self, mine: Kept, epoch: str | None) -> int:
        outside = 0 if epoch is None else sum(units for start, units in mine.spent if start != epoch)
        return mine.units - outside

    def _is_current(self, mine: Kept, number: int) -> bool:
        return mine.number == number

    def _is_unspent(self, mine: Kept) -> bool:
        return mine.total_spent == 0

    def _is_past(self, mine: Kept, through_s: int) -> bool:
        return through_s >= mine.latest_s

    def _exposure(self, mine: Kept) -> int:
        return max(0, mine.units - mine.total_spent)

    def _late_first(self, over: Gone, units: int) -> int:
        """Nobody knows which use it was: what came too late was in no count, so it brings nothing back."""
        return min(units, over.late)

    def _returned(self, over: Gone, units: int) -> int:
        """What was spent beyond what was given brings nothing back."""
        return max(0, over.units - over.spent + units) - max(0, over.units - over.spent)

    def _booked(self, over: Gone, back: int) -> int:
        return back if over.dark else 0

    def _news(self, over: Gone, epoch: str, used: int = 0, back: int = 0) -> tuple[Told, Counted]:
        """Of what rows tell of a number that is over: what is due again then, and what is no repetition."""
        return absorbed(over.again, epoch, used, back)

    # ------------------------------------------------------------ inside

    def _over_again(self, over: Gone, known: Kept | Gone | None) -> Gone:
        """As the journal has it, where the restored store knows less of it."""
        told = known.told if known is not None else ()
        return replace(over, again=due_again(over.told, told, known.again if isinstance(known, Gone) else ()))

    def _freed(self, stand: Stand, mine: Kept, exposed: int, *, dark: bool = False) -> Stand:
        back = max(0, mine.units - mine.total_spent)
        gone = Gone(mine.gateway, mine.number, mine.latest_s, mine.units, mine.total_spent, dark, told=mine.told)
        kept = tuple(one for one in stand.kept if one is not mine)
        freed = replace(stand, left=stand.left + back, kept=kept, gone=(*stand.gone, gone), exposed=stand.exposed + exposed)
        return self._finished(freed)

    def _finished(self, stand: Stand) -> Stand:
        if stand.kept or stand.wish is Wish.NONE:
            return stand
        return replace(stand, wish=Wish.NONE, ended=ENDED.get(stand.wish, ""), told=stand.told + 1)

    def _changed(self, stand: Stand, before: Kept, after: Kept) -> Stand:
        return replace(stand, kept=tuple(after if one is before else one for one in stand.kept))


def _with(gone: tuple[Gone, ...], before: Gone, after: Gone) -> tuple[Gone, ...]:
    return tuple(after if one is before else one for one in gone)
