"""Name, chain and time of the other side are checked on every connection, whatever the wall clock says."""

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from gateway.errors import MalformedFrame
from provisioning.authority import Authority, anchor
from provisioning.tls import Bounds, OutOfDate, check_dates, client_context

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


def us(at: datetime.datetime) -> int:
    return int(at.timestamp() * 1_000_000)


class Server:
    """A TLS server that notes what reached it above TLS."""

    def __init__(self, cert: Path, key: Path) -> None:
        self.heard: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            plain, _ = self._sock.accept()
            with plain, self._context.wrap_socket(plain, server_side=True) as tls:
                tls.settimeout(5)
                self.heard.append(tls.recv(100))
        except OSError:
            return

    def close(self) -> None:
        self._sock.close()
        self._thread.join(5)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "authority")


def issue(tmp_path: Path, names: list[str], begins: datetime.datetime, ends: datetime.datetime) -> tuple[Path, Path]:
    """A server certificate of the authority with dates of our choice."""
    ca_key = load_pem_private_key((tmp_path / "authority" / "ca.key").read_bytes(), None)
    ca = x509.load_pem_x509_certificate((tmp_path / "authority" / "ca.crt").read_bytes())
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    cert = (
        x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(ca.subject).public_key(key.public_key())
        .serial_number(5).not_valid_before(begins).not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), True).sign(ca_key, hashes.SHA256())
    )  # fmt: skip
    crt_path, key_path = tmp_path / "s.crt", tmp_path / "s.key"
    crt_path.write_bytes(cert.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return crt_path, key_path


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[Server]:
    made = Server(*issue(tmp_path, ["hq.example"], NOW - DAY, NOW + 30 * DAY))
    yield made
    made.close()


def knock(server: Server, trusted: str, bounds: Bounds, name: str = "hq.example") -> None:
    context = client_context(trusted, lambda: bounds)
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        tls.sendall(b"secret")


def test_a_time_inside_the_dates_is_let_through(server: Server, authority: Authority) -> None:
    knock(server, authority.ca_pem, (us(NOW), us(NOW + DAY)))
    server.close()
    assert server.heard == [b"secret"]


@pytest.mark.parametrize("at", [NOW + 31 * DAY, NOW - 2 * DAY])
def test_a_certificate_out_of_date_gets_not_one_byte(server: Server, authority: Authority, at: datetime.datetime) -> None:
    with pytest.raises(OutOfDate):
        knock(server, authority.ca_pem, (us(at), us(at)))
    server.close()
    assert server.heard in ([], [b""])


def test_with_no_upper_bound_only_what_is_certainly_over_is_refused(server: Server, authority: Authority) -> None:
    knock(server, authority.ca_pem, (us(NOW - 400 * DAY), None))
    server.close()
    assert server.heard == [b"secret"]


def test_an_expired_authority_makes_no_certificate_good(authority: Authority, tmp_path: Path) -> None:
    cert, _ = issue(tmp_path, ["hq.example"], NOW - DAY, NOW + 9000 * DAY)
    der = x509.load_pem_x509_certificate(cert.read_bytes()).public_bytes(Encoding.DER)
    own = x509.load_pem_x509_certificates(authority.ca_pem.encode())
    check_dates(der, own, (us(NOW), us(NOW)))
    with pytest.raises(OutOfDate, match="authority"):
        check_dates(der, own, (us(NOW + 5000 * DAY), us(NOW + 5000 * DAY)))
    with pytest.raises(OutOfDate, match="authority"):
        check_dates(der, x509.load_pem_x509_certificates(Authority.open(tmp_path / "other").ca_pem.encode()), (us(NOW), us(NOW)))
    with pytest.raises(OutOfDate, match="no certificate"):
        check_dates(b"", own, (us(NOW), us(NOW)))


def test_another_name_is_refused(server: Server, authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        knock(server, authority.ca_pem, (us(NOW), us(NOW)), "other.example")


def test_another_authority_is_refused(server: Server, authority: Authority, tmp_path: Path) -> None:
    """Not even one that bears the same name, as every authority of ours does."""
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|signature failure"):
        knock(server, Authority.open(tmp_path / "other").ca_pem, (us(NOW), us(NOW)))


def test_the_key_on_a_label_is_enough_to_verify(server: Server, authority: Authority) -> None:
    knock(server, anchor(authority.ca_point), (us(NOW), None))
    server.close()
    assert server.heard == [b"secret"]


def test_another_key_on_a_label_verifies_nothing(server: Server, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        knock(server, anchor(Authority.open(tmp_path / "other").ca_point), (us(NOW), None))
    with pytest.raises(MalformedFrame):
        anchor(b"\x02" + b"\xff" * 32)
