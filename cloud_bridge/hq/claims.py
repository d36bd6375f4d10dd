"""Claims of boxes, asks of shoppers, wishes of headquarters' people: whatever gives an assignment away or wants it back.

A claim's answer is stored by its identifier in the transaction that gives, so that a box that asks again gets the same bytes. What was
given is in the journal, on the disk, before it is sent. A start that is not proven is given what names it; unless the newest
opening is for that very start, one is pressed with it, so that nothing an older line still says frees anything.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from cloud_bridge.hq import assignments, balances, once, openings
from cloud_bridge.hq.bounds import refuse_unless
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.journal import Journal, Line, recall
from cloud_bridge.hq.once import Once
from cloud_bridge.hq.registry import BoxRow, RefusedAsk, box_of
from cloud_bridge.hq.store import Connection, Store
from cloud_bridge.mqtt import Incoming
from gateway.rules.assigning import Asked, Credit, Given, Refused, Stand, Wish
from gateway.signed import CLAIM_TAG, CLAIMED_TAG, LEND_TAG, RECALL_TAG, Claim, Claimed, Grant, Lend, Recall, seal, unseal

MAX_CLAIM_UNPACKED_B: Final = 4_096
MOST_NAME: Final = 64
MOST_UNITS: Final = 1 << 32
RECALL_AGAIN_S: Final = 5.0


class Known(Struct, frozen=True):
    """An enrolled box."""

    row: BoxRow
    key: Ed25519PublicKey


class Answered(Struct, frozen=True):
    """A claim's answer, what of it the journal must hold, and whether the box has an opening to fetch."""

    reply: bytes
    lines: tuple[Line, ...] = ()
    pressed: bool = False


class Shown(Struct, frozen=True):
    """What a shopper's phone gets: a grant, or why there is none."""

    grant: Grant | None
    reason: str = ""
    holder: BoxRow | None = None


class Claims:
    """Headquarters' counter for assignments.

    Args:
        send: Publishes a message under a topic.
        announce: Publishes a box's manifest.
        unproven: Whether a box says that its start is not proven.
    """

    def __init__(
        self, store: Store, press: Press, root: Ed25519PrivateKey, journal: Journal, now_us: Callable[[], int],
        send: Callable[[str, bytes], None], announce: Callable[[BoxRow], Awaitable[None]],
        unproven: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._store = store
        self._press = press
        self._root = root
        self._journal = journal
        self._now_us = now_us
        self._send = send
        self._announce = announce
        self._unproven = unproven
        self._wanting: frozenset[str] = frozenset()
        self._lending: frozenset[str] = frozenset()
        self._recalled_s: dict[str, float] = {}

    async def start(self) -> int:
        """Read the journal; how many things in it the database did not know, which happens only after a restore."""
        missed = await self._store.write(partial(recall, lines=self._journal.read()))
        self._wanting = await self._store.read(assignments.wanting)
        self._lending = await self._store.read(balances.wanting)
        return missed

    async def opening(self, gateway: str, pressed: openings.Pressed) -> None:
        """An opening was pressed: it leaves headquarters, too."""
        await self._journal.write(Line(self._now_us(), opening=(gateway, pressed.number, pressed.epoch)))

    # ------------------------------------------------------------ boxes

    async def take(self, incoming: Incoming, known: Known) -> None:
        """Answer a claim.

        Raises:
            MalformedFrame: Not the box's, or out of bounds.
        """
        row = known.row
        claim = unseal(CLAIM_TAG, incoming.payload, [known.key], Claim, MAX_CLAIM_UNPACKED_B)
        refuse_unless(claim.gateway == row.gateway, "a claim of another box")
        fits = all(0 < len(text) <= MOST_NAME for text in (claim.claim_id, claim.voucher_id, claim.epoch))
        refuse_unless(fits and 0 <= claim.units <= MOST_UNITS, "an impossible claim")
        answered = await self._store.write(partial(self._answer, row=row, claim=claim, contradicted=self._unproven(row.gateway)))
        if answered is None:
            return
        await self._journal.write(*answered.lines)
        if answered.pressed:
            await self._announce(row)
        self._send(row.box.down("claimed"), answered.reply)

    async def heard(self, row: BoxRow) -> None:
        """A box is there: ask it for what headquarters wants back, and tell it of shares it should claim."""
        due = time.monotonic() - self._recalled_s.get(row.gateway, -RECALL_AGAIN_S) >= RECALL_AGAIN_S
        if row.gateway not in self._wanting | self._lending or not due:
            return
        self._recalled_s[row.gateway] = time.monotonic()
        wanted = await self._store.read(partial(assignments.wanted_back, gateway=row.gateway))
        if not wanted:
            self._wanting -= {row.gateway}
        for voucher_id, number in wanted:
            self._send(row.box.down("claimed"), seal(RECALL_TAG, Recall(row.gateway, voucher_id, number, self._now_us()), self._root))
        await self._tell_lends(row)

    async def _tell_lends(self, row: BoxRow) -> None:
        lends = await self._store.read(partial(balances.wanted, gateway=row.gateway, now_us=self._now_us()))
        self._lending = self._lending | {row.gateway} if lends else self._lending - {row.gateway}
        for lend in lends:
            self._send(row.box.down("claimed"), seal(LEND_TAG, lend, self._root))

    def _answer(self, db: Connection, row: BoxRow, claim: Claim, contradicted: bool) -> Answered | None:
        stored = db.execute("SELECT gateway, reply FROM claims WHERE claim_id = ?", (claim.claim_id,)).fetchone()
        if stored is not None:
            return self._again(db, claim, *stored)
        if db.execute("SELECT 1 FROM epochs WHERE gateway = ? AND epoch = ?", (row.gateway, claim.epoch)).fetchone() is None:
            return None  # its beat is on the way, and the box asks again
        doubted = contradicted or not claim.proven or assignments.contradicted(db, row.gateway, claim.epoch)
        doubted = doubted or assignments.is_swapped(db, row.gateway)
        asked = Asked(row.gateway, claim.epoch if doubted else None, claim.units)
        given, lines, pressed = self._give(db, row, claim.voucher_id, asked)
        now_us = self._now_us()
        found = assignments.find(db, claim.voucher_id)
        title = (found.title_zh, found.title_en) if found is not None else ("", "")
        balance = balances.left(found.stand) if found is not None and found.is_balance else None
        balances.claimed(db, row.gateway, claim.voucher_id)
        if isinstance(given, Given):
            said = Claimed(row.gateway, claim.claim_id, now_us, given.grant, "", "", "", *title, balance)
        else:
            holder = box_of(db, given.holder) if given.holder else None
            names = (holder.name_zh, holder.name_en) if holder else ("", "")
            said = Claimed(row.gateway, claim.claim_id, now_us, None, given.reason, *names, *title, balance)
        reply = seal(CLAIMED_TAG, said, self._root)
        db.execute("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", (claim.claim_id, row.gateway, claim.voucher_id, reply, now_us))
        return Answered(reply, lines, pressed)

    def _again(self, db: Connection, claim: Claim, gateway: str, reply: bytes) -> Answered | None:
        if gateway != claim.gateway:
            return None
        row = assignments.find(db, claim.voucher_id)
        unsure = row is not None and row.stand.told > 0 and not self._journal.has(row.stand)
        return Answered(bytes(reply), (Line(self._now_us(), row.stand),) if row is not None and unsure else ())

    def _give(self, db: Connection, row: BoxRow, voucher_id: str, asked: Asked) -> tuple[Given | Refused, tuple[Line, ...], bool]:
        now_us = self._now_us()
        given = assignments.give(db, voucher_id, asked, now_us // 1_000_000)
        if not isinstance(given, Given):
            return given, (), False
        lines, last = [Line(now_us, given.stand)], openings.last_pressed(db, row.gateway)
        pressed = asked.epoch is not None and (last is None or last.epoch != asked.epoch)
        if pressed and asked.epoch is not None:
            opening = openings.press_opening(db, self._press, row, asked.epoch, now_us)
            lines.append(Line(now_us, opening=(row.gateway, opening.number, opening.epoch)))
        return given, tuple(lines), pressed

    # ------------------------------------------------------------ shoppers

    async def show(self, row: BoxRow, voucher_id: str, epoch: str, *, proven: bool) -> Shown:
        """What a shopper's phone gets for a shop, whose screen says that `epoch` runs; `proven`: the box has said it is admitted."""
        given, lines, pressed, holder = await self._store.write(
            partial(self._show, row=row, voucher_id=voucher_id, epoch=epoch, proven=proven)
        )
        await self._journal.write(*lines)
        if pressed:
            await self._announce(row)
        return Shown(given.grant) if isinstance(given, Given) else Shown(None, given.reason, holder)

    def _show(
        self, db: Connection, row: BoxRow, voucher_id: str, epoch: str, proven: bool
    ) -> tuple[Given | Refused, tuple[Line, ...], bool, BoxRow | None]:
        doubted = not proven or assignments.contradicted(db, row.gateway, epoch) or assignments.is_swapped(db, row.gateway)
        asked = Asked(row.gateway, epoch if doubted else None)
        given, lines, pressed = self._give(db, row, voucher_id, asked)
        return given, lines, pressed, box_of(db, given.holder) if isinstance(given, Refused) and given.holder else None

    # ------------------------------------------------------------ headquarters' people

    async def enrolled(self, gateway: str, stands: list[Stand]) -> None:
        """A box enrolled; stands changed in a way that leaves headquarters if it was swapped, or had been declared destroyed."""
        returned = [Line(self._now_us(), returned=gateway)] if self._journal.is_destroyed(gateway) else []
        await self._journal.write(*returned, *(Line(self._now_us(), stand) for stand in stands))

    async def wish(self, voucher_id: str, wanted: Wish) -> Stand:
        """Cancel, refund or move a voucher: at once if nobody holds it, else as soon as that is so.

        Raises:
            RefusedAsk: There is no such voucher.
        """
        stand = await self._store.write(partial(assignments.wish, voucher_id=voucher_id, wanted=wanted))
        await self._journal.write(Line(self._now_us(), stand))
        self._wanting |= {kept.gateway for kept in stand.kept}
        for kept in stand.kept:
            self._recalled_s.pop(kept.gateway, None)
        return stand

    async def credit(self, voucher_id: str, units: int, asking: Once | None) -> None:
        """Put more into a balance, once for each key.

        Raises:
            RefusedAsk: There is no such balance, or the key was another request's.
        """
        now_us = self._now_us()
        by = Credit(*asking.digests, now_us // 1_000_000) if asking is not None else None
        make = partial(assignments.credit, voucher_id=voucher_id, units=units, by=by)
        work = partial(once.do, once=asking, now_us=now_us, make=make, name_of=lambda stand: stand.voucher_id)
        made = await self._store.write(work)
        stand = made.fresh
        if stand is None and (row := await self._store.read(partial(assignments.find, voucher_id=voucher_id))) is not None:
            stand = row.stand if not self._journal.has(row.stand) else None  # power went between the commit and the journal
        if stand is not None:
            await self._journal.write(Line(now_us, stand))

    async def lend(self, row: BoxRow, voucher_id: str, units: int) -> None:
        """Have a share of a balance lie at a box: it is told, again and again, until it has claimed it.

        Raises:
            RefusedAsk: There is no such balance.
        """

        def ask(db: Connection) -> None:
            found = assignments.find(db, voucher_id)
            if found is None:
                raise RefusedAsk(404, f"there is no assigned voucher {voucher_id}")
            balances.refuse_unless_balance(found.is_balance, voucher_id)
            balances.want(db, Lend(row.gateway, voucher_id, units, self._now_us()))

        await self._store.write(ask)
        self._recalled_s.pop(row.gateway, None)
        await self._tell_lends(row)

    async def destroy(self, gateway: str) -> list[Stand]:
        """Declare a box destroyed.

        Raises:
            RefusedAsk: There is no such box.
        """
        changed = await self._store.write(partial(self._destroy, gateway=gateway))
        await self._journal.write(Line(self._now_us(), destroyed=gateway), *(Line(self._now_us(), stand) for stand in changed))
        return changed

    def _destroy(self, db: Connection, gateway: str) -> list[Stand]:
        if db.execute("SELECT 1 FROM boxes WHERE gateway = ?", (gateway,)).fetchone() is None:
            raise RefusedAsk(404, f"there is no box {gateway}")
        return assignments.destroy(db, gateway, self._now_us())
