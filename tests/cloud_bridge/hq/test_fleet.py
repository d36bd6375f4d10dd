"""Headquarters sees the shops' devices and takes rights away: from a device by a document, from a box at once."""

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_bridge.envelope import Want
from cloud_bridge.hq import documents
from cloud_bridge.hq.commands import devices_command, revoke_box_command, revoke_device_command
from cloud_bridge.hq.options import HqOptions
from gateway.errors import BrokerError, ConfigError
from gateway.events import DevicePaired, DeviceRevoked, DeviceSeen, Event
from gateway.signed import BEAT_TAG, DOCUMENT_TAG, RENEW_TAG, Beat, Document, Renew, digest, seal, unseal
from provisioning.renewing import new_key

from .rig import Hq, TestBox, headquarters, instant, now_us, redeemed, seal_batch, shop, until, wire

KIOSK = DevicePaired("d-1", "kiosk", "counter", "平板", "a" * 64, "s-1", instant())
TILL = DevicePaired("d-2", "pos", "counter", "", "b" * 64, "s-1", instant())


async def state(box: TestBox, *events: Event, first: int = 1) -> None:
    await box.send(box.batch([wire(first + place, event) for place, event in enumerate(events)]))


async def devices(hq: Hq) -> dict[str, Any]:
    return {one["device_id"]: one for one in await hq.get("/api/stores/s1/devices")}


async def test_paired_devices_appear_with_their_last_use(hq: Hq, box: TestBox) -> None:
    await state(box, KIOSK, TILL, KIOSK)
    found = await devices(hq)
    assert set(found) == {"d-1", "d-2"}
    assert (found["d-1"]["kind"], found["d-1"]["station"], found["d-1"]["name"], found["d-1"]["state"]) == (
        "kiosk",
        "counter",
        "平板",
        "paired",
    )
    assert found["d-1"]["seen_us"] == 0
    seen = DeviceSeen("d-1", instant())
    await box.send(box.batch([wire(1, seen)], lane=2, last={0: 3, 2: 1}))
    assert (await devices(hq))["d-1"]["seen_us"] == seen.event_time.wall_us
    assert "a" * 64 not in str(found)


async def test_a_device_is_revoked_by_document_and_confirmed_by_its_shop(hq: Hq, box: TestBox) -> None:
    await state(box, KIOSK, TILL)
    assert (await hq.post("/api/stores/s1/devices/d-1/revoke"))["revoked"]
    document = await box.document("devices", 2)
    assert document.devices == ["d-1"] and not document.retired
    assert {name: one["state"] for name, one in (await devices(hq)).items()} == {"d-1": "revoking", "d-2": "paired"}
    await state(box, DeviceRevoked("d-1", "hq", instant()), first=3)
    assert {name: one["state"] for name, one in (await devices(hq)).items()} == {"d-1": "revoked", "d-2": "paired"}
    for path in ("/api/stores/s1/devices/d-9/revoke", "/api/stores/s9/devices/d-1/revoke", "/api/boxes/gw-s9/revoke"):
        assert (await hq.http.post(path, json={})).status_code == 404


async def test_the_page_shows_devices_and_asks_twice(demo: Hq) -> None:
    enrolment = await demo.new_box()
    async with demo.connected(enrolment) as box:
        await state(box, KIOSK, DevicePaired("d-x", "kiosk", "<script>", "<script>", "c" * 64, "s-1", instant()))
    page = (await demo.http.get("/devices")).text
    assert 'data-device="d-1"' in page and "/api/stores/s1/devices/d-1/revoke" in page and "/api/boxes/gw-s1/revoke" in page
    assert page.count("data-sure=") == 3 and "<script>" not in page.replace("<script src=", "")


# ---------------------------------------------------------------- boxes


async def heard_retired(box: TestBox) -> bool:
    """Whether the box was told, without having asked, by a piece that fits what was announced."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: box.manifests and any(chunk.name == "devices" for chunk in box.chunks))
    (chunk,) = {chunk for chunk in box.chunks if chunk.name == "devices"}
    assert digest(chunk.data) in [ref.sha256 for ref in box.manifests[-1].documents if ref.version == chunk.version]
    return unseal(DOCUMENT_TAG, chunk.data, box.enrolment.hq_public, Document).retired


async def says_everything(box: TestBox) -> None:
    """A box's whole vocabulary, rows that would count among it."""
    _, csr = new_key(box.box.gateway)
    said = {
        "0": seal_batch(box.batch([wire(2, redeemed(2))]), box.enrolment.sign_key),
        "beat": seal(BEAT_TAG, Beat(box.box.gateway, 1, "1-abc", {0: 2}, {0: 0}, 2, now_us()), box.enrolment.sign_key),
        "want": msgspec.json.encode(Want("vouchers", 1, 0)),
        "renew": seal(RENEW_TAG, Renew(box.box.gateway, csr, now_us()), box.enrolment.sign_key),
    }
    for leaf, message in said.items():
        with contextlib.suppress(BrokerError):
            box.send_bytes(message, box.box.up(leaf))


def heard_nothing_more(box: TestBox) -> bool:
    return not (box.acks or box.answers or box.renewed or box.others) and all(chunk.name == "devices" for chunk in box.chunks)


@pytest.mark.slow
async def test_a_revoked_box_is_told_then_cut_off_and_let_in_again_only_to_listen(demo: Hq) -> None:
    enrolment, other = await demo.new_box(), await demo.new_box("s2", 2)
    async with demo.connected(enrolment) as box, demo.connected(other) as bystander:
        await state(box, redeemed(1))
        revoking = asyncio.ensure_future(demo.post("/api/boxes/gw-s1/revoke"))
        assert await heard_retired(box)
        box.mqtt.on_state = lambda up: box.chunks.clear()  # the cut, and its return
        assert (await revoking)["revoked"]
        await until(lambda: not box.chunks)
        await until(lambda: box.chunks)
        await state(bystander, redeemed(1))
    async with demo.connected(enrolment) as copy:
        assert await heard_retired(copy)
        await says_everything(copy)
        await asyncio.sleep(0.5)
        assert heard_nothing_more(copy)
    assert (await demo.get("/api/stores/s1/counts"))["total"]["redemptions"] == 1
    assert (await demo.get("/api/books"))["rejected"] == {}, "the fence keeps it back, before anybody has to read it"
    assert "data-retired" in (await demo.http.get("/devices")).text


@pytest.mark.slow
async def test_a_box_that_was_away_when_it_was_revoked_is_told_when_it_comes_back(hq: Hq) -> None:
    enrolment = await hq.new_box()
    async with hq.connected(enrolment) as box:
        await state(box, redeemed(1), KIOSK)
    await hq.post("/api/stores/s1/devices/d-1/revoke")
    await hq.post("/api/boxes/gw-s1/revoke")
    for _ in range(2):  # each time it comes, whoever has heard it before
        async with hq.connected(enrolment) as back:
            assert await heard_retired(back)
            await says_everything(back)
            await asyncio.sleep(0.5)
            assert heard_nothing_more(back)
    assert (await hq.get("/api/stores/s1/counts"))["total"]["redemptions"] == 1


async def test_a_long_farewell_is_still_one_piece(demo: Hq, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic keeps one message; a shop with many revoked devices has a long document."""
    monkeypatch.setattr(documents, "CHUNK_B", 100)
    enrolment = await demo.new_box()
    rows = [DevicePaired(f"d-{secrets.token_hex(16)}", "kiosk", "counter", "", "a" * 64, "s-1", instant()) for _ in range(8)]
    async with demo.connected(enrolment) as box:
        await state(box, *rows)
    for row in rows:
        await demo.post(f"/api/stores/s1/devices/{row.device_id}/revoke")
    await demo.post("/api/boxes/gw-s1/revoke")
    async with demo.connected(enrolment) as back:
        assert await heard_retired(back)
        assert len(back.chunks[0].data) == back.chunks[0].size_b > 200


async def test_a_revoked_boxs_devices_are_revoked_already(demo: Hq) -> None:
    enrolment = await demo.new_box()
    async with demo.connected(enrolment) as box:
        await state(box, KIOSK)
    await demo.post("/api/boxes/gw-s1/revoke")
    refused = await demo.http.post("/api/stores/s1/devices/d-1/revoke", json={})
    assert refused.status_code == 409 and "gw-s1" in refused.text


@pytest.mark.slow
async def test_nothing_a_revoked_box_sends_counts_at_either_broker(hq: Hq, box: TestBox) -> None:
    await state(box, redeemed(1))
    revoking = asyncio.ensure_future(hq.post("/api/boxes/gw-s1/revoke"))
    assert await heard_retired(box)
    acks, late = len(box.acks), seal_batch(box.batch([wire(2, redeemed(2))]), box.enrolment.sign_key)
    for _ in range(30):
        with contextlib.suppress(BrokerError):
            box.send_bytes(late)
        await asyncio.sleep(0.05)
    await revoking
    assert len(box.acks) == acks
    assert (await hq.get("/api/stores/s1/counts"))["total"]["redemptions"] == 1


async def test_a_revoked_box_gets_no_new_certificate(hq: Hq, box: TestBox) -> None:
    _, csr = new_key("gw-s1")
    ask = seal(RENEW_TAG, Renew("gw-s1", csr, now_us()), box.enrolment.sign_key)
    box.send_bytes(ask, box.box.up("renew"))
    await until(lambda: box.renewed)
    stranger = seal(RENEW_TAG, Renew("gw-s1", csr, now_us()), Ed25519PrivateKey.generate())
    box.send_bytes(stranger, box.box.up("renew"))
    box.send_bytes(seal(RENEW_TAG, Renew("gw-s2", csr, now_us()), box.enrolment.sign_key), box.box.up("renew"))
    box.send_bytes(seal(RENEW_TAG, Renew("gw-s1", "rubbish", now_us()), box.enrolment.sign_key), box.box.up("renew"))
    await box.beat()  # what came before it was answered or refused
    revoking = asyncio.ensure_future(hq.post("/api/boxes/gw-s1/revoke"))
    assert await heard_retired(box)
    with contextlib.suppress(BrokerError):
        box.send_bytes(ask, box.box.up("renew"))
    await revoking
    assert len(box.renewed) == 1
    assert (await hq.get("/api/books"))["rejected"]["nobody known signed this message"] == 1


@pytest.mark.slow
async def test_a_revoked_box_stays_revoked_after_a_restart_and_comes_back_by_enrolling_anew(tmp_path: Path) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))
    async with headquarters(options) as hq:
        enrolment = await hq.new_box()
        assert await asyncio.to_thread(revoke_box_command, Path(options.data_dir), "gw-s1") == "gw-s1"
    async with headquarters(options) as hq:
        async with hq.connected(enrolment) as old:
            assert await heard_retired(old)
            await says_everything(old)
            await asyncio.sleep(0.5)
            assert heard_nothing_more(old)
        asked = {"store": "s1", "gateway": "gw-s1", "number": 1, "again": True}
        anew = await hq.enrol((await hq.post("/api/boxes", asked))["label"], "box-anew", shop())
        async with hq.connected(anew) as box:
            await asyncio.sleep(0.5)  # the farewell of its former life may still be at the broker
            assert not (await box.document("devices", 3)).retired
            await state(box, redeemed(1))


async def test_the_command_line_lists_and_revokes(tmp_path: Path) -> None:
    options = HqOptions(data_dir=str(tmp_path / "hq"))
    data = Path(options.data_dir)
    async with headquarters(options) as hq:
        enrolment = await hq.new_box()
        async with hq.connected(enrolment) as box:
            await state(box, KIOSK)
            listed = await asyncio.to_thread(devices_command, data, "s1")
            assert [(one["device_id"], one["state"]) for one in listed] == [("d-1", "paired")]
            assert await asyncio.to_thread(revoke_device_command, data, "s1", "d-1") == "d-1"
            with pytest.raises(ConfigError, match="no device d-9"):
                await asyncio.to_thread(revoke_device_command, data, "s1", "d-9")
    with pytest.raises(BrokerError, match="does not answer"):
        await asyncio.to_thread(devices_command, data, "s1")
