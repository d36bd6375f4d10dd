"""What is shown of devices: the label and a voucher before the camera, a tag in the air, a door on the serial line."""

import json
import secrets
import time
from typing import Any, Final

from tests.hardware.machine import Failed
from tests.hardware.outside import NUMBER, STORE
from tests.hardware.shop import AIR, BASE, CHAIN_UUID, STATION, UNITS, Shop
from tests.hardware.wall import Wall

TAG: Final = {"id": "t1", "addr": "C0:00:00:00:00:01", "interval": 0.2, "rssi": -58, "sigma": 3, "loss": 0.05}
GONE_S: Final = 20  # long enough for the scanner of a busy emulated machine to have seen that a code is gone
SAY: Final = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read()); s.recv(999)"
)


def enrol_by_label(shop: Shop) -> str:
    """The label is held before the camera device of a box that is nobody yet; the shop starts by itself."""
    began_s = time.monotonic()
    shop.machine.until(lambda: _active(shop, "store-enroll.service"), 240, "store-enroll.service was not active")
    shop.hold(shop.label)
    try:
        shop.machine.until(lambda: shop.machine.sh("cat /var/lib/store-gateway/enrolment/hq.json"), 150, "no enrolment")
    except Failed as error:
        raise Failed(f"the label did not enrol the box: {error}; {log_of(shop, 'store-enroll')}") from error
    shop.hold("")
    shop.machine.sh("sync")
    return f"label held before /dev/video7, enrolled {time.monotonic() - began_s:.0f} s after the install ended"


def all_units(shop: Shop) -> str:
    """Every unit active, and core serves."""
    shop.machine.until(lambda: all(_active(shop, unit) for unit in UNITS), 300, "not every unit was active")
    shop.pair()
    view = shop.machine.until(lambda: _up(shop), 120, "the line to headquarters was not up")
    units = ", ".join(f"{unit['unit']} {unit['device_state']}" for unit in view["units"])
    return f"{len(UNITS)} services and store-core.socket active, line up; {units}"


def redeem_by_camera(shop: Shop) -> str:
    """A voucher is redeemed by holding it before the camera device, and not again."""
    first, second = (_show(shop, voucher) for voucher in shop.headquarters.vouchers(1) * 2)
    if first["state"] != "redeemed" or second["state"] != "refused":
        raise Failed(f"the screen said {first['state']}, then {second['state']}")
    voucher = first["answer"]["reference"]
    shop.machine.until(lambda: shop.headquarters.get(f"/api/vouchers/{voucher}")["used"] == 1, 180, "headquarters did not hear")
    return f"read from /dev/video7 by cv2: redeemed, the second time refused ({second['answer']['reason']}), headquarters has it"


def hear_a_tag(shop: Shop) -> str:
    """A tag comes into the zone and leaves it, through hci0 and bluetoothd."""
    _air(shop, add=TAG | {"ibeacon": [CHAIN_UUID, NUMBER, 1, -59]})
    came_s = time.monotonic()
    shop.machine.until(lambda: "trolley-1" in _zone(shop)["subjects"], 180, "the tag was not seen")
    seen_s = time.monotonic() - came_s
    state = next(unit["device_state"] for unit in shop.view()["units"] if unit["unit"] == "ble@radio")
    _air(shop, remove="t1")
    left_s = time.monotonic()
    shop.machine.until(lambda: "trolley-1" not in _zone(shop)["subjects"], 120, "the tag never left")
    gone_s = time.monotonic() - left_s
    shop.machine.until(lambda: _counts(shop)["visits"] >= 1, 180, "headquarters did not hear of the visit")
    return f"trolley-1 in zone entrance after {seen_s:.0f} s, gone after {gone_s:.0f} s, visit at headquarters; radio {state}"


def open_a_door(shop: Shop, wall: Wall) -> str:
    """An order is put behind a door by the clerk and collected with its code: two pulses, no more."""
    shop.sign_in()
    order = shop.headquarters.post("/api/orders", {"store": STORE, "customer": "陳小明", "lines": ["蘋果禮盒 x1"]})
    shop.machine.until(lambda: _state(shop, order), 180, "the order did not come")
    shop.post("/v1/staff/stage", {"order_id": order["order_id"], "key": secrets.token_hex(16)})
    shop.machine.until(lambda: _state(shop, order) == "staged", 180, f"the order was not staged; coils: {wall.pulses()}")
    code = {"station": STATION, "code": order["token"], "presentation_id": secrets.token_hex(16)}
    answer = shop.post("/v1/redeem", code)
    shop.machine.until(lambda: _state(shop, order) == "collected", 180, f"it was not collected: {answer['decision']}")
    again = shop.post("/v1/redeem", code)
    pulses = wall.pulses()
    if list(pulses.values()) != [2] or again != answer:
        raise Failed(f"coils were driven {pulses}; the retry said {again['decision']}")
    (door,) = pulses
    return f"door {door} over /dev/ttyS1: opened for the clerk and for the customer, 2 pulses in all, a retry opens nothing"


def log_of(shop: Shop, unit: str, lines: int = 4) -> str:
    """The last words of a unit."""
    return shop.machine.sh(f"journalctl -q --no-pager -o cat -u {unit} -n {lines}", check=False).strip()[-400:]


def _active(shop: Shop, unit: str) -> bool:
    return shop.machine.units().get(unit, {}).get("ActiveState") == "active"


def _up(shop: Shop) -> dict[str, Any] | None:
    view = shop.view()
    return view if view["line"]["up"] else None


def _zone(shop: Shop) -> dict[str, Any]:
    return dict(shop.view()["zones"][0])


def _counts(shop: Shop) -> dict[str, Any]:
    return dict(shop.headquarters.get(f"/api/stores/{STORE}/counts")["total"])


def _air(shop: Shop, **order: Any) -> None:
    """Order the beacons about."""
    shop.machine.sh(f"python3 -c '{SAY}' {AIR}", stdin=json.dumps(order) + "\n")


def _state(shop: Shop, order: dict[str, Any]) -> str:
    """Of an order, as staff see it; empty: it has not come yet."""
    return next((str(one["state"]) for one in shop.get("/v1/staff/orders") if one["order_id"] == order["order_id"]), "")


def _show(shop: Shop, voucher: dict[str, Any]) -> dict[str, Any]:
    """Hold a code there until the screen changes; the screen then."""
    before = shop.get(f"/v1/stations/{STATION}")["number"]
    shop.hold(voucher["token"])

    def changed() -> dict[str, Any] | None:
        screen = shop.get(f"/v1/stations/{STATION}")
        return dict(screen) if screen["number"] > before and screen["state"] != "attract" else None

    screen = shop.machine.until(changed, 180, f"the screen did not change; {BASE} is there")
    shop.hold("")
    time.sleep(GONE_S)
    return dict(screen)
