"""The chain, on a real file: what was changed, moved or taken away is found before it is served."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.chain import chain
from gateway.errors import LedgerError
from tests.conftest import VirtualClock
from tests.gateway.books import Writer, refused, sql, wait


@pytest.fixture
async def writer(ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Writer]:
    writer = Writer(ledger_path, clock)
    yield writer
    writer.close()


async def made(writer: Writer, clock: VirtualClock) -> None:
    for _ in range(3):
        ledger = writer.open()
        for number in range(4):
            await wait(ledger.append([refused(clock, number)], source_id=f"e{number}"))
        writer.close()


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_changed_byte_of_a_row_is_found(writer: Writer, clock: VirtualClock, data: st.DataObject) -> None:
    if not sql(writer.path, "SELECT 1 FROM row"):
        await made(writer, clock)
    rows = sql(writer.path, "SELECT epoch, seq FROM row WHERE lane=0 AND epoch<=3 ORDER BY epoch, seq")
    epoch, seq = data.draw(st.sampled_from(rows))
    column = data.draw(st.sampled_from(["event", "mac", "seq", "record_us", "type", "source_id", "epoch", "lane"]))
    if (epoch, seq, column) == (*rows[-1], "lane"):
        return  # taken out of lane 0: the tail of the youngest epoch has no witness in the file
    (before,) = sql(writer.path, f"SELECT {column} FROM row WHERE epoch=? AND lane=0 AND seq=?", epoch, seq)[0]
    after: Any = _damaged(before, data)
    keys = {"epoch": epoch, "lane": 0, "seq": seq} | ({column: after} if column in ("epoch", "lane", "seq") else {})
    sql(writer.path, f"UPDATE row SET {column}=? WHERE epoch=? AND lane=0 AND seq=?", after, epoch, seq)
    try:
        with pytest.raises(LedgerError):
            list(writer.open().history())
    finally:
        writer.close()
        sql(writer.path, "DELETE FROM row WHERE epoch>3 AND epoch<1000")
        sql(writer.path, "DELETE FROM epoch WHERE number>3")
        where = (keys["epoch"], keys["lane"], keys["seq"])
        sql(writer.path, f"UPDATE row SET {column}=? WHERE epoch=? AND lane=? AND seq=?", before, *where)
    list(writer.open().history())  # mended, it is whole again
    writer.close()
    sql(writer.path, "DELETE FROM row WHERE epoch>3")
    sql(writer.path, "DELETE FROM epoch WHERE number>3")


def _damaged(before: Any, data: st.DataObject) -> Any:
    if isinstance(before, int):
        return before + data.draw(st.integers(1_000, 2_000))
    if isinstance(before, str):
        return before + "x"
    place = data.draw(st.integers(0, len(before) - 1))
    return before[:place] + bytes([before[place] ^ data.draw(st.integers(1, 255))]) + before[place + 1 :]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM row WHERE epoch=2 AND seq=3",
        "DELETE FROM row WHERE epoch=2 AND seq=5",  # the last of its epoch
        "DELETE FROM row WHERE epoch=2 AND seq>1",
        "DELETE FROM row WHERE epoch=2",
        "DELETE FROM row WHERE epoch=1",
        "UPDATE epoch SET nonce='00000000' WHERE number=2",
        "DELETE FROM epoch WHERE number=2",
        "UPDATE file SET chain_key=zeroblob(32)",
        "UPDATE epoch SET parent_heads='{' WHERE number=1",
        "DROP TABLE row",
    ],
)
async def test_missing_rows_and_other_damage_are_found(writer: Writer, clock: VirtualClock, statement: str) -> None:
    await made(writer, clock)
    sql(writer.path, statement)
    with pytest.raises(LedgerError):
        list(writer.open().history())


async def test_a_damaged_page_of_the_file_is_found(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([refused(clock, number) for number in range(500)]))
    writer.close()
    image = bytearray(writer.path.read_bytes())
    assert len(image) > 100_000
    for page in range(len(image) // 4096 // 3, len(image) // 4096 - 2):
        image[page * 4096 + 3000 : page * 4096 + 3020] = bytes(20)
    writer.path.write_bytes(image)
    with pytest.raises(LedgerError):
        list(writer.open().history())


async def test_a_row_of_a_newer_release_stops_an_older_one(writer: Writer, clock: VirtualClock) -> None:
    """It may be a use of a voucher: an older release that passed it over would redeem twice."""
    await wait(writer.open().append([refused(clock)]))
    writer.close()
    key = sql(writer.path, "SELECT chain_key FROM file")[0][0]
    (record_us, previous) = sql(writer.path, "SELECT record_us, mac FROM row WHERE seq=2")[0]
    event = b'{"type":"GrantRedeemed"}'
    mac = chain(key, previous, (1, 0, 3, record_us), "GrantRedeemed", event, "")
    sql(writer.path, "INSERT INTO row VALUES (1,0,3,?,'GrantRedeemed',?,'',?)", record_us, event, mac)
    with pytest.raises(LedgerError, match="does not know"):
        list(writer.open().history())
