"""The radio of the box, through BlueZ: the only door to bleak and D-Bus.

Real BlueZ over a controller that filters duplicates calls back once per beacon in ten seconds. While a passive advertisement
monitor is held, the kernel switches that filter off; an RSSI discovery filter switches off BlueZ's own rule that a change
below 8 dB is none. Both together give every advertisement. A bluetoothd without `--experimental` has no monitors: the scan
then runs without one and says `degraded`.

Four things go wrong silently and are looked for: bluetoothd ends and returns (bleak notices nothing: its answers come from
another bus name), the scan is ended by somebody else, the radio just stops hearing, and bluetoothd holds on to a scan that the
kernel has ended, so that no other begins. What "just stops" means is learned from the gaps this radio lives with; for the last
one the adapter is switched off and on.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

from bleak import BleakScanner
from bleak.args.bluez import BlueZDiscoveryFilters, OrPattern, OrPatternLike
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakDBusError, BleakError
from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusError, InvalidAddressError

from gateway.ble.advert import Heard, parse_fields, usable
from gateway.clock import Clock
from gateway.errors import DeviceError

log = logging.getLogger(__name__)

FILTERS: Final[BlueZDiscoveryFilters] = {"RSSI": -120, "DuplicateData": True}
# Any monitor switches the duplicate filter off; these match beacons only, so a busy street does not wake BlueZ twice.
PATTERNS: Final[list[OrPatternLike]] = [
    OrPattern(0, AdvertisementDataType(0xFF), bytes.fromhex("4c000215")),  # iBeacon
    OrPattern(2, AdvertisementDataType(0xFF), bytes.fromhex("beac")),  # AltBeacon
    OrPattern(0, AdvertisementDataType(0x16), bytes.fromhex("aafe")),  # Eddystone
    OrPattern(0, AdvertisementDataType(0x16), bytes.fromhex("6ffe")),  # LINE
]
LOST: Final = (BleakError, DBusError, AuthError, InvalidAddressError, DeviceError, OSError, EOFError, TimeoutError)
POLL_S: Final = 1.0
START_S: Final = 15.0  # a controller that hangs for longer will not answer at all
STOP_S: Final = 3.0
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0)
ENDED_POLLS: Final = 6  # bluetoothd itself says "not discovering" while it waits, at most 5 s, to start its scan again
SHORTEST_STALL_S: Final = 12.0  # a filtering controller leaves gaps of 10.7 s
LONGEST_STALL_S: Final = 300.0
STALL_GAPS: Final = 4.0  # times the longest gap of the last hour
HELPED_S: Final = 3.0  # what is heard so soon after a restart was owed to it
MEMORY_S: Final = 3600.0
MAX_DEVICES: Final = 4096
MONITORED: Final = ("up", "scanning, every advertisement")
UNMONITORED: Final = ("degraded", "scanning without a monitor, gaps of 10 s are possible: bluetoothd lacks --experimental")
STALLED: Final = ("degraded", "nothing is heard although it scans; the scan was started anew")
# Said to the end of a scan, twice: bluetoothd before 5.88 then takes the next one for running and asks the kernel for none.
STUCK: Final = "org.bluez.Error.InProgress"
# Changes of these make bleak call back although nothing was received.
STATE_PROPERTIES: Final = ("Connected", "Paired", "Bonded", "Trusted", "Blocked", "ServicesResolved", "Alias", "WakeAllowed")

Hear = Callable[[Heard], None]
Changed = Callable[[str, str], None]


class Silence:
    """When silence is a stall: learned from the gaps heard so far."""

    def __init__(self, t_s: float) -> None:
        self._heard_s = t_s
        self._restarted_s = -math.inf
        self._longest_s = SHORTEST_STALL_S / STALL_GAPS
        self._doublings = 0

    @property
    def stall_s(self) -> float:
        """Silence that counts as a stall now; doubled by every restart that did not help."""
        return min(LONGEST_STALL_S, max(SHORTEST_STALL_S, STALL_GAPS * self._longest_s) * 2.0**self._doublings)

    def heard(self, t_s: float) -> None:
        """Something was received; its gap is learned unless a restart ended it."""
        gap_s = t_s - self._heard_s
        if t_s - self._restarted_s > HELPED_S:
            self._longest_s = max(gap_s, self._longest_s * math.exp(-gap_s / MEMORY_S))
        self._heard_s = t_s
        self._doublings = 0

    def resumed(self, t_s: float) -> None:
        """The scan works again; the time it did not is no gap."""
        if self._restarted_s < self._heard_s:
            self._heard_s = t_s

    def stalled(self, t_s: float) -> bool:
        """Whether to start the scan anew; asking is counted as doing it."""
        if t_s - max(self._heard_s, self._restarted_s) < self.stall_s:
            return False
        self._restarted_s = t_s
        self._doublings = min(self._doublings + 1, 5)
        return True


class BluezRadio:
    """The adapters of this box.

    Args:
        adapters: Their names, `hci0` and so on; each is a receiver of that name.
        looked: Called with an adapter's name whenever bluetoothd was asked for it, in vain or not.
    """

    def __init__(self, adapters: Sequence[str], clock: Clock, looked: Callable[[str], None] = lambda _adapter: None) -> None:
        self._adapters = adapters
        self._clock = clock
        self._looked = looked
        self._states: dict[str, tuple[str, str]] = {}
        self._changed: Changed = lambda _state, _detail: None

    async def run(self, hear: Hear, changed: Changed) -> None:
        """Scan until cancelled; `changed` gets `up`, `degraded` or `down` and why, for all adapters together."""
        self._changed = changed
        async with asyncio.TaskGroup() as adapters:
            for name in self._adapters:
                adapters.create_task(Adapter(name, self._clock, hear, self._say, self._looked).run())

    def _say(self, adapter: str, state: str, detail: str) -> None:
        if self._states.get(adapter) == (state, detail):
            return
        self._states[adapter] = (state, detail)
        if len(self._states) < len(self._adapters):
            return  # the first word waits until every adapter has spoken
        states = {state for state, _ in self._states.values()}
        overall = states.pop() if len(states) == 1 else "degraded"
        self._changed(overall, "; ".join(f"{name}: {detail}" for name, (_, detail) in self._states.items()))


class Adapter:
    """One adapter's scan, kept alive."""

    def __init__(self, name: str, clock: Clock, hear: Hear, say: Callable[[str, str, str], None], looked: Callable[[str], None]) -> None:
        self._name = name
        self._looked = looked
        self._clock = clock
        self._hear = hear
        self._say = say
        self._silence = Silence(self._now_s())
        self._stalled = False
        self._stuck = False
        self._working = UNMONITORED  # what to say while the scan does its work
        self._received = 0
        self._device_states: OrderedDict[str, tuple[Any, ...]] = OrderedDict()

    async def run(self) -> None:
        """Scan until cancelled."""
        failures = 0
        while True:
            try:
                if self._stuck:
                    await self._switch_off_and_on()
                async with self._scanning() as monitored:
                    failures = 0
                    self._working = MONITORED if monitored else UNMONITORED
                    self._silence.resumed(self._now_s())
                    if not self._stalled:
                        self._say(self._name, *self._working)
                    await self._watch()
                self._stalled = True
                self._say(self._name, *STALLED)
            except LOST as error:
                self._stalled = False
                self._say(self._name, "down", _reason(error))
                self._looked(self._name)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    @asynccontextmanager
    async def _scanning(self) -> AsyncIterator[bool]:
        """Scan; gives whether a monitor is held."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(START_S):
                monitor = BleakScanner(scanning_mode="passive", bluez={"adapter": self._name, "or_patterns": PATTERNS})
                monitored = await _start_monitor(monitor)
                if monitored:
                    stack.push_async_callback(self._stop, monitor)
                scanner = BleakScanner(self._detected, bluez={"adapter": self._name, "filters": FILTERS})
                await scanner.start()
                stack.push_async_callback(self._stop, scanner)
            yield monitored

    async def _stop(self, scanner: BleakScanner) -> None:
        with suppress(*LOST):  # it may have ended with bluetoothd
            try:
                async with asyncio.timeout(STOP_S):
                    await scanner.stop()
            except BleakDBusError as error:
                self._stuck = self._stuck or error.dbus_error == STUCK

    async def _switch_off_and_on(self) -> None:
        """Free an adapter whose scan bluetoothd can neither end nor begin.

        Raises:
            DeviceError: It does not come on again; to be tried again.
        """
        bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        try:
            if not await self._power(bus, False):
                log.warning("%s: bluetoothd holds on to a scan that has ended, and does not let the adapter be switched off", self._name)
            elif await self._power(bus, True):
                log.warning("%s: bluetoothd held on to a scan that had ended; the adapter was switched off and on", self._name)
            else:
                raise DeviceError("the adapter does not come on again")
            self._stuck = False
            self._looked(self._name)
        finally:
            bus.disconnect()

    async def _power(self, bus: MessageBus, on: bool) -> bool:
        """Whether bluetoothd did it; it may not let us."""
        reply = await self._call(bus, "Set", "ssv", ["org.bluez.Adapter1", "Powered", Variant("b", on)], START_S)
        return reply.message_type is not MessageType.ERROR

    async def _watch(self) -> None:
        """Return when the scan has stalled.

        Raises:
            DeviceError: bluetoothd or the adapter went away, or somebody ended the scan.
        """
        bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        try:
            owner, ended, received = None, 0, self._received
            while not self._silence.stalled(self._now_s()):
                discovering, sender = await self._ask_discovering(bus)
                self._looked(self._name)
                if owner not in (None, sender):
                    raise DeviceError("bluetoothd was started anew")
                owner = sender
                ended = 0 if discovering or self._received != received else ended + 1
                received = self._received
                if ended >= ENDED_POLLS:
                    raise DeviceError("the scan was ended from outside")
                await asyncio.sleep(POLL_S)
        finally:
            bus.disconnect()

    async def _ask_discovering(self, bus: MessageBus) -> tuple[bool, str | None]:
        reply = await self._call(bus, "Get", "ss", ["org.bluez.Adapter1", "Discovering"], STOP_S)
        if reply.message_type is MessageType.ERROR:
            raise DeviceError("bluetoothd or the adapter is gone")
        return bool(reply.body[0].value), reply.sender

    async def _call(self, bus: MessageBus, member: str, signature: str, body: list[Any], within_s: float) -> Message:
        call = Message(
            destination="org.bluez", path=f"/org/bluez/{self._name}", interface="org.freedesktop.DBus.Properties",
            member=member, signature=signature, body=body, flags=MessageFlag.NO_AUTOSTART,
        )  # fmt: skip
        async with asyncio.timeout(within_s):
            return await bus.call(call)

    def _detected(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        if not usable(advertisement.rssi) or self._is_change_of_state(device.address, advertisement.platform_data[1]):
            return
        t_s = self._now_s()
        self._received += 1
        self._silence.heard(t_s)
        if self._stalled:
            self._stalled = False
            self._say(self._name, *self._working)
        sightings = parse_fields(advertisement.manufacturer_data, advertisement.service_data)
        if sightings:
            self._hear(Heard(t_s, self._name, device.address, advertisement.rssi, sightings))

    def _is_change_of_state(self, address: str, properties: dict[str, Any]) -> bool:
        now = tuple(properties.get(name) for name in STATE_PROPERTIES)
        before = self._device_states.pop(address, now)
        self._device_states[address] = now
        if len(self._device_states) > MAX_DEVICES:
            self._device_states.popitem(last=False)
        return now != before

    def _now_s(self) -> float:
        return self._clock.boottime_ns() / 1e9


async def _start_monitor(monitor: BleakScanner) -> bool:
    try:
        await monitor.start()
    except BleakError:  # a missing bluetoothd is told by the active scan, which comes next
        return False
    return True


def _reason(error: BaseException) -> str:
    if isinstance(error, DeviceError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "bluetoothd does not answer"
    return f"no scan: {type(error).__name__}"
