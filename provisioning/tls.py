"""TLS for a box whose clock may be wrong: name, chain and time are always checked, the time against what it can be.

OpenSSL judges certificates by the wall clock. A box without a clock chip boots in 1970, where every certificate is "not yet
valid". Switching verification off is what others did about it. Here OpenSSL checks chain and name, and is told to leave out
the dates only (X509_V_FLAG_NO_CHECK_TIME); these are held against `Bounds` right after the handshake, before a byte is sent.

What is certain: it is not before the build. What headquarters signed over our own nonce is its time now.
"""

import ssl
from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h; Python has no name for it
Bounds = tuple[int, int | None]  # the earliest and the latest that it can be, µs since 1970 UTC; None: nobody knows how late


class OutOfDate(ssl.SSLCertVerificationError):
    """A certificate of the other side cannot be valid at this time."""


class DatedSocket(ssl.SSLSocket):
    """A TLS socket whose handshake ends with the check of dates."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        context = self.context
        if isinstance(context, DatedContext):
            context.check_dates(self)


class DatedContext(ssl.SSLContext):
    """A client's context; make it with `client_context` or arm one of your own with `judge_dates_by`."""

    sslsocket_class = DatedSocket
    _bounds: Callable[[], Bounds] | None = None
    _authorities: Sequence[x509.Certificate] = ()

    def judge_dates_by(self, bounds: Callable[[], Bounds], authorities_pem: str) -> None:
        """Hold dates against `bounds`, asked at each handshake, instead of the wall clock.

        Raises:
            ValueError: `authorities_pem` holds no certificate.
        """
        self._authorities = x509.load_pem_x509_certificates(authorities_pem.encode())
        self._bounds = bounds
        self.verify_flags |= NO_CHECK_TIME

    def check_dates(self, connected: ssl.SSLSocket) -> None:
        """Raises OutOfDate if the other side's certificate, or its authority's, cannot be valid now."""
        if self._bounds is not None:
            check_dates(connected.getpeercert(True) or b"", self._authorities, self._bounds())


def client_context(authorities_pem: str, bounds: Callable[[], Bounds]) -> DatedContext:
    """A context that trusts these authorities and nobody else.

    Raises:
        ValueError: `authorities_pem` holds no certificate.
        ssl.SSLError: As above.
    """
    context = DatedContext(ssl.PROTOCOL_TLS_CLIENT)  # requires a certificate and checks the host's name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authorities_pem)
    context.judge_dates_by(bounds, authorities_pem)
    return context


def check_dates(leaf_der: bytes, authorities: Sequence[x509.Certificate], bounds: Bounds) -> None:
    """Hold a verified certificate and its authority against the time.

    Raises:
        OutOfDate: It is certainly too early or too late, or no authority here issued it.
    """
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
    except ValueError as error:
        raise OutOfDate("the other side showed no certificate") from error
    if not any(_fits(authority, bounds) and _issued(authority, leaf) for authority in authorities):
        raise OutOfDate("the authority's certificate is not valid at this time")
    if not _fits(leaf, bounds):
        raise OutOfDate("the other side's certificate is not valid at this time")


def _fits(cert: x509.Certificate, bounds: Bounds) -> bool:
    earliest_us, latest_us = bounds
    begins_us, ends_us = cert.not_valid_before_utc.timestamp() * 1e6, cert.not_valid_after_utc.timestamp() * 1e6
    return ends_us >= earliest_us and (latest_us is None or begins_us <= latest_us)


def _issued(authority: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
