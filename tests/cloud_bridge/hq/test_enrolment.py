"""Boxes enrol over HTTPS with a label that works once; every refusal says why and what to do, in both languages."""

import asyncio
import base64
import json
import secrets
import sqlite3
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import pkcs7

from cloud_bridge.hq.enrolment import MAX_BODY_B, TRIES, Tries
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.mqtt import Mqtt, TlsFiles
from gateway.clock import BUILT_US, SystemClock
from gateway.errors import MalformedFrame
from gateway.events import Instant
from gateway.signed import public_from_hex, public_hex, seal, unseal
from provisioning import enroll
from provisioning.authority import HELLO_TAG, Authority, Enrolment, Hello, enrol_ask
from provisioning.enroll import SignedTime, enrol
from provisioning.label import read_label, write_label
from provisioning.words import REASONS, EnrolRefused, HqUnreachable
from tests.conftest import VirtualClock

from .rig import Hq, cancel, headquarters, now_us, redeemed, shop, wire

DAY_S = 86_400


async def new_label(demo: Hq, store: str = "s1", number: int = 1, **more: Any) -> str:
    asked = {"store": store, "gateway": f"gw-{store}", "number": number, "name_zh": "門市", **more}
    return str((await demo.post("/api/boxes", asked))["label"])


async def refusal(demo: Hq, label: str, folder: str, **table: Any) -> str:
    """The reason a box is refused with; its words are whole."""
    with pytest.raises(EnrolRefused) as refused:
        await demo.enrol(label, folder, shop(**table))
    words = refused.value.words
    assert words.text.zh and words.text.en and words.next_step.zh and words.next_step.en
    assert words.text.zh in str(refused.value) and words.next_step.en in str(refused.value)
    assert not (demo.folder / folder / "hq.json").exists()
    return refused.value.reason


@pytest.fixture
async def door(demo: Hq) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTPS door, for somebody who knows the authority."""
    trusted = ssl.create_default_context(cafile=str(demo.folder / "hq" / "authority" / "ca.crt"))
    async with httpx.AsyncClient(base_url=f"https://{demo.addresses.door}", verify=trusted, trust_env=False) as client:
        yield client


# ---------------------------------------------------------------- one scan


async def test_a_label_enrols_its_box_which_then_speaks_with_headquarters(demo: Hq) -> None:
    enrolment = await demo.enrol(await new_label(demo), "box", shop())
    assert enrolment.facts.door == demo.addresses.door
    assert Path(enrolment.ca_path).read_text() == Authority.open(demo.folder / "hq" / "authority").ca_pem
    async with demo.connected(enrolment) as box:
        assert (await box.send(box.batch([wire(1, redeemed(1))]))).mark == 1


async def test_only_hashes_of_secrets_are_stored(demo: Hq) -> None:
    label = read_label(await new_label(demo))
    for path in (demo.folder / "hq").rglob("*"):
        if path.is_file():
            stored = path.read_bytes()
            assert label.secret not in stored and label.secret.hex().encode() not in stored


async def test_the_same_box_may_ask_again_since_its_answer_may_be_lost(demo: Hq) -> None:
    label = await new_label(demo)
    await demo.enrol(label, "box", shop())
    (demo.folder / "box" / "hq.json").unlink()  # the power went before the answer was on the disk
    again = await demo.enrol(label, "box", shop())
    async with demo.connected(again) as box:
        assert (await box.send(box.batch([wire(1, redeemed(1))]))).mark == 1


async def test_four_boxes_with_one_label_end_with_one_enrolled(demo: Hq) -> None:
    label = await new_label(demo)
    outcomes = await asyncio.gather(*(demo.enrol(label, f"box-{n}", shop()) for n in range(4)), return_exceptions=True)
    assert sum(isinstance(outcome, Enrolment) for outcome in outcomes) == 1
    assert {one.reason for one in outcomes if isinstance(one, EnrolRefused)} == {"label_used"}


# ---------------------------------------------------------------- refusals


async def test_a_replayed_label_is_refused_and_headquarters_shows_a_complaint(demo: Hq) -> None:
    label = await new_label(demo)
    await demo.enrol(label, "box", shop())
    assert await refusal(demo, label, "thief") == "label_used"
    (shown,) = (await demo.get("/api/stores"))[0]["label_complaints"]
    assert shown["reason"] == "label_used"
    page = (await demo.http.get("/")).text
    assert 'data-label-complaint="label_used"' in page and "標籤可能被盜用" in page


async def test_a_stolen_label_that_was_used_first_stops_working_when_headquarters_replaces_it(demo: Hq) -> None:
    stolen = await new_label(demo)
    await demo.enrol(stolen, "thief", shop())
    assert await refusal(demo, stolen, "box") == "label_used"
    fresh = await new_label(demo, again=True)
    mine = await demo.enrol(fresh, "box", shop())
    async with demo.connected(mine) as box:  # and the thief's signature is nobody's now
        assert (await box.send(box.batch([wire(1, redeemed(1))]))).mark == 1
    (demo.folder / "thief" / "hq.json").unlink()
    assert await refusal(demo, stolen, "thief") == "label_used"


async def test_a_revoked_box_does_not_come_back_by_the_label_it_used(demo: Hq) -> None:
    label = await new_label(demo)
    await demo.enrol(label, "box", shop())
    await demo.post("/api/boxes/gw-s1/revoke")
    (demo.folder / "box" / "hq.json").unlink()
    assert await refusal(demo, label, "box") == "label_used"
    fresh = await demo.enrol(await new_label(demo, again=True), "box", shop())
    async with demo.connected(fresh) as box:
        assert (await box.beat()).gateway == "gw-s1"


async def test_a_replaced_label_is_refused(demo: Hq) -> None:
    old, new = await new_label(demo), await new_label(demo)
    assert await refusal(demo, old, "box") == "label_replaced"
    await demo.enrol(new, "box", shop())


async def test_an_expired_label_is_refused_by_headquarters_time_whatever_the_box_thinks(demo: Hq) -> None:
    label = read_label(await new_label(demo))
    assert now_us() // 1_000_000 + 29 * DAY_S < label.not_after_s < now_us() // 1_000_000 + 31 * DAY_S
    expired = write_label(msgspec.structs.replace(label, not_after_s=now_us() // 1_000_000 - 1))
    assert await refusal(demo, expired, "box") == "label_expired"
    with sqlite3.connect(demo.folder / "hq" / "hq.db") as db:
        db.execute("UPDATE labels SET not_after_us = ?", (now_us() - 1,))
    db.close()
    forged_date = write_label(label)  # its own date says it is good: headquarters' counts
    assert await refusal(demo, forged_date, "box") == "label_expired"


async def test_another_boxs_label_is_refused_without_asking_anybody(demo: Hq) -> None:
    label = await new_label(demo)
    assert await refusal(demo, label, "box", store="s2", gateway="gw-s2") == "wrong_box"
    assert (await demo.get("/api/stores"))[0]["label_complaints"] == []
    await demo.enrol(label, "box", shop())


async def test_a_label_tried_for_another_box_or_shop_is_refused_unused_and_told(demo: Hq) -> None:
    label = read_label(await new_label(demo))
    renamed = write_label(msgspec.structs.replace(label, box="gw-s2"))
    assert await refusal(demo, renamed, "box", store="s2", gateway="gw-s2") == "wrong_box"
    assert await refusal(demo, write_label(label), "box", store="s9", gateway="gw-s1", number=9) == "wrong_box"
    assert {one["reason"] for one in (await demo.get("/api/stores"))[0]["label_complaints"]} == {"wrong_box"}
    await demo.enrol(write_label(label), "box", shop())


async def test_another_headquarters_is_refused_before_it_hears_anything(demo: Hq, tmp_path: Path) -> None:
    label = read_label(await new_label(demo))
    async with headquarters(HqOptions(data_dir=str(tmp_path / "imposter"))) as imposter:
        host, _, port = imposter.addresses.door.rpartition(":")
        diverted = write_label(msgspec.structs.replace(label, host=host, port=int(port)))
        assert await refusal(demo, diverted, "box") == "wrong_hq"
    signer = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert await refusal(demo, write_label(msgspec.structs.replace(label, headquarters=signer)), "box") == "wrong_hq"
    point = Authority.open(tmp_path / "a").ca_point
    assert await refusal(demo, write_label(msgspec.structs.replace(label, authority=point)), "box") == "wrong_hq"
    no_point = write_label(msgspec.structs.replace(label, authority=b"\x02" + b"\xff" * 32))
    assert await refusal(demo, no_point, "box") == "not_a_label"


async def test_an_unknown_secret_is_refused(demo: Hq) -> None:
    label = read_label(await new_label(demo))
    assert await refusal(demo, write_label(msgspec.structs.replace(label, secret=secrets.token_bytes(16))), "box") == "secret_wrong"
    assert await refusal(demo, "SGE1:NONSENSE", "box") == "not_a_label"


async def test_a_box_that_is_enrolled_stays_so(demo: Hq) -> None:
    label = await new_label(demo)
    await demo.enrol(label, "box", shop())
    with pytest.raises(EnrolRefused) as refused:
        await demo.enrol(label, "box", shop())
    assert refused.value.reason == "enrolled_already"


async def test_headquarters_away_can_be_tried_again(demo: Hq, tmp_path: Path) -> None:
    label = read_label(await new_label(demo))
    for port in (9, int(demo.addresses.http.rpartition(":")[2])):  # nobody there; somebody who speaks no TLS
        with pytest.raises(HqUnreachable) as away:
            await demo.enrol(write_label(msgspec.structs.replace(label, port=port)), "box", shop())
        assert "再試" in str(away.value) and "tried again" in str(away.value)
    await demo.enrol(write_label(label), "box", shop())


async def test_a_headquarters_that_lives_before_the_software_is_refused(demo: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    label = await new_label(demo)
    monkeypatch.setattr(enroll, "BUILT_US", now_us() + DAY_S * 1_000_000)  # software built tomorrow, from its point of view
    assert await refusal(demo, label, "box") == "clock_impossible"


async def test_an_old_answer_is_no_word_about_the_time(demo: Hq, door: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    label = await new_label(demo)
    first = (await door.get("/hello", params={"nonce": "ab" * 16})).content
    monkeypatch.setattr(enroll, "_call", lambda *_: first)
    assert await refusal(demo, label, "box") == "wrong_hq"


async def test_a_forged_word_of_headquarters_is_refused(demo: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    label = await new_label(demo)
    authority = Authority.open(demo.folder / "hq" / "authority")
    stranger = Ed25519PrivateKey.generate()

    def forged(host: str, port: int, context: object, path: str, body: bytes | None) -> bytes:
        publics = [public_hex(authority.root_public), public_hex(stranger.public_key())]
        return seal(HELLO_TAG, Hello(nonce=path.partition("=")[2], hq_time_us=now_us(), hq_public=publics, ca=authority.ca_pem), stranger)

    monkeypatch.setattr(enroll, "_call", forged)
    assert await refusal(demo, label, "box") == "wrong_hq"


def test_every_reason_has_words_and_a_next_step_in_both_languages() -> None:
    for reason, words in REASONS.items():
        for text in (words.text, words.next_step):
            assert text.zh and text.en and text.en.isascii() and not text.zh.isascii(), reason


# ---------------------------------------------------------------- the door


async def test_the_authoritys_certificate_is_public_as_est_has_it(demo: Hq, door: httpx.AsyncClient) -> None:
    answer = await door.get("/.well-known/est/cacerts")
    assert answer.headers["content-type"] == "application/pkcs7-mime"
    (cert,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
    assert cert == x509.load_pem_x509_certificate(Authority.open(demo.folder / "hq" / "authority").ca_pem.encode())


async def test_hello_is_the_time_now_signed_over_the_askers_nonce(demo: Hq, door: httpx.AsyncClient) -> None:
    nonce, before_us = secrets.token_hex(16), now_us()
    sealed = (await door.get("/hello", params={"nonce": nonce})).content
    root = Authority.open(demo.folder / "hq" / "authority").root_public
    hello = unseal(HELLO_TAG, sealed, [root], Hello)
    assert (hello.nonce, hello.hq_public) == (nonce, [public_hex(root)])
    assert before_us <= hello.hq_time_us <= now_us()
    with pytest.raises(MalformedFrame):
        unseal(HELLO_TAG, sealed, [Ed25519PrivateKey.generate().public_key()], Hello)
    for bad in ("", "abc", "x" * 32, "ab" * 33):
        assert (await door.get("/hello", params={"nonce": bad})).status_code == 400


async def test_the_old_plain_door_is_gone(demo: Hq, door: httpx.AsyncClient) -> None:
    body = {"secret": "00" * 16, "gateway": "gw-s1", "csr": "x", "public": "00" * 32}
    assert (await demo.http.post("/api/enrol", json=body)).status_code == 404
    assert (await demo.http.post("/api/enrol", json=body, headers={"Authorization": ""})).status_code == 401
    assert (await demo.http.get("/.well-known/est/cacerts")).status_code == 404
    assert (await door.get("/api/stores")).status_code == 404  # and nothing else is behind the new one
    with pytest.raises(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False) as plain:
            await plain.get(f"http://{demo.addresses.door}/.well-known/est/cacerts")


async def test_old_tls_is_refused(demo: Hq) -> None:
    context = ssl.create_default_context(cafile=str(demo.folder / "hq" / "authority" / "ca.crt"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    host, _, port = demo.addresses.door.rpartition(":")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(host, int(port), ssl=context)


async def ask_for(demo: Hq, folder: str = "box") -> dict[str, Any]:
    label = read_label(await new_label(demo))
    return dict(msgspec.to_builtins(enrol_ask(demo.folder / folder, shop(), label.secret)))


@pytest.mark.parametrize(
    "change",
    [{"csr": "x"}, {"public": "zz"}, {"public": "00" * 31}, {"proof": "00" * 64}, {"proof": "zz"}, {"secret": 5}, {"csr": "\ud800"}],
)
async def test_keys_that_are_none_do_not_use_the_label_up(demo: Hq, door: httpx.AsyncClient, change: dict[str, Any]) -> None:
    good = await ask_for(demo)
    refused = await door.post("/.well-known/est/simpleenroll", content=json.dumps(good | change))
    assert (refused.status_code, refused.json()["reason"]) == (422, "bad_keys")
    assert refused.json()["message"]["zh"] == REASONS["bad_keys"].text.zh
    assert (await door.post("/.well-known/est/simpleenroll", json=good)).status_code == 200


async def test_a_label_does_not_enrol_a_key_its_bearer_does_not_hold(demo: Hq, door: httpx.AsyncClient) -> None:
    """Else whoever has read a used label could fetch a certificate in the name of the box that used it."""
    mine = await ask_for(demo, "box")
    assert (await door.post("/.well-known/est/simpleenroll", json=mine)).status_code == 200
    thief = enrol_ask(demo.folder / "thief", shop(), bytes.fromhex(mine["secret"]))
    stolen = msgspec.to_builtins(thief) | {"public": mine["public"], "proof": mine["proof"]}
    assert (await door.post("/.well-known/est/simpleenroll", json=stolen)).status_code == 422


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"secret":1}', b"\xff\xfe", b"[" * 5000])
async def test_nonsense_gets_a_calm_answer(door: httpx.AsyncClient, body: bytes) -> None:
    refused = await door.post("/.well-known/est/simpleenroll", content=body)
    assert (refused.status_code, refused.json()["reason"]) == (422, "bad_keys")


async def test_a_large_body_is_not_read(door: httpx.AsyncClient) -> None:
    assert (await door.post("/.well-known/est/simpleenroll", content=b"x" * (MAX_BODY_B + 1))).status_code == 413


async def test_who_knocks_too_often_waits(demo: Hq, door: httpx.AsyncClient) -> None:
    answers = [await door.post("/.well-known/est/simpleenroll", content=b"{}") for _ in range(TRIES + 5)]
    assert [answer.status_code for answer in answers[: TRIES - 1]] == [422] * (TRIES - 1)
    assert answers[-1].status_code == 429
    with pytest.raises(HqUnreachable):  # a box hears "busy" and tries again
        await demo.enrol(await new_label(demo), "box", shop())


def test_tries_come_back_with_time_and_are_counted_by_address(clock: VirtualClock) -> None:
    tries = Tries(clock)
    assert [tries.take("a") for _ in range(TRIES + 1)] == [True] * TRIES + [False]
    assert tries.take("b")
    clock.advance(2)
    assert [tries.take("a"), tries.take("a")] == [True, False]


# ---------------------------------------------------------------- time


class LostClock(SystemClock):
    """A machine that boots in 1970."""

    def now(self) -> Instant:
        shifted = super().now().wall_us - now_us() + 1_000_000
        return Instant(shifted, self.boottime_ns(), "lost", self._trust(shifted, self.boottime_ns()))


async def test_a_box_without_the_time_enrols_and_learns_it(demo: Hq) -> None:
    clock = LostClock()
    label, folder = await new_label(demo), demo.folder / "box"
    enrolment = await asyncio.to_thread(enrol, label, folder, shop(), clock)
    earliest_us, _ = clock.bounds_us()
    assert abs(earliest_us - now_us()) < 60_000_000 and earliest_us > BUILT_US
    later = LostClock()  # after the next boot
    earliest_us, latest_us = await asyncio.to_thread(SignedTime(later, enrolment).bounds)
    assert latest_us is not None and earliest_us <= now_us() <= latest_us + 1


async def test_where_headquarters_does_not_tell_the_time_the_clocks_own_bounds_count(demo: Hq) -> None:
    enrolment = await demo.enrol(await new_label(demo), "box", shop())
    away = msgspec.structs.replace(enrolment, facts=msgspec.structs.replace(enrolment.facts, door="127.0.0.1:9"))
    for door in (away, msgspec.structs.replace(enrolment, facts=msgspec.structs.replace(enrolment.facts, door=""))):
        earliest_us, latest_us = await asyncio.to_thread(SignedTime(LostClock(), door).bounds)
        assert latest_us is None and 0 <= earliest_us - BUILT_US < 30_000_000  # the floor rises with the time since the start


def test_an_ask_proves_more_than_its_parts(tmp_path: Path) -> None:
    ask = enrol_ask(tmp_path, shop(), b"s" * 16)
    public_from_hex(ask.public).verify(bytes.fromhex(ask.proof), ask.proven)
    for change in ({"secret": "00"}, {"gateway": "x"}, {"csr": "x"}):
        assert msgspec.structs.replace(ask, **change).proven != ask.proven


async def test_no_word_goes_to_a_broker_whose_certificate_is_out_of_date(demo: Hq) -> None:
    enrolment = await demo.enrol(await new_label(demo), "box", shop())
    late_us = now_us() + 200 * DAY_S * 1_000_000
    ups: list[bool] = []

    def line(bounds: tuple[int, int | None]) -> Mqtt:
        return Mqtt(
            "127.0.0.1", demo.addresses.broker_port, f"box-{secrets.token_hex(4)}",
            TlsFiles(enrolment.ca_path, enrolment.cert_path, enrolment.key_path), server_name="localhost",
            on_message=lambda _: None, on_state=ups.append, backoff_base_s=0.05, backoff_cap_s=0.1, bounds=lambda: bounds,
        )  # fmt: skip

    refused = asyncio.create_task(line((late_us, late_us)).run())
    await asyncio.sleep(1.0)
    await cancel(refused)
    assert ups == []
    welcome = asyncio.create_task(line((now_us(), now_us() + 60_000_000)).run())
    async with asyncio.timeout(30):
        while not ups:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await cancel(welcome)
    assert ups[0] is True
