"""Members at headquarters: made and found by number, told to the shops of their region, and erased from every file."""

import contextlib
import csv
import io
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_bridge.hq.keeping import backup_command, restore_command
from cloud_bridge.hq.member_office import COLUMNS
from cloud_bridge.hq.options import HqOptions
from gateway import phones
from gateway.codes import listed_letters
from gateway.signed import Document, MemberEntry
from gateway.token import TokenKind, unpack
from gateway.wrapped import unwrap
from provisioning.authority import Enrolment
from tests.traces import remains, traces, unpacked, values

from .rig import Hq, TestBox, headquarters, shop

PHONE, KEY_NUMBER = "0912-345-678", "+886912345678"


def secret_of(document: Document, enrolment: Enrolment) -> bytes:
    assert document.members is not None
    return unwrap(document.members.secret, enrolment.sign_key, b"members\n" + document.gateway.encode())


def entries(document: Document) -> dict[str, MemberEntry]:
    assert document.members is not None
    return {entry.member_ref: entry for entry in document.members.entries}


async def member(hq: Hq, phone: str = PHONE, **more: Any) -> dict[str, Any]:
    return dict(await hq.post("/api/members", {"phone": phone, **more}))


@contextlib.asynccontextmanager
async def again(options: HqOptions) -> AsyncIterator[Hq]:
    """Headquarters with a folder that another one has used."""
    (Path(options.data_dir) / "addresses.json").unlink(missing_ok=True)
    async with headquarters(options) as hq:
        yield hq


async def newest(hq: Hq, box: TestBox, name: str) -> Document:
    """A document as headquarters has it now; its manifest may still be on the way."""
    db = sqlite3.connect(f"file:{hq.options.data_dir}/hq.db?mode=ro", uri=True)
    try:
        found = db.execute("SELECT version FROM documents WHERE gateway = ? AND name = ?", (box.box.gateway, name)).fetchone()
    finally:
        db.close()
    return await box.document(name, found[0])


async def told(hq: Hq, box: TestBox) -> dict[str, MemberEntry]:
    """What the shop knows once it has both of its lists of now."""
    whole, recent = await newest(hq, box, "members"), await newest(hq, box, "members_recent")
    assert recent.members is not None
    assert recent.members.base == whole.version
    return entries(whole) | entries(recent)


async def imported(hq: Hq, text: str | bytes) -> httpx.Response:
    return await hq.http.post("/api/members/import", content=text, headers={"content-type": "text/csv"})


async def test_a_number_is_a_member_however_it_is_typed_and_says_nothing_of_them(demo: Hq) -> None:
    made = await member(demo, tier="gold", points=300, consents=["bind"])
    again = await member(demo, "+886 912 345 678")
    assert (made["new"], again["new"]) == (True, False)
    assert made["member_ref"] == again["member_ref"]
    assert len(made["member_ref"]) == 26
    assert "912345678" not in str(made)
    claims = unpack(made["token"])[0]
    assert claims.kind is TokenKind.MEMBER
    other = await member(demo, "0987654321")
    assert other["member_ref"] != made["member_ref"]


async def test_shops_of_the_region_are_told_and_only_they_can_tell_who_a_number_is(demo: Hq) -> None:
    made = await member(demo, tier="gold", old_cards=["OLD-7731"])
    enrolment = await demo.new_box()
    elsewhere = (await demo.post("/api/boxes", {"store": "hk", "gateway": "gw-hk", "number": 9, "timezone": "Asia/Hong_Kong"}))["label"]
    abroad = await demo.enrol(elsewhere, "box-hk", shop("hk", 9))
    async with demo.connected(enrolment) as box, demo.connected(abroad) as far:
        whole, there = await newest(demo, box, "members"), await newest(demo, far, "members")
        secret = secret_of(whole, enrolment)
        assert secret != secret_of(there, abroad), "each region has a secret of its own"
        with pytest.raises(Exception, match="not for this box"):
            secret_of(whole, abroad)
        entry = entries(whole)[made["member_ref"]]
        assert entry.phone == phones.phone_key(secret, KEY_NUMBER)
        assert whole.members is not None
        assert whole.members.cards == [(phones.card_key(secret, listed_letters("old-7731")), made["member_ref"])]
        assert entries(there) == {}
        await demo.http.patch(f"/api/members/{made['member_ref']}", json={"points": 450})
        recent = await newest(demo, box, "members_recent")
        assert entries(recent)[made["member_ref"]].points == 450
        assert recent.members is not None
        assert recent.members.base == whole.version


async def test_a_list_of_members_is_taken_whole_or_not_at_all(demo: Hq) -> None:
    good = (
        "phone,old_card,tier,points,consents\n0912345678,OLD-7731,gold,300,bind beacon\n0987654321,OLD-7732 OLD-7733,,0,\n,OLD-7734,,5,\n"
    )
    made = (await imported(demo, good)).json()
    assert made["new"] == 3
    assert (await demo.get(f"/api/members/{made['members'][0]}"))["consents"] == ["beacon", "bind"]
    again = (await imported(demo, good)).json()
    assert again == {"new": 1, "members": [*made["members"][:2], again["members"][2]]} or again["new"] == 0
    for line in (
        "0911111111,OLD-9001,,x,",
        "12,OLD-9001,,0,",
        "0911111111,OLD-7731,,0,",
        "0911111111,,,0,nonsense",
        "0911111111,OLD-9001,,0,,more",
    ):
        text = f"phone,old_card,tier,points,consents\n0922222222,OLD-9009,,0,\n{line}\n"
        refused = await imported(demo, text)
        assert refused.status_code in (409, 422), line
        assert "line 3" in refused.json()["detail"]
        assert not any(word in refused.text for word in ("0911111111", "OLD-9001", "OLD-7731", "nonsense"))
    assert (await member(demo, "0922222222"))["new"], "nothing of those lists was taken"


async def test_an_old_card_that_reads_like_a_payment_card_is_refused_with_the_reason(demo: Hq) -> None:
    text = "phone,old_card\n0912345678,4111111111111111\n"
    refused = await imported(demo, text)
    assert refused.status_code == 422
    assert "line 2: old card 1 reads like the number of a payment card" in refused.json()["detail"]
    assert "4111" not in refused.text
    assert (await demo.http.post("/api/members", json={"old_cards": ["4111 1111 1111 1111"]})).status_code == 422


@pytest.mark.parametrize(
    "body", [b"", b"name\nx\n", b"phone\n\xff\n", b'phone\n"', b"phone,phone2\n1,2\n", b"phone\n" + b"0912345678\n" * 1001]
)
async def test_any_file_is_a_list_or_refused(demo: Hq, body: bytes) -> None:
    refused = await imported(demo, body)
    assert refused.status_code in (413, 422), refused.text


async def test_tags_go_to_shops_with_consent_only_and_until_their_time(demo: Hq) -> None:
    ref = (await member(demo))["member_ref"]
    until_s = int(time.time()) + 600
    async with demo.connected(await demo.new_box()) as box:
        await demo.post(f"/api/members/{ref}/tags", {"tag": "oat milk", "not_after_s": until_s})
        assert (await told(demo, box))[ref].tags == []
        await demo.http.patch(f"/api/members/{ref}", json={"consents": ["preferences"]})
        assert (await told(demo, box))[ref].tags == [("oat milk", until_s)]
        refused = await demo.http.patch(f"/api/members/{ref}", json={"consents": ["everything"]})
        assert refused.status_code == 422


async def test_nobody_without_the_admin_token_asks(demo: Hq) -> None:
    ref = (await member(demo))["member_ref"]
    demo.http.headers["authorization"] = "Bearer nobody"
    for method, path in (
        ("GET", f"/api/members/{ref}"),
        ("POST", "/api/members"),
        ("DELETE", f"/api/members/{ref}"),
        ("POST", "/api/members/import"),
    ):
        assert (await demo.http.request(method, path)).status_code == 401


async def test_an_erased_member_is_in_no_byte_of_headquarters_nor_of_its_backups(demo: Hq, tmp_path: Path) -> None:
    enrolment = await demo.new_box()
    ref = (await member(demo, tier="gold", old_cards=["OLD-7731"]))["member_ref"]
    kept = (await member(demo, "0987654321"))["member_ref"]
    many = "phone\n" + "".join(f"0955{number:06}\n" for number in range(300))  # so that lists take many pages
    assert (await imported(demo, many)).json()["new"] == 300
    data = Path(demo.options.data_dir)
    async with demo.connected(enrolment) as box:
        secret = secret_of(await newest(demo, box, "members"), enrolment)
        needles = [phones.phone_key(secret, KEY_NUMBER), phones.card_key(secret, "OLD7731")]
        assert (await demo.http.post("/api/backups", json={"file": str(tmp_path / "one.backup")})).status_code == 200
        assert {name for name, _ in traces(tmp_path, needles)} >= {"hq.db", "one.backup"}, "or the next look proves nothing"
        blobs = [value for value in values(data / "hq.db") if value[:4] == b"SGD1" and needles_in(value, needles)]
        assert blobs
        assert (await demo.http.delete(f"/api/members/{ref}")).json() == {"erased": ref}
        after = await told(demo, box)
        assert ref not in after
        assert kept in after
    assert traces(tmp_path, needles) == []
    assert remains(tmp_path, blobs, but=values(data / "hq.db")) == []
    assert (await demo.http.get(f"/api/members/{ref}")).status_code == 404
    assert (await demo.http.delete(f"/api/members/{ref}")).status_code == 200, "asked again, it does no harm"
    assert (await member(demo))["member_ref"] != ref, "whoever joins again is somebody else"


def needles_in(blob: bytes, needles: list[str]) -> bool:
    return any(needle.encode() in piece for piece in unpacked(blob) for needle in needles)


@pytest.mark.parametrize("known", [True, False])
async def test_a_restored_backup_does_not_bring_an_erased_member_back(tmp_path: Path, known: bool) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))
    async with again(options) as hq:
        enrolment = await hq.new_box()
        ref = (await member(hq))["member_ref"]
        other = (await member(hq, "0987654321"))["member_ref"]
    backup_command(tmp_path / "hq", tmp_path / "away.backup", lambda done, of: None)
    if not known:
        (tmp_path / "hq" / "backups.json").unlink()  # a copy somewhere else, of which headquarters knows nothing
    async with again(options) as hq:
        await hq.http.delete(f"/api/members/{ref}")
    restore_command(tmp_path / "hq", tmp_path / "away.backup")
    async with again(options) as hq:
        assert (await hq.http.get(f"/api/members/{ref}")).status_code == 404
        assert (await hq.http.get(f"/api/members/{other}")).status_code == 200
        async with hq.connected(enrolment) as box:
            assert set(await told(hq, box)) == {other}
            secret = secret_of(await newest(hq, box, "members"), enrolment)
    needle = phones.phone_key(secret, KEY_NUMBER)
    assert traces(tmp_path / "hq", [needle]) == []


async def test_a_folder_of_the_release_before_starts_and_tells_its_shops(tmp_path: Path) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))
    async with again(options) as hq:
        enrolment = await hq.new_box()
    db = sqlite3.connect(tmp_path / "hq" / "hq.db")
    for table in ("members", "member_tags", "member_cards", "member_lists"):
        db.execute(f"DROP TABLE {table}")
    db.execute("DELETE FROM documents WHERE name LIKE 'members%'")
    db.commit()
    db.close()
    async with again(options) as hq, hq.connected(enrolment) as box:
        ref = (await member(hq))["member_ref"]
        assert set(await told(hq, box)) == {ref}


def test_the_columns_are_those_of_the_page() -> None:
    text = Path(__file__).parents[3] / "docs" / "members.md"
    table = next(csv.reader(io.StringIO(text.read_text(encoding="utf-8").partition("```csv\n")[2])))
    assert table == list(COLUMNS)
