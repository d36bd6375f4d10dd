"""The box's TLS certificates, one after the other: which is in force, when the next is due, and how one takes over from another.

The first pair comes with enrolment, in a folder the bridge may only read. Each later one is a single file, key and certificate
together, in the folder `identity` of the box's state: `tls.next.pem` until a connection with it has worked, then `tls.pem`. One
rename changes both halves at once, so whoever reads at any moment, or comes back after a power cut, finds a pair that fits.
A pair that ends later counts; enrolling anew therefore wins over what was renewed before.
"""

import datetime
import os
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from msgspec import Struct

from gateway.errors import ConfigError, MalformedFrame
from provisioning.authority import SKEW, Enrolment, write_private

IDENTITY: Final = "identity"
DUE_AT: Final = 2 / 3  # of a certificate's life
SPREAD: Final = 0.1  # of that, either way, so that boxes enrolled on the same day do not renew in the same minute


class Pair(Struct, frozen=True):
    """A certificate and its key, where they lie."""

    cert_path: str
    key_path: str
    certificate: x509.Certificate


class Identity:
    """The pairs of one box.

    Args:
        enrolment: Where the first pair lies, and who may sign the others.
        state_dir: The box's state.
    """

    def __init__(self, enrolment: Enrolment, state_dir: Path) -> None:
        self._enrolment = enrolment
        self._folder = state_dir / IDENTITY
        self._next = self._folder / "tls.next.pem"
        self._renewed = self._folder / "tls.pem"

    def in_force(self) -> Pair:
        """The pair to connect with.

        Raises:
            ConfigError: There is none that can be read.
        """
        enrolled = self._enrolment
        pairs = [self._read(self._renewed, self._renewed), self._read(Path(enrolled.cert_path), Path(enrolled.key_path))]
        found = [pair for pair in pairs if pair is not None]
        if not found:
            raise ConfigError(f"{enrolled.cert_path} and its key do not fit each other", "Enrol this box again")
        return max(found, key=lambda pair: pair.certificate.not_valid_after_utc)

    def next(self) -> Pair | None:
        """The pair that waits to be tried, unless the box has enrolled anew meanwhile."""
        waiting = self._read(self._next, self._next)
        if waiting is None or waiting.certificate.not_valid_after_utc < self.in_force().certificate.not_valid_after_utc:
            return None
        return waiting

    def keep_next(self, key: ec.EllipticCurvePrivateKey, certificate_pem: str) -> Pair:
        """Put headquarters' answer beside the pair in force.

        Raises:
            MalformedFrame: Not a certificate of our authority, for this box and this key.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
            authority = x509.load_pem_x509_certificate(Path(self._enrolment.ca_path).read_bytes())
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise MalformedFrame("not a certificate of this box's authority") from error
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [self._enrolment.facts.gateway] or not _fits(certificate, key):
            raise MalformedFrame("a certificate for another box, or for another key")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
        write_private(self._next, pem)
        return Pair(str(self._next), str(self._next), certificate)

    def promote(self) -> Pair:
        """The next pair has worked: from now on it is the one in force."""
        self._next.replace(self._renewed)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return self.in_force()

    def drop_next(self) -> None:
        """The next pair did not work."""
        self._next.unlink(missing_ok=True)

    def _read(self, cert_path: Path, key_path: Path) -> Pair | None:
        """A pair whose halves fit each other; None: there is none."""
        try:
            certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
            key = load_pem_private_key(key_path.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            return None
        return Pair(str(cert_path), str(key_path), certificate) if _fits(certificate, key) else None


def new_key(gateway: str) -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A new key and a certificate request for it, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return key, request.public_bytes(Encoding.PEM).decode("ascii")


def due_us(certificate: x509.Certificate) -> int:
    """When to renew it, µs since 1970 UTC: at two thirds of its life, a tenth of that sooner or later.

    The spread comes from the serial number, which is random: the same certificate is due at the same moment after each restart.
    """
    issued = certificate.not_valid_before_utc + SKEW
    spread = 1 + SPREAD * ((certificate.serial_number % 2001) / 1000 - 1)
    due = issued + (certificate.not_valid_after_utc - issued) * DUE_AT * spread
    return (due - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1)


def _fits(certificate: x509.Certificate, key: object) -> bool:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return False
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)
