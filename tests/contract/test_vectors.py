"""The published vectors: each file is what the code makes, each code in them is taken or refused as the file says, none is an orphan."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import asking, grant, holder, token
from gateway.asking import Asking
from gateway.codes import short_identifier
from gateway.grant import Grant
from gateway.phones import e164, phone_key
from gateway.signed import Document, IssuerKey
from gateway.token import Claims, TokenKind
from gateway.verifiers import Keyring, opaque
from scripts.vectors import FOLDER, KEY, outcome, texts

PUBLISHED: Final[dict[str, dict[str, Any]]] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
FOREIGN: Final = ("cwt_v1", "jwt_v1", "pretix_v1")


def of(*names: str) -> pytest.MarkDecorator:
    found = [(name, vector) for name in names for vector in PUBLISHED[name]["vectors"]]
    return pytest.mark.parametrize(("name", "vector"), found, ids=[f"{name}: {vector['about']}" for name, vector in found])


def test_the_vectors_are_those_of_the_code() -> None:
    differing = [path.name for path, text in texts() if path.read_text(encoding="utf-8") != text]
    assert differing == [], "run `python -m scripts.contract`"


def test_no_file_is_an_orphan() -> None:
    assert set(PUBLISHED) == {Path(path).stem for path, _ in texts()} | {"token_v1"}


@of(*FOREIGN)
def test_a_code_of_another_issuer_is_taken_as_the_file_says(name: str, vector: dict[str, Any]) -> None:
    key = msgspec.convert(PUBLISHED[name]["issuer_key"], IssuerKey)
    said = {field: value for field, value in vector.items() if field not in ("about", "text")}
    assert outcome(vector["text"], Keyring(Document("box-7", "keys", 1, 0, issuer_keys=[key]))) == said


@pytest.mark.parametrize("name", FOREIGN)
def test_each_format_has_codes_that_are_taken_and_such_that_are_not(name: str) -> None:
    outcomes = {vector.get("refused", "taken") for vector in PUBLISHED[name]["vectors"]}
    assert {"taken", "forged"} < outcomes


@of("grant_v1")
def test_a_grant_is_the_one_of_the_file(name: str, vector: dict[str, Any]) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(PUBLISHED[name]["private_key"]))
    claims = msgspec.convert(vector["claims"], Grant)
    assert grant.sign(claims, key) == vector["text"]
    assert grant.unpack(vector["text"])[1] == b"SGG1" + bytes.fromhex(vector["packed"])
    assert grant.verify(vector["text"], {claims.key_id: key.public_key()}) == claims


@of("asking_v1")
def test_a_request_is_the_one_of_the_file(name: str, vector: dict[str, Any]) -> None:
    claims = msgspec.convert(vector["claims"], Asking)
    assert asking.address("https://hq.example", claims, KEY) == vector["text"]
    assert asking.verify(vector["text"], {claims.gateway: KEY.public_key()}.get) == claims


@of("holder_v1")
def test_a_holders_link_is_the_one_of_the_file(name: str, vector: dict[str, Any]) -> None:
    page, _, secret = vector["text"].partition("#")
    assert holder.holds(page.rpartition("/")[2], secret, bytes.fromhex(vector["kept"]))


@of("opaque_v1")
def test_a_listed_code_has_the_digest_of_the_file(name: str, vector: dict[str, Any]) -> None:
    assert opaque.digest_of(vector["text"]) == vector["digest"]


@of("member_v1")
def test_a_members_code_is_the_one_of_the_file(name: str, vector: dict[str, Any]) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(PUBLISHED[name]["private_key"]))
    claims = msgspec.convert(vector["claims"], Claims)
    assert claims.kind is TokenKind.MEMBER
    assert token.sign(claims, key) == vector["text"]
    assert token.verify(vector["text"], {claims.key_id: key.public_key()}) == claims
    assert short_identifier(vector["short_code"]) == claims.identifier


@of("phone_v1")
def test_a_number_has_the_key_of_the_file(name: str, vector: dict[str, Any]) -> None:
    assert e164(vector["text"], vector["region"]) == vector["e164"]
    assert phone_key(bytes(range(32)), vector["e164"]) == vector["key"]
