"""Our own codes: the token (`gateway.token`) and the grant (`gateway.grant`).

A token does not say when it was signed, but when it begins: so headquarters retires a key no earlier than at the latest beginning it
has signed with it, and a token of a retired key that begins later is refused.
"""

from gateway import grant as grants
from gateway import token
from gateway.codes import CodeKind
from gateway.rules.voucher import Terms, terms_of
from gateway.token import TokenKind, UnknownKey, VoucherClass, voucher_ref
from gateway.verifiers.keyring import Held, Keyring
from gateway.verifiers.presented import Presented


def verify_token(text: str, keys: Keyring) -> Presented:
    """A token's terms.

    Raises:
        UnknownKey: No such key, or one of another issuer.
        BadSignature: Forged or damaged.
        CodeRefused: The key is not good any more.
        MalformedFrame: Not the shape of a token.
    """
    claims, signed, signature = token.unpack(text)
    held = _checked(keys, claims.key_id, claims.issuer, signature, signed)
    terms = held.honour(terms_of(claims), claims.not_before_s)
    return Presented(format=CodeKind.TOKEN, kind=claims.kind, voucher_class=claims.voucher_class, terms=terms, claims=claims)


def verify_grant(text: str, keys: Keyring) -> Presented:
    """A grant, and the terms of its voucher as far as it says them: its own end, what is left, no campaign and no shop.

    Raises:
        As `verify_token`.
    """
    grant, signed, signature = grants.unpack(text)
    held = _checked(keys, grant.key_id, grant.issuer, signature, signed)
    reference = voucher_ref(grant.issuer, grant.identifier)
    terms = Terms(reference, 0, grant.issuer, 1 if grant.is_amount else grant.left, 0, grant.not_after_s, 0)
    return Presented(
        format=CodeKind.GRANT, kind=TokenKind.VOUCHER, voucher_class=VoucherClass.GRANTED, terms=held.honour(terms, grant.issued_s),
        grant=grant,
    )  # fmt: skip


def _checked(keys: Keyring, key_id: int, issuer: int, signature: bytes, signed: bytes) -> Held:
    held = keys.own.get(key_id)
    if held is None:
        raise UnknownKey(f"no key {key_id}")
    held.check(signature, signed)
    if held.issuer != issuer:
        raise UnknownKey("a key signs for its own issuer only")
    return held
