"""Scenarios of the fleet: every box and every device has a key of its own, and loses it at once."""

import asyncio
import datetime
import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.topics import Box
from provisioning.authority import Enrolment
from provisioning.renewing import Identity
from tests.cloud_bridge.hq.rig import Draft, WireRow, seal_batch
from tests.store.running import RunningStore
from virtual_store.plan import GATEWAY, STORE
from virtual_store.web import Refused, Web

pytestmark = [pytest.mark.slow]
STATION = "entrance"


def sign_in(store: RunningStore) -> None:
    """The manager begins a shift."""
    assert store.starter.addresses is not None
    who = {"staff_ref": store.starter.addresses.clerk_ref, "pin": store.starter.addresses.clerk_pin}
    store.eventually(lambda: store.shop_post("/v1/staff/sign-in", who), 20)


def pair_tablet(store: RunningStore) -> Web:
    """A second screen at the entrance: it shows digits, the manager compares them and says yes."""
    tablet = Web(store.starter.plan.kiosk_url)
    asked = store.call(tablet.post("/v1/pairings", {"station": STATION, "kind": "kiosk", "name": "平板"}))
    sign_in(store)
    assert [one["code"] for one in store.shop_get("/v1/staff/pairings")] == [asked["code"]]
    store.shop_post("/v1/staff/pairings", {"code": asked["code"]})
    assert store.call(tablet.post("/v1/pairings/claim", {"ask": asked["ask"]}))["state"] == "paired"
    return tablet


def voucher(store: RunningStore) -> str:
    """A fresh one."""
    ask = {"store": STORE, "title_zh": "試用包", "title_en": "Sample"}
    return str(store.eventually(lambda: store.hq_post("/api/vouchers", ask), 20)["token"])


def redeem(store: RunningStore, kiosk: Web, token: str) -> Any:
    """What a kiosk is told; its status where it is refused by HTTP. Asks again while core is away."""
    body = {"station": STATION, "code": token, "presentation_id": secrets.token_hex(16)}

    def ask() -> Any:
        try:
            return store.call(kiosk.post("/v1/redeem", body))["decision"]
        except Refused as error:
            if error.status in (0, 503):
                raise
            return error.status

    return store.eventually(ask, 20)


def every_route(store: RunningStore, kiosk: Web) -> set[int]:
    """The statuses a device meets wherever it knocks."""
    found = set()
    for path in ("/", f"/kiosk/{STATION}", "/staff", "/v1/store", f"/v1/stations/{STATION}", f"/v1/stations/{STATION}/events"):
        try:
            store.call(kiosk.get(path))
            found.add(200)
        except Refused as error:
            found.add(error.status)
    return found


def at_headquarters(store: RunningStore) -> Any:
    """The tablet as headquarters lists it."""
    return next((one for one in store.hq_get(f"/api/stores/{STORE}/devices") if one["name"] == "平板"), {})


@pytest.mark.scenario("R50")
def test_a_revoked_kiosk_is_refused_at_once_also_offline_and_after_a_crash(whole_store: RunningStore) -> None:
    store = whole_store
    screen = store.call(Web(store.starter.plan.kiosk_url).pair(STATION))
    stranger = Web(store.starter.plan.kiosk_url)
    tokens = [voucher(store) for _ in range(8)]
    assert redeem(store, stranger, tokens[0]) == 401
    tablet = pair_tablet(store)
    assert redeem(store, tablet, tokens[0]) == "redeemed"

    store.until(lambda: at_headquarters(store).get("seen_us", 0) > 0, 10, "headquarters never saw the tablet in use")
    assert (at_headquarters(store)["state"], at_headquarters(store)["station"]) == ("paired", STATION)
    device_id = at_headquarters(store)["device_id"]
    store.hq_post(f"/api/stores/{STORE}/devices/{device_id}/revoke", {})
    store.until(lambda: redeem(store, tablet, tokens[1]) == 403, 5, "the revoked kiosk went on")
    assert every_route(store, tablet) == {403}
    assert redeem(store, screen, tokens[2]) == "redeemed"

    store.cut_line()
    assert redeem(store, tablet, tokens[3]) == 403
    assert redeem(store, screen, tokens[3]) == "redeemed"
    store.kill("core")
    assert redeem(store, tablet, tokens[4]) == 403
    assert every_route(store, tablet) == {403}
    store.until(lambda: redeem(store, screen, tokens[4]) == "redeemed", 15, "the start was not admitted")

    store.mend_line()
    store.drained()
    states = {one["device_id"]: one["state"] for one in store.hq_get(f"/api/stores/{STORE}/devices")}
    assert states.pop(device_id) == "revoked" and set(states.values()) == {"paired"}
    keys = [row["key_sha256"] for row in store.rows("DevicePaired")]
    assert len(keys) == len(set(keys)) and all(len(key) == 64 for key in keys)


@pytest.mark.scenario("R50")
def test_a_box_renews_its_certificate_over_the_road_it_has_while_it_serves(whole_store: RunningStore) -> None:
    store = whole_store
    screen = store.call(Web(store.starter.plan.kiosk_url).pair(STATION))
    state = store.starter.plan.gateway_toml.parent / "state"
    enrolment = Enrolment.load(state / "enrolment")
    age(store.starter.plan.hq_dir / "authority", Path(enrolment.cert_path), days_gone=25, days_left=5)
    old = Identity(enrolment, state).in_force()
    store.kill("bridge")
    assert redeem(store, screen, voucher(store)) == "redeemed"
    store.until(lambda: Identity(enrolment, state).in_force().cert_path != old.cert_path, 30, "the certificate was not renewed")
    new = Identity(enrolment, state).in_force()
    assert new.certificate.public_key() != old.certificate.public_key()
    store.kill("bridge")  # and connects with it from the start
    store.drained()


def age(authority: Path, cert: Path, days_gone: int, days_left: int) -> None:
    """Write the same certificate as if it had been issued earlier."""
    old = x509.load_pem_x509_certificate(cert.read_bytes())
    signing = load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number)
    builder = builder.not_valid_before(now - days_gone * day).not_valid_after(now + days_left * day)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    cert.write_bytes(builder.sign(signing, hashes.SHA256()).public_bytes(Encoding.PEM))


@pytest.mark.scenario("R50")
def test_a_revoked_box_publishes_nothing_and_stops_serving_for_good(whole_store: RunningStore) -> None:
    store = whole_store
    screen = store.call(Web(store.starter.plan.kiosk_url).pair(STATION))
    token = voucher(store)
    store.drained()
    before = store.hq_get(f"/api/stores/{STORE}/counts")["total"]
    store.hq_post(f"/api/boxes/{GATEWAY}/revoke", {})

    store.until(lambda: redeem(store, screen, token) == 403, 5, "the revoked box went on serving")
    assert every_route(store, screen) == {403}
    store.kill("core")
    store.until(lambda: every_route(store, screen) == {403}, 15, "the revoked box serves again after a restart")
    store.call(store.starter.cut_line(False))
    assert redeem(store, screen, token) == 403
    store.call(store.starter.cut_line(True))
    shown = len(store.rows("VoucherRedeemed"))
    store.show(token)
    store.until(lambda: any(row["reason"] == "box_retired" for row in store.rows("RedemptionRefused")), 10, "the camera went unheard")
    assert len(store.rows("VoucherRedeemed")) == shown
    assert store.call(heard_by_a_copy(store)) == {"manifest", "chunk"}
    assert store.hq_get(f"/api/stores/{STORE}/counts")["total"] == before


async def heard_by_a_copy(store: RunningStore) -> set[str]:
    """What whoever has copied the box's folder hears, having sent one more batch of rows: acknowledgements must not be among it."""
    enrolment = Enrolment.load(store.starter.plan.gateway_toml.parent / "state" / "enrolment")
    facts = enrolment.facts
    box, came_up, heard = Box(facts.tenant, facts.store, facts.gateway), asyncio.Event(), set[str]()
    files = TlsFiles(enrolment.ca_path, enrolment.cert_path, enrolment.key_path)

    def hear(incoming: Incoming) -> None:
        heard.add(incoming.topic.rpartition("/")[2])
        incoming.ack()

    line = Mqtt(
        "127.0.0.1", store.starter.plan.ports.broker, f"copy-{secrets.token_hex(4)}", files, server_name="localhost",
        subscriptions=[box.down(leaf) for leaf in ("ack", "beat", "manifest", "chunk", "renew")],
        on_message=hear, on_state=lambda up: came_up.set() if up else None,
    )  # fmt: skip
    running = asyncio.ensure_future(line.run())
    batch = Draft(GATEWAY, "99-copy", None, {}, 0, [WireRow(1, 1, b"{}")], "0" * 64, "99-copy", {0: 1}, {0: 0}, 1)
    try:
        async with asyncio.timeout(4):
            await came_up.wait()
        line.publish(box.up(0), seal_batch(batch, enrolment.sign_key), 1)
        await asyncio.sleep(1)
        return heard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
