"""A stand-in for bluetoothd on a private D-Bus, with the rules of the real one that a scanner runs into.

- Nothing is delivered unless somebody scans.
- A controller that filters duplicates: without a held monitor, one report per device in 10.3 s.
- Without an RSSI discovery filter, a change of less than 8 dB is no change (bluez src/device.c).

Run as a program with DBUS_SYSTEM_BUS_ADDRESS set; `--no-monitor` plays a bluetoothd without --experimental,
`--discovering` one that scans for somebody else already; a second one takes the name from the first. Commands are JSON
lines on standard input: {"advert": ADDRESS, "rssi": …, "manufacturer": {ID: HEX}, "service": {UUID: HEX}},
{"connected": ADDRESS}, {"end_scan": true}, {"stick": true}: as BlueZ below 5.88, hold on to a scan that the kernel has ended,
until the adapter is switched off and on (https://github.com/bluez/bluez/issues/807). Each is answered by what was done.
"""

import asyncio
import json
import sys
import time
from typing import Annotated, Any, Final

from dbus_fast import BusType, Message, NameFlag, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusBool, DBusObjectPath, DBusSignature, DBusStr
from dbus_fast.errors import DBusError
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

ADAPTER: Final = "/org/bluez/hci0"
DEDUPE_S: Final = 10.3


class AdapterInterface(ServiceInterface):
    def __init__(self) -> None:
        super().__init__("org.bluez.Adapter1")
        self.filter: dict[str, Any] = {}
        self.discovering = False
        self.stuck = False
        self.powered = True
        self.reported_s: dict[str, float] = {}

    @dbus_method()
    def SetDiscoveryFilter(self, properties: Annotated[dict[str, Variant], DBusSignature("a{sv}")]) -> None:
        self.filter = {name: variant.value for name, variant in properties.items()}

    @dbus_method()
    def StartDiscovery(self) -> None:
        self.reported_s.clear()
        self.discovering = True
        self.emit_properties_changed({"Discovering": True})

    @dbus_method()
    def StopDiscovery(self) -> None:
        if self.stuck:
            raise DBusError("org.bluez.Error.InProgress", "Operation already in progress")
        self.discovering = False
        self.emit_properties_changed({"Discovering": False})

    @dbus_property(PropertyAccess.READ)
    def Address(self) -> DBusStr:
        return "00:00:5E:00:53:01"

    @dbus_property()
    def Powered(self) -> DBusBool:
        return self.powered

    @Powered.setter
    def Powered_set(self, on: DBusBool) -> None:
        self.powered = on
        self.stuck = self.discovering = False
        self.emit_properties_changed({"Powered": on, "Discovering": False})

    @dbus_property(PropertyAccess.READ)
    def Discovering(self) -> DBusBool:
        return self.discovering

    @dbus_property(PropertyAccess.READ)
    def Roles(self) -> Annotated[list[str], DBusSignature("as")]:
        return ["central", "peripheral"]


class MonitorRegistry(ServiceInterface):
    def __init__(self) -> None:
        super().__init__("org.bluez.AdvertisementMonitorManager1")
        self.monitors: set[str] = set()

    @dbus_method()
    def RegisterMonitor(self, application: DBusObjectPath) -> None:
        self.monitors.add(application)

    @dbus_method()
    def UnregisterMonitor(self, application: DBusObjectPath) -> None:
        self.monitors.discard(application)

    @dbus_property(PropertyAccess.READ)
    def SupportedMonitorTypes(self) -> Annotated[list[str], DBusSignature("as")]:
        return ["or_patterns"]


class Bluetoothd:
    def __init__(self, bus: MessageBus, monitors: bool) -> None:
        self.bus = bus
        self.adapter = AdapterInterface()
        self.registry = MonitorRegistry()
        self.known: dict[str, dict[str, Variant]] = {}
        bus.export(ADAPTER, self.adapter)
        if monitors:
            bus.export(ADAPTER, self.registry)

    def obey(self, command: dict[str, Any]) -> str:
        if "end_scan" in command:
            self.adapter.StopDiscovery()
            return "ended"
        if "stick" in command:
            self.adapter.StopDiscovery()
            self.adapter.stuck = True
            return "stuck"
        if "connected" in command:
            return self._change(command["connected"], {"Connected": Variant("b", True)})
        return self._advertise(command)

    def _advertise(self, command: dict[str, Any]) -> str:
        address, now_s = command["advert"], time.monotonic()
        if not self.adapter.discovering or self.adapter.stuck or not self.adapter.powered:
            return "not scanning"
        if not self.registry.monitors and now_s - self.adapter.reported_s.get(address, -100.0) < DEDUPE_S:
            return "filtered by the controller"
        self.adapter.reported_s[address] = now_s
        manufacturer = {int(key): Variant("ay", bytes.fromhex(data)) for key, data in command.get("manufacturer", {}).items()}
        service = {key: Variant("ay", bytes.fromhex(data)) for key, data in command.get("service", {}).items()}
        properties = {"RSSI": Variant("n", command["rssi"])}
        if manufacturer:
            properties["ManufacturerData"] = Variant("a{qv}", manufacturer)
        if service:
            properties["ServiceData"] = Variant("a{sv}", service)
        if address not in self.known:
            return self._add(address, properties)
        if "RSSI" not in self.adapter.filter and abs(self.known[address]["RSSI"].value - command["rssi"]) < 8:
            return "less than 8 dB"
        return self._change(address, properties)

    def _add(self, address: str, properties: dict[str, Variant]) -> str:
        fixed = {"Address": Variant("s", address), "Adapter": Variant("o", ADAPTER), "Alias": Variant("s", address)}
        self.known[address] = {**fixed, "Connected": Variant("b", False), **properties}
        body = [_path(address), {"org.bluez.Device1": self.known[address]}]
        self.bus.send(Message.new_signal("/", "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", "oa{sa{sv}}", body))
        return "delivered"

    def _change(self, address: str, properties: dict[str, Variant]) -> str:
        self.known[address].update(properties)
        body = ["org.bluez.Device1", properties, []]
        self.bus.send(Message.new_signal(_path(address), "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body))
        return "delivered"


def _path(address: str) -> str:
    return f"{ADAPTER}/dev_{address.replace(':', '_')}"


async def main() -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bluetoothd = Bluetoothd(bus, monitors="--no-monitor" not in sys.argv)
    bluetoothd.adapter.discovering = "--discovering" in sys.argv
    await bus.request_name("org.bluez", NameFlag.ALLOW_REPLACEMENT | NameFlag.REPLACE_EXISTING)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        print(bluetoothd.obey(json.loads(line)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
