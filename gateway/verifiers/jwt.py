"""JWT (RFC 7519) in compact JWS (RFC 7515) under Ed25519 (RFC 8037).

Header: `alg` EdDSA (or Ed25519, RFC 9864) exactly, `kid`, perhaps `typ`; anything else (`crit`, `jwk`, `x5u`, …) is refused: a key
comes from headquarters, never from the code. Claims: `iss`, `jti` and `exp` must be there; `nbf`, `iat`, `aud`, `campaign`, `store`,
`uses` and `item` may be. Others are left alone. No name twice, times in whole seconds, base64url in its one spelling.
"""

import base64
import binascii
import json
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.codes import CodeKind
from gateway.errors import MalformedFrame
from gateway.token import SIGNATURE_B
from gateway.verifiers.keyring import Keyring
from gateway.verifiers.presented import Named, Presented, present

MAX_LETTERS: Final = 2_048
MAX_DIGITS: Final = 20
EDDSA: Final = ("EdDSA", "Ed25519")
HEADERS: Final = {"alg", "kid", "typ"}


def verify(text: str, keys: Keyring) -> Presented:
    """The terms in a JWT.

    Raises:
        UnknownKey: No such key of that issuer.
        BadSignature: Forged or damaged.
        CodeRefused: As `present`.
        MalformedFrame: Not the shape of a JWT.
    """
    if len(text) > MAX_LETTERS or text.count(".") != 2:
        raise MalformedFrame("not a compact JWS")
    signed, _, last = text.rpartition(".")
    first, _, middle = signed.partition(".")
    header, claims, signature = _object(first), _object(middle), _raw(last)
    if header.get("alg") not in EDDSA:
        raise MalformedFrame("not signed by EdDSA", "Ask the issuer for Ed25519")
    if set(header) - HEADERS or header.get("typ", "JWT") != "JWT" or len(signature) != SIGNATURE_B:
        raise MalformedFrame("a header nobody here understands")
    held = keys.named(CodeKind.JWT, _said(header, "kid", str), _said(claims, "iss", str))
    held.check(signature, signed.encode("ascii"))
    return present(CodeKind.JWT, held, _named(claims))


def sign(claims: dict[str, Any], key_id: str, key: Ed25519PrivateKey) -> str:
    """The text of a JWT with these claims."""
    parts = ({"alg": EDDSA[0], "kid": key_id, "typ": "JWT"}, claims)
    signed = ".".join(_packed(json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode()) for part in parts)
    return f"{signed}.{_packed(key.sign(signed.encode('ascii')))}"


def _packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _raw(part: str) -> bytes:
    try:
        raw = base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedFrame("not base64url") from error
    if _packed(raw) != part:
        raise MalformedFrame("not the one spelling of base64url")
    return raw


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_raw(part).decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise MalformedFrame("not JSON") from error
    if not isinstance(found, dict):
        raise MalformedFrame("not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedFrame("a name twice in a JSON object")
    return found


def _no_number(word: str) -> Any:
    raise MalformedFrame(f"{word} is not JSON")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise MalformedFrame("a number out of any range")
    return int(digits)


def _named(claims: dict[str, Any]) -> Named:
    audience = claims.get("aud", [])
    audience = [audience] if isinstance(audience, str) else audience
    if not isinstance(audience, list) or not all(isinstance(one, str) for one in audience):
        raise MalformedFrame("an audience that is no text")
    item = _said(claims, "item", str, "")
    return Named(
        name=_said(claims, "jti", str).encode("utf-8", "surrogatepass"), not_after_s=_said(claims, "exp", int),
        not_before_s=_said(claims, "nbf", int, 0), issued_s=_said(claims, "iat", int, 0), items=(item,) if item else (),
        campaign=_said(claims, "campaign", int, 0), store=_said(claims, "store", int, 0), uses=_said(claims, "uses", int, 1),
        audience=tuple(audience),
    )  # fmt: skip


def _said(part: dict[str, Any], name: str, kind: type[Any], otherwise: Any = None) -> Any:
    value = part.get(name, otherwise)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise MalformedFrame(f"`{name}` is missing or of another type")
    return value
