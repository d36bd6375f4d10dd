"""Headquarters says whose codes the shops take: keys of issuers, what becomes of a key, codes without signature."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloud_bridge.hq import issuers
from cloud_bridge.hq.options import HqOptions
from gateway.errors import MalformedFrame
from gateway.signed import Document, public_hex
from gateway.token import unpack
from gateway.verifiers import Keyring, opaque, reason_of, verify
from tests.cloud_bridge.hq.rig import Hq, TestBox, headquarters, redeemed, wire
from tests.conftest import TOKEN_KEY, fixed_key
from tests.gateway.verifiers.issuers import ISS, JWT_SECRET, OWN_B_SECRET, PRETIX_SECRET, a_jwt, a_ticket, own_token

B_KEY: dict[str, Any] = {
    "format": "token",
    "issuer": 9,
    "key_id": "77",
    "public": public_hex(OWN_B_SECRET.public_key()),
    "name_zh": "乙家",
    "name_en": "B",
}
JWT_KEY: dict[str, Any] = {"format": "jwt", "issuer": 5, "key_id": "k1", "iss": ISS, "public": public_hex(JWT_SECRET.public_key())}
TICKETS: dict[str, Any] = {
    "format": "pretix",
    "issuer": 6,
    "store": 7,
    "campaigns": {"3": 11},
    "public": public_hex(PRETIX_SECRET.public_key()),
}


async def keys_of(box: TestBox, version: int) -> Keyring:
    return Keyring(await box.document("keys", version))


def reason(text: str, keys: Keyring) -> str:
    try:
        return f"issuer {verify(text, keys).terms.issuer}"
    except MalformedFrame as error:
        return reason_of(error)


async def decide(hq: Hq, public: str, **fate: Any) -> None:
    assert (await hq.http.put(f"/api/issuers/keys/{public}", json=fate)).is_success


async def test_a_shop_takes_the_codes_of_every_issuer_headquarters_names(demo: Hq) -> None:
    async with demo.connected(await demo.new_box("s1", 7)) as box:
        voucher = await demo.post("/api/vouchers", {"store": "s1", "title_zh": "甲"})
        before = (await box.document("keys")).version
        for key in (B_KEY, JWT_KEY, TICKETS):
            await demo.post("/api/issuers/keys", key)
        described = await demo.get("/api/issuers")
        keys = await keys_of(box, before + 3)
        shown = (own_token(9, 77), a_jwt(), a_ticket(), voucher["token"])
        assert [verify(text, keys).terms.issuer for text in shown] == [9, 5, 6, 1]
        assert [(one["issuer"], one["name_en"], len(one["keys"])) for one in described] == [
            (1, "Headquarters", 1), (5, "", 1), (6, "", 1), (9, "B", 1),
        ]  # fmt: skip


async def test_each_use_clears_to_its_issuer_also_in_rows_of_an_earlier_release(demo: Hq) -> None:
    """Such a row wrote every issuer's number bare, with the issuer beside it."""
    async with demo.connected(await demo.new_box("s1", 7)) as box:
        await demo.post("/api/issuers/keys", B_KEY)
        number = "00000000000002a"
        uses = [(number, 1), (f"9-{number}", 9), (number, 9), (f"1-{'0' * 32}", 1), (f"90-{number}", 90)]
        rows = [
            wire(seq, msgspec.structs.replace(redeemed(seq, voucher_id), issuer=issuer)) for seq, (voucher_id, issuer) in enumerate(uses, 1)
        ]
        await box.send(box.batch(rows))
        assert {one["issuer"]: one["redeemed"] for one in await demo.get("/api/issuers")} == {1: 2, 9: 2}


async def test_a_key_is_retired_and_revoked_and_ours_is_too(demo: Hq) -> None:
    async with demo.connected(await demo.new_box("s1", 7)) as box:
        await demo.post("/api/issuers/keys", JWT_KEY)
        voucher = await demo.post("/api/vouchers", {"store": "s1", "title_zh": "甲"})
        home = next(one for one in await demo.get("/api/issuers") if one["issuer"] == 1)["keys"][0]["public"]
        version = (await box.document("keys")).version
        await decide(demo, JWT_KEY["public"], retired_s=1_600_000_000)
        await decide(demo, home, revoked=True)
        keys = await keys_of(box, version + 2)
        assert [reason(text, keys) for text in (a_jwt(), voucher["token"])] == ["key_retired", "key_revoked"]
        assert (await demo.http.post("/api/vouchers", json={"store": "s1", "title_zh": "乙"})).status_code == 409
        await decide(demo, home)  # it was a false alarm
        keys = await keys_of(box, version + 3)
        again = await demo.post("/api/vouchers", {"store": "s1", "title_zh": "乙"})
        assert [reason(text, keys) for text in (voucher["token"], again["token"])] == ["issuer 1", "issuer 1"]


UNUSABLE: list[tuple[dict[str, Any], int]] = [
    (JWT_KEY | {"public": "0" * 63}, 422),
    (JWT_KEY | {"format": "hologram"}, 422),
    (JWT_KEY | {"key_id": ""}, 422),
    (JWT_KEY | {"iss": ""}, 422),
    (JWT_KEY | {"format": "cwt", "key_id": "K1"}, 422),
    (TICKETS | {"campaigns": {}}, 422),
    (TICKETS | {"key_id": "k"}, 422),
    (B_KEY | {"issuer": 1}, 422),
    (B_KEY | {"key_id": "k"}, 422),
    (B_KEY | {"key_id": "1"}, 409),  # ours
    (JWT_KEY, 409),  # listed already
    (JWT_KEY | {"public": public_hex(TOKEN_KEY.public_key())}, 409),  # nobody could tell which one signed
]


async def test_a_key_that_cannot_be_used_is_refused(demo: Hq) -> None:
    await demo.new_box("s1", 7)
    await demo.post("/api/issuers/keys", JWT_KEY)
    for body, status in UNUSABLE:
        assert (await demo.http.post("/api/issuers/keys", json=body)).status_code == status, body
    stranger = public_hex(fixed_key(99).public_key())
    assert (await demo.http.put(f"/api/issuers/keys/{stranger}", json={"revoked": True})).status_code == 404


async def test_a_code_without_signature_reaches_the_shop_as_its_hash(demo: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    async with demo.connected(await demo.new_box("s1", 7)) as box:
        one, other = [(await demo.post("/api/vouchers", {"store": "s1", "title_zh": title}))["voucher_id"] for title in "甲乙"]
        version = (await box.document("vouchers", 3)).version
        await demo.post(f"/api/vouchers/{one}/codes", {"codes": ["PARTNER-0001", "partner 0002"]})
        await demo.post(f"/api/vouchers/{one}/codes", {"codes": ["PARTNER-0001"]})  # once more changes nothing
        document: Document = await box.document("vouchers", version + 2)
        assert opaque.index(document.vouchers) == {opaque.digest_of(code): one for code in ("PARTNER0001", "PARTNER0002")}
        for codes, status in ((["PARTNER-0001"], 409), (["4111 1111 1111 1111"], 422), (["short"], 422), (["x" * 200], 422), ([], 422)):
            refused = await demo.http.post(f"/api/vouchers/{other}/codes", json={"codes": codes})
            assert refused.status_code == status
            assert "4111" not in refused.text and "PARTNER" not in refused.text
        monkeypatch.setattr(issuers, "MOST_CODES", 3)
        more = [await demo.http.post(f"/api/vouchers/{one}/codes", json={"codes": [f"PARTNER-100{n}"]}) for n in range(2)]
        assert [reply.status_code for reply in more] == [201, 409]
        assert (await demo.http.post("/api/vouchers/0/codes", json={"codes": ["PARTNER-0003"]})).status_code == 404


async def test_our_own_key_is_rotated_by_a_file_and_a_start(tmp_path: Path) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))
    async with headquarters(options) as hq:
        enrolment = await hq.new_box("s1", 7)
        old = await hq.post("/api/vouchers", {"store": "s1", "title_zh": "甲"})
        port = (await hq.get("/api/stores"))[0]["relay_port"]
    key = fixed_key(77).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "hq" / "authority" / "token-2.key").write_bytes(key)
    async with headquarters(options) as hq, hq.connected(enrolment, port) as box:
        new = await hq.post("/api/vouchers", {"store": "s1", "title_zh": "乙"})
        document = await box.document("keys", 2)
        assert [key.key_id for key in document.keys] == [1, 2]
        assert [reason(code["token"], Keyring(document)) for code in (old, new)] == ["issuer 1", "issuer 1"]
        assert unpack(new["token"])[0].key_id == 2
        await decide(hq, document.keys[0].public, retired_s=2**31, honoured_until_s=2**31)
        document = await box.document("keys", 3)
        assert verify(old["token"], Keyring(document)).terms.not_after_s == unpack(old["token"])[0].not_after_s
    async with headquarters(options) as hq, hq.connected(enrolment, port) as box:
        assert (await box.document("keys")).version == 3  # nothing changed, nothing is made anew
