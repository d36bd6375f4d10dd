"""Paired devices outlive restarts, and so does the loss of their right; a revoked box serves nobody."""

import asyncio

from gateway.events import CompartmentOpenIntended, DevicePaired, DeviceRevoked, VoucherRedeemed
from gateway.signed import DOCUMENT_TAG, Document, seal
from tests.conftest import HQ_KEY, STRANGER_KEY
from tests.gateway.core.shop import GATEWAY, Shop, no_commits, pickup_token, voucher_token


async def bring(shop: Shop, version: int, revoked: list[str], retired: bool = False) -> bytes:
    return await shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "devices", version, 0, devices=revoked, retired=retired), HQ_KEY))


def only(shop: Shop) -> str:
    (view,) = shop.desk.devices.views()
    return view.device_id


async def test_a_key_is_known_after_a_restart_and_its_text_is_nowhere_in_the_ledger(shop: Shop) -> None:
    key = await shop.desk.devices.pair("kiosk", "counter", "平板", "s-1")
    await shop.reopen()
    found = shop.desk.devices.find(key)
    assert found is not None and (found.station, found.kind, found.by) == ("counter", "kiosk", "s-1")
    assert not shop.desk.devices.is_revoked(found)
    assert shop.desk.devices.find(key + "x") is None and shop.desk.devices.find("") is None
    held = b"".join(path.read_bytes() for path in shop.config.state_dir.glob("ledger.db*"))
    assert key.encode() not in held


async def test_a_key_is_given_only_after_the_commit(shop: Shop) -> None:
    with no_commits(shop.config.ledger_path):
        pairing = asyncio.ensure_future(shop.desk.devices.pair("kiosk", "counter", "", "s-1"))
        await asyncio.sleep(0.3)
        assert not pairing.done()
    assert shop.desk.devices.find(await pairing) is not None


async def test_a_managers_revocation_counts_before_its_commit_and_after_a_restart(shop: Shop) -> None:
    key = await shop.desk.devices.pair("kiosk", "counter", "", "s-1")
    device = shop.desk.devices.find(key)
    assert device is not None
    with no_commits(shop.config.ledger_path):
        revoking = asyncio.ensure_future(shop.desk.devices.revoke(device.device_id, "s-2"))
        await asyncio.sleep(0.05)
        assert shop.desk.devices.is_revoked(device) and not revoking.done()
    assert await revoking and await shop.desk.devices.revoke(device.device_id, "s-2")
    assert not await shop.desk.devices.revoke("d-none", "s-2")
    await shop.reopen()
    again = shop.desk.devices.find(key)
    assert again is not None and shop.desk.devices.is_revoked(again)
    assert [row.by for row in shop.rows(DeviceRevoked)] == ["s-2"]


async def test_headquarters_revocation_counts_at_once_is_confirmed_once_and_outlives_a_restart(shop: Shop) -> None:
    key = await shop.desk.devices.pair("kiosk", "counter", "", "s-1")
    other = await shop.desk.devices.pair("pos", "counter", "", "s-1")
    gone = next(row.device_id for row in shop.rows(DevicePaired) if row.kind == "kiosk")
    assert await bring(shop, 1, [gone, "d-unknown"]) == b"applied"
    assert await bring(shop, 2, [gone, "d-unknown"]) == b"applied"
    for _ in range(2):
        revoked, kept = shop.desk.devices.find(key), shop.desk.devices.find(other)
        assert revoked is not None and shop.desk.devices.is_revoked(revoked)
        assert kept is not None and not shop.desk.devices.is_revoked(kept)
        await shop.reopen()
    assert [(row.device_id, row.by) for row in shop.rows(DeviceRevoked)] == [(gone, "hq")]


async def test_only_headquarters_seal_revokes(shop: Shop) -> None:
    key = await shop.desk.devices.pair("kiosk", "counter", "", "s-1")
    forged = seal(DOCUMENT_TAG, Document(GATEWAY, "devices", 9, 0, devices=[only(shop)], retired=True), STRANGER_KEY)
    other_box = seal(DOCUMENT_TAG, Document("box-8", "devices", 9, 0, devices=[only(shop)], retired=True), HQ_KEY)
    assert [await shop.bring(forged), await shop.bring(other_box)] == [b"refused", b"refused"]
    device = shop.desk.devices.find(key)
    assert device is not None and not shop.desk.devices.is_revoked(device) and not shop.desk.devices.retired


async def test_the_own_screen_is_one_device_with_several_keys(shop: Shop) -> None:
    keys = [await shop.desk.devices.pair_own("counter") for _ in range(3)]
    elsewhere = await shop.desk.devices.pair_own("door")
    await shop.reopen()
    found = {device.device_id for key in keys if key and (device := shop.desk.devices.find(key))}
    assert len(found) == 1 and elsewhere is not None and len(shop.desk.devices.views()) == 2
    await shop.desk.devices.revoke(found.pop(), "s-2")
    await shop.reopen()
    assert await shop.desk.devices.pair_own("counter") is None
    assert await shop.desk.devices.pair_own("door") is not None


async def test_a_revoked_box_redeems_hands_over_and_stages_nothing_also_after_a_restart(shop: Shop) -> None:
    await shop.with_doors()
    assert await bring(shop, 1, [], retired=True) == b"applied"
    for _ in range(2):
        assert [(await shop.present(code)).reason for code in (voucher_token(), pickup_token())] == ["box_retired"] * 2
        staged = await shop.stage()
        assert (staged.decision, staged.reason) == ("refused", "box_retired")
        assert "總部" in staged.next_step.zh
        await shop.reopen()
    assert shop.rows(VoucherRedeemed, CompartmentOpenIntended) == [] and shop.doors.pulses == []
    assert await bring(shop, 2, []) == b"applied"  # enrolled anew
    assert (await shop.present(voucher_token())).decision == "redeemed"
