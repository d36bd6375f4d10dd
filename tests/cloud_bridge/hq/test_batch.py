"""`store-gateway hq batch`: one command for any number of shops, clear about what is wrong, harmless when run again."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud_bridge.hq.batch import read_stores
from gateway.commands import app
from gateway.config import StoreTable
from gateway.errors import ConfigError
from provisioning.label import read_label

from .rig import Hq

THREE = """store,number,name_zh,name_en,timezone,gateway
tpe-001,101,台北一店,Taipei No. 1,Asia/Taipei,
tpe-002,102,台北二店,"Taipei, No. 2",Asia/Taipei,box-two
hkg-001,201,旺角店,Mong Kok,Asia/Hong_Kong,
"""


async def run(demo: Hq, *arguments: str) -> tuple[int, str, str]:
    """A command of headquarters; exit status, output, complaints."""
    words = [*arguments, "--data", str(demo.folder / "hq")]
    result = await asyncio.to_thread(CliRunner().invoke, app, words)
    return result.exit_code, result.stdout, result.stderr


async def batch(demo: Hq, text: str, *more: str) -> dict[str, Any]:
    csv = demo.folder / "stores.csv"
    csv.write_text(text, encoding="utf-8")
    status, out, complaint = await run(demo, "hq", "batch", str(csv), "--out", str(demo.folder / "labels.pdf"), "--json", *more)
    assert status == 0, complaint
    return dict(json.loads(out))


async def test_one_command_makes_three_boxes_ready_to_enrol(demo: Hq) -> None:
    made = await batch(demo, THREE)
    assert [one["gateway"] for one in made["issued"]] == ["gw-tpe-001", "box-two", "gw-hkg-001"]
    assert made["unchanged"] == []
    pdf = demo.folder / "labels.pdf"
    assert pdf.read_bytes().startswith(b"%PDF") and stat.S_IMODE(pdf.stat().st_mode) == 0o600
    for one in made["issued"]:
        assert len(one["staff"]["pin"]) == 6
        table = StoreTable(tenant="demo", store=one["store"], number=one["number"], gateway=one["gateway"])
        assert (await demo.enrol(one["label"], one["gateway"], table)).facts.store == one["store"]
    assert {shop["store"]: shop["name_en"] for shop in await demo.get("/api/stores")}["tpe-002"] == "Taipei, No. 2"


async def test_run_again_it_issues_nothing_new(demo: Hq) -> None:
    first = await batch(demo, THREE)
    (demo.folder / "labels.pdf").unlink()
    again = await batch(demo, THREE + "tpe-003,103,,,,\n")
    assert [one["store"] for one in again["issued"]] == ["tpe-003"]
    assert [one["store"] for one in again["unchanged"]] == ["tpe-001", "tpe-002", "hkg-001"]
    assert all(not one["label"] and one["staff"] is None for one in again["unchanged"])
    once_more = await batch(demo, THREE)
    assert (once_more["issued"], once_more["pdf"]) == ([], None)
    enrolled = first["issued"][0]  # and what was printed first still works
    table = StoreTable(tenant="demo", store="tpe-001", number=101, gateway="gw-tpe-001")
    await demo.enrol(enrolled["label"], "box", table)


async def test_again_prints_new_labels_on_demand(demo: Hq) -> None:
    first, second = await batch(demo, THREE), await batch(demo, THREE, "--again", "--valid-days", "2")
    assert len(second["issued"]) == 3
    old, new = read_label(first["issued"][0]["label"]), read_label(second["issued"][0]["label"])
    assert old.secret != new.secret and new.not_after_s < old.not_after_s
    assert all(one["staff"] is None for one in second["issued"])  # nobody is hired twice


async def test_people_get_a_table_and_the_name_of_the_sheet(demo: Hq) -> None:
    csv = demo.folder / "stores.csv"
    csv.write_text(THREE, encoding="utf-8-sig")  # as Excel writes it
    status, out, _ = await run(demo, "hq", "batch", str(csv), "--out", str(demo.folder / "sheet.pdf"))
    assert status == 0 and "gw-hkg-001" in out and "sheet.pdf" in out.replace("\n", "")
    assert (demo.folder / "sheet.pdf").exists()
    status, out, _ = await run(demo, "hq", "batch", str(csv), "--out", str(demo.folder / "other.pdf"))
    assert status == 0 and "3 registered before" in out and not (demo.folder / "other.pdf").exists()


async def test_what_headquarters_refuses_is_told_by_line_and_nothing_of_it_is_taken(demo: Hq) -> None:
    await batch(demo, "store,number\nold-1,7\n")
    csv = demo.folder / "stores.csv"
    csv.write_text("store,number\nnew-1,8\n\nnew-2,7\n", encoding="utf-8")
    status, _, complaint = await run(demo, "hq", "batch", str(csv), "--out", str(demo.folder / "x.pdf"))
    assert status == 1 and "line 4: new-2: that shop, its number or that box is registered already" in complaint
    assert [shop["store"] for shop in await demo.get("/api/stores")] == ["old-1"]


@pytest.mark.slow
async def test_forty_shops_come_in_parts_and_a_late_refusal_keeps_the_labels_before_it(demo: Hq) -> None:
    await batch(demo, "store,number\nold-1,990\n")
    shops = "".join(f"s-{n},{n}\n" for n in range(1, 30)) + "late,990\n"
    csv = demo.folder / "stores.csv"
    csv.write_text("store,number\n" + shops, encoding="utf-8")
    status, out, complaint = await run(demo, "hq", "batch", str(csv), "--out", str(demo.folder / "x.pdf"), "--json")
    assert status == 1 and "line 31: late" in complaint and "run the same command again" in complaint
    assert len(json.loads(out)["issued"]) == 20 and (demo.folder / "x.pdf").read_bytes().startswith(b"%PDF")
    csv.write_text(csv.read_text().replace("late,990\n", ""), encoding="utf-8")
    status, out, _ = await run(demo, "hq", "batch", str(csv), "--out", str(demo.folder / "y.pdf"), "--json")
    made = json.loads(out)
    assert (status, len(made["issued"]), len(made["unchanged"])) == (0, 9, 20)


async def test_one_label_for_one_shop(demo: Hq) -> None:
    await batch(demo, THREE)
    status, out, _ = await run(demo, "label", "tpe-002", "--json")
    made = json.loads(out)
    assert status == 0 and read_label(made["label"]).box == "box-two"
    table = StoreTable(tenant="demo", store="tpe-002", number=102, gateway="box-two")
    await demo.enrol(made["label"], "box", table)
    status, out, _ = await run(demo, "label", "tpe-002")
    assert status == 0 and out.strip().splitlines()[-1].startswith("SGE1:")
    assert (await run(demo, "label", "nowhere"))[0] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column store and no number"),
        ("store,number\n", "names no shop"),
        ("store,numbre\na,1\n", "Did you mean `number`"),
        ("name_zh,store\n甲,a\n", "no column number"),
        ("store,number\na,1\na b,2\n", "line 3: store `a b`"),
        ("store,number\na,x\n", "line 2: number `x`"),
        ("store,number\na,0\n", "line 2: number `0`"),
        ("store,number\na,4294967296\n", "line 2: number"),
        ("store,number,timezone\na,1,Moon/Sea\n", "line 2: there is no time zone `Moon/Sea`"),
        ("store,number\na,1\nb,1\n", "line 3: number `1` is in line 2 already"),
        ("store,number\na,1\na,2\n", "line 3: store `a` is in line 2 already"),
        ("store,number\na,1,too,many\n", "line 2: more columns"),
        ("store,number,name_zh\na,1," + "甲" * 81 + "\n", "line 2: name_zh has more than 80"),
        ('store,number\n"a,1\n', "line 2"),
        ("store,number\n" + "".join(f"-{n}-é,1\n" for n in range(30)), "more"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_by_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "stores.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as wrong:
        read_stores(path, "demo")
    assert told in str(wrong.value)


def test_a_file_in_another_encoding_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "stores.csv"
    path.write_bytes("store,number,name_zh\na,1,台北一店\n".encode("big5"))
    with pytest.raises(ConfigError, match="CSV UTF-8"):
        read_stores(path, "demo")
    with pytest.raises(ConfigError, match="cannot read"):
        read_stores(tmp_path / "nowhere.csv", "demo")
