"""Who is who: headquarters' authority, and the box's half of an enrolment.

Headquarters keeps three secrets in one folder: the key of its X.509 authority (names boxes and brokers), the `root` key
(Ed25519; signs documents, manifests and acknowledgements) and a token key (Ed25519; signs vouchers and pickups). A box makes
two keys of its own that never leave it: one for TLS, one that signs its batches. It hands over a certificate request and the
public half of the second, with a secret that works once, and gets its certificate and headquarters' public keys back
(`provisioning.enroll` does the talking).

The box's folder: `tls.key tls.crt ca.crt sign.key hq.json`. `hq.json` is written last: with it the box is enrolled.
"""

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Final, Protocol

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from gateway.errors import ConfigError, MalformedFrame
from gateway.signed import public_from_hex, public_hex

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 90
CLIENT_DAYS: Final = 30  # renewed at two thirds of its life
SKEW: Final = datetime.timedelta(hours=1)  # a box whose clock is a little behind must still accept a fresh certificate
AUTHORITY_NAME: Final = "Store gateway authority"  # labels do not carry it, so it never changes
HELLO_TAG: Final = b"SGT1"


class HqFacts(Struct, frozen=True, kw_only=True):
    """What headquarters tells a box when it enrols it: `hq.json`."""

    hq_public: list[str]  # root keys, 64 hex digits each; any of them may sign
    tenant: str
    store: str
    number: int  # the shop's number in signed codes
    gateway: str
    page: str = ""  # where shoppers' phones reach headquarters, for the QR code of a shop without a line; empty: it shows none
    door: str = ""  # where the box found headquarters' HTTPS door, `host:port`: written by the box, for renewal and for the time


class Hello(Struct, frozen=True, kw_only=True):
    """Headquarters says who it is and what time it is, sealed under `HELLO_TAG`: answer of `GET /hello`."""

    nonce: str  # the asker's own, so that this is no old answer
    hq_time_us: int
    hq_public: list[str]
    ca: str  # PEM


class Shop(Protocol):
    """Who a box is: `[store]` of its configuration."""

    @property
    def tenant(self) -> str:
        """The chain."""

    @property
    def store(self) -> str:
        """The shop."""

    @property
    def number(self) -> int:
        """The shop's number in signed codes."""

    @property
    def gateway(self) -> str:
        """The box."""


class EnrolAsk(Struct, frozen=True, kw_only=True):
    """What a box hands over: body of `POST /.well-known/est/simpleenroll`."""

    secret: str  # of the label, 32 hex digits
    gateway: str
    tenant: str
    store: str
    number: int
    csr: str  # PEM
    public: str  # Ed25519, 64 hex digits: signs its batches
    proof: str  # that signature over `proven`, 128 hex digits: this box holds the key

    @property
    def proven(self) -> bytes:
        """What `proof` signs."""
        return f"SGE1 enrol\n{self.gateway}\n{self.secret}\n{self.csr}".encode("utf-8", "surrogatepass")


class EnrolReply(Struct, frozen=True, kw_only=True):
    """What it gets back."""

    certificate: str  # PEM
    ca: str  # PEM
    facts: HqFacts


# ---------------------------------------------------------------- headquarters' side


class Authority:
    """Headquarters' keys; make one with `Authority.open`."""

    def __init__(
        self,
        ca_key: ec.EllipticCurvePrivateKey,
        ca_cert: x509.Certificate,
        root: Ed25519PrivateKey,
        token_keys: dict[int, Ed25519PrivateKey],
    ) -> None:
        self._ca_key = ca_key
        self._ca_cert = ca_cert
        self.root = root
        self.token_keys = token_keys

    @classmethod
    def open(cls, folder: Path) -> "Authority":
        """The authority kept in `folder`; made there on the first start, files readable by their owner only.

        Raises:
            ConfigError: The folder cannot be used, or holds something else than keys.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca_key = _read_or_make_ec(folder / "ca.key")
        root = _read_or_make_ed25519(folder / "root.key")
        token_key = _read_or_make_ed25519(folder / "token-1.key")
        tokens = {1: token_key} | {_token_id(path): _read_ed25519(path) for path in sorted(folder.glob("token-*.key"))}
        crt = folder / "ca.crt"
        if not crt.exists():
            write_private(crt, _self_signed(ca_key).public_bytes(Encoding.PEM))
        try:
            return cls(ca_key, x509.load_pem_x509_certificate(crt.read_bytes()), root, tokens)
        except ValueError as error:
            raise ConfigError(f"{crt} is no certificate", "Restore the folder from a backup") from error

    @property
    def ca_pem(self) -> str:
        """The authority's certificate."""
        return self._ca_cert.public_bytes(Encoding.PEM).decode("ascii")

    @property
    def ca_point(self) -> bytes:
        """The authority's public key as labels carry it: a compressed point, 33 bytes."""
        return self._ca_key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @property
    def token_key_id(self) -> int:
        """The key that signs new tokens: the newest."""
        return max(self.token_keys)

    @property
    def root_public(self) -> Ed25519PublicKey:
        """What boxes check headquarters' word with."""
        return self.root.public_key()

    def issue_server(self, folder: Path, names: list[str]) -> tuple[Path, Path]:
        """A certificate and key for a broker known by `names` (DNS names or addresses), written to `folder`.

        Made anew at each start, so that it never runs out under a headquarters that is restarted now and then.

        Returns:
            The paths of certificate and key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(names[0], key.public_key(), SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH)
        cert = builder.add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), False).sign(
            self._ca_key, hashes.SHA256()
        )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / "server.crt", cert.public_bytes(Encoding.PEM))
        write_private(folder / "server.key", _pem(key))
        return folder / "server.crt", folder / "server.key"

    def issue_client(self, csr_pem: str, gateway: str, days: int = CLIENT_DAYS) -> str:
        """A certificate whose common name is `gateway`, whatever name the request asks for.

        Raises:
            MalformedFrame: Not a request, not signed by its own key, or another kind of key than P-256.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode("ascii"))
            key = csr.public_key()
        except (ValueError, UnicodeEncodeError) as error:
            raise MalformedFrame("not a certificate request") from error
        if not csr.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise MalformedFrame("a certificate request that its P-256 key did not sign")
        cert = self._builder(gateway, key, days, ExtendedKeyUsageOID.CLIENT_AUTH).sign(self._ca_key, hashes.SHA256())
        return cert.public_bytes(Encoding.PEM).decode("ascii")

    def issue_own_client(self, folder: Path, name: str) -> tuple[Path, Path]:
        """A certificate and key for one of headquarters' own clients, such as ingest, written to `folder`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(folder / f"{name}.key", _pem(key))
        write_private(folder / f"{name}.crt", self.issue_client(_csr(key, name), name, SERVER_DAYS).encode("ascii"))
        return folder / f"{name}.crt", folder / f"{name}.key"

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey, days: int, use: x509.ObjectIdentifier) -> x509.CertificateBuilder:
        return (
            _dated(_name(name), self._ca_cert.subject, key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.ExtendedKeyUsage([use]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key()), False)
        )


# ---------------------------------------------------------------- the box's side


class Enrolment(Struct, frozen=True, kw_only=True):
    """What a box needs to speak with headquarters."""

    facts: HqFacts
    hq_public: list[Ed25519PublicKey]
    sign_key: Ed25519PrivateKey
    ca_path: str
    cert_path: str
    key_path: str

    @classmethod
    def load(cls, folder: Path) -> "Enrolment":
        """Read the folder.

        Raises:
            ConfigError: This box is not enrolled, or its folder is damaged.
        """
        try:
            facts = msgspec.json.decode((folder / "hq.json").read_bytes(), type=HqFacts)
            publics = [public_from_hex(text) for text in facts.hq_public]
        except FileNotFoundError as error:
            raise ConfigError(f"{folder} holds no enrolment", "Enrol this box with headquarters first") from error
        except (OSError, msgspec.DecodeError, MalformedFrame) as error:
            raise ConfigError(f"cannot use {folder / 'hq.json'}: {error}", "Enrol this box again") from error
        return cls(
            facts=facts, hq_public=publics, sign_key=_read_ed25519(folder / "sign.key"), ca_path=str(folder / "ca.crt"),
            cert_path=str(folder / "tls.crt"), key_path=str(folder / "tls.key"),
        )  # fmt: skip


def make_box_keys(folder: Path, gateway: str) -> str:
    """Make the box's two keys in `folder`, unless they are there, and a certificate request (PEM) for the TLS one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _read_or_make_ed25519(folder / "sign.key")
    return _csr(_read_or_make_ec(folder / "tls.key"), gateway)


def enrol_ask(folder: Path, shop: Shop, secret: bytes) -> EnrolAsk:
    """What to hand over, from keys made on this box."""
    csr = make_box_keys(folder, shop.gateway)
    key = _read_ed25519(folder / "sign.key")
    ask = EnrolAsk(
        secret=secret.hex(), gateway=shop.gateway, tenant=shop.tenant, store=shop.store, number=shop.number, csr=csr,
        public=public_hex(key.public_key()), proof="",
    )  # fmt: skip
    return msgspec.structs.replace(ask, proof=key.sign(ask.proven).hex())


def keep_reply(folder: Path, reply: EnrolReply) -> None:
    """Write what headquarters answered; the box is enrolled once this returns."""
    write_private(folder / "tls.crt", reply.certificate.encode("ascii"))
    write_private(folder / "ca.crt", reply.ca.encode("ascii"))
    write_private(folder / "hq.json", msgspec.json.format(msgspec.json.encode(reply.facts), indent=2))


# ---------------------------------------------------------------- files and certificates


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, 0600, on the disk when this returns."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _token_id(path: Path) -> int:
    try:
        return int(path.stem.partition("-")[2])
    except ValueError as error:
        raise ConfigError(f"{path} has no key id in its name", "Name it token-NUMBER.key") from error


def _read_key(path: Path) -> object:
    try:
        return load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"cannot read the key {path}: {error}", "Restore it from a backup, or enrol again") from error


def _read_ed25519(path: Path) -> Ed25519PrivateKey:
    key = _read_key(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is no Ed25519 key", "Restore it from a backup, or enrol again")
    return key


def _read_or_make_ed25519(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        write_private(path, _pem(Ed25519PrivateKey.generate()))
    return _read_ed25519(path)


def _read_or_make_ec(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        write_private(path, _pem(ec.generate_private_key(ec.SECP256R1())))
    key = _read_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is no P-256 key", "Restore it from a backup, or enrol again")
    return key


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _csr(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode("ascii")


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _dated(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name(AUTHORITY_NAME)
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _dated(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )


def anchor(point: bytes) -> str:
    """A trust anchor, PEM, for an authority of which only the key is known: its name is always the same, and nobody checks the
    signature of an anchor, so a throw-away key makes it. It is used for a few seconds and kept nowhere.

    Raises:
        MalformedFrame: Not a point of P-256.
    """
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise MalformedFrame("not a P-256 key") from error
    name = _name(AUTHORITY_NAME)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key).serial_number(1)
        .not_valid_before(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM).decode("ascii")
