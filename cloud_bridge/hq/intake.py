"""How boxes come to headquarters: they are announced, get a label, and enrol with it. Nothing here knows HTTP."""

import asyncio
from functools import partial
from typing import Final

from cryptography.exceptions import InvalidSignature
from msgspec import Struct

from cloud_bridge.hq import assignments, devices, labels, registry
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.feed import Change, Feed
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Connection, Store
from cloud_bridge.hq.wan import Lines
from gateway.clock import Clock
from gateway.errors import MalformedFrame
from gateway.rules.assigning import Stand
from gateway.signed import public_from_hex, public_hex, seal
from provisioning.authority import HELLO_TAG, Authority, EnrolAsk, EnrolReply, Hello, HqFacts
from provisioning.label import Label, write_label
from provisioning.words import EnrolRefused

FIRST_STAFF: Final = "店長"


class Expected(Struct, frozen=True):
    """A box that may enrol. Label and PIN are told this once."""

    row: BoxRow
    relay_port: int
    label: str  # empty: the box was registered before, and nothing new was issued
    not_after_us: int
    staff: registry.NewStaff | None


class RowRefused(RefusedAsk):
    """Some of what was asked for at once cannot be, so none of it was taken; `rows` says which, by their place, and why."""

    def __init__(self, rows: dict[int, str], what: str = "boxes cannot be registered") -> None:
        super().__init__(409, f"{len(rows)} of these {what}, so none was")
        self.rows = rows


class Intake:
    """Announcing and enrolling boxes.

    Args:
        door: Host and port that labels name: where boxes find the HTTPS door, under a name its certificate bears.
        page: Where shoppers' phones reach headquarters; boxes put it into their QR codes.
    """

    def __init__(
        self,
        store: Store,
        authority: Authority,
        press: Press,
        ingest: Ingest,
        feed: Feed,
        lines: Lines,
        clock: Clock,
        door: tuple[str, int],
        page: str,
    ) -> None:
        self._store = store
        self._authority = authority
        self._press = press
        self._ingest = ingest
        self._feed = feed
        self._lines = lines
        self._clock = clock
        self._door = door
        self._page = page

    async def announce(self, rows: list[BoxRow], *, again: bool, days: int = labels.VALID_DAYS, only_new: bool = True) -> list[Expected]:
        """Register boxes, the first of each shop's staff with them, and issue their labels: all in one transaction, or none.

        Args:
            rows: The boxes.
            again: A new label also for boxes that were registered before; their old labels stop working. What is registered
                stays as it is, and an enrolled box's key goes on counting until the new one is here.
            days: How long the labels are valid.
            only_new: Without `again`, leave boxes that were registered before alone; False: an error if such a box has enrolled,
                else a new label.

        Raises:
            RowRefused: Some of them cannot be.
            RefusedAsk: The only one cannot be.
        """
        hired = [await asyncio.to_thread(registry.new_staff, FIRST_STAFF, registry.STAFF_ROLES) for _ in await self._without_staff(rows)]
        work = partial(self._register, rows=rows, again=again, days=days, only_new=only_new, hired=hired)
        expected = await self._store.write(work)
        for one in expected:
            await self._lines.open(one.row.store)
        self._feed.tell(Change())
        ports = self._lines.ports()
        return [Expected(one.row, ports.get(one.row.store, 0), one.label, one.not_after_us, one.staff) for one in expected]

    async def enrol(self, ask: EnrolAsk) -> EnrolReply:
        """Give a box its certificate for its label.

        Raises:
            EnrolRefused: The label is not good for it, or its keys cannot be used.
        """
        now_us = self._clock.now().wall_us
        certificate = await asyncio.to_thread(self._certify, ask)
        reason, swapped = await self._store.write(partial(self._take_in, ask=ask, now_us=now_us))
        if reason is None:
            await self._ingest.claims.enrolled(ask.gateway, swapped)
        self._feed.tell(Change())
        if reason is not None:
            raise EnrolRefused(reason)
        row = await self._store.read(partial(registry.box_of, gateway=ask.gateway))
        await self._ingest.learn_boxes()
        await self._ingest.announce(row)
        facts = HqFacts(
            hq_public=self._publics(), tenant=row.tenant, store=row.store, number=row.number, gateway=row.gateway, page=self._page,
        )  # fmt: skip
        return EnrolReply(certificate=certificate, ca=self._authority.ca_pem, facts=facts)

    def hello(self, nonce: str) -> bytes:
        """Who headquarters is and what time it is, signed over the asker's nonce."""
        said = Hello(nonce=nonce, hq_time_us=self._clock.now().wall_us, hq_public=self._publics(), ca=self._authority.ca_pem)
        return seal(HELLO_TAG, said, self._authority.root)

    @property
    def ca_pem(self) -> str:
        """The authority's certificate."""
        return self._authority.ca_pem

    def _publics(self) -> list[str]:
        return [public_hex(self._authority.root_public)]

    def _certify(self, ask: EnrolAsk) -> str:
        try:
            public_from_hex(ask.public).verify(bytes.fromhex(ask.proof), ask.proven)
            return self._authority.issue_client(ask.csr, ask.gateway)
        except (MalformedFrame, ValueError, InvalidSignature) as error:
            raise EnrolRefused("bad_keys", str(error)) from error

    async def _without_staff(self, rows: list[BoxRow]) -> list[BoxRow]:
        """Boxes that will need somebody. Hashing a PIN takes long on purpose, so it is done for these only."""
        return await self._store.read(lambda db: [row for row in rows if not registry.has_staff(db, row.gateway)])

    # -- inside the transaction

    def _take_in(self, db: Connection, ask: EnrolAsk, now_us: int) -> tuple[str | None, list[Stand]]:
        reason = labels.use(db, ask=ask, now_us=now_us)
        if reason is None and devices.reinstate(db, ask.gateway):  # it was revoked, and is welcome again
            self._press.seal(db, registry.box_of(db, ask.gateway), "devices", now_us)
        if reason is None:
            self._press.seal(db, registry.box_of(db, ask.gateway), "members", now_us)  # its secret is for the key that came just now
        return reason, assignments.swap(db, ask.gateway) if reason is None else []

    def _register(
        self, db: Connection, rows: list[BoxRow], again: bool, days: int, only_new: bool, hired: list[registry.NewStaff]
    ) -> list[Expected]:
        found, refused, staff = list[Expected](), dict[int, RefusedAsk](), list(hired)
        for place, row in enumerate(rows):
            try:
                found.append(self._register_one(db, row, again, days, only_new, staff))
            except RefusedAsk as error:
                refused[place] = error
        if refused:
            raise refused[0] if len(rows) == 1 else RowRefused({place: str(error) for place, error in refused.items()})
        return found

    def _register_one(
        self, db: Connection, row: BoxRow, again: bool, days: int, only_new: bool, staff: list[registry.NewStaff]
    ) -> Expected:
        is_new = registry.expect_box(db, row, self._clock.now().wall_us)
        known = registry.box_of(db, row.gateway)
        if not (is_new or again):
            if only_new:
                return Expected(known, 0, "", 0, None)
            if known.public is not None:
                raise RefusedAsk(409, "this box has enrolled already")
        issued = labels.issue(db, row.gateway, self._clock.now().wall_us, days)
        return Expected(known, 0, self._label(row, issued), issued.not_after_us, self._hire_first(db, known, staff))

    def _hire_first(self, db: Connection, row: BoxRow, staff: list[registry.NewStaff]) -> registry.NewStaff | None:
        if not staff or registry.has_staff(db, row.gateway):
            return None
        first = staff.pop()
        registry.hire(db, row.gateway, first)
        self._press.seal_all(db, row, self._clock.now().wall_us)
        return first

    def _label(self, row: BoxRow, issued: labels.Issued) -> str:
        host, port = self._door
        label = Label(
            host=host, port=port, box=row.gateway, authority=self._authority.ca_point,
            headquarters=bytes.fromhex(self._publics()[0]), secret=issued.secret, not_after_s=issued.not_after_us // 1_000_000,
        )  # fmt: skip
        try:
            return write_label(label)
        except MalformedFrame as error:
            raise RefusedAsk(422, str(error)) from error
