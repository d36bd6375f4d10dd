"""The HTTPS door at which boxes enrol, shaped as EST (RFC 7030) and on a port of its own: all of headquarters that a box that is
nobody yet can reach.

::

    GET  /.well-known/est/cacerts        the authority's certificate, PKCS #7 certs-only, base64
    POST /.well-known/est/simpleenroll   `EnrolAsk` as JSON: `EnrolReply`, or 4xx with `reason` and words in both languages
    GET  /hello?nonce=HEX                `Hello`, sealed: who headquarters is and what time it is

EST's request is a bare PKCS #10; ours carries the label's secret and the key that signs batches, too, hence JSON. Where to
find the certificate that is not known yet is what EST leaves open; the label answers it.
"""

import base64
import json
import re
import ssl
from collections import OrderedDict
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_bridge.hq.intake import Intake
from gateway.clock import Clock
from provisioning.authority import EnrolAsk
from provisioning.words import REASONS, EnrolRefused

MAX_BODY_B: Final = 8_192  # an ask is 1.2 kB
MAX_CONNECTIONS: Final = 200
NONCE: Final = re.compile(r"[0-9a-f]{16,64}")
TRIES: Final = 30  # of one address at once; then one more every two seconds
TRIES_PER_S: Final = 0.5
ADDRESSES: Final = 10_000  # that are remembered
STATUS: Final = {"bad_keys": 422, "not_a_label": 400, "label_used": 409, "wrong_box": 409}


class Tries:
    """How often one address may knock: a bucket of `TRIES` that fills again. Guessing is hopeless anyway; this bounds the work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Whether it may knock now."""
        now_ns = self._clock.boottime_ns()
        left, at_ns = self._left.pop(address, (float(TRIES), now_ns))
        left = min(float(TRIES), left + (now_ns - at_ns) / 1e9 * TRIES_PER_S)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed else left, now_ns)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return allowed


def application(intake: Intake, clock: Clock) -> Starlette:
    """The three routes."""
    tries = Tries(clock)

    async def cacerts(request: Request) -> Response:
        certs = pkcs7.serialize_certificates(x509.load_pem_x509_certificates(intake.ca_pem.encode()), Encoding.DER)
        return Response(base64.encodebytes(certs), 200, {"content-transfer-encoding": "base64"}, "application/pkcs7-mime")

    async def hello(request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not NONCE.fullmatch(nonce):
            return _refuse(400, "not_a_label", "nonce: 16 to 64 hex digits, fresh each time")
        if not tries.take(_address(request)):
            return _busy()
        return Response(intake.hello(nonce), 200, {"cache-control": "no-store"}, "application/octet-stream")

    async def simpleenroll(request: Request) -> Response:
        if not tries.take(_address(request)):
            return _busy()
        body = await _body(request)
        if body is None:
            return _refuse(413, "bad_keys", f"a body of more than {MAX_BODY_B} bytes")
        try:
            ask = msgspec.json.decode(body, type=EnrolAsk)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            return _refuse(422, "bad_keys", str(error))
        try:
            reply = await intake.enrol(ask)
        except EnrolRefused as refused:
            return _refuse(STATUS.get(refused.reason, 403), refused.reason)
        return Response(msgspec.json.encode(reply), 200, {"cache-control": "no-store"}, "application/json")

    return Starlette(
        routes=[
            Route("/.well-known/est/cacerts", cacerts),
            Route("/.well-known/est/simpleenroll", simpleenroll, methods=["POST"]),
            Route("/hello", hello),
        ]
    )


def server_config(app: Starlette, host: str, port: int, cert: Path, key: Path) -> uvicorn.Config:
    """How the door is served: TLS 1.2 or newer, few connections, nothing kept open."""
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=1, timeout_keep_alive=2, limit_concurrency=MAX_CONNECTIONS, h11_max_incomplete_event_size=8_192,
        ssl_certfile=str(cert), ssl_keyfile=str(key),
    )  # fmt: skip
    config.load()
    assert config.ssl is not None  # noqa: S101 - both files are given
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


async def _body(request: Request) -> bytes | None:
    """The body; None: larger than it may be."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_B:
            return None
    return bytes(body)


def _refuse(status: int, reason: str, detail: str = "") -> Response:
    words = REASONS[reason]
    said = {
        "reason": reason,
        "detail": detail,
        "message": msgspec.to_builtins(words.text),
        "next_step": msgspec.to_builtins(words.next_step),
    }
    return Response(json.dumps(said, ensure_ascii=False), status, {"cache-control": "no-store"}, "application/json")


def _busy() -> Response:
    return Response(b"", 429, {"retry-after": "2"})


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
