"""A secret for one box alone: encrypted to the key that signs its batches, so no copy on the way or at rest is of use without it.

Headquarters knows of each box the public half of that Ed25519 key, and nothing else: the same point serves for X25519 (RFC 7748
section 4.1 gives the map), as libsodium's `crypto_sign_ed25519_pk_to_curve25519` does. X25519 with a key made for this one message,
HKDF-SHA-256, ChaCha20-Poly1305. The text is hex of: ephemeral public key 32 B | ciphertext and tag.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import MalformedFrame

PRIME: Final = 2**255 - 19
POINT_B: Final = 32
TAG_B: Final = 16
MOST_B: Final = 256  # of a secret
NONCE: Final = bytes(12)  # each message has a key of its own


def wrap(secret: bytes, box: Ed25519PublicKey, purpose: bytes) -> str:
    """A secret that only the holder of the box's signing key reads, and only for this purpose."""
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(_montgomery(box))
    return (public + ChaCha20Poly1305(_key(shared, public, purpose)).encrypt(NONCE, secret, purpose)).hex()


def unwrap(text: str, key: Ed25519PrivateKey, purpose: bytes) -> bytes:
    """The secret.

    Raises:
        MalformedFrame: Not for this box or purpose, or damaged.
    """
    try:
        raw = bytes.fromhex(text)
        if not POINT_B + TAG_B <= len(raw) <= POINT_B + TAG_B + MOST_B:
            raise ValueError
        shared = _private(key).exchange(X25519PublicKey.from_public_bytes(raw[:POINT_B]))
        return ChaCha20Poly1305(_key(shared, raw[:POINT_B], purpose)).decrypt(NONCE, raw[POINT_B:], purpose)
    except (ValueError, InvalidTag) as error:
        raise MalformedFrame("a secret that is not for this box", "Enrol the box again: headquarters knows another key of it") from error


def _key(shared: bytes, public: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, public, b"SGX1\n" + purpose).derive(shared)


def _montgomery(public: Ed25519PublicKey) -> X25519PublicKey:
    """u = (1 + y) / (1 - y): the point of the other curve that belongs to the same private key."""
    y = int.from_bytes(public.public_bytes_raw(), "little") & (2**255 - 1)
    u = (1 + y) * pow(1 - y, -1, PRIME) % PRIME
    return X25519PublicKey.from_public_bytes(u.to_bytes(POINT_B, "little"))


def _private(key: Ed25519PrivateKey) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(hashlib.sha512(key.private_bytes_raw()).digest()[:POINT_B])
