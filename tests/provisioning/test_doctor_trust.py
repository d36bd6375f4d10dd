"""The doctor on keys, certificates, headquarters and the machine itself: each broken for real."""

import shutil
import time
from pathlib import Path

import pytest

from provisioning.authority import Authority, Enrolment, make_box_keys
from provisioning.checks import machine
from provisioning.doctor import look_at
from provisioning.renewing import Identity, new_key
from tests.provisioning.shop import Shop, pretend, says

# ---------------------------------------------------------------- who the box is


def test_a_box_that_is_not_enrolled(shop: Shop) -> None:
    shutil.rmtree(shop.enrolment)
    found = {finding.id: finding for finding in shop.ask("keys", "enrolment", "certificate", "hq")}
    assert found["enrolment"].state == "fail" and says(found["enrolment"].next_step, "label")
    assert {found[name].state for name in ("keys", "certificate", "hq")} == {"skipped"}


@pytest.mark.parametrize("content", [b"{}", b"rubbish", b""])
def test_a_damaged_enrolment(shop: Shop, content: bytes) -> None:
    (shop.enrolment / "hq.json").write_bytes(content)
    assert shop.one("enrolment").state == "fail"


def test_an_enrolment_of_another_box(shop: Shop) -> None:
    shop.set('gateway = "box-7"', 'gateway = "box-8"')
    finding = shop.one("enrolment")
    assert finding.state == "fail" and says(finding.what, "another box's", "box-7")


def test_a_certificate_that_ran_out(shop: Shop) -> None:
    shop.certify(31, -1)
    finding = shop.one("certificate")
    assert finding.state == "fail" and says(finding.what, "ran out") and says(finding.next_step, "clock", "enrol")


def test_a_certificate_that_should_have_been_renewed(shop: Shop) -> None:
    shop.certify(20, 10)
    assert shop.one("certificate").state == "ok" and says(shop.one("certificate").what, "10 days")
    shop.certify(25, 5)
    finding = shop.one("certificate")
    assert finding.state == "warn" and says(finding.what, "5 days are left") and says(finding.next_step, "line")


def test_a_renewed_certificate_is_the_one_that_counts(shop: Shop) -> None:
    shop.certify(31, -1)
    identity = Identity(Enrolment.load(shop.enrolment), shop.config.state_dir)
    key, request = new_key("box-7")
    identity.keep_next(key, shop.authority.issue_client(request, "box-7"))
    assert shop.one("certificate").state == "fail"  # not in force before it has worked
    identity.promote()
    assert shop.one("certificate").state == "ok"
    with shop.broker():
        assert shop.one("hq").state == "ok"
    (shop.folder / "state/identity/tls.pem").chmod(0o644)
    assert shop.one("keys").state == "fail"


def test_a_certificate_from_the_future(shop: Shop) -> None:
    shop.certify(-2, 30)
    assert says(shop.one("certificate").what, "not valid yet") and says(shop.one("certificate").next_step, "clock")


def test_a_key_that_is_not_the_certificates(shop: Shop) -> None:
    other = shop.folder / "other"
    make_box_keys(other, "box-7")
    shutil.copy(other / "tls.key", shop.enrolment / "tls.key")
    assert says(shop.one("certificate").what, "not for this key")


def test_a_certificate_of_another_authority(shop: Shop) -> None:
    stranger = Authority.open(shop.folder / "stranger")
    (shop.enrolment / "tls.crt").write_text(stranger.issue_client(make_box_keys(shop.enrolment, "box-7"), "box-7"))
    assert says(shop.one("certificate").what, "did not issue")


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_rubbish_for_a_certificate_or_key(shop: Shop, name: str) -> None:
    (shop.enrolment / name).write_bytes(b"rubbish")
    assert says(shop.one("certificate").what, "cannot be read")


# ---------------------------------------------------------------- headquarters


def test_headquarters_that_is_away(shop: Shop) -> None:
    finding = shop.one("hq")
    assert finding.state == "fail" and says(finding.what, "refused") and says(finding.next_step, "cable")


def test_headquarters_that_does_not_exist(shop: Shop) -> None:
    shop.set('host = "127.0.0.1"', 'host = "hq.invalid"')
    assert says(shop.one("hq").what, "cannot be reached")


@pytest.mark.slow
def test_headquarters_that_takes_the_call_and_says_nothing(shop: Shop) -> None:
    with shop.broker(silent=True):
        began_s = time.monotonic()
        finding = shop.one("hq")
        assert time.monotonic() - began_s < 5
    assert finding.state == "fail" and says(finding.what, "timed out")


def test_headquarters_under_another_name(shop: Shop) -> None:
    with shop.broker(names=("elsewhere.example",)):
        finding = shop.one("hq")
    assert finding.state == "fail" and says(finding.what, "another name") and says(finding.next_step, "server_name")


def test_somebody_who_plays_headquarters(shop: Shop) -> None:
    with shop.broker(authority=Authority.open(shop.folder / "stranger")):
        finding = shop.one("hq")
    assert finding.state == "fail" and says(finding.what, "not headquarters") and says(finding.next_step, "Stop")


# ---------------------------------------------------------------- the machine


def test_a_clock_before_the_software(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop.one("clock").state in ("ok", "warn", "skipped")
    monkeypatch.setattr(machine, "BUILT_US", time.time_ns() // 1000 + 86_400_000_000)
    finding = shop.one("clock")
    assert finding.state == "fail" and says(finding.next_step, "date -s")


def test_a_clock_that_nothing_keeps(shop: Shop) -> None:
    finding = shop.one("clock")
    if finding.state == "ok":
        pytest.skip("this machine's clock is kept by network time")
    assert finding.state == "skipped" or says(finding.next_step, "set-ntp true")


@pytest.mark.parametrize(
    ("said", "state", "what"),
    [
        ("throttled=0x0", "ok", "good"),
        ("throttled=0x50005", "fail", "too little voltage, slowed down"),
        ("throttled=0x50000", "warn", "since boot"),
        ("VCHI initialization failed", "skipped", "did not answer"),
    ],
)
def test_a_supply_that_is_too_weak(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, state: str, what: str) -> None:
    pretend(tmp_path, monkeypatch, "vcgencmd", f"echo '{said}'")
    finding = shop.one("power")
    assert finding.state == state and says(finding.what, what)
    assert state in ("ok", "skipped") or says(finding.next_step, "power supply")


def test_no_pi_no_word_on_its_supply(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert says(shop.one("power").what, "not a Raspberry Pi")


@pytest.mark.parametrize(("left_kb", "state"), [(300_000, "ok"), (100_000, "warn"), (20_000, "fail")])
def test_memory_that_runs_out(shop: Shop, tmp_path: Path, left_kb: int, state: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1000000 kB\nMemFree: 1 kB\nMemAvailable: {left_kb} kB\nHugePages_Total: 0\n")
    assert shop.one("memory", tmp_path).state == state


def test_a_kernel_that_says_nothing_of_its_memory(shop: Shop, tmp_path: Path) -> None:
    assert says(shop.one("memory", tmp_path).what, "could not be finished")


@pytest.mark.parametrize(("degrees", "state"), [("45000", "ok"), ("72000", "warn"), ("85000", "fail"), ("rubbish", "skipped")])
def test_a_box_in_the_sun(shop: Shop, tmp_path: Path, degrees: str, state: str) -> None:
    assert shop.one("temperature", tmp_path).state == "skipped"
    for zone, said in (("thermal_zone0", "30000" if state != "skipped" else "x"), ("thermal_zone1", degrees)):
        (tmp_path / "sys/class/thermal" / zone).mkdir(parents=True)
        (tmp_path / "sys/class/thermal" / zone / "temp").write_text(said + "\n")
    assert shop.one("temperature", tmp_path).state == state


def test_logs_that_wear_the_card_out(shop: Shop, tmp_path: Path) -> None:
    assert shop.one("journal", tmp_path).state == "skipped"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert shop.one("journal", tmp_path).state == "ok"  # auto, and no folder on the disk
    (tmp_path / "var/log/journal").mkdir(parents=True)
    finding = shop.one("journal", tmp_path)
    assert finding.state == "warn" and says(finding.next_step, "store-gateway install")
    etc, lib = tmp_path / "etc/systemd/journald.conf.d", tmp_path / "usr/lib/systemd/journald.conf.d"
    etc.mkdir(parents=True)
    lib.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / "systemd/journald.conf", lib / "50-store.conf")  # what the installer brings
    assert shop.one("journal", tmp_path).state == "ok"
    (etc / "50-store.conf").write_text("[Journal]\nStorage=persistent\n")  # /etc masks the same name in /usr/lib
    finding = shop.one("journal", tmp_path)
    assert says(finding.what, "Storage=persistent") and says(finding.next_step, "store-gateway install")
    shutil.copy(lib / "50-store.conf", etc / "10-store.conf")
    assert says(shop.one("journal", tmp_path).next_step, "50-store.conf, which overrides ours")  # installing again would not help
    (etc / "60-mine.conf").write_text("rubbish\n")
    (etc / "70-mine.conf").write_text("[Journal]\nStorage=none\n")
    assert shop.one("journal", tmp_path).state == "ok"


def test_what_all_checks_start_from_is_read_once(shop: Shop) -> None:
    box = look_at(shop.toml)
    assert box.config == shop.config and box.view is None and "refused" in box.view_trouble
