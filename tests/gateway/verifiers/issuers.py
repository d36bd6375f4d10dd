"""Keys of issuers for tests, and a code of each of them."""

from typing import Any, Final

from gateway import token
from gateway.signed import Document, IssuerKey, TokenKey, public_hex
from gateway.token import Claims, TokenKind
from gateway.verifiers import Keyring, cwt, jwt, pretix
from gateway.verifiers.pretix import Ticket
from tests.conftest import TOKEN_KEY, fixed_key

ISS: Final = "https://b.example"
JWT_SECRET, CWT_SECRET, PRETIX_SECRET, OWN_B_SECRET = (fixed_key(number) for number in (21, 22, 23, 24))
START_S, END_S = 1_700_000_000, 2_000_000_000
JWT_CLAIMS: Final[dict[str, Any]] = {"iss": ISS, "jti": "t-1", "exp": END_S, "iat": START_S, "store": 7}
CWT_CLAIMS: Final[dict[int, Any]] = {cwt.ISS: ISS, cwt.CTI: b"t-1", cwt.EXP: END_S, cwt.IAT: START_S, cwt.STORE: 7}
TICKET: Final = Ticket(seed=b"x7Kq0Zp1w", item=3)


def own_key(number: int = 1, issuer: int = 1, **said: Any) -> TokenKey:
    return TokenKey(number, issuer, public_hex((TOKEN_KEY if issuer == 1 else OWN_B_SECRET).public_key()), **said)


def jwt_key(**said: Any) -> IssuerKey:
    listed: dict[str, Any] = {"format": "jwt", "issuer": 5, "public": public_hex(JWT_SECRET.public_key()), "key_id": "k1", "iss": ISS}
    return IssuerKey(**listed | said)


def cwt_key(**said: Any) -> IssuerKey:
    listed: dict[str, Any] = {
        "format": "cwt",
        "issuer": 5,
        "public": public_hex(CWT_SECRET.public_key()),
        "key_id": b"k1".hex(),
        "iss": ISS,
    }
    return IssuerKey(**listed | said)


def pretix_key(**said: Any) -> IssuerKey:
    listed: dict[str, Any] = {
        "format": "pretix",
        "issuer": 6,
        "public": public_hex(PRETIX_SECRET.public_key()),
        "store": 7,
        "campaigns": {"3": 11},
    }
    return IssuerKey(**listed | said)


def ring(*keys: TokenKey | IssuerKey) -> Keyring:
    own = [key for key in keys if isinstance(key, TokenKey)]
    return Keyring(Document("box-7", "keys", 1, 0, keys=own, issuer_keys=[key for key in keys if isinstance(key, IssuerKey)]))


def own_token(issuer: int = 1, key_id: int = 1, identifier: int = 42, **said: Any) -> str:
    claims: dict[str, Any] = {
        "kind": TokenKind.VOUCHER,
        "key_id": key_id,
        "issuer": issuer,
        "identifier": identifier,
        "store": 7,
        "not_after_s": END_S,
    }
    return token.sign(Claims(**claims | said), TOKEN_KEY if issuer == 1 else OWN_B_SECRET)


def a_jwt(**said: Any) -> str:
    return jwt.sign(JWT_CLAIMS | said, "k1", JWT_SECRET)


def a_cwt(said: dict[int, Any] | None = None) -> str:
    return cwt.sign(CWT_CLAIMS | (said or {}), b"k1", CWT_SECRET)


def a_ticket(ticket: Ticket = TICKET) -> str:
    return pretix.sign(ticket, PRETIX_SECRET)
