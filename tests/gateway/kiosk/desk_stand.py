"""A desk in memory: the interface of core's `Desk`, with one table of codes and a locker wall. It decides single use for real."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from gateway import codes
from gateway.catalog import Catalog
from gateway.clock import SystemClock
from gateway.config import GatewayConfig, parse
from gateway.core.devices import Device, Devices
from gateway.core.members import Members
from gateway.core.requests import ConflictingKey
from gateway.core.verdict import REDEEM, Actor, Asked
from gateway.core.views import (
    AdmissionView,
    CompartmentView,
    LineView,
    OrderView,
    QuotaView,
    RiskView,
    Screen,
    StoreView,
    UnitView,
    ZoneView,
)
from gateway.core.witnesses import Heard, Word
from gateway.events import CodePresented, DevicePaired, DeviceRevoked, Row
from gateway.rules import answers
from gateway.rules.definitions import Campaigns
from gateway.rules.reasons import Text
from gateway.signed import Staff

CONFIG = """
[store]
tenant = "demo"
store = "taipei-101"
number = 101
gateway = "gw-1"
name_zh = "信義旗艦店"
name_en = "Xinyi Flagship"
[paths]
state = "state"
run = "run"
[bridge]
host = "localhost"
[[station]]
name = "counter"
name_zh = "服務台"
name_en = "Counter"
[[station]]
name = "lockers"
name_zh = "取貨區"
name_en = "Pickup"
lockers = ["wall"]
"""
PIN = "246810"
COFFEE = codes.short_code(42)
CAKE = codes.short_code(7_000_001)
PICKUP = codes.short_code(99)
XSS = codes.short_code(666)
TOKEN = "V1:" + "8QA4KX%2EV$9-T+HC7B" * 6
ATTACK = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
TITLES = {
    COFFEE: Text("中杯拿鐵兌換券", "One medium latte"),
    CAKE: Text("栗子蛋糕買一送一", "Chestnut cake, buy one get one"),
    XSS: Text(ATTACK, ATTACK),
    TOKEN: Text("月餅禮盒提貨券", "Mooncake gift box"),
}


class TillStand:
    """What pages tell of their screens."""

    def __init__(self) -> None:
        self.painted: list[tuple[str, str]] = []  # redemption and station
        self.showing = self

    async def shown(self, redemption_id: str, actor: Actor, station: str) -> bool:
        del actor
        self.painted.append((redemption_id, station))
        return True

    def is_till_code(self, text: str) -> bool:
        return text.isdigit()


class DeskStand:
    """Core, as far as pages can tell."""

    def __init__(self, config: GatewayConfig | None = None) -> None:
        self.config = config or parse(CONFIG)
        self.clock = SystemClock()
        self.catalog = Catalog(self.config.store.gateway, [])
        self.rows: list[Row] = []
        self.devices = Devices(self.clock, self.catalog, self._commit, self.tell)
        self.till = TillStand()
        self.members = Members(
            self.config.members,
            self.config.store.gateway,
            self.catalog.roll,
            self.clock,
            None,
            b"",
            lambda rows, _: self._commit(rows),
            self.tell,
        )
        self.line_up = True
        self.admission = AdmissionView(admitted=True, state="admitted", how="inherited")
        self.heard: list[tuple[str, str]] = []  # device and the mark it presented
        self.marks = 1
        self.waiting = 0
        self.risk: list[RiskView] = []
        self.quotas: list[QuotaView] = []
        self.shows_s = 8.0
        self.presented: list[CodePresented] = []
        self.asked = asyncio.Event()  # something was presented
        self.sign_ins = 0
        self.hold: asyncio.Event | None = None  # answers wait for it
        self.fails: Exception | None = None
        self._answers: dict[str, tuple[tuple[bytes, str], bytes]] = {}
        self._used: dict[str, answers.Before] = {}
        self._screens = {s.name: Screen(station=s.name, number=0, state="attract") for s in self.config.stations}
        self._ears: set[asyncio.Event] = set()
        self.counts = {"visits": 1284, "redemptions": 96, "refusals": 4, "collections": 31}
        names = [("entrance", "入口", "Entrance"), ("bakery", "烘焙區", "Bakery"), ("coffee", "咖啡區", "Coffee bar")]
        self.zones = [ZoneView(zone=z, name_zh=zh, name_en=en) for z, zh, en in names]
        self.doors = [CompartmentView(bank="wall", compartment=n, state="free", door="closed") for n in range(1, 17)]
        self.units = [UnitView(unit=u, connected=True) for u in ("ble@radio", "scanner@counter", "locker@wall", "bridge")]
        self._orders = [
            OrderView(order_id=f"order-{n}", number=f"A{1040 + n}", customer=who, lines=lines, state="paid")
            for n, (who, lines) in enumerate([("陳○明", ["月餅禮盒 ×2"]), ("林○華", ["鮮乳 ×6", "吐司"]), ("王○", ["濾掛咖啡"])], 1)
        ]

    def _commit(self, rows: list[Row]) -> "asyncio.Future[None]":
        for row in rows:
            self.rows.append(row)
            if isinstance(row, DevicePaired | DeviceRevoked):
                self.devices.fold(row)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def tell(self) -> None:
        for ear in self._ears:
            ear.set()

    async def watch(self) -> AsyncIterator[None]:
        ear = asyncio.Event()
        self._ears.add(ear)
        try:
            while True:
                ear.clear()
                yield
                await ear.wait()
        finally:
            self._ears.discard(ear)

    async def present(self, code: CodePresented, *, station: str, staff: str | None = None, asked: Asked = REDEEM) -> bytes:
        request = (code.payload, station)
        known = self._answers.get(code.presentation_id)
        if known is not None:
            if known[0] != request:
                raise ConflictingKey("this key belongs to another request")
            return known[1]
        if self.fails is not None:
            raise self.fails
        self.presented.append(code)
        self.asked.set()
        answer = self._decide(code, station, staff)
        body = answers.encode(answer)
        self._answers[code.presentation_id] = (request, body)
        if self.hold is not None:
            await self.hold.wait()
        self.show(station, answer)
        return body

    def _decide(self, code: CodePresented, station: str, staff: str | None) -> answers.Answer:
        now = self.clock.now().wall_us
        text = code.payload.decode()
        found = codes.recognise(code.payload, code.symbology_id)
        if found.kind is codes.CodeKind.MISTYPED:
            return answers.refusal("mistyped", now)
        name = "-".join(found.text[i : i + 4] for i in range(0, 14, 4)) if found.kind is codes.CodeKind.SHORT else text
        if name == PICKUP:
            self.door(7, "pickup_opening", "closed", "A1038")
            return answers.decision("collecting", now, reference="order-0", order_number="A1038", compartment=7)
        if name not in TITLES:
            return answers.refusal("unknown_code", now)
        if name in self._used:
            return answers.refusal("already_redeemed", now, title=TITLES[name], before=self._used[name])
        self._used[name] = answers.Before(now, station, code.read_point, staff)
        self.counts["redemptions"] += 1
        return answers.decision("redeemed", now, title=TITLES[name], reference="VCH-00000042", redemption_id="r-1")

    def show(self, station: str, answer: answers.Answer | None) -> None:
        """Put an answer on a station's screen; None: attract."""
        if station not in self._screens:
            return
        number = self._screens[station].number + 1
        state = answer.decision if answer else "attract"
        self._screens[station] = Screen(station=station, number=number, state=state, answer=answer, shows_s=self.shows_s if answer else 0)
        self.tell()

    def door(self, number: int, state: str, door: str, order: str = "") -> None:
        """Move a door."""
        one = CompartmentView(bank="wall", compartment=number, state=state, door=door, order_number=order)
        self.doors[number - 1] = one
        self.tell()

    async def stage(
        self, order_id: str, *, key: str, staff: str, station: str, bank: str | None = None, compartment: int | None = None
    ) -> bytes:
        known = self._answers.get(key)
        if known is not None:
            return known[1]
        place = compartment or 3
        now = self.clock.now().wall_us
        order = next((one for one in self._orders if one.order_id == order_id), None)
        if order is None:
            return answers.encode(answers.refusal("unknown_order", now))
        self.move(order_id, "staging", place)
        body = answers.encode(answers.decision("staging", now, reference=order_id, order_number=order.number, compartment=place))
        self._answers[key] = ((order_id.encode(), station), body)
        return body

    def move(self, order_id: str, state: str, place: int | None) -> None:
        """Say where an order stands."""
        self._orders = [
            msgspec.structs.replace(one, state=state, compartment=place) if one.order_id == order_id else one for one in self._orders
        ]
        self.tell()

    async def sign_in(self, staff_ref: str, pin: str) -> Staff | None:
        self.sign_ins += 1
        await asyncio.sleep(0.01)  # a real check takes its time, so tries can overlap
        return next((one for one in self.staff() if one.staff_ref == staff_ref and pin == PIN), None)

    def campaigns(self) -> Campaigns:
        return self.catalog.campaigns

    def staff(self) -> list[Staff]:
        return [Staff("s-1", "林怡君", "", ["clerk"]), Staff("s-2", "Kevin Wong", "", ["clerk", "manager"])]

    def orders(self) -> list[OrderView]:
        return self._orders

    def mark(self, device: Device) -> str:
        return f"{device.device_id}-{self.marks}" if self.devices.is_witness(device.device_id) else ""

    def hear_witness(self, device: Device, mark: str) -> tuple[Heard, str]:
        self.heard.append((device.device_id, mark))
        return Heard(Word.VOUCHES if mark else Word.NOTHING), self.mark(device)

    def screen(self, station: str) -> Screen:
        return self._screens[station]

    def store_view(self) -> StoreView:
        now = self.clock.now()
        line = LineView(up=self.line_up, since_us=now.wall_us - 754_000_000, waiting=self.waiting, acked_us=now.wall_us - 2_000_000)
        return StoreView(
            store=self.config.store.store, name_zh=self.config.store.name_zh, name_en=self.config.store.name_en, epoch="e-7",
            now_us=now.wall_us, time_trust=0, line=line, zones=self.zones, compartments=self.doors, units=self.units,
            screens=list(self._screens.values()), counts=dict(self.counts), admission=self.admission,
            risk=list(self.risk), quotas=list(self.quotas),
        )  # fmt: skip
