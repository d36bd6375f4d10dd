"""Who may sign what: the keys of headquarters' signed `keys` document, ready for use.

A key signs for its own issuer only. A *retired* key signs nothing more, yet what it signed before stays good for as long as
headquarters declares; a *revoked* key was stolen, and nothing it ever signed is good. Formats this release does not know are left
aside and named in `unknown`, so that a newer headquarters disturbs nothing else.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct, field

from gateway.errors import MalformedFrame
from gateway.rules.voucher import Terms
from gateway.signed import FORMATS, Document, IssuerKey, TokenKey, public_from_hex
from gateway.token import BadSignature, UnknownKey, check

MAX_NAMELESS: Final = 16  # keys of one format whose codes name none: each is tried, 0.1 ms apiece


class CodeRefused(MalformedFrame):
    """A code that is what it seems, and still is not taken; `reason` is a key of `gateway.rules.reasons.REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Held(Struct, frozen=True, kw_only=True):
    """A key and what headquarters says of it."""

    public: Ed25519PublicKey
    issuer: int
    retired_s: int = 0
    honoured_until_s: int = 0
    revoked: bool = False
    iss: str = ""
    audience: str = ""
    store: int = 0
    campaigns: dict[str, int] = field(default_factory=dict)

    def check(self, signature: bytes, signed: bytes) -> None:
        """Look whether this key signed.

        Raises:
            BadSignature: It did not.
        """
        check(self.public, signature, signed)

    def honour(self, terms: Terms, signed_s: int) -> Terms:
        """The terms as this key may still give them; `signed_s` is when it was signed, 0: it does not say.

        Raises:
            CodeRefused: The key is revoked, or was retired before.
        """
        if self.revoked:
            raise CodeRefused("key_revoked", "a key that was stolen signed this")
        if self.retired_s and signed_s > self.retired_s:
            raise CodeRefused("key_retired", "signed with a key that was retired before")
        if self.honoured_until_s and self.honoured_until_s < terms.not_after_s:
            return msgspec.structs.replace(terms, not_after_s=self.honoured_until_s)
        return terms


class Keyring:
    """The keys in force: `own` by key id, those of other formats by `named` and `nameless`.

    Args:
        document: A verified `keys` document; None: no keys at all.

    Raises:
        MalformedFrame: One of them is no key.
    """

    def __init__(self, document: Document | None = None) -> None:
        token_keys, issuer_keys = (document.keys, document.issuer_keys) if document else ([], [])
        self.own: Mapping[int, Held] = {key.key_id: _held(key) for key in token_keys}
        self._named: dict[tuple[str, str], list[Held]] = {}
        unknown = set[str]()
        for key in issuer_keys:
            if key.format in FORMATS:
                self._named.setdefault((key.format, key.key_id), []).append(_held(key))
            else:
                unknown.add(key.format)
        self.unknown = sorted(unknown)  # formats

    def named(self, format_: str, key_id: str, iss: str) -> Held:
        """The key of that name, of the issuer a code says it is of.

        Raises:
            UnknownKey: There is none.
        """
        for held in self._named.get((format_, key_id), ()):
            if held.iss == iss:
                return held
        raise UnknownKey("no such key of such an issuer")

    def nameless(self, format_: str) -> list[Held]:
        """The keys of a format whose codes do not name theirs; of too many, those that come last in the document."""
        return self._named.get((format_, ""), [])[-MAX_NAMELESS:]


def _held(key: TokenKey | IssuerKey) -> Held:
    held = Held(
        public=public_from_hex(key.public), issuer=key.issuer, retired_s=key.retired_s, honoured_until_s=key.honoured_until_s,
        revoked=key.revoked,
    )  # fmt: skip
    if isinstance(key, TokenKey):
        return held
    return msgspec.structs.replace(held, iss=key.iss, audience=key.audience, store=key.store, campaigns=key.campaigns)


def reason_of(error: MalformedFrame) -> str:
    """Why a code was not taken: a key of `gateway.rules.reasons.REASONS`."""
    if isinstance(error, CodeRefused):
        return error.reason
    return "unknown_issuer" if isinstance(error, UnknownKey) else "forged" if isinstance(error, BadSignature) else "unreadable"
