"""Each thing is broken for real, and the doctor has to name it and the next step."""

import json
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.reasons import Text
from provisioning.checks import machine
from provisioning.checks.outcome import Box, Check, Outcome
from provisioning.doctor import CHECKS, as_json, as_text, examine, exit_status, look_at
from tests.provisioning.shop import ROOT, Shop, as_nobody, command, says

# ---------------------------------------------------------------- all of it


def test_a_healthy_box_fails_nowhere(shop: Shop) -> None:
    with shop.broker():
        found = shop.ask(
            "config", "timezone", "folders", "keys", "disk-writes", "ledger", "ledger-size", "enrolment", "certificate", "hq", "memory"
        )
    assert {finding.state for finding in found} == {"ok"}, as_text(found, "en")
    assert exit_status(found) == 0


def test_every_check_speaks_both_languages_and_says_why() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS) >= 25
    for check in CHECKS:
        assert says(check.title) and says(check.why)


def test_every_finding_that_is_not_well_has_a_next_step(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "b")
    shutil.rmtree(shop.folder / "state")
    found = examine(shop.toml)
    assert len(found) >= len(CHECKS)
    for finding in found:
        assert says(finding.what)
        assert (finding.state in ("fail", "warn")) == bool(finding.next_step.zh) == bool(finding.next_step.en)


@pytest.mark.slow
def test_a_check_that_never_ends_is_left_behind(shop: Shop) -> None:
    def hangs(_: Box) -> list[Outcome]:
        time.sleep(60)
        return []

    stuck = [Check(name, Text("甲", "a"), Text("乙", "b"), hangs) for name in ("one", "two")]
    began_s = time.monotonic()
    found = examine(shop.toml, checks=[*stuck, CHECKS[0]])
    assert time.monotonic() - began_s < 4
    assert [(finding.id, finding.state) for finding in found] == [("one", "fail"), ("two", "fail"), ("config", "ok")]
    assert says(found[0].what, "No answer within") and says(found[0].next_step)


def test_a_check_that_breaks_is_a_finding_and_no_trace(shop: Shop) -> None:
    def breaks(_: Box) -> list[Outcome]:
        raise ZeroDivisionError("nobody thought of that")

    found = examine(shop.toml, checks=[Check("odd", Text("甲", "a"), Text("乙", "b"), breaks)])
    assert found[0].state == "fail"
    assert "ZeroDivisionError" in found[0].what.en
    assert "Traceback" not in as_text(found) + as_json(found)


@given(st.binary(max_size=300))
def test_any_bytes_for_a_configuration_are_a_finding(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.toml"
        path.write_bytes(content)
        found = examine(path, checks=[check for check in CHECKS if check.id in ("config", "folders", "core")])
    assert [finding.state for finding in found] == ["fail", "skipped", "skipped"]


@pytest.mark.slow
def test_the_command_is_for_people_in_two_languages_and_for_programs(shop: Shop) -> None:
    (shop.enrolment / "tls.key").chmod(0o644)
    asked = command("doctor", "--config", str(shop.toml), "--json")
    told = json.loads(asked.stdout)
    assert asked.returncode == 1 and told["ok"] is False and told["counts"]["fail"] >= 1
    keys = next(one for one in told["checks"] if one["id"] == "keys")
    assert keys["state"] == "fail" and keys["next_step"]["en"].startswith("Run `chmod 600")
    in_chinese = command("doctor", "--config", str(shop.toml)).stdout
    in_english = command("doctor", "--config", str(shop.toml), "--lang", "en").stdout
    assert "✗ keys tls.key: 其他使用者可以讀取" in in_chinese
    assert "✗ keys tls.key: Others may read" in in_english
    assert "Traceback" not in asked.stderr + in_chinese + in_english
    assert command("doctor", "--lang", "fr").returncode == 1


# ---------------------------------------------------------------- files


def test_an_unknown_key_is_named_with_its_nearest(shop: Shop) -> None:
    shop.set('timezone = "Asia/Taipei"' if "timezone" in shop.toml.read_text() else 'store = "s1"', 'store = "s1"\ntimezon = "Asia/Taipei"')
    found = shop.ask("config", "folders")
    assert found[0].state == "fail" and says(found[0].what, "timezon", "Did you mean `timezone`?")
    assert found[1].state == "skipped"


def test_no_configuration_is_a_finding(tmp_path: Path) -> None:
    found = examine(tmp_path / "none.toml")
    assert found[0].id == "config" and found[0].state == "fail" and says(found[0].what, "--config")
    assert exit_status(found) == 1


def test_a_time_zone_that_does_not_exist(shop: Shop) -> None:
    shop.set('store = "s1"', 'store = "s1"\ntimezone = "Moon/Sea"')
    assert shop.one("timezone").state == "fail"


def test_a_folder_that_is_gone(shop: Shop) -> None:
    (shop.folder / "run").rmdir()
    finding = shop.one("folders")
    assert finding.state == "fail" and says(finding.next_step, "Make the folder", "run")


def test_a_path_too_long_for_a_socket(shop: Shop) -> None:
    (shop.folder / ("r" * 120)).mkdir()
    shop.set('run = "run"', f'run = "{"r" * 120}"')
    assert says(shop.one("folders").next_step, "shorter")


@pytest.mark.skipif(not ROOT, reason="only root may try as somebody else")
def test_what_another_user_may_not_write_or_read_is_said_and_not_raised(shop: Shop) -> None:
    (shop.folder / "state").chmod(0o755)
    bad = {one["id"]: one for one in as_nobody(shop.toml) if one["state"] == "fail"}
    assert {"folders", "keys", "disk-writes", "enrolment"} <= bad.keys()
    assert "sudo" in bad["keys"]["next_step"]["en"]
    assert "user" in bad["disk-writes"]["next_step"]["en"]


@pytest.mark.parametrize("name", ["state/enrolment/sign.key", "state/ledger.db"])
def test_a_secret_others_may_read(shop: Shop, name: str) -> None:
    (shop.folder / name).chmod(0o640)
    finding = shop.one("keys")
    assert finding.state == "fail" and says(finding.next_step, f"chmod 600 {shop.folder / name}")


@pytest.fixture
def small_disk(shop: Shop) -> Iterator[Path]:
    """The state folder on a disk of its own."""
    state = shop.folder / "state"
    kept = shutil.copytree(state, shop.folder / "kept")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M,nr_inodes=200", "none", state], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        shutil.copytree(kept, state, dirs_exist_ok=True)
        yield state
    finally:
        subprocess.run(["umount", state], check=True)


def test_a_full_disk(shop: Shop, small_disk: Path) -> None:
    assert shop.one("disk-space").state == "ok"
    with (small_disk / "rubbish").open("wb", buffering=0) as rubbish, pytest.raises(OSError, match="No space"):
        while True:
            rubbish.write(bytes(65_536))
    finding = shop.one("disk-space")
    assert finding.state == "fail" and says(finding.what, "0 MB of 2 MB") and says(finding.next_step, "larger disk")
    assert says(shop.one("disk-writes").what, "No space left")
    assert shop.one("ledger").state == "ok" or says(shop.one("ledger").next_step, "disk-space")


def test_a_disk_without_inodes(shop: Shop, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        for number in range(300):
            (small_disk / str(number)).touch()
    assert says(shop.one("disk-space").what, "inodes")


def test_a_disk_that_became_read_only(shop: Shop, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    finding = shop.one("disk-writes")
    assert finding.state == "fail" and says(finding.what, "Read-only") and says(finding.next_step, "replaced")


# ---------------------------------------------------------------- ledger


def test_no_ledger(shop: Shop) -> None:
    shop.ledger.unlink()
    assert says(shop.one("ledger").next_step, "store-gateway migrate")
    assert shop.one("ledger-chain").state == "skipped" or says(shop.one("ledger-chain").next_step)


def test_rubbish_for_a_ledger(shop: Shop) -> None:
    shop.ledger.write_bytes(b"rubbish" * 1000)
    assert says(shop.one("ledger").next_step, "call headquarters")
    assert shop.one("ledger-chain").state == "fail"


def _sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


def test_a_ledger_of_another_release(shop: Shop) -> None:
    _sql(shop.ledger, "PRAGMA user_version=0")
    assert says(shop.one("ledger").next_step, "store-gateway migrate")
    _sql(shop.ledger, "PRAGMA user_version=99")
    assert shop.one("ledger").state == "warn" and says(shop.one("ledger").next_step, "newer release")


def test_a_ledger_that_does_not_log_ahead(shop: Shop) -> None:
    _sql(shop.ledger, "PRAGMA journal_mode=delete")
    assert says(shop.one("ledger").what, "delete, not wal")


def test_a_log_ahead_that_nobody_folds_in(shop: Shop) -> None:
    with (shop.ledger.with_name("ledger.db-wal")).open("wb") as log:
        log.truncate(65 * 1024**2)
    assert shop.one("ledger-size").state == "warn" and says(shop.one("ledger-size").next_step, "Restart core")


@pytest.fixture(scope="module")
def running() -> Iterator[Shop]:
    """A box whose core runs, alone."""
    with tempfile.TemporaryDirectory(prefix="sgd-", ignore_cleanup_errors=True) as folder:
        shop = Shop(Path(folder) / "box")
        with shop.core():
            yield shop


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE block SET body = zeroblob(length(body)) WHERE first = 1",
        "UPDATE block SET until_us = until_us + 1 WHERE lane = 0",
        "UPDATE block SET first = 5 WHERE first = 1",
    ],
)
def test_a_changed_row(running: Shop, shop: Shop, damage: str) -> None:
    source = sqlite3.connect(running.ledger)
    target = sqlite3.connect(shop.ledger)
    source.backup(target)
    source.close()
    target.close()
    assert shop.one("ledger-chain").state == "ok", shop.one("ledger-chain").what.en
    _sql(shop.ledger, damage)
    finding = shop.one("ledger-chain")
    assert finding.state == "fail" and says(finding.next_step, "Stop serving")


def test_documents_that_never_came(running: Shop) -> None:
    finding = running.one("documents")
    assert finding.state == "fail" and says(finding.what, "keys, staff") and says(finding.next_step, "enrolment")


def test_documents_in_force_and_old_ones(shop: Shop) -> None:
    now_us = time.time_ns() // 1000
    for name in ("keys", "staff"):
        _sql(shop.ledger, f"INSERT INTO document (name, version, sealed, since_us) VALUES ('{name}', 4, x'00', {now_us})")
    assert says(shop.one("documents").what, "keys v4, staff v4")
    _sql(shop.ledger, "UPDATE document SET since_us = since_us - 100 * 86400 * 1000000")
    assert shop.one("documents").state == "warn" and says(shop.one("documents").what, "100 days old")


# ---------------------------------------------------------------- what runs


def test_a_stopped_core(shop: Shop) -> None:
    found = {finding.id: finding for finding in shop.ask("core", "link", "units", "line", "time-trust")}
    assert found["core"].state == "fail" and says(found["core"].next_step, "systemctl restart store-core")
    assert found["link"].state == "fail"
    assert {found[name].state for name in ("units", "line", "time-trust")} == {"skipped"}


@pytest.mark.slow
def test_a_core_that_dies_while_it_is_watched(shop: Shop) -> None:
    with shop.core() as process:
        assert shop.one("link").state == "ok"
        process.kill()
        process.wait()
        assert shop.one("core").state == "fail"
        assert says(shop.one("link").what, "refused")  # the socket's file is left behind


def test_units_that_have_not_joined_and_a_line_that_is_down(running: Shop) -> None:
    units = {finding.subject: finding for finding in running.ask("units")}
    assert units.keys() == {"scanner@counter", "bridge"}
    assert all(finding.state == "fail" for finding in units.values())
    assert says(units["scanner@counter"].next_step, "store-scanner@counter", "journalctl")
    line = running.one("line")
    assert line.state == "warn" and says(line.what, "rows wait") and says(line.next_step, "goes on serving")
    assert running.one("time-trust").state == "ok"


def test_a_device_that_is_gone_and_rows_that_pile_up(shop: Shop) -> None:
    view = {
        "store": "s1", "now_us": 60_000_000, "time_trust": 2, "line": {"up": True, "waiting": 5_000, "since_us": 0},
        "units": [{"unit": "scanner@counter", "connected": True, "device_state": "down"}],
    }  # fmt: skip
    box = Box(shop.toml, shop.config, "", view, "")
    units = next(check for check in CHECKS if check.id == "units").look(box)
    assert says(units[0].what, "device is down") and says(units[0].next_step, "cable")
    line = next(check for check in CHECKS if check.id == "line").look(box)
    assert line[0].state == "warn" and says(line[0].what, "5000 rows")
    assert says(machine.time_trust(box)[0].next_step, "clock")


def test_a_port_that_is_another_shops(running: Shop, shop: Shop) -> None:
    shop.set(f"port = {shop.core_port}", f"port = {running.core_port}")
    shop.set('store = "s1"', 'store = "s2"')
    assert says(shop.one("core").what, "another shop's, s1")


@pytest.mark.slow
def test_a_port_on_which_something_else_answers(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", shop.core_port)) as other:
        other.settimeout(5)
        began_s = time.monotonic()
        assert look_at(shop.toml).view is None  # it accepts, and says nothing
        assert time.monotonic() - began_s < 4
