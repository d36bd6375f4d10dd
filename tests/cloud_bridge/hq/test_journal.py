"""The journal of what left headquarters: written anew it restores the same, and what an older release wrote is read."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_bridge.hq import assignments
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.backups import Backup
from cloud_bridge.hq.journal import NAME, Journal, Line, position, recall
from cloud_bridge.hq.sqlite import connect_writer
from gateway.rules.assigning import Stand
from gateway.token import VoucherClass

AT, BOXED = st.integers(1, 99), st.sampled_from(["gw-1", "gw-2"])
STAND = st.builds(lambda name, told, left: Stand(name, left, told=told), st.sampled_from("vwx"), st.integers(0, 9), st.integers(0, 3))
LINES = st.one_of(
    st.builds(Line, AT, STAND),
    st.builds(lambda at, box, n: Line(at, opening=(box, n, f"{n}-a")), AT, BOXED, st.integers(1, 9)),
    st.builds(lambda at, box: Line(at, destroyed=box), AT, BOXED),
    st.builds(lambda at, box: Line(at, returned=box), AT, BOXED),
)


def restored(lines: list[Line]) -> tuple[Any, ...]:
    """What a database of the very beginning comes to."""
    db = connect_writer(":memory:")
    for name in "vwx":
        assignments.insert(db, AssignedRow(name, VoucherClass.GRANTED, 1, "券", "V", 2**32 - 1, 1, 1, "", "", "", 1, Stand(name, 1)))
    recall(db, lines)
    newest = db.execute("SELECT gateway, max(number) FROM openings GROUP BY gateway ORDER BY gateway").fetchall()
    stands = db.execute("SELECT voucher_id, stand FROM assigned ORDER BY voucher_id").fetchall()
    return stands, newest, db.execute("SELECT gateway FROM destroyed ORDER BY gateway").fetchall()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(LINES, max_size=12), min_size=1, max_size=4))
def test_a_journal_written_anew_restores_the_same(parts: list[list[Line]]) -> None:
    async def live(folder: Path) -> None:
        journal, every = Journal(folder), list[Line]()
        for part in parts:
            await journal.write(*part)
            every += part
            before = position(folder)
            assert before == len(every)
            await journal.compact({}, 0, 1 << 62)
            assert position(folder) == before, "positions count lines that went, too"
            again = Journal(folder)
            assert restored(again.read()) == restored(every)
            assert (again.told(), again.growth) == (journal.told(), journal.growth)
            assert all(again.is_destroyed(box) == journal.is_destroyed(box) for box in ("gw-1", "gw-2"))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder)))


def test_a_line_that_older_releases_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"at_us":1,"destroyed":"gw-1"}\n')
    assert Journal(tmp_path).read() == [Line(1, destroyed="gw-1")]
    assert msgspec.json.decode(b'{"file":"a","made_us":1,"marks":{}}', type=Backup).journal == 0
