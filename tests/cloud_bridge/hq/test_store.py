"""The rule by which rows are taken, against a model of a few lines; and what names become."""

import sqlite3
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.envelope import Batch, WireRow
from cloud_bridge.hq import reports
from cloud_bridge.hq.documents import masked
from cloud_bridge.hq.effects import effect
from cloud_bridge.hq.sqlite import Store, Verdict, take
from cloud_bridge.hq.words import LANGUAGES, locale
from gateway.events import CompartmentOpenIntended, IntentSettled, LineChanged

from .rig import instant, wire

TABLES = (Path(__file__).parents[3] / "cloud_bridge/hq/tables.sql").read_text(encoding="utf-8")
LAST = 30


def database() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(TABLES)
    return db


def batch(rows: list[WireRow], epoch: str = "1-a") -> Batch:
    return Batch("gw", epoch, None, {}, 0, rows, f"{rows[-1].seq:04x}", epoch, {0: LAST}, {0: 0}, 1)


LEDGER = [wire(n, LineChanged(n % 2 == 0, instant(n))) if n % 7 else wire(n, b'{"type":"FromTheFuture"}') for n in range(1, LAST + 1)]


@given(st.lists(st.tuples(st.integers(1, LAST), st.integers(1, 12)), max_size=40))
def test_whatever_comes_the_store_holds_exactly_an_unbroken_beginning(sent: list[tuple[int, int]]) -> None:
    db, mark = database(), 0
    for first, length in sent:
        rows = LEDGER[first - 1 : first - 1 + length]
        last = rows[-1].seq
        taken = take(db, batch(rows), 9, effect)
        if first > mark + 1:
            assert (taken.verdict, taken.seq, taken.mark) == (Verdict.GAP, mark, mark)
            continue
        assert taken.verdict is (Verdict.TAKEN if last > mark else Verdict.REPEATED)
        mark = max(mark, last)
        assert (taken.seq, taken.head, taken.mark) == (last, f"{last:04x}", mark)
    stored = {seq for (seq,) in db.execute("SELECT seq FROM rows UNION ALL SELECT seq FROM quarantine")}
    assert stored == set(range(1, mark + 1))
    counted = sum(n for (n,) in db.execute("SELECT n FROM counts"))
    assert counted == sum(1 for n in range(1, mark + 1) if n % 7)
    if sent:
        assert [(stand.produced, stand.mark) for stand in reports.lanes(db, "gw")] == [(LAST, mark)]


def test_a_changed_row_is_found_out_and_changes_nothing() -> None:
    db = database()
    take(db, batch(LEDGER[:10]), 9, effect)
    before = list(db.execute("SELECT * FROM rows"))
    for place in (0, 4, 6):  # the last of them lies in quarantine
        lie = list(LEDGER[:12])
        lie[place] = wire(place + 1, LineChanged(True, instant(777)))
        assert take(db, batch(lie), 9, effect).verdict is Verdict.DIVERGED
    assert list(db.execute("SELECT * FROM rows")) == before
    assert take(db, batch(LEDGER[:12]), 9, effect).mark == 12


def test_an_order_whose_door_did_not_open_is_where_it_was() -> None:
    db = database()
    meant = CompartmentOpenIntended("i1", "A", 3, "pickup", "o1", "shopper", "locker", instant(1))
    take(db, batch([wire(1, meant), wire(2, IntentSettled("i1", "jammed", instant(2)))]), 9, effect)
    assert [state for (state,) in db.execute("SELECT state FROM order_events ORDER BY id")] == ["collecting", "staged"]


async def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "hq.db")
    await store.open()

    def fail(db: sqlite3.Connection) -> None:
        take(db, batch(LEDGER[:3]), 9, effect)
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        await store.write(fail)
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM rows").fetchone()) == (0,)
    await store.write(lambda db: take(db, batch(LEDGER[:3]), 9, effect))
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM rows").fetchone()) == (3,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store.read(lambda db: db.execute("DELETE FROM rows"))
    await store.close()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("陳小明", "陳○明"),
        ("王明", "王○"),
        ("歐陽小明", "歐○○明"),
        ("林", "林○"),
        ("Ann Lee", "A○○ L○○"),
        ("A", "A○"),
        (" 陳小明 ", "陳○明"),
    ],
)
def test_a_masked_name_is_known_to_its_owner_only(name: str, shown: str) -> None:
    assert masked(name) == shown


@given(st.text(min_size=1).filter(str.strip))
def test_no_name_stays_whole(name: str) -> None:
    assert masked(name) != name.strip()
    assert "○" in masked(name)


def test_both_languages_say_the_same_things() -> None:
    first, second = (locale(language) for language in LANGUAGES)
    assert first.keys() == second.keys()
    fields = {key: sorted(part for part in text.split("{")[1:] if part) for key, text in first.items()}
    for key in fields:
        assert {part.partition("}")[0] for part in fields[key]} - {"station"} <= {p.partition("}")[0] for p in second[key].split("{")[1:]}


def test_every_row_type_has_words() -> None:
    from gateway.events import LANE_OF

    said = " ".join(locale("en"))
    silent = {kind.__name__ for kind in LANE_OF if f"event.{kind.__name__}" not in said}
    assert silent == {"OccupancyEstimated"}


def test_wire_rows_are_compared_byte_for_byte() -> None:
    db = database()
    take(db, batch([wire(1, LineChanged(True, instant(1)), 5)]), 9, effect)
    spaced = msgspec.Raw(msgspec.json.format(msgspec.json.encode(LineChanged(True, instant(1)))))
    assert take(db, batch([WireRow(1, 5, spaced)]), 9, effect).verdict is Verdict.DIVERGED
