"""Who is who: keys, certificates and the enrolment folder."""

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.config import StoreTable
from gateway.errors import ConfigError, MalformedFrame
from gateway.signed import public_hex
from gateway.token import Claims, TokenKind, sign, verify
from provisioning.authority import Authority, Enrolment, EnrolReply, HqFacts, enrol_ask, keep_reply, make_box_keys

SHOP = StoreTable(tenant="demo", store="s1", number=7, gateway="gw-1")


def facts(authority: Authority) -> HqFacts:
    return HqFacts(hq_public=[public_hex(authority.root_public)], tenant="demo", store="s1", number=7, gateway="gw-1")


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "x") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return built.public_bytes(Encoding.PEM).decode()


def common_name(pem: str) -> object:
    return x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def test_the_authority_is_the_same_after_a_restart(tmp_path: Path) -> None:
    first, second = Authority.open(tmp_path), Authority.open(tmp_path)
    assert first.ca_pem == second.ca_pem
    assert public_hex(first.root_public) == public_hex(second.root_public)
    assert first.token_keys.keys() == second.token_keys.keys() == {1}


def test_nobody_else_can_read_the_keys(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "hq")
    authority.issue_server(tmp_path / "hq", ["localhost", "127.0.0.1"])
    make_box_keys(tmp_path / "box", "gw-1")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_new_token_key_signs_and_the_old_one_still_verifies(tmp_path: Path) -> None:
    old = Authority.open(tmp_path)
    claims = Claims(kind=TokenKind.VOUCHER, key_id=old.token_key_id, issuer=1, identifier=5, not_after_s=9)
    text = sign(claims, old.token_keys[old.token_key_id])
    (tmp_path / "token-2.key").write_bytes((tmp_path / "root.key").read_bytes())
    new = Authority.open(tmp_path)
    assert new.token_key_id == 2
    assert verify(text, {number: key.public_key() for number, key in new.token_keys.items()}) == claims


def test_the_certificate_names_the_box_whatever_the_request_asks_for(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    cert = authority.issue_client(csr(ec.generate_private_key(ec.SECP256R1()), "somebody-else"), "gw-1")
    assert common_name(cert) == "gw-1"
    assert x509.load_pem_x509_certificate(cert.encode()).issuer == x509.load_pem_x509_certificate(authority.ca_pem.encode()).subject


@pytest.mark.parametrize(
    "request_text", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "é"]
)
def test_nonsense_is_no_request(tmp_path: Path, request_text: str) -> None:
    with pytest.raises(MalformedFrame):
        Authority.open(tmp_path).issue_client(request_text, "gw-1")


def test_only_our_kind_of_key_gets_a_certificate(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(MalformedFrame):
            authority.issue_client(csr(key), "gw-1")


def test_a_box_is_enrolled_once_its_answer_is_kept(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "hq")
    ask = enrol_ask(tmp_path / "box", SHOP, b"s" * 16)
    with pytest.raises(ConfigError, match="no enrolment"):
        Enrolment.load(tmp_path / "box")
    keep_reply(
        tmp_path / "box", EnrolReply(certificate=authority.issue_client(ask.csr, "gw-1"), ca=authority.ca_pem, facts=facts(authority))
    )
    kept = Enrolment.load(tmp_path / "box")
    assert public_hex(kept.sign_key.public_key()) == ask.public
    assert kept.facts == facts(authority)
    assert [public_hex(key) for key in kept.hq_public] == [public_hex(authority.root_public)]
    assert json.loads((tmp_path / "box" / "hq.json").read_text())["store"] == "s1"


def test_asking_again_keeps_the_keys(tmp_path: Path) -> None:
    assert enrol_ask(tmp_path, SHOP, b"a").public == enrol_ask(tmp_path, SHOP, b"b").public


@pytest.mark.parametrize(("name", "content"), [("hq.json", b"{"), ("sign.key", b"no key"), ("hq.json", b'{"hq_public":["zz"]}')])
def test_a_damaged_enrolment_says_what_to_do(tmp_path: Path, name: str, content: bytes) -> None:
    authority = Authority.open(tmp_path / "hq")
    ask = enrol_ask(tmp_path / "box", SHOP, b"s" * 16)
    keep_reply(
        tmp_path / "box", EnrolReply(certificate=authority.issue_client(ask.csr, "gw-1"), ca=authority.ca_pem, facts=facts(authority))
    )
    (tmp_path / "box" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"(?i)enrol"):
        Enrolment.load(tmp_path / "box")


def test_a_damaged_authority_is_not_replaced(tmp_path: Path) -> None:
    """A new one would lock every box out: a person must restore the old one."""
    Authority.open(tmp_path)
    (tmp_path / "ca.key").write_bytes(b"")
    with pytest.raises(ConfigError):
        Authority.open(tmp_path)
