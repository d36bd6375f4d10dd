"""A secret for one box alone: encrypted to the key that signs its batches, so no copy on the way or at rest is of use without it.

Headquarters knows of each box the public half of that Ed25519 key, and nothing else. libsodium gives the X25519 key that belongs to
the same private key, and its sealed box (X25519 with a key made for this one message, XSalsa20-Poly1305) does the rest. Sealed is
`purpose | 0x00 | secret`; the text is its hex.
"""

from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.errors import MalformedFrame

if TYPE_CHECKING:
    from nacl.public import PrivateKey, PublicKey, SealedBox

OVERHEAD_B: Final = 48  # ephemeral public key, and tag
MOST_B: Final = 512  # of purpose and secret
END: Final = b"\0"
HINT: Final = "Enrol the box again: headquarters knows another key of it"


def wrap(secret: bytes, box: Ed25519PublicKey, purpose: bytes) -> str:
    """A secret that only the holder of the box's signing key reads, and only for this purpose (which has no zero byte)."""
    from nacl.signing import VerifyKey  # libsodium, which only who has members needs

    return _sealed(VerifyKey(box.public_bytes_raw()).to_curve25519_public_key()).encrypt(purpose + END + secret).hex()


def unwrap(text: str, key: Ed25519PrivateKey, purpose: bytes) -> bytes:
    """The secret.

    Raises:
        MalformedFrame: Not for this box or purpose, or damaged.
    """
    try:
        from nacl.exceptions import CryptoError
        from nacl.signing import SigningKey
    except ImportError as error:
        raise MalformedFrame("no secret can be opened on this box", "Install store-gateway[members]") from error

    if len(text) > 2 * (OVERHEAD_B + MOST_B):
        raise MalformedFrame("a secret of another release", HINT)
    try:
        plain = _sealed(SigningKey(key.private_bytes_raw()).to_curve25519_private_key()).decrypt(bytes.fromhex(text))
    except (ValueError, CryptoError) as error:
        raise MalformedFrame("a secret that is not for this box", HINT) from error
    found, end, secret = plain.partition(END)
    if not end or found != purpose:
        raise MalformedFrame("a secret for something else", HINT)
    return secret


def _sealed(key: "PublicKey | PrivateKey") -> "SealedBox[Any]":
    from nacl.public import SealedBox

    return SealedBox(key)
