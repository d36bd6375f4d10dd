"""What runs: core, the link, the units that joined, the line to headquarters."""

import os
import socket
from typing import Final

from gateway.config import GatewayConfig
from gateway.rules.reasons import Text
from provisioning.checks import systemd
from provisioning.checks.outcome import CONFIG, CORE, RETIRED, WAIT, Box, Check, Outcome, State, fail, ok, skipped, warn

LATE_ROWS: Final = 1_000  # with the line up: headquarters takes thousands a second
ASK_S: Final = 2.0
RESTART: Final = "sudo systemctl restart"
CORE_UNIT: Final = "store-core.service"
UNITS: Final = (CORE_UNIT, "store-bridge.service")


def configured_units(config: GatewayConfig) -> list[str]:
    """Every unit that should have joined over the link."""
    radios = [f"ble@{config.ble.name}"] if config.ble.sensors else []
    return [*radios, *(f"scanner@{one.name}" for one in config.scanners), *(f"locker@{one.name}" for one in config.lockers), "bridge"]


def core(box: Box) -> list[Outcome]:
    """It answers on its port, and it is this shop's."""
    port = box.known.core.port
    if box.view_trouble == RETIRED:
        return [
            fail(
                ("總部已停用這台機器", "Headquarters has retired this box"),
                ("請聯絡總部；若是誤停用，請總部重新註冊", "Call headquarters; if that was a mistake, they enrol it again"),
            )
        ]
    if box.view is None:
        if systemd.starting(box.root, CORE_UNIT):
            return [_not_yet("core")]
        return [
            fail(
                (f"core 在 {port} 埠沒有回應：{box.view_trouble}", f"Core does not answer on port {port}: {box.view_trouble}"),
                (f"執行 {RESTART} store-core；仍無回應就看 journalctl -u store-core -n 50",
                 f"Run `{RESTART} store-core`; if it stays silent, look at `journalctl -u store-core -n 50`"),
            )
        ]  # fmt: skip
    theirs = box.view.get("store")
    if theirs != box.known.store.store:
        return [
            fail(
                (f"{port} 埠上是另一家門市 {theirs}", f"Port {port} is another shop's, {theirs}"),
                ("在 [core] 的 port 換一個埠，或停止另一個程序", "Choose another `port` in [core], or end the other process"),
            )
        ]
    return [ok(f"core 在 {port} 埠回應", f"Core answers on port {port}")]


def link(box: Box) -> list[Outcome]:
    """The socket that drivers join takes connections."""
    path = box.known.link_path
    step = (f"執行 {RESTART} store-core", f"Run `{RESTART} store-core`")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(ASK_S)
            probe.connect(os.fspath(path))
    except (OSError, ValueError) as error:
        if systemd.starting(box.root, CORE_UNIT):
            return [_not_yet("core")]
        reason = getattr(error, "strerror", None) or str(error)
        return [fail((f"無法連上 {path}：{reason}", f"{path} takes no connection: {reason}"), step)]
    return [ok(f"{path} 可連線", f"{path} takes connections")]


def units(box: Box) -> list[Outcome]:
    """Each configured process has joined, and says that its device works."""
    seen = {unit["unit"]: unit for unit in box.told.get("units", []) if unit["connected"]}
    names = configured_units(box.known)
    absent = [_service_of(name) for name in names if name not in seen]
    limping = any(unit["device_state"] != "up" for unit in seen.values())
    early = bool(absent or limping) and systemd.booting(box.root)
    standing = systemd.states(box.root, absent) if absent and not early else {}
    return [
        _joined(name, seen[name]["device_state"], seen[name].get("detail", ""), early)
        if name in seen
        else _absent(name, early or standing.get(_service_of(name)) == systemd.STARTING)
        for name in names
    ]


def _absent(name: str, early: bool) -> Outcome:
    if early:
        return _not_yet(name, name)
    service = _service_of(name).removesuffix(".service")
    return fail(
        (f"{name} 沒有在執行", f"{name} has not joined"),
        (f"執行 {RESTART} {service}；再看 journalctl -u {service} -n 50",
         f"Run `{RESTART} {service}`; then look at `journalctl -u {service} -n 50`"),
        name,
    )  # fmt: skip


def _joined(name: str, state: str, reason: str, early: bool) -> Outcome:
    why_zh, why_en = (f"（{reason}）", f" ({reason})") if reason else ("", "")
    said = (f"{name} 的裝置狀態是 {state}{why_zh}", f"{name} says its device is {state}{why_en}")
    if state == "degraded":
        step = (
            "裝置仍在運作，會自動恢復；若一直如此，檢查裝置與它的位置",
            "It still works and recovers by itself; if it stays so, look at the device and its place",
        )
        return warn(said, step, name)
    if state != "up" and early:
        return warn(said, WAIT, name)
    if state != "up":
        return fail(said, ("檢查裝置的電源與接線；接好後會自動恢復", "Look at the device's power and cable; it comes back by itself"), name)
    return ok(f"{name} 正常", f"{name} has joined and its device works", name)


def _service_of(name: str) -> str:
    return f"store-{name}.service"


def _not_yet(name: str, subject: str = "") -> Outcome:
    return warn((f"{name} 正在啟動", f"{name} is starting"), WAIT, subject)


def line(box: Box) -> list[Outcome]:
    """Whether headquarters answers, and how far behind it is."""
    now = box.told["line"]
    waiting, since_min = now["waiting"], max(0, box.told["now_us"] - now["since_us"]) // 60_000_000
    if not now["up"]:
        said = (f"與總部斷線 {since_min} 分鐘，{waiting} 筆待送", f"No line to headquarters for {since_min} minutes; {waiting} rows wait")
        step = ("門市可以繼續營業。檢查網路線與路由器，再看 hq", "The shop goes on serving. Look at the cable and the router, then at `hq`")
        return [warn(said, step)]
    if waiting > LATE_ROWS:
        said = (f"連線正常，但還有 {waiting} 筆待送", f"The line is up, but {waiting} rows wait")
        return [warn(said, ("等十分鐘；若沒有減少請聯絡總部", "Wait ten minutes; if they do not become fewer, call headquarters"))]
    return [ok(f"連線正常，{waiting} 筆待送", f"The line is up; {waiting} rows wait")]


def services(box: Box) -> list[Outcome]:
    """systemd runs the units, where systemd runs."""
    if not systemd.runs(box.root):
        return [skipped("這台機器沒有使用 systemd", "systemd does not run here")]
    wanted = [*UNITS, *(_service_of(name) for name in configured_units(box.known) if "@" in name)]
    states = systemd.states(box.root, wanted)
    early = systemd.booting(box.root)
    if not states:
        return [skipped("systemctl 沒有回答", "systemctl did not answer")]
    found = [_service(name, states[name], early) for name in wanted]
    bad = [outcome for outcome in found if outcome.state is not State.OK]
    return bad or [ok(f"{len(wanted)} 個服務都在執行", f"All {len(wanted)} services are active")]


def _service(name: str, state: str, early: bool) -> Outcome:
    if state == systemd.ACTIVE:
        return ok(f"{name} 執行中", f"{name} is active", name)
    if state == systemd.STARTING or (early and state in ("inactive", "activating")):
        return _not_yet(name, name)
    return fail(
        (f"{name} 的狀態是 {state}", f"{name} is {state}"),
        (f"執行 {RESTART} {name}；再看 journalctl -u {name} -n 50", f"Run `{RESTART} {name}`; then look at `journalctl -u {name} -n 50`"),
        name,
    )


CHECKS: Final = [
    Check(
        "core", Text("核心程序", "Core"),
        Text("core 停了，自助機、店員頁與收銀都停", "Without core the kiosk, the staff page and the till stand still"), core, CONFIG,
    ),
    Check(
        "link", Text("內部連線", "Link"),
        Text("掃描器與櫃子透過它與 core 溝通", "Scanners and lockers speak with core through it"), link, CONFIG,
    ),
    Check(
        "units", Text("各程序", "Units"),
        Text("少了一個，就少了它的裝置", "Without a unit its device is dead"), units, CORE,
    ),
    Check(
        "services", Text("系統服務", "Services"),
        Text("沒有啟用的服務在斷電後不會自己起來", "What is not active does not come back after a power cut"), services, CONFIG,
    ),
    Check(
        "line", Text("總部連線", "Line to headquarters"),
        Text("斷線時照常營業，但總部看不到最新數字，新票券也下不來", "The shop serves without it, but numbers and new vouchers are late"),
        line, CORE,
    ),
]  # fmt: skip
