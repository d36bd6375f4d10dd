"""Members as headquarters' people and systems use them: make, import, change, tag, erase. Each is one transaction, then shops are told."""

import asyncio
import csv
import io
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from cloud_bridge.hq import issuers, members, registry
from cloud_bridge.hq.documents import Press, new_identifier
from cloud_bridge.hq.erasing import Erasing
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.members import MemberAsk, MemberRow, Signing
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Connection, Store, StoreAway
from gateway.clock import Clock
from gateway.signed import CONSENTS, DOCUMENT_NAMES

log = logging.getLogger(__name__)

COLUMNS: Final = ("phone", "old_card", "tier", "points", "consents")
MOST_LINES: Final = 1_000  # of one import
TELL_AGAIN_US: Final = 6 * 3600 * 1_000_000  # so a shop with a line never calls what it knows of members old
LOOK_S: Final = 60.0
T = TypeVar("T")


class MemberOffice:
    """What there is to do with members."""

    def __init__(self, store: Store, press: Press, ingest: Ingest, clock: Clock, erasing: Erasing) -> None:
        self._store = store
        self._press = press
        self._ingest = ingest
        self._clock = clock
        self._erasing = erasing

    async def make(self, ask: MemberAsk) -> tuple[MemberRow, bool]:
        """A new member, or the one who has that number; with it, whether they are new.

        Raises:
            RefusedAsk: As `members.make`.
        """
        return await self._change(lambda db, now_us: members.make(db, ask, self._signing(db), now_us), lambda made: made[0].region)

    async def take_over(self, text: str, region: str) -> list[tuple[MemberRow, bool]]:
        """Make members of the lines of a CSV, all of them or none. Its columns are of `COLUMNS`; old cards and consents part by a space.

        Raises:
            RefusedAsk: A line cannot be taken; which, but never what stood there.
        """
        asks = _read(text, region)

        def make(db: Connection, now_us: int) -> list[tuple[MemberRow, bool]]:
            made, signing = [], self._signing(db)
            for line, ask in enumerate(asks, 2):
                try:
                    made.append(members.make(db, ask, signing, now_us))
                except RefusedAsk as error:
                    raise RefusedAsk(error.status, f"line {line}: {error}", error.hint) from error
            return made

        return await self._change(make, lambda _: region)

    async def one(self, member_ref: str) -> MemberRow:
        """A member.

        Raises:
            RefusedAsk: There is none.
        """
        return await self._store.read(partial(members.one, member_ref=member_ref))

    async def change(self, member_ref: str, said: dict[str, Any]) -> MemberRow:
        """Change tier, consents or the points shown.

        Raises:
            RefusedAsk: As `members.change`.
        """
        return await self._change(lambda db, _: members.change(db, member_ref, said), lambda row: row.region)

    async def tag(self, member_ref: str, word: str, not_after_s: int) -> MemberRow:
        """Put a word for staff beside a member, until a time.

        Raises:
            RefusedAsk: As `members.tag`.
        """
        return await self._change(lambda db, _: members.tag(db, member_ref, word, not_after_s), lambda row: row.region)

    async def erase(self, member_ref: str) -> None:
        """Erase a member, here, in the backups that are kept and in every shop; asked again, it does no harm.

        Raises:
            ConfigError: The list of erased members, or a backup, cannot be written.
        """
        await self._erasing.note([member_ref], self._clock.now().wall_us)  # first: what follows is done again after a power cut
        await self._tell(
            await self._store.write(partial(erase_all, press=self._press, refs=[member_ref], now_us=self._clock.now().wall_us))
        )
        await self._erasing.scrub(self._store)

    async def run(self) -> None:
        """Until cancelled: tags go after their time, and shops hear now and then that nothing has changed."""
        while True:
            now_us = self._clock.now().wall_us
            try:
                await self._tell(await self._store.write(partial(_refresh, press=self._press, now_us=now_us)))
            except StoreAway as error:
                log.warning("members are not looked after now: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _change(self, do: Callable[[Connection, int], T], region_of: Callable[[T], str]) -> T:
        def change(db: Connection) -> tuple[T, list[BoxRow]]:
            now_us = self._clock.now().wall_us
            made = do(db, now_us)
            return made, seal_members(db, self._press, {region_of(made)}, now_us)

        made, rows = await self._store.write(change)
        await self._tell(rows)
        return made

    async def _tell(self, rows: list[BoxRow]) -> None:
        for row in rows:
            await self._ingest.announce(row)

    def _signing(self, db: Connection) -> Signing:
        return Signing(self._press.member_secret, self._press.sign, issuers.signing_key_id(db, self._press.own_keys), new_identifier)


def seal_members(db: Connection, press: Press, regions: set[str], now_us: int, *, whole: bool = False) -> list[BoxRow]:
    """Tell the enrolled boxes of some regions who has changed, or all of their members anew; the boxes."""
    rows = [row for row in registry.boxes(db) if row.public is not None and members.region_of(row) in regions]
    for row in rows:
        press.seal(db, row, "members" if whole or members.is_long(db, row) else "members_recent", now_us)
    return rows


def seal_missing(db: Connection, press: Press, row: BoxRow, now_us: int) -> None:
    """Make the documents a box never had: a release before this one did not know them."""
    found = {name for (name,) in db.execute("SELECT name FROM documents WHERE gateway = ?", (row.gateway,))}
    for name in DOCUMENT_NAMES:
        if found and name not in found and name != "members_recent":
            press.seal(db, row, name, now_us)


def erase_all(db: Connection, press: Press, refs: list[str], now_us: int) -> list[BoxRow]:
    """Erase members, and tell all of the others anew to the shops that knew them."""
    regions = {region for ref in refs if (region := members.erase(db, ref)) is not None}
    return seal_members(db, press, regions, now_us, whole=True)


def _refresh(db: Connection, press: Press, now_us: int) -> list[BoxRow]:
    expired = members.expire(db, now_us // 1_000_000)
    rows = seal_members(db, press, expired, now_us, whole=True)
    old = members.told_before(db, now_us - TELL_AGAIN_US)
    for row in registry.boxes(db):
        if row.gateway in old and row.public is not None:
            press.seal(db, row, "members_recent", now_us)
            rows.append(row)
    return rows


def _read(text: str, region: str) -> list[MemberAsk]:
    """The lines of a CSV.

    Raises:
        RefusedAsk: Not such a file.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), restkey="", restval="", strict=True)
    hint = f"Its first line names columns, of {', '.join(COLUMNS)}"
    try:
        if not reader.fieldnames or set(reader.fieldnames) - set(COLUMNS):
            raise RefusedAsk(422, "not a list of members", hint)
        lines = [line for _, line in zip(range(MOST_LINES + 1), reader, strict=False)]
    except csv.Error as error:
        raise RefusedAsk(422, "not a CSV", hint) from error
    if len(lines) > MOST_LINES:
        raise RefusedAsk(413, f"an import has at most {MOST_LINES} lines", "Send the rest as another one")
    return [_ask(number, line, region) for number, line in enumerate(lines, 2)]


def _ask(number: int, line: dict[str, Any], region: str) -> MemberAsk:
    points, consents = str(line.get("points") or "0").strip(), str(line.get("consents") or "").split()
    if "" in line or not points.isascii() or not points.isdigit() or len(points) > 12:
        raise RefusedAsk(422, f"line {number}: too many fields, or points that are no number")
    if unknown := set(consents) - set(CONSENTS):
        raise RefusedAsk(422, f"line {number}: {len(unknown)} consents nobody knows", f"Known: {', '.join(CONSENTS)}")
    return MemberAsk(
        region=region, phone=str(line.get("phone") or "").strip(), old_cards=str(line.get("old_card") or "").split(),
        tier=str(line.get("tier") or "").strip()[:40], consents=consents, points=int(points),
    )  # fmt: skip
