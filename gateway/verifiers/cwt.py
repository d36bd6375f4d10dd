"""CWT: claims in CBOR (RFC 8392) in a COSE_Sign1 (RFC 9052) under Ed25519, as `CWT:` and base45.

Tag 18, or 61 and 18. Protected header: `alg` (1) EdDSA (-8) or Ed25519 (-19, RFC 9864) and nothing else that would have to be
understood; `kid` (4) there or in the unprotected one. Claims: `iss` 1, `aud` 3, `exp` 4, `nbf` 5, `iat` 6, `cti` 7; private ones:
-65537 campaign, -65538 store, -65539 uses, -65540 item (text). `iss`, `exp` and `cti` must be there; other claims are left alone.
"""

from typing import Any, Final

import base45
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.base45 import from_base45
from gateway.codes import CWT_PREFIX, CodeKind
from gateway.errors import MalformedFrame
from gateway.token import SIGNATURE_B
from gateway.verifiers import cbor
from gateway.verifiers.keyring import Keyring
from gateway.verifiers.presented import Named, Presented, present

MAX_LETTERS: Final = 3_080  # of `cbor.MAX_B` bytes
SIGN1_TAG, CWT_TAG = 18, 61
ALG, KID = 1, 4
CONTENT_TYPE, TYPE = 3, 16  # said in some headers; they change nothing
EDDSA: Final = (-8, -19)
ISS, AUD, EXP, NBF, IAT, CTI = 1, 3, 4, 5, 6, 7
CAMPAIGN, STORE, USES, ITEM = -65537, -65538, -65539, -65540


def verify(text: str, keys: Keyring) -> Presented:
    """The terms in a CWT.

    Raises:
        UnknownKey: No such key of that issuer.
        BadSignature: Forged or damaged.
        CodeRefused: As `present`.
        MalformedFrame: Not the shape of a CWT.
    """
    protected, unprotected, payload, signature = _parts(text)
    claims = cbor.decode(payload)
    if not isinstance(claims, dict):
        raise MalformedFrame("claims that are no map")
    held = keys.named(CodeKind.CWT, _key_id(protected, unprotected).hex(), _said(claims, ISS, str))
    held.check(signature, _signed(protected, payload))
    return present(CodeKind.CWT, held, _named(claims))


def sign(claims: dict[int, Any], key_id: bytes, key: Ed25519PrivateKey) -> str:
    """The text of a CWT with these claims."""
    protected, payload = cbor.encode({ALG: EDDSA[0], KID: key_id}), cbor.encode(claims)
    sealed = cbor.Tagged(SIGN1_TAG, [protected, {}, payload, key.sign(_signed(protected, payload))])
    return CWT_PREFIX + str(base45.b45encode(cbor.encode(sealed)), "ascii")


def _parts(text: str) -> tuple[bytes, dict[Any, Any], bytes, bytes]:
    if not text.startswith(CWT_PREFIX) or len(text) > MAX_LETTERS:
        raise MalformedFrame("not a CWT")
    outer = cbor.decode(from_base45(text[len(CWT_PREFIX) :]))
    if isinstance(outer, cbor.Tagged) and outer.tag == CWT_TAG:
        outer = outer.item
    if not isinstance(outer, cbor.Tagged) or outer.tag != SIGN1_TAG or not isinstance(outer.item, list) or len(outer.item) != 4:
        raise MalformedFrame("not a COSE_Sign1")
    protected, unprotected, payload, signature = outer.item
    if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
        raise MalformedFrame("not the headers of a COSE_Sign1")
    if not isinstance(payload, bytes) or not isinstance(signature, bytes) or len(signature) != SIGNATURE_B:
        raise MalformedFrame("not the payload and signature of a COSE_Sign1")
    return protected, unprotected, payload, signature


def _key_id(protected: bytes, unprotected: dict[Any, Any]) -> bytes:
    header = cbor.decode(protected)
    if not isinstance(header, dict) or header.get(ALG) not in EDDSA:
        raise MalformedFrame("not signed by EdDSA", "Ask the issuer for Ed25519")
    if set(header) - {ALG, KID, CONTENT_TYPE, TYPE} or set(unprotected) - {KID} or set(header) & set(unprotected):
        raise MalformedFrame("headers nobody here understands")
    key_id = {**header, **unprotected}.get(KID)
    if not isinstance(key_id, bytes):
        raise MalformedFrame("no key is named")
    return key_id


def _signed(protected: bytes, payload: bytes) -> bytes:
    """`Sig_structure` of RFC 9052, section 4.4."""
    return cbor.encode(["Signature1", protected, b"", payload])


def _named(claims: dict[Any, Any]) -> Named:
    audience = claims.get(AUD, [])
    audience = [audience] if isinstance(audience, str) else audience
    if not isinstance(audience, list) or not all(isinstance(one, str) for one in audience):
        raise MalformedFrame("an audience that is no text")
    item = _said(claims, ITEM, str, "")
    return Named(
        name=_said(claims, CTI, bytes), not_after_s=_said(claims, EXP, int), not_before_s=_said(claims, NBF, int, 0),
        issued_s=_said(claims, IAT, int, 0), items=(item,) if item else (), campaign=_said(claims, CAMPAIGN, int, 0),
        store=_said(claims, STORE, int, 0), uses=_said(claims, USES, int, 1), audience=tuple(audience),
    )  # fmt: skip


def _said(claims: dict[Any, Any], claim: int, kind: type[Any], otherwise: Any = None) -> Any:
    value = claims.get(claim, otherwise)
    if not isinstance(value, kind):
        raise MalformedFrame(f"claim {claim} is missing or of another type")
    return value
