"""A box enrols: reads a label, makes sure that it speaks with the headquarters on it, hands over its keys, keeps the answer.

::

    label --> TLS, verified against the label's authority key --> hello: headquarters' keys, its time over our nonce,
              signed by the key on the label
          --> TLS, verified against the same authority, dates judged by that time --> simpleenroll: secret, certificate request
          --> keys, certificate, facts on the disk, `hq.json` last

Nothing is sent before chain and name of the other side are verified, and no secret before its dates are, too. A power cut
anywhere leaves a box that is not enrolled and keeps its keys; the same label then works again for it, for an hour.

Everything here blocks for up to a few seconds: not for a loop.
"""

import http.client
import json
import logging
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.clock import BUILT_US, Clock
from gateway.config import StoreTable
from gateway.errors import ConfigError, MalformedFrame
from gateway.events import TimeTrust
from gateway.signed import public_from_hex, public_hex, unseal
from provisioning.authority import HELLO_TAG, Enrolment, EnrolReply, Hello, anchor, enrol_ask, keep_reply
from provisioning.label import Label, read_label
from provisioning.tls import Bounds, DatedContext, OutOfDate, client_context
from provisioning.words import EnrolRefused, HqUnreachable

TIMEOUT_S: Final = 4.0  # of each step on the line
ANSWER_WITHIN_S: Final = 30  # a signed time older than this says little about now
MAX_REPLY_B: Final = 65_536
MAX_HELLO_B: Final = 16_384
TRY_AGAIN: Final = (429, 500, 502, 503, 504)
STALE_NS: Final = 24 * 3600 * 10**9  # the clock's own holdover
UNANSWERED_NS: Final = 600 * 10**9

log = logging.getLogger(__name__)


def enrol(text: str, folder: Path, shop: StoreTable, clock: Clock) -> Enrolment:
    """Enrol this box with a label's text.

    Args:
        text: What the label's QR code says.
        folder: The box's enrolment; made if need be.
        shop: Who this box is, from its configuration.
        clock: Hears headquarters' signed time.

    Raises:
        EnrolRefused: With a reason and the next step; the same label will not work now.
        HqUnreachable: Try again with the same label.
    """
    label = _own_label(text, folder, shop)
    hello = _hello_of(label)
    if hello.hq_time_us < BUILT_US:
        raise EnrolRefused("clock_impossible", "headquarters' clock is before this software was built")
    clock.hear_signed_time(hello.hq_time_us)
    heard_ns = clock.boottime_ns()
    if hello.hq_time_us > label.not_after_s * 1_000_000:
        raise EnrolRefused("label_expired")

    def now() -> Bounds:
        return hello.hq_time_us, hello.hq_time_us + (clock.boottime_ns() - heard_ns) // 1000 + ANSWER_WITHIN_S * 1_000_000

    context = _context(hello.ca, now)
    ask = enrol_ask(folder, shop, label.secret)
    answer = _call(label.host, label.port, context, "/.well-known/est/simpleenroll", msgspec.json.encode(ask))
    reply = _checked(answer, label, shop, ask.csr)
    facts = msgspec.structs.replace(reply.facts, door=_address(label.host, label.port))
    keep_reply(folder, msgspec.structs.replace(reply, facts=facts))
    return Enrolment.load(folder)


def ask_time(door: str, authorities_pem: str, keys: list[Ed25519PublicKey]) -> int:
    """Headquarters' time now, µs since 1970 UTC, signed over our nonce. For a box that has lost the time.

    Raises:
        EnrolRefused: Whoever answers is not headquarters.
        HqUnreachable: Nobody answers.
    """
    host, _, port = door.rpartition(":")
    if not port.isdigit():
        raise HqUnreachable("this box does not know headquarters' door")
    return _greet(host.strip("[]"), int(port), authorities_pem, keys).hq_time_us


def _own_label(text: str, folder: Path, shop: StoreTable) -> Label:
    try:
        label = read_label(text)
    except MalformedFrame as error:
        raise EnrolRefused("not_a_label", str(error)) from error
    if label.box != shop.gateway:
        raise EnrolRefused("wrong_box", f"the label says {label.box}, this box is {shop.gateway}")
    if is_enrolled(folder):
        raise EnrolRefused("enrolled_already")
    return label


def is_enrolled(folder: Path) -> bool:
    """Whether this folder holds a usable enrolment. A damaged one is none: enrolling again replaces it."""
    try:
        Enrolment.load(folder)
    except ConfigError:
        return False
    return True


def _hello_of(label: Label) -> Hello:
    """Headquarters' word, by the keys on the label."""
    try:
        key = Ed25519PublicKey.from_public_bytes(label.headquarters)
        trusted = anchor(label.authority)
    except (MalformedFrame, ValueError) as error:
        raise EnrolRefused("not_a_label", str(error)) from error
    hello = _greet(label.host, label.port, trusted, [key])
    try:
        points = [_point(cert) for cert in x509.load_pem_x509_certificates(hello.ca.encode())]
    except ValueError as error:
        raise EnrolRefused("wrong_hq", str(error)) from error
    if points != [label.authority] or public_hex(key) not in hello.hq_public:
        raise EnrolRefused("wrong_hq", "its certificate is not the one on the label")
    return hello


def _greet(host: str, port: int, authorities_pem: str, keys: list[Ed25519PublicKey]) -> Hello:
    nonce = secrets.token_hex(16)
    context = _context(authorities_pem, lambda: (BUILT_US, None))  # all that is certain before headquarters has said the time
    sealed = _call(host, port, context, f"/hello?nonce={nonce}", None)
    try:
        hello = unseal(HELLO_TAG, sealed, keys, Hello, MAX_HELLO_B)
    except MalformedFrame as error:
        raise EnrolRefused("wrong_hq", str(error)) from error
    if hello.nonce != nonce:
        raise EnrolRefused("wrong_hq", "an old answer was played back")
    return hello


def _context(authorities_pem: str, bounds: Callable[[], Bounds]) -> DatedContext:
    try:
        return client_context(authorities_pem, bounds)
    except (ValueError, ssl.SSLError) as error:
        raise EnrolRefused("wrong_hq", f"no usable authority: {error}") from error


def _call(host: str, port: int, context: DatedContext, path: str, body: bytes | None) -> bytes:
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        said = response.read(MAX_REPLY_B)
    except OutOfDate as error:
        raise EnrolRefused("clock_impossible", str(error)) from error
    except ssl.SSLCertVerificationError as error:
        raise EnrolRefused("wrong_hq", error.verify_message if hasattr(error, "verify_message") else str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise HqUnreachable(f"{_address(host, port)}: {error}") from error
    finally:
        connection.close()
    if response.status == http.HTTPStatus.OK:
        return said
    if response.status in TRY_AGAIN:
        raise HqUnreachable(f"{_address(host, port)}: HTTP {response.status}")
    raise EnrolRefused(_reason(said), f"HTTP {response.status}")


def _reason(said: bytes) -> str:
    try:
        return str(json.loads(said)["reason"])
    except (ValueError, KeyError, TypeError):
        return "bad_keys"


def _checked(answer: bytes, label: Label, shop: StoreTable, csr_pem: str) -> EnrolReply:
    """The reply, if it is for this box and its keys."""
    try:
        reply = msgspec.json.decode(answer, type=EnrolReply)
        leaf = x509.load_pem_x509_certificate(reply.certificate.encode())
        authority = x509.load_pem_x509_certificate(reply.ca.encode())
        leaf.verify_directly_issued_by(authority)
        publics = [public_hex(public_from_hex(text)) for text in reply.facts.hq_public]
        mine = leaf.public_key() == x509.load_pem_x509_csr(csr_pem.encode()).public_key()
    except (msgspec.DecodeError, ValueError, TypeError, MalformedFrame, x509.InvalidVersion) as error:
        raise HqUnreachable(f"an answer that is none: {error}") from error
    facts = reply.facts
    if not mine or _point(authority) != label.authority or label.headquarters.hex() not in publics:
        raise EnrolRefused("wrong_hq", "the answer is not for this box's keys")
    if (facts.gateway, facts.tenant, facts.store, facts.number) != (shop.gateway, shop.tenant, shop.store, shop.number):
        raise EnrolRefused("wrong_box", f"headquarters knows {facts.gateway} as shop {facts.store}")
    return reply


def _point(cert: x509.Certificate) -> bytes:
    key = cert.public_key()
    try:
        return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    except ValueError:  # another kind of key has no point
        return b""


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SignedTime:
    """What time it certainly is, for judging certificates on a box that may have lost it.

    Believes the clock while headquarters' signed time agrees with it; else asks headquarters; else takes the clock's own bounds.
    """

    def __init__(self, clock: Clock, enrolment: Enrolment) -> None:
        self._clock = clock
        self._enrolment = enrolment
        self._heard: tuple[int, int] | None = None  # signed time in µs, boot time in ns
        self._not_before_ns = 0  # when it makes sense to ask again

    def bounds(self) -> Bounds:
        """The earliest and the latest that it can be now. May ask headquarters, for up to a few seconds."""
        if self._clock.now().trust is TimeTrust.SYNCED:
            return self._clock.bounds_us()
        if self._clock.boottime_ns() >= self._not_before_ns:
            self._ask()
        if self._heard is None:
            return self._clock.bounds_us()
        signed_us, heard_ns = self._heard
        now_us = signed_us + (self._clock.boottime_ns() - heard_ns) // 1000
        return now_us, now_us + ANSWER_WITHIN_S * 1_000_000

    def _ask(self) -> None:
        # A door that does not answer is left alone for a while: the caller's own connection waits meanwhile.
        self._not_before_ns = self._clock.boottime_ns() + UNANSWERED_NS
        try:
            authorities = Path(self._enrolment.ca_path).read_text(encoding="ascii")
            signed_us = ask_time(self._enrolment.facts.door, authorities, self._enrolment.hq_public)
        except (EnrolRefused, HqUnreachable, OSError, ValueError) as error:
            log.info("headquarters did not tell the time: %s", error)
            return
        self._heard = signed_us, self._clock.boottime_ns()
        self._not_before_ns = self._heard[1] + STALE_NS
        self._clock.hear_signed_time(signed_us)
