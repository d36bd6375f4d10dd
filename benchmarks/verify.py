"""How many presented codes one core verifies a second: text, recognise, unpack, signature, terms.

The yardstick is the signature check alone, as the cryptography library does it, in the same run and in turns.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import codes, grant, token
from gateway.grant import Grant
from gateway.signed import Document, IssuerKey, TokenKey, public_hex
from gateway.token import Claims, TokenKind
from gateway.verifiers import Keyring, cwt, jwt, pretix, verify
from gateway.verifiers.pretix import Ticket

AIMS: Final = {"token_per_s": (">=", 5_000.0)}
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
END_S: Final = 2_000_000_000
ISS: Final = "https://b.example"
FEW: Final = 64  # different codes of each kind, presented in turn
ROUNDS: Final = 5


def keyring() -> Keyring:
    """One key of each format."""
    public = public_hex(KEY.public_key())
    others = [
        IssuerKey(format="jwt", issuer=5, public=public, key_id="k1", iss=ISS),
        IssuerKey(format="cwt", issuer=5, public=public, key_id=b"k1".hex(), iss=ISS),
        IssuerKey(format="pretix", issuer=6, public=public, store=7),
    ]
    return Keyring(Document("box-7", "keys", 1, 0, keys=[TokenKey(1, 1, public)], issuer_keys=others))


def presented() -> dict[str, list[bytes]]:
    """Codes of each format, as a scanner reads them."""
    claims = {cwt.ISS: ISS, cwt.EXP: END_S, cwt.STORE: 7}
    said = {"iss": ISS, "exp": END_S, "store": 7}
    made: dict[str, Callable[[int], str]] = {
        "token": lambda n: token.sign(Claims(kind=TokenKind.VOUCHER, key_id=1, issuer=1, identifier=n, store=7, not_after_s=END_S), KEY),
        "grant": lambda n: grant.sign(
            Grant(key_id=1, issuer=1, identifier=n, assignment=1, box=1, issued_s=END_S - 60, not_after_s=END_S), KEY
        ),
        "cwt": lambda n: cwt.sign(claims | {cwt.CTI: str(n).encode()}, b"k1", KEY),
        "jwt": lambda n: jwt.sign(said | {"jti": str(n)}, "k1", KEY),
        "pretix": lambda n: pretix.sign(Ticket(seed=f"seed{n:05d}".encode(), item=3), KEY),
    }
    return {name: [make(number).encode() for number in range(FEW)] for name, make in made.items()}


def verify_per_s(seconds: float, payloads: list[bytes] | None = None) -> float:
    """Codes verified a second on one core, from the scanner's bytes to terms; own tokens unless others are given."""
    keys = keyring()

    def whole_path(payload: bytes) -> None:
        found = codes.recognise(payload, "]Q1")
        verify(found.text, keys, found.kind)

    return _rate(whole_path, payloads or presented()["token"], seconds)


def signatures_per_s(seconds: float) -> float:
    """The yardstick: signature checks a second."""
    public, signature, signed = KEY.public_key(), KEY.sign(bytes(36)), bytes(36)
    return _rate(lambda _: public.verify(signature, signed), [b""], seconds)


def _rate(work: Callable[[bytes], None], payloads: list[bytes], seconds: float) -> float:
    """By the processor's time, so that neighbours on the machine do not count."""
    turns, begun_ns = itertools.cycle(payloads), time.process_time_ns()
    done, ends_ns = 0, begun_ns + int(seconds * 1e9)
    while (now_ns := time.process_time_ns()) < ends_ns:
        for _ in range(50):
            work(next(turns))
        done += 50
    return done / ((now_ns - begun_ns) / 1e9)


def measure(seconds: float) -> dict[str, Any]:
    """Medians of rounds in turns."""
    rates: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, payloads in presented().items():
            rates.setdefault(f"{name}_per_s", []).append(verify_per_s(seconds / ROUNDS, payloads))
        rates.setdefault("signature_per_s", []).append(signatures_per_s(seconds / ROUNDS))
    found = {name: round(statistics.median(several), 1) for name, several in rates.items()}
    return found | {"token_over_signature": round(found["token_per_s"] / found["signature_per_s"], 3)}


def main() -> None:
    """Entry of `python -m benchmarks.verify`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the line for programs")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each format")
    options = parser.parse_args()
    found = measure(options.seconds)
    if not options.json:
        for name, value in found.items():
            aim = "".join(f"  aim {sign} {bound:,.0f}" for sign, bound in [AIMS[name]]) if name in AIMS else ""
            print(f"{name:24} {value:>12,.1f}{aim}")
    print(f"SUMMARY {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
