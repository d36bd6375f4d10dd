"""One door for every code that carries a signature: `verify(text, keys)` gives the terms the judge decides on.

Each format is a module with a `verify` of that shape: total on any text, bounded in time and memory, and never led by the code as to
which key or algorithm to use. docs/codes.md has the table. Codes that carry no signature are in `opaque`.
"""

from collections.abc import Callable
from typing import Final

from gateway.codes import CodeKind, recognise
from gateway.errors import MalformedFrame
from gateway.verifiers import cwt, jwt, own, pretix
from gateway.verifiers.keyring import CodeRefused, Keyring, reason_of
from gateway.verifiers.presented import Presented

__all__ = ["VERIFIERS", "CodeRefused", "Keyring", "Presented", "reason_of", "verify"]

VERIFIERS: Final[dict[CodeKind, Callable[[str, Keyring], Presented]]] = {
    CodeKind.TOKEN: own.verify_token,
    CodeKind.GRANT: own.verify_grant,
    CodeKind.CWT: cwt.verify,
    CodeKind.JWT: jwt.verify,
    CodeKind.PRETIX: pretix.verify,
}


def verify(text: str, keys: Keyring, kind: CodeKind | None = None) -> Presented:
    """The terms in a signed code; `kind` saves looking again what it is.

    Raises:
        UnknownKey: Signed by nobody headquarters has named.
        BadSignature: Forged or damaged.
        CodeRefused: Genuine, yet not taken here.
        MalformedFrame: No signed code. `reason_of` says for each of these what to tell people.
    """
    found = VERIFIERS.get(kind or recognise(text.encode("utf-8", "surrogatepass")).kind)
    if found is None:
        raise MalformedFrame("no signed code")
    return found(text, keys)
