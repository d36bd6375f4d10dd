"""The ledger against a model of it: rows come and go, headquarters acknowledges and asks back, the process is killed and starts.

Whatever the order: what was acknowledged is there, the lanes have no hole, the cursor is where it was told to be, and nothing
that went well is called damage.
"""

import asyncio
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.chain import encode_event
from gateway.columns import Tombstone, unpack
from gateway.events import Row, VoucherRedeemed
from gateway.ledger import Ledger, LedgerReader, StoredAnswer
from gateway.schema import migrate
from tests.conftest import VirtualClock
from tests.gateway.books import refused, visit
from tests.gateway.ledger.test_keeping import pass_time, used

FILES = ("ledger.db", "ledger.db-wal", "ledger.mark")


class LedgerModel(RuleBasedStateMachine):
    """Beside each ledger the rows it was given, by epoch and lane."""

    @initialize()
    def begin(self) -> None:
        logging.getLogger("gateway.ledger").setLevel(logging.ERROR)
        self.loop = asyncio.new_event_loop()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.TemporaryDirectory(dir=base, prefix="model-")
        self.life = 0
        self.clock = VirtualClock()
        self.rows: dict[tuple[int, int], list[Row]] = {}
        self.names: dict[int, str] = {}
        self.cursors: dict[tuple[int, int], int] = {}
        self.answers: dict[str, bytes] = {}
        self.used: list[str] = []
        self.number = 0
        self.failures: list[Exception] = []
        self.path = Path(self.folder.name) / "0" / "ledger.db"
        migrate(self.path)
        self._open()

    def _run(self, what: Any) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(20):
                return await what

        return self.loop.run_until_complete(within())

    def _open(self) -> None:
        async def opened() -> Ledger:
            return Ledger(self.path, self.clock, "model", lambda: None, self.failures.append)

        self.ledger = self._run(opened())
        epoch = self.ledger.epoch
        assert self.ledger.damage == [] and self.ledger.harmed == []
        assert epoch.number == len(self.names) + 1 and epoch.parent == self.names.get(epoch.number - 1)
        ends = {lane: len(self.rows.get((epoch.number - 1, lane), [])) for lane in range(3)}
        assert {lane: seq for lane, (seq, _) in epoch.parent_heads.items()} == {lane: seq for lane, seq in ends.items() if seq}
        self.names[epoch.number] = epoch.name
        self.rows[epoch.number, 0] = [next(row for stored, row in self.ledger.history() if stored.epoch == epoch.number)]
        assert [row.voucher_id for _, row in self.ledger.history() if isinstance(row, VoucherRedeemed)] == self.used
        for key, answer in self.answers.items():
            assert self.ledger.answers()[key].answer == answer

    def _took(self, lane: int, rows: list[Row]) -> None:
        self.rows.setdefault((self.ledger.epoch.number, lane), []).extend(rows)

    # ------------------------------------------------------------ what core does

    @rule(uses=st.integers(0, 3), refusals=st.integers(0, 2), answered=st.booleans())
    def money(self, uses: int, refusals: int, answered: bool) -> None:
        rows: list[Row] = []
        for _ in range(uses):
            self.number += 1
            rows.append(used(self.clock, self.number))
            self.used.append(f"v{self.number}")
        rows += [refused(self.clock, number) for number in range(refusals)]
        key = f"k{len(self.answers)}"
        answer = StoredAnswer(key, b"asked", key.encode()) if answered or not rows else None
        self._run(self.ledger.append(rows, answer=answer))
        self._took(0, rows)
        if answer is not None:
            self.answers[key] = answer.answer

    @rule(number=st.sampled_from([1, 30, 400]))
    def traffic(self, number: int) -> None:
        rows = [visit(self.clock, at) for at in range(number)]
        done = self.ledger.append(rows, source_id="s")
        self._run(pass_time(self.ledger, self.clock, 1.5))
        self._run(done)
        self._took(1, rows)

    @rule(seconds=st.sampled_from([2, 10, 100]))
    def time_passes(self, seconds: int) -> None:
        for _ in range(3):
            self._run(pass_time(self.ledger, self.clock, seconds))

    @rule()
    def days_pass(self) -> None:
        self.clock.advance(4 * 86_400)
        self.answers.clear()  # they may be forgotten now

    # ------------------------------------------------------------ what headquarters does

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        number, lane = data.draw(st.sampled_from(sorted(self.rows)))
        seq = data.draw(st.integers(0, len(self.rows[number, lane])))
        if seq > self.cursors.get((number, lane), 0) and number in self.ledger.reach:
            self.ledger.move_cursor(number, lane, seq)
            self.cursors[number, lane] = seq

    @rule(data=st.data())
    def back_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.names)))
        self.ledger.backed_up(self.names[number], 0, self.cursors.get((number, 0), 0))

    @precondition(lambda self: any(self.cursors.values()))
    @rule(data=st.data())
    def ask_back(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(place for place, seq in self.cursors.items() if seq)))
        seq = data.draw(st.integers(0, self.cursors[place] - 1))
        assert self.ledger.ask_back(self.names[place[0]], place[1], seq)
        self.cursors[place] = seq

    # ------------------------------------------------------------ what the power does

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self._open()
        self._cursors_are_held()

    @rule(lose_mark=st.booleans())
    def kill(self, lose_mark: bool) -> None:
        self._run(pass_time(self.ledger, self.clock, 1.5))  # cursors have their second
        self.life += 1
        left = Path(self.folder.name) / str(self.life)
        left.mkdir()
        for name in FILES[: 2 if lose_mark else 3]:
            if self.path.with_name(name).exists():
                shutil.copy(self.path.with_name(name), left / name)
        self.ledger.close()
        self.path = left / "ledger.db"
        self._open()
        self._cursors_are_held()

    def _cursors_are_held(self) -> None:
        for (number, lane), seq in self.cursors.items():
            if number in self.ledger.reach:
                assert self.ledger.cursors.get(number, {}).get(lane, 0) == seq
            else:
                assert seq == len(self.rows[number, lane])  # only the epoch's line is left

    # ------------------------------------------------------------ what always holds

    @invariant()
    def lanes_are_whole(self) -> None:
        assert self.failures == []
        reader = LedgerReader(self.path)
        try:
            for (number, lane), rows in self.rows.items():
                if number in self.ledger.reach:
                    assert self.ledger.reach[number].get(lane, 0) == len(rows)
                    self._lane_is_whole(reader, number, lane, rows)
        finally:
            reader.close()

    def _lane_is_whole(self, reader: LedgerReader, number: int, lane: int, rows: list[Row]) -> None:
        at = after = self.cursors.get((number, lane), 0)
        for block in reader.blocks(number, lane, after, len(rows), 100_000):
            assert block.first <= at + 1 <= block.last
            held = unpack(block.section, block.first)
            if isinstance(held, Tombstone):
                assert held.reason == "hq_lost" and (number, lane) in self.cursors
            else:
                assert [event for _, event in held] == [encode_event(row) for row in rows[block.first - 1 : block.last]]
            at = block.last
        assert at == len(rows)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.loop.close()
            self.folder.cleanup()


TestLedgerModel = LedgerModel.TestCase
TestLedgerModel.settings = settings(
    max_examples=6, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
