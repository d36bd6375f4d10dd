"""One certificate takes over from another, and there is a working pair at every moment."""

import datetime
import signal
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from gateway.errors import ConfigError, MalformedFrame
from gateway.signed import public_hex
from provisioning.authority import SKEW, Authority, Enrolment, EnrolReply, HqFacts, keep_reply, make_box_keys
from provisioning.renewing import DUE_AT, SPREAD, Identity, Pair, due_us, new_key

ROOT = Path(__file__).parents[2]


class Box:
    """An enrolled box and the authority that enrolled it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.open(folder / "hq")
        self.enrol()

    def enrol(self, days: int = 30) -> None:
        facts = HqFacts(hq_public=[public_hex(self.authority.root_public)], tenant="demo", store="s1", number=7, gateway="gw-1")
        csr = make_box_keys(self.folder / "enrolment", "gw-1")
        certificate = self.authority.issue_client(csr, "gw-1", days)
        keep_reply(self.folder / "enrolment", EnrolReply(certificate=certificate, ca=self.authority.ca_pem, facts=facts))

    @property
    def identity(self) -> Identity:
        return Identity(Enrolment.load(self.folder / "enrolment"), self.folder / "state")

    def keep_next(self, days: int = 60, name: str = "gw-1") -> Pair:
        key, csr = new_key("gw-1")
        return self.identity.keep_next(key, self.authority.issue_client(csr, name, days))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def works(pair: Pair) -> bool:
    """Whether TLS takes the files: OpenSSL refuses a key that does not fit."""
    ssl.create_default_context().load_cert_chain(pair.cert_path, pair.key_path)
    return True


def days_left(pair: Pair) -> int:
    return (pair.certificate.not_valid_after_utc - pair.certificate.not_valid_before_utc - SKEW).days


def test_the_next_pair_waits_beside_the_old_one_until_it_is_promoted(box: Box) -> None:
    before = box.identity.in_force()
    kept = box.keep_next()
    assert box.identity.in_force() == before and works(before)
    waiting = box.identity.next()
    assert waiting is not None and waiting.certificate == kept.certificate and works(waiting)
    promoted = box.identity.promote()
    assert promoted.certificate == kept.certificate == box.identity.in_force().certificate and works(promoted)
    assert box.identity.next() is None
    assert {stat.S_IMODE(path.stat().st_mode) for path in (box.folder / "state").rglob("*.pem")} == {0o600}


def test_a_pair_that_did_not_work_leaves_no_trace(box: Box) -> None:
    before = box.identity.in_force()
    box.keep_next()
    box.identity.drop_next()
    assert box.identity.next() is None and box.identity.in_force() == before


def test_enrolling_anew_wins_over_what_was_renewed_before(box: Box) -> None:
    box.keep_next(60)
    box.identity.promote()
    box.enrol(90)
    assert days_left(box.identity.in_force()) == 90


@pytest.mark.parametrize("rubbish", [b"", b"\0" * 700, b"-----BEGIN CERTIFICATE-----\n"])
def test_a_damaged_file_is_passed_over(box: Box, rubbish: bytes) -> None:
    box.keep_next()
    path = Path(box.identity.promote().cert_path)
    path.write_bytes(rubbish)
    assert works(box.identity.in_force()) and days_left(box.identity.in_force()) == 30
    path.with_name("tls.next.pem").write_bytes(rubbish)
    assert box.identity.next() is None


def test_without_any_pair_the_installer_is_told(box: Box) -> None:
    (box.folder / "enrolment" / "tls.key").write_bytes((box.folder / "hq" / "ca.key").read_bytes())
    with pytest.raises(ConfigError, match="Enrol this box again"):
        box.identity.in_force()


def test_a_certificate_that_is_not_ours_is_not_kept(box: Box, tmp_path: Path) -> None:
    key, csr = new_key("gw-1")
    stranger = Authority.open(tmp_path / "stranger")
    other_key, _ = new_key("gw-1")
    for held, pem in (
        (key, stranger.issue_client(csr, "gw-1")),
        (key, box.authority.issue_client(csr, "gw-2")),
        (other_key, box.authority.issue_client(csr, "gw-1")),
        (key, "rubbish"),
        (key, "憑證"),
    ):
        with pytest.raises(MalformedFrame):
            box.identity.keep_next(held, pem)
    assert box.identity.next() is None


def test_a_certificate_is_due_at_two_thirds_of_its_life_spread_and_always_the_same(box: Box) -> None:
    shares = []
    for _ in range(60):
        _, csr = new_key("gw-1")
        certificate = x509.load_pem_x509_certificate(box.authority.issue_client(csr, "gw-1", 30).encode())
        issued = certificate.not_valid_before_utc + SKEW
        due = datetime.datetime.fromtimestamp(due_us(certificate) / 1e6, datetime.UTC)
        shares.append((due - issued) / datetime.timedelta(days=30))
        assert due_us(certificate) == due_us(certificate)
    assert min(shares) >= DUE_AT * (1 - SPREAD) - 1e-6 and max(shares) <= DUE_AT * (1 + SPREAD) + 1e-6
    assert max(shares) - min(shares) > DUE_AT * SPREAD  # 60 boxes do not come in the same hour


@pytest.mark.slow
def test_kill_9_at_any_step_leaves_a_working_pair(tmp_path: Path) -> None:
    ends = []
    for kill_at in range(1, 40):
        box = Box(tmp_path / str(kill_at))
        command = [sys.executable, "-m", "tests.provisioning.renewing_process", str(box.folder), str(kill_at)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        pair = box.identity.in_force()
        assert works(pair)
        ends.append(days_left(pair))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        box.keep_next(90)  # and the next attempt goes through
        assert days_left(box.identity.promote()) == 90
    assert ends == sorted(ends) and set(ends) == {30, 60}, ends  # first the old pair, from one step on the new one
    assert len(ends) > 7
