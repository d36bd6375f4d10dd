"""A keyed hash whose key can be exchanged by whoever holds the hashes, without what was hashed. Pure, given the keys.

A hash is a point of the group of Ed25519, turned by a secret number: `scalar x point`. Whoever has turned points and the quotient of a new
and an old number turns them on to the new one (`onward`); what they were made of is neither needed nor learnt. From then on the old number
finds nobody. To whoever has neither number a turned point is as good as random (the Diffie-Hellman assumption of that group), so
what is made of few possible inputs, such as telephone numbers, cannot be tried without it.

Source: Boneh, Lewi, Montgomery, Raghunathan, "Key Homomorphic PRFs and Their Applications" (2013): the Naor-Pinkas-Reingold function.
"""

import hashlib
from typing import Final

SCALAR_B: Final = 32
POINT_B: Final = 32
SEED_B: Final = 64


def point_of(inner: bytes) -> bytes:
    """The point that stands for something, 32 bytes; nobody knows what multiple of another one it is."""
    from nacl.bindings import crypto_core_ed25519_from_uniform  # libsodium, which only who has members needs

    return crypto_core_ed25519_from_uniform(hashlib.sha256(b"SGK2 point\n" + inner).digest())


def scalar_of(seed: bytes) -> bytes:
    """A secret number, 32 bytes, of 64 random ones."""
    from nacl.bindings import crypto_core_ed25519_scalar_reduce

    return crypto_core_ed25519_scalar_reduce(seed)


def turned(point: bytes, scalar: bytes) -> bytes:
    """A point turned by a secret number."""
    from nacl.bindings import crypto_scalarmult_ed25519_noclamp

    return crypto_scalarmult_ed25519_noclamp(scalar, point)


def onward(old: bytes, new: bytes) -> bytes:
    """What turns points of an old secret number on to a new one."""
    from nacl.bindings import crypto_core_ed25519_scalar_invert, crypto_core_ed25519_scalar_mul

    return crypto_core_ed25519_scalar_mul(new, crypto_core_ed25519_scalar_invert(old))
