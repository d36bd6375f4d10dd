"""`store-gateway issue`: any number of vouchers from one file, once each, clear about what is wrong, harmless when run again."""

import asyncio
import csv
import json
import re
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cloud_bridge.hq import bulk
from cloud_bridge.hq.bulk import AT_ONCE, Piece
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.issuing import issue_lines, read_vouchers, road_to
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.store import Store
from gateway.commands import app
from gateway.errors import ConfigError
from gateway.token import VoucherClass, verify
from provisioning.authority import Authority

from .rig import Hq, headquarters

THREE_KINDS = """store,title_zh,title_en,uses,value_minor,valid_days,campaign,count
s1,咖啡券,Coffee,1,80,10,7,3
,禮券,Gift,1,500,,8,2
s1,套票,Set of four,4,,,,1
"""


async def issue(data: Path, text: str, *more: str) -> tuple[int, list[dict[str, str]], str]:
    """The command; exit status, the codes it wrote, and what it said."""
    (data.parent / "vouchers.csv").write_text(text, encoding="utf-8")
    codes = data.parent / "codes.csv"
    words = ["issue", str(data.parent / "vouchers.csv"), "--codes", str(codes), "--data", str(data), *more]
    result = await asyncio.to_thread(CliRunner().invoke, app, words)
    rows = list(csv.DictReader(codes.read_text(encoding="utf-8").splitlines())) if codes.exists() else []
    return result.exit_code, rows, result.output


def keys(data: Path) -> dict[int, Ed25519PublicKey]:
    return {number: key.public_key() for number, key in Authority.open(data / "authority").token_keys.items()}


async def test_one_file_issues_every_kind_and_the_shop_hears_of_its_own(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        status, rows, said = await issue(demo.folder / "hq", THREE_KINDS)
        assert status == 0 and "6 issued, 0 issued before" in said
        claims = [verify(row["token"], keys(demo.folder / "hq")) for row in rows]
        assert [(one.voucher_class, one.store, one.uses, one.value_minor, one.campaign) for one in claims] == [
            *[(VoucherClass.STORE_BOUND, 1, 1, 80, 7)] * 3, *[(VoucherClass.GRANTED, 0, 1, 500, 8)] * 2,
            (VoucherClass.STORE_BOUND, 1, 4, 0, 1),
        ]  # fmt: skip
        listed = await box.document("vouchers", 2)
        assert {one.voucher_id for one in listed.vouchers} == {row["voucher_id"] for row in rows if row["store"] == "s1"}
    assert [row["typed"] for row in rows] == ["1", "1", "1", "0", "0", "1"]
    assert [bool(row["secret"]) for row in rows] == [False, False, False, True, True, False]
    assert stat.S_IMODE((demo.folder / "codes.csv").stat().st_mode) == 0o600
    assert (await demo.get(f"/api/assigned/{rows[3]['voucher_id']}"))["state"] == "free"


async def test_run_again_it_issues_nothing_and_tells_the_same_codes_and_secrets(demo: Hq) -> None:
    await demo.new_box()
    _, first, _ = await issue(demo.folder / "hq", THREE_KINDS)
    (demo.folder / "codes.csv").unlink()
    _, again, said = await issue(demo.folder / "hq", THREE_KINDS)
    assert again == first and "0 issued, 6 issued before" in said
    _, more, said = await issue(demo.folder / "hq", THREE_KINDS.replace(",7,3", ",7,5") + "s1,咖啡券,Coffee,1,80,10,7,1\n")
    assert "3 issued, 6 issued before" in said and more[:3] == first[:3]
    _, other, said = await issue(demo.folder / "hq", THREE_KINDS, "--order", "december")
    assert "6 issued, 0 issued before" in said and not {row["token"] for row in other} & {row["token"] for row in first}


async def test_without_a_running_headquarters_its_store_is_written_and_the_start_after_tells_the_shop(tmp_path: Path) -> None:
    data = tmp_path / "hq"
    async with headquarters(HqOptions(data_dir=str(data))) as hq:
        enrolment = await hq.new_box()
    status, rows, said = await issue(data, THREE_KINDS)
    assert status == 0 and "6 issued" in said
    (data / "addresses.json").unlink()  # of the start before: the next one writes it when it listens
    async with headquarters(HqOptions(data_dir=str(data))) as hq, hq.connected(enrolment) as box:
        listed = await box.document("vouchers", 2)
        assert {one.voucher_id for one in listed.vouchers} == {row["voucher_id"] for row in rows if row["store"]}
        _, again, said = await issue(data, THREE_KINDS)
        assert again == rows and "0 issued, 6 issued before" in said


async def test_a_shop_that_does_not_exist_is_told_by_line_and_nothing_is_issued(demo: Hq) -> None:
    await demo.new_box()
    status, rows, said = await issue(demo.folder / "hq", THREE_KINDS + "s9,券,,,,,,1\n")
    assert status == 1 and "line 5: there is no shop s9" in said and "nothing was issued" in said and not rows
    assert await demo.get("/api/vouchers") == []
    answer = await demo.http.post("/api/issue", json={"pieces": [{"piece": "k" * 8, "title_zh": "券", "store": at} for at in ("s1", "s9")]})
    assert (answer.status_code, answer.json()["rows"]) == (409, {"1": "there is no shop s9"})
    assert await demo.get("/api/vouchers") == [], "a part is issued whole or not at all"


async def test_what_stops_in_the_middle_goes_on_where_it_stopped(demo: Hq) -> None:
    await demo.new_box()
    path, data = demo.folder / "many.csv", demo.folder / "hq"
    path.write_text(f"title_zh,count\n券,{AT_ONCE + 3}\n", encoding="utf-8")
    lines = read_vouchers(path)

    def begin() -> str:
        with road_to(data) as road:
            return next(issue_lines(road, path, lines)).voucher_id

    first = await asyncio.to_thread(begin)  # killed after the first part
    status, rows, said = await issue(data, path.read_text(encoding="utf-8"))
    new, before = (int(number) for number in re.findall(r"(\d+) issued", said.replace(" issued before", " issued")))
    assert status == 0 and new + before == AT_ONCE + 3 and 0 < new < before <= AT_ONCE
    assert rows[0]["voucher_id"] == first and len({row["voucher_id"] for row in rows}) == AT_ONCE + 3


async def test_beyond_half_a_shops_list_vouchers_are_good_by_their_code_only(demo: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST_LISTED", 2)
    async with demo.connected(await demo.new_box()) as box:
        status, rows, said = await issue(demo.folder / "hq", "store,title_zh,count\ns1,券,5\n")
        assert status == 0 and [row["typed"] for row in rows] == ["1", "1", "0", "0", "0"] and "3 of them" in said
        assert len((await box.document("vouchers", 2)).vouchers) == 2
        _, again, _ = await issue(demo.folder / "hq", "store,title_zh,count\ns1,券,5\n")
        assert again == rows
        await demo.post(f"/api/vouchers/{rows[4]['voucher_id']}/revoke")
        listed = {one.voucher_id: one.revoked for one in (await box.document("vouchers", 3)).vouchers}
        assert listed == {rows[0]["voucher_id"]: False, rows[1]["voucher_id"]: False, rows[4]["voucher_id"]: True}
        await demo.post(f"/api/vouchers/{rows[3]['voucher_id']}/codes", {"codes": ["PARTNER-12345"]})
        assert rows[3]["voucher_id"] in {one.voucher_id for one in (await box.document("vouchers", 4)).vouchers}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column title_zh"),
        ("title_zh\n", "names no voucher"),
        ("title_zh,user\n券,1\n", "Did you mean `uses`"),
        ("title_zh,uses,uses\n券,1,1\n", "twice"),
        ("title_zh,uses\n券,1\n券,0\n", "line 3: uses `0`"),
        ("title_zh,uses\n券,²\n", "line 2: uses"),
        ("title_zh,value_minor\n券,-5\n", "line 2: value_minor `-5`"),
        ("title_zh,valid_days\n券,3651\n", "line 2: valid_days"),
        ("title_zh,count\n券,1000001\n", "line 2: count"),
        ("title_zh,count\n券,1000000\n券,1\n", "split it"),
        ("title_zh,store\n券,a b\n", "line 2: store `a b`"),
        ("title_zh,store\n,a\n", "line 2: title_zh is empty"),
        ("title_zh\n" + "券" * 81 + "\n", "line 2: title_zh has more than 80"),
        ("title_zh,store\n券,a,b\n", "line 2: more columns"),
        ('title_zh\n"券\n', "line 2"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_by_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "vouchers.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as wrong:
        read_vouchers(path)
    assert told in str(wrong.value)


@given(st.binary(max_size=300) | st.text(alphabet='title_zh,count\n"5券', max_size=80).map(str.encode))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        lines = read_vouchers(path)
    except ConfigError as error:
        assert error.hint
        return
    pieces = [piece for line in lines[:3] for _, piece in zip(range(3), line.pieces(), strict=False)]
    assert all(isinstance(piece, Piece) for _, piece in pieces) and len({piece.piece for _, piece in pieces}) == len(pieces)


async def test_no_headquarters_at_all_says_what_to_do(tmp_path: Path) -> None:
    status, rows, said = await issue(tmp_path / "hq", THREE_KINDS)
    assert status == 1 and "Start headquarters first" in said and not rows


async def test_the_api_says_what_it_takes(demo: Hq) -> None:
    shown: dict[str, Any] = (await demo.get("/openapi.json"))["components"]["schemas"]
    assert json.dumps(shown["NewPieces"]).count(str(AT_ONCE)) == 1


async def test_both_databases_tell_a_piece_again_as_it_was_issued(store: Store, tmp_path: Path) -> None:
    press = Press(Authority.open(tmp_path / "authority"))
    sql = "INSERT INTO boxes VALUES ('gw-s1', 'demo', '0', 's1', 1, '', '', 'Asia/Taipei', NULL, 1, NULL)"
    await store.write(lambda db: db.execute(sql).rowcount)
    pieces = [Piece(piece="first-one", store="s1", title_zh="券", uses=2), Piece(piece="second-one", title_zh="禮券", value_minor=500)]
    first, changed = await store.write(lambda db: bulk.issue(db, press, pieces, 1_795_000_000_000_000))
    again, unchanged = await store.write(lambda db: bulk.issue(db, press, pieces, 1_796_000_000_000_000))
    assert [one.store for one in changed] == ["s1"] and unchanged == []
    assert again == [msgspec.structs.replace(one, new=False) for one in first] and all(one.new for one in first)
    twice = [msgspec.structs.replace(pieces[0], piece="third-one")] * 2
    third, _ = await store.write(lambda db: bulk.issue(db, press, twice, 1_796_000_000_000_000))
    assert third[0].voucher_id == third[1].voucher_id, "one key is one voucher, also within a part"
