"""The shop in the guest: its configuration, how a technician installs it, and how its people use it."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from tests.hardware.machine import Failed, Machine, lines_of
from tests.hardware.outside import BROKER, DOOR, GATEWAY, GUEST_ADDRESS, GUEST_PORT, NUMBER, STORE, TENANT, Headquarters

BASE: Final = "http://127.0.0.1:8080"
PROGRAM: Final = "/opt/store-gateway/bin/store-gateway"
STATION: Final = "counter"
CAMERA: Final = "/dev/video7"
SERIAL: Final = "/dev/ttyS1"
AIR: Final = "/run/rig-beacons.sock"
COMPARTMENTS: Final = 16
# A shop's air is never silent; without anybody in it a radio cannot tell that it hears.
PASSER_BY: Final = {
    "id": "phone",
    "addr": "5A:11:22:33:44:55",
    "interval": 0.3,
    "rssi": -70,
    "sigma": 4,
    "data": "02011a0bff4c001005031c8f5a2b",
}
CHAIN_UUID: Final = "7b44b47b-52a1-5381-90c2-f09b6838c5d4"
UNITS: Final = (
    "store-core.service", "store-bridge.service", "store-ble@radio.service", "store-scanner@counter.service", "store-locker@wall.service",
)  # fmt: skip
GATEWAY_TOML: Final = f"""\
[store]
tenant = "{TENANT}"
store = "{STORE}"
number = {NUMBER}
gateway = "{GATEWAY}"
name_zh = "試驗店"
name_en = "Rig"
[paths]
state = "/var/lib/store-gateway"
run = "/run/store-gateway"
[bridge]
host = "{BROKER}"
port = {GUEST_PORT}
[[station]]
name = "{STATION}"
scanners = ["counter"]
lockers = ["wall"]
[[scanner]]
name = "counter"
source = "v4l2:{CAMERA}"
frames_per_s = 5.0
[[locker]]
name = "wall"
port = "{SERIAL}"
compartments = {COMPARTMENTS}
[ble]
name = "radio"
[[ble.sensors]]
name = "hci0"
zone = "entrance"
[[ble.tags]]
subject = "trolley-1"
ibeacon = "{CHAIN_UUID}/{NUMBER}/1"
"""
# The second disk is the shop's: what the rig may lose at a power cut is what the ledger stands on.
DISK: Final = f"""
set -e
for i in $(seq 60); do [ -b /dev/vdb ] && break; sleep 0.5; done
mkdir -p /var/lib/store-gateway
echo 'LABEL=rigdata /var/lib/store-gateway ext4 defaults,x-systemd.device-timeout=90s 0 2' >> /etc/fstab
echo '{GUEST_ADDRESS} {DOOR} {BROKER}' >> /etc/hosts
systemctl daemon-reload
mount /var/lib/store-gateway
sync
"""
# Camera and radio are there before the shop is installed, and at every boot from then on.
DEVICES: Final = f"""
set -e
cat > /etc/systemd/system/rig-camera.service <<END
[Unit]
Before=store-scanner@counter.service
[Service]
Type=notify
NotifyAccess=main
ExecStartPre=/sbin/modprobe v4l2loopback video_nr=7 exclusive_caps=1
ExecStart=/opt/rig/venv/bin/python /opt/people/camera.py {CAMERA} /run/rig-shown
Restart=always
[Install]
WantedBy=multi-user.target
END
cat > /etc/systemd/system/rig-radio.service <<END
[Unit]
Before=bluetooth.service
[Service]
ExecStart=/opt/rig/venv/bin/python /opt/rig/beacons.py --dup data --scene /opt/people/air.json --control {AIR}
Restart=always
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --now --quiet rig-camera rig-radio
"""
WHEELS: Final = """
set -e
python3 -m venv /opt/store-gateway
/opt/store-gateway/bin/pip install --quiet --no-index --find-links /opt/wheels --find-links /opt/project \\
  "store-gateway[ble,bridge,kiosk,locker,scanner]"
"""


class Counts(Struct):
    """What people were told, as they heard it outside of the box."""

    answers: dict[str, str] = field(default_factory=dict)  # presentation to answer, byte for byte
    tokens: dict[str, str] = field(default_factory=dict)  # presentation to code
    vouchers: dict[str, str] = field(default_factory=dict)  # presentation to voucher


class Shop:
    """One shop in one machine."""

    def __init__(self, machine: Machine, headquarters: Headquarters) -> None:
        self.machine = machine
        self.headquarters = headquarters
        self.cookies: dict[str, str] = {}
        self.clerk: dict[str, str] = {}
        self.label = ""
        self.heard = Counts()

    # ------------------------------------------------------------ installing

    def install(self, wheel: Path) -> None:
        """As a technician: wheels, `install`, the configuration, `install --now`."""
        self.machine.sh(DISK)
        self.machine.push([wheel], "/opt/project")
        self.machine.push([Path(__file__).with_name(name) for name in ("people.py", "camera.py")], "/opt/people")
        self.machine.sh("cat > /opt/people/air.json", stdin=json.dumps([PASSER_BY]))
        self.machine.sh(DEVICES)
        self.machine.sh(WHEELS, timeout_s=1800)
        self.machine.sh(f"{PROGRAM} install --json", timeout_s=600)
        self.machine.sh("cat > /etc/store-gateway/gateway.toml", stdin=GATEWAY_TOML)
        self.machine.sh(f"{PROGRAM} install --now --json", timeout_s=600)
        self.machine.sh("sync")

    def hold(self, text: str) -> None:
        """Hold a code before the guest's camera; empty: take it away."""
        self.machine.sh("cat > /run/rig-shown", stdin=text)

    # ------------------------------------------------------------ using

    def ask(self, calls: list[list[Any]], *, patience_s: float = 0, timeout_s: float = 120) -> list[dict[str, Any]]:
        """Calls at core's doors by somebody in the shop, in order; the cookies that come are kept."""
        asked = self._asked(calls, patience_s, 0)
        replies = lines_of(self.machine.sh("python3 /opt/people/people.py", stdin=asked, timeout_s=timeout_s))
        for reply in replies:
            self.cookies.update(reply["set"])
        return replies

    def get(self, path: str, patience_s: float = 0) -> Any:
        """What a page of core says.

        Raises:
            Failed: Another status than 200.
        """
        return self._good(self.ask([["GET", path, None]], patience_s=patience_s))

    def post(self, path: str, body: dict[str, Any], patience_s: float = 0) -> Any:
        """As `get`, with a body."""
        return self._good(self.ask([["POST", path, body]], patience_s=patience_s))

    def view(self) -> dict[str, Any]:
        """The shop at a glance."""
        return dict(self.get("/v1/store"))

    def until_it_decides(self, within_s: float) -> None:
        """Wait until core answers, and holds this start for one that may decide.

        Raises:
            Failed: It never does.
        """
        self.machine.until(self.decides, within_s, "core did not decide")

    def decides(self) -> bool:
        """Whether this start may decide; a start that doubts its own disk asks headquarters first."""
        return bool(self.view().get("admission", {}).get("admitted", True))

    def pair(self) -> None:
        """The box's own screen opens the station's page, which pairs it."""
        (reply,) = self.ask([["GET", f"/kiosk/{STATION}", None]], patience_s=120, timeout_s=180)
        if f"device_{STATION}" not in self.cookies:
            raise Failed(f"the station's page paired nothing: status {reply['status']}")

    def sign_in(self) -> None:
        """The clerk begins a shift."""
        self.post("/v1/staff/sign-in", {"staff_ref": self.clerk["staff_ref"], "pin": self.clerk["pin"]}, patience_s=30)

    def redeeming(self, vouchers: list[dict[str, Any]]) -> list[list[Any]]:
        """The calls that redeem these vouchers, each with a presentation of its own; remembered before they are made."""
        calls = []
        for voucher in vouchers:
            presentation = secrets.token_hex(16)
            self.heard.tokens[presentation] = voucher["token"]
            self.heard.vouchers[presentation] = voucher["voucher_id"]
            calls.append(self.redeem_call(presentation))
        return calls

    def redeem_call(self, presentation: str) -> list[Any]:
        """The call that presents a remembered code."""
        return ["POST", "/v1/redeem", {"station": STATION, "code": self.heard.tokens[presentation], "presentation_id": presentation}]

    def begin(self, calls: list[list[Any]], *, patience_s: float, pause_s: float, people: int = 1) -> "Queue":
        """People redeem one code after the other; what they are told is heard as it comes."""
        process = self.machine.begin("python3 /opt/people/people.py")
        assert process.stdin is not None
        process.stdin.write(self._asked(calls, patience_s, pause_s, people))
        process.stdin.close()
        return Queue(self, process, calls)

    def _asked(self, calls: list[list[Any]], patience_s: float, pause_s: float, people: int = 1) -> str:
        about = {"people": people, "patience_s": patience_s, "pause_s": pause_s}
        return json.dumps({"base": BASE, "cookies": self.cookies, "calls": calls, **about})

    def _good(self, replies: list[dict[str, Any]]) -> Any:
        if not replies or replies[0]["status"] != 200:
            raise Failed(f"core says {replies[0]['status']}: {replies[0]['body'][:200]}" if replies else "core was not asked")
        return json.loads(replies[0]["body"])


class Queue:
    """People who redeem one after the other, seen from outside."""

    def __init__(self, shop: Shop, process: "subprocess.Popen[str]", calls: list[list[Any]]) -> None:
        self._shop = shop
        self._process = process
        self._calls = calls

    def told(self) -> Iterator[tuple[str, int]]:
        """Each presentation when it was answered, with the status; ends when nobody is left, or the power is cut.

        An answer counts from the moment it is here: that customer has left with the goods.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.startswith("{") or not line.endswith("}\n"):
                continue
            reply = json.loads(line)
            presentation = str(self._calls[reply["n"]][2]["presentation_id"])
            if reply["status"] == 200:
                self._shop.heard.answers[presentation] = reply["body"]
            yield presentation, reply["status"]

    def close(self) -> None:
        """Nobody waits any longer."""
        self._process.kill()
        self._process.wait(10)
