"""A shop's box as an installer leaves it: real keys, a real ledger, a real broker's door; and a core that really runs."""

import contextlib
import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cloud_bridge.ports import free_port
from gateway.config import GatewayConfig, load
from gateway.rules.reasons import Text
from gateway.schema import migrate
from gateway.signed import public_hex
from provisioning.authority import Authority, EnrolReply, HqFacts, keep_reply, make_box_keys
from provisioning.doctor import CHECKS, Finding, as_json, examine

CONFIG = """
[store]
tenant = "chain"
store = "s1"
number = 7
gateway = "box-7"
[paths]
state = "state"
run = "run"
[core]
port = {core}
[bridge]
host = "127.0.0.1"
port = {broker}
server_name = "localhost"
[[scanner]]
name = "counter"
source = "virtual"
"""

NOBODY = 65534
ROOT = os.geteuid() == 0


class Shop:
    """The box's folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.toml = folder / "gateway.toml"
        self.broker_port, self.core_port = free_port(), free_port()
        self.toml.write_text(CONFIG.format(core=self.core_port, broker=self.broker_port), encoding="utf-8")
        for name in ("state", "run"):
            (folder / name).mkdir()
        self.enrolment = folder / "state" / "enrolment"
        self.ledger = folder / "state" / "ledger.db"
        self.authority = Authority.open(folder / "hq")
        self.enrol()
        migrate(self.ledger)

    @property
    def config(self) -> GatewayConfig:
        return load(self.toml)

    def enrol(self) -> None:
        csr = make_box_keys(self.enrolment, "box-7")
        public = public_hex(self.authority.root_public)
        facts = HqFacts(hq_public=[public], tenant="chain", store="s1", number=7, gateway="box-7")
        certificate = self.authority.issue_client(csr, "box-7")
        keep_reply(self.enrolment, EnrolReply(certificate=certificate, ca=self.authority.ca_pem, facts=facts))

    def certify(self, began_days_ago: float, ends_in_days: float) -> None:
        """Put a certificate of that life in place of the box's own."""
        ca_key = load_pem_private_key((self.folder / "hq" / "ca.key").read_bytes(), None)
        ca = x509.load_pem_x509_certificate((self.folder / "hq" / "ca.crt").read_bytes())
        old = x509.load_pem_x509_certificate((self.enrolment / "tls.crt").read_bytes())
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(old.subject)
            .issuer_name(ca.subject)
            .public_key(old.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - began_days_ago * day)
            .not_valid_after(now + ends_in_days * day)
            .sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]
        )
        (self.enrolment / "tls.crt").write_bytes(made.public_bytes(Encoding.PEM))

    def set(self, old: str, new: str) -> None:
        """Change the configuration's text."""
        text = self.toml.read_text(encoding="utf-8")
        assert old in text
        self.toml.write_text(text.replace(old, new), encoding="utf-8")

    def ask(self, *ids: str, root: Path = Path("/")) -> list[Finding]:
        """What the doctor finds, of those checks only."""
        assert set(ids) <= {check.id for check in CHECKS}
        return examine(self.toml, root, [check for check in CHECKS if check.id in ids])

    def one(self, check_id: str, root: Path = Path("/")) -> Finding:
        """The worst of one check's findings."""
        order = ["fail", "warn", "ok", "skipped"]
        return min(self.ask(check_id, root=root), key=lambda finding: order.index(finding.state))

    @contextlib.contextmanager
    def broker(self, names: tuple[str, ...] = ("localhost",), authority: Authority | None = None, silent: bool = False) -> Iterator[None]:
        """A TLS door as headquarters' broker has it: it asks for the box's certificate. `silent`: it accepts and says nothing."""
        authority = authority or self.authority
        crt, key = authority.issue_server(self.folder / "broker", list(names))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, key)
        context.load_verify_locations(cadata=authority.ca_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        with socket.create_server(("127.0.0.1", self.broker_port)) as listening:
            greeting = threading.Thread(target=_greet, args=(listening, context, silent), daemon=True)
            greeting.start()
            yield
            listening.shutdown(socket.SHUT_RDWR)
            greeting.join(10)

    @contextlib.contextmanager
    def core(self) -> Iterator[subprocess.Popen[bytes]]:
        """A running core."""
        with (self.folder / "core.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "core", "--config", str(self.toml)], stdout=log, stderr=log, cwd=_root()
            )
        try:
            ends_s = time.monotonic() + 20
            while self.one("core").state != "ok":
                assert process.poll() is None and time.monotonic() < ends_s, (self.folder / "core.log").read_text()
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait(10)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `store-gateway WORDS`."""
    line = [sys.executable, "-m", "gateway", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=_root())


def says(text: Text, *words: str) -> bool:
    """Whether both languages are there, and the English one has these words."""
    return bool(text.zh) and all(word in text.en for word in words)


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """A program of that name comes first in the search path."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def as_nobody(toml: Path) -> list[dict[str, Any]]:
    """What the doctor finds when somebody without any rights runs it. Forked, as this Python itself may lie where nobody may look."""
    reading, writing = os.pipe()
    "".encode("idna")  # else the first connection loads it from there
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of 3.12, for forking beside threads
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with os.fdopen(writing, "w") as told:
                told.write(as_json(examine(toml)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as heard:
        found = json.loads(heard.read())["checks"]
    os.waitpid(child, 0)
    return list(found)


def _root() -> Path:
    return Path(__file__).parents[2]


def _greet(listening: socket.socket, context: ssl.SSLContext, silent: bool) -> None:
    kept = []
    with contextlib.suppress(OSError):
        while True:
            plain, _ = listening.accept()
            kept.append(plain)
            if not silent:
                with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
                    secure.recv(1)
    for plain in kept:
        plain.close()
