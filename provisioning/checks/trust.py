"""Who the box is: its enrolment, its certificate, and whether headquarters is there and is itself."""

import datetime
import socket
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from gateway.config import GatewayConfig
from gateway.errors import ConfigError
from gateway.rules.reasons import Text
from provisioning.authority import Enrolment
from provisioning.checks.outcome import CONFIG, Box, Check, Outcome, fail, ok, skipped, warn
from provisioning.renewing import Identity

CONNECT_S: Final = 2.0
RENEWED_BY: Final = 0.75  # of its life: a certificate is renewed at two thirds, so by now something hinders it
WRONG_DATES: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
AGAIN: Final = ("請總部重新註冊這台機器，再掃描一次標籤", "Ask headquarters to enrol this box again, then scan its label")


def enrolment(box: Box) -> list[Outcome]:
    """There, readable, and of this very box."""
    try:
        facts = Enrolment.load(box.known.enrolment_dir).facts
    except ConfigError as error:
        return [fail((f"尚未註冊或註冊資料損毀：{error}", f"Not enrolled, or the enrolment is damaged: {error}"), AGAIN)]
    except PermissionError as error:
        return [
            fail((f"無法讀取註冊資料：{error}", f"The enrolment cannot be read: {error}"), ("用 sudo 再執行一次", "Run again with sudo"))
        ]
    ours, theirs = box.known.store, (facts.tenant, facts.store, facts.number, facts.gateway)
    if (ours.tenant, ours.store, ours.number, ours.gateway) != theirs:
        said = "/".join(str(part) for part in theirs)
        step = ("把 [store] 改成相同的值，或重新註冊", "Set [store] to the same values, or enrol again")
        return [fail((f"註冊的是另一台機器：{said}", f"The enrolment is another box's: {said}"), step)]
    return [ok(f"已註冊為 {facts.gateway}", f"Enrolled as {facts.gateway}")]


def in_force(config: GatewayConfig) -> tuple[Path, Path]:
    """Where the certificate and the key lie that the bridge connects with: enrolment's, or those that have replaced them."""
    folder = config.enrolment_dir
    try:
        pair = Identity(Enrolment.load(folder), config.state_dir).in_force()
    except ConfigError:
        return folder / "tls.crt", folder / "tls.key"
    return Path(pair.cert_path), Path(pair.key_path)


def read_certificate(config: GatewayConfig) -> x509.Certificate | None:
    """The box's certificate; None where there is none.

    Raises:
        ValueError: The file holds something else.
        OSError: It cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(in_force(config)[0].read_bytes())
    except FileNotFoundError:
        return None


def days_left(certificate: x509.Certificate) -> float:
    """Days until it runs out; below 0 it has."""
    return (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).total_seconds() / 86_400


def certificate(box: Box) -> list[Outcome]:
    """Of this authority, for this key, valid, and with time left."""
    folder = box.known.enrolment_dir
    try:
        own = read_certificate(box.known)
        if own is None:
            return [skipped("尚未註冊，沒有憑證", "Not enrolled: there is no certificate")]
        key = load_pem_private_key(in_force(box.known)[1].read_bytes(), None)
        authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    except (ValueError, TypeError, OSError) as error:
        return [fail((f"憑證或金鑰無法讀取：{error}", f"The certificate or its key cannot be read: {error}"), AGAIN)]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        return [fail(("憑證與金鑰不是一對", "The certificate is not for this key"), AGAIN)]
    try:
        own.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - cryptography names no common base for what a foreign signature raises
        return [fail(("憑證不是這個總部簽發的", "This headquarters did not issue the certificate"), AGAIN)]
    return [_dates(own)]


def _dates(own: x509.Certificate) -> Outcome:
    left, now = days_left(own), datetime.datetime.now(datetime.UTC)
    life = (own.not_valid_after_utc - own.not_valid_before_utc).total_seconds() / 86_400
    until = own.not_valid_after_utc.date().isoformat()
    if left <= 0:
        step = (
            "先看 clock；時間正確的話，請總部重新註冊這台機器",
            "Look at `clock`; if the time is right, ask headquarters to enrol this box again",
        )
        return fail((f"憑證已在 {until} 到期", f"The certificate ran out on {until}"), step)
    if own.not_valid_before_utc > now:
        return fail(
            ("憑證尚未生效：時鐘可能太慢", "The certificate is not valid yet: the clock may be behind"), ("檢查 clock", "Look at `clock`")
        )
    if left < life * (1 - RENEWED_BY):
        step = ("檢查 line 與 hq：連線正常時會自動更新", "Look at `line` and `hq`: it is renewed by itself while the line works")
        return warn((f"憑證還剩 {left:.0f} 天，應該已更新", f"{left:.0f} days are left; it should have been renewed by now"), step)
    return ok(f"憑證還有 {left:.0f} 天", f"Valid for another {left:.0f} days")


def hq(box: Box) -> list[Outcome]:
    """Headquarters' broker takes a connection, and proves who it is."""
    bridge, folder = box.known.bridge, box.known.enrolment_dir
    where = f"{bridge.host}:{bridge.port}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(folder / "ca.crt")
        context.load_cert_chain(*in_force(box.known))
    except (OSError, ssl.SSLError):
        return [skipped("尚未註冊，無法驗證總部", "Not enrolled: headquarters cannot be verified")]
    try:
        with socket.create_connection((bridge.host, bridge.port), CONNECT_S) as plain:
            plain.settimeout(CONNECT_S)
            with context.wrap_socket(plain, server_hostname=bridge.server_name or bridge.host):
                pass
    except ssl.SSLCertVerificationError as error:
        return [_unverified(where, error)]
    except OSError as error:  # ssl.SSLError and TimeoutError among them
        reason = error.strerror or str(error)
        return [
            fail(
                (f"連不到總部 {where}：{reason}", f"Headquarters at {where} cannot be reached: {reason}"),
                (
                    "檢查網路線、路由器，以及防火牆是否允許這個埠對外連線",
                    "Look at the cable, the router, and whether its firewall lets this port out",
                ),
            )
        ]
    return [ok(f"{where} 可連線，身分正確", f"{where} answers and is who it should be")]


def _unverified(where: str, error: ssl.SSLCertVerificationError) -> Outcome:
    reason = error.verify_message
    if error.verify_code in WRONG_DATES:
        step = ("檢查 clock；時間正確的話，請總部更新憑證", "Look at `clock`; if the time is right, headquarters must mend its own")
        return fail((f"總部憑證的日期不符：{reason}", f"Headquarters' certificate has the wrong dates: {reason}"), step)
    return fail(
        (f"{where} 不是總部，或名稱不符：{reason}", f"{where} is not headquarters, or has another name: {reason}"),
        ("不要繼續：請總部確認 [bridge] 的 host 與 server_name", "Stop: ask headquarters for `host` and `server_name` of [bridge]"),
    )


CHECKS: Final = [
    Check(
        "enrolment", Text("註冊", "Enrolment"),
        Text("沒有註冊，總部不認得這台機器", "Without it headquarters does not know this box"), enrolment, CONFIG,
    ),
    Check(
        "certificate", Text("憑證", "Certificate"),
        Text("憑證到期後就連不上總部", "Once it runs out there is no line to headquarters"), certificate, CONFIG,
    ),
    Check(
        "hq", Text("總部", "Headquarters"),
        Text("連不到總部，門市照常營業，但數字與新票券會延遲", "Without it the shop goes on alone"), hq, CONFIG,
    ),
]  # fmt: skip
