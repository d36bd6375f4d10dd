"""A bundle that helps and tells nobody's secrets: they are planted everywhere, and every byte of it is searched."""

import json
import re
import shutil
import sqlite3
import stat
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.label import Label, write_label
from provisioning.redaction import redact
from provisioning.support import README, bundle
from tests.provisioning.shop import Shop, command

PHONES = ["0912345678", "+886 912-345-678", "0912-345-678", "(02) 2345-6789", "+85291234567"]
CARDS = ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "371449635398431"]
PINS = ["pin=4821", "PIN 246810", "PIN: 0007", "密碼：135791", "password is hunter2", 'secret: "s3cr3t-value"']
LABEL = Label(
    host="hq.example", port=8443, box="box-7", authority=bytes(33), headquarters=bytes(32), secret=b"0123456789abcdef", not_after_s=1
)
TOKENS = [
    "V1:8QA4KX2EV9T HC7B8QA4KX2EV9T+HC7B8QA4KX2EV9T-HC7B",
    write_label(LABEL),
    "Bearer dGhpcyBpcyBhIHNlY3JldA",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "7b44b47b-52a1-5381-90c2-f09b6838c5d4",
    "7K2M-9QXD-33ZW-1B",
]
OTHERS = ["AA:BB:CC:DD:EE:0F", "mei.ling@example.com"]
SECRETS = [*PHONES, *CARDS, *PINS, *TOKENS, *OTHERS]


def bare(planted: str) -> str:
    """The part of a planted text that is the secret itself."""
    return {
        "pin=4821": "4821", "PIN 246810": "246810", "PIN: 0007": "0007", "密碼：135791": "135791", "password is hunter2": "hunter2",
        'secret: "s3cr3t-value"': "s3cr3t-value", "Bearer dGhpcyBpcyBhIHNlY3JldA": "dGhpcyBpcyBhIHNlY3JldA",
    }.get(planted, planted)  # fmt: skip


@pytest.mark.parametrize("planted", SECRETS)
@pytest.mark.parametrize("around", ["{}", "ERROR gateway: read {} at counter", "a={},b", '{{"x": "{}"}}', "電話{}。", "<{}>"])
def test_a_secret_is_taken_out_wherever_it_stands(planted: str, around: str) -> None:
    assert bare(planted) not in redact(around.format(planted))


@pytest.mark.parametrize(
    "kept",
    [
        "INFO gateway.locker.driver: bank wall answers",
        "2026-11-21 22:24:14 WARNING cloud_bridge.mqtt: the broker refuses this client: bad credentials",
        "2026-11-21T22:24:14+08:00 the line to headquarters is down",
        "cannot listen on 127.0.0.1 port 8080: Address already in use",
        "/dev/serial/by-id/usb-FTDI_USB_Serial-if00-port0",
        "ssl.SSLCertVerificationError: certificate verify failed: Hostname mismatch (_ssl.c:1006)",
        "store-gateway 0.1.0, Python 3.11.7, epoch 12-af03be11, status=78",
        'File "/opt/store-gateway/lib/python3.11/asyncio/base_events.py", line 653, in run_until_complete',
    ],
)
def test_what_helps_stays(kept: str) -> None:
    assert redact(kept) == kept


@given(st.text(), st.sampled_from(PHONES + CARDS + TOKENS[:2] + OTHERS), st.text())
def test_no_neighbours_hide_a_secret(before: str, planted: str, after: str) -> None:
    assert planted not in redact(f"{before} {planted} {after}")


@pytest.mark.parametrize("piece", ["1", "1-", "a1", "ab:", "-----BEGIN x", "pin ", "a@b.", "A1-", "0000-", "1.1.1.", "V1:", " "])
def test_no_text_takes_long(piece: str) -> None:
    began_s = time.monotonic()
    redact(piece * (60_000 // len(piece)))
    assert time.monotonic() - began_s < 2


def plant(shop: Shop) -> list[str]:
    """Put every secret into the configuration, the logs and the ledger; returns what must not come out."""
    (shop.folder / "logs").mkdir()
    keys = [(shop.enrolment / name).read_text() for name in ("tls.key", "sign.key")]
    (shop.folder / "logs" / "core.log").write_text("\n".join([f"WARNING gateway: saw {one} just now" for one in SECRETS] + keys))
    (shop.folder / "logs" / "bridge.log").write_text("INFO cloud_bridge: the line to headquarters is up\n" + keys[0].splitlines()[1] + "\n")
    with shop.toml.open("a", encoding="utf-8") as more:
        more.write("".join(f"# {one}\n" for one in SECRETS))
        more.write(f'[[station]]\nname = "till"\nname_zh = "請電 {PHONES[0]}"\nname_en = "{PINS[2]}"\n')
        more.write(f'[ble]\nradio = "virtual"\n[[ble.tags]]\nsubject = "member-mei-ling"\nkind = "member"\nibeacon = "{TOKENS[5]}/1/1"\n')
    connection = sqlite3.connect(shop.ledger)
    for number, one in enumerate(SECRETS, 1):
        event = json.dumps({"type": "RedemptionRefused", "reason": one, "voucher_id": CARDS[0]})
        local = one.encode() + event.encode()
        kinds = json.dumps({one: 1})
        connection.execute(
            "INSERT INTO block VALUES (NULL, 1, 0, ?, ?, 1, ?, x'00', ?, ?, x'00')", (number, number, kinds, event.encode(), local)
        )
        connection.execute("INSERT INTO document (name, version, sealed) VALUES (?, 1, ?)", (one, one.encode()))
    connection.commit()
    connection.close()
    bodies = [line for key in keys for line in key.splitlines() if not line.startswith("-----")]
    return [*map(bare, SECRETS), "member-mei-ling", *bodies, *(line[8:28] for line in bodies)]


def unpack(path: Path) -> dict[str, str]:
    """Name below `support/` to content; read member by member, since Debian 12's tarfile knows no safe extraction."""
    with tarfile.open(path) as archive:
        held = ((member.name, archive.extractfile(member)) for member in archive.getmembers() if member.isfile())
        return {name.removeprefix("support/"): file.read().decode("utf-8") for name, file in held if file is not None}


def holds(text: str, planted: str) -> bool:
    """Whether it is in there; a few digits only as a whole number, or the number of a port may hold them."""
    if planted.isdigit() and len(planted) < 8:
        return re.search(rf"(?<!\d){planted}(?!\d)", text) is not None
    return planted.lower() in text.lower()


def test_nothing_that_was_planted_comes_out(shop: Shop, tmp_path: Path) -> None:
    planted = plant(shop)
    out = tmp_path / "support.tar.gz"
    bundle(shop.toml, out, shop.folder / "logs")
    members = unpack(out)
    found = {(name, one) for name, text in members.items() for one in planted if holds(text, one)}
    assert found == set()
    assert members["config.json"].count("‹") >= 2


def test_a_broken_configuration_tells_no_more(shop: Shop, tmp_path: Path) -> None:
    planted = plant(shop)
    text = shop.toml.read_text(encoding="utf-8")
    for number, broken in enumerate([f"[[[{PHONES[0]}", f"[store]\nphone_{PHONES[0]} = 1\n", f'{text}\n[core]\nport = "{CARDS[0]}"\n']):
        shop.toml.write_text(broken, encoding="utf-8")
        bundle(shop.toml, tmp_path / f"{number}.tar.gz", shop.folder / "logs")
        members = unpack(tmp_path / f"{number}.tar.gz")
        assert '"fail"' in members["doctor.json"]
        assert {(name, one) for name, text in members.items() for one in planted if holds(text, one)} == set()


def test_it_holds_what_a_helper_needs(shop: Shop, tmp_path: Path) -> None:
    (shop.folder / "logs").mkdir()
    (shop.folder / "logs" / "core.log").write_text("INFO gateway.core: " + "x" * 300 + "\n" + "bank wall is lost\n" * 900)
    shutil.copy(shop.toml, shop.folder / "kept.toml")
    asked = command("support", "--config", str(shop.toml), "--out", str(tmp_path / "s.tar.gz"), "--logs", str(shop.folder / "logs"))
    assert asked.returncode == 0, asked.stderr
    members = unpack(tmp_path / "s.tar.gz")
    assert stat.S_IMODE((tmp_path / "s.tar.gz").stat().st_mode) == 0o600
    for name in members:
        assert name in asked.stdout and (name == "README.txt" or name.partition("/")[0] in README)
    checks = {one["id"]: one for one in json.loads(members["doctor.json"])["checks"]}
    assert checks["core"]["state"] == "fail" and checks["ledger"]["state"] == "ok"
    status = json.loads(members["status.json"])
    assert status["serving"] is False and status["versions"]["ledger"] >= 1 and status["certificate"]["days_left"] > 0
    config = json.loads(members["config.json"])
    assert config["store"]["gateway"] == "box-7" and config["core"]["port"] == shop.core_port and config["ble"]["tags"] == 0
    assert json.loads(members["ledger.json"])["rows"] == {}
    assert json.loads(members["machine.json"])["disk_b"]["total"] > 0
    assert members["logs/core.txt"].count("bank wall is lost") == 400


@pytest.mark.slow
def test_a_running_shop_is_counted(shop: Shop, tmp_path: Path) -> None:
    with shop.core():
        told = json.loads(command("status", "--json", "--config", str(shop.toml)).stdout)
        joined = {unit["unit"] for unit in told["units"]}
        assert told["serving"] and told["lanes"][0]["last"] >= 1 and joined == {"scanner@counter", "bridge"}
        assert told["certificate"]["days_left"] > 20 and told["versions"]["python"] and told["time_trust"] in (0, 1)
        table = command("status", "--config", str(shop.toml)).stdout
        assert "money and lockers" in table and "days left" in table
        bundle(shop.toml, tmp_path / "s.tar.gz")
    members = unpack(tmp_path / "s.tar.gz")
    assert json.loads(members["ledger.json"])["rows"] == {"EpochOpened": 1}  # headquarters has yet to hear of it
    assert "zones" not in json.loads(members["status.json"]) and "screens" not in json.loads(members["status.json"])
    silent = command("status", "--json", "--config", str(shop.toml))
    assert silent.returncode == 1 and json.loads(silent.stdout)["serving"] is False


def test_a_file_that_cannot_be_written_is_one_sentence(shop: Shop) -> None:
    asked = command("support", "--config", str(shop.toml), "--out", "/nowhere/s.tar.gz")
    assert asked.returncode == 1 and "--out" in asked.stderr and "Traceback" not in asked.stderr
