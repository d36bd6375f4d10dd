"""Bluetooth advertisements: bytes to sightings, by tables.

An advertisement is a row of AD structures (length, type, body). Only two types tell who is there: manufacturer data (0xFF,
by company identifier) and 16-bit service data (0x16, by service UUID). One table each names the readers; the walk over raw
bytes and the fields BlueZ hands over use the same two, so a frame means the same whichever way it came.

`parse` and `parse_fields` are total: a frame that claims a format and breaks it becomes `Unreadable`, to be counted, and
whatever nobody here knows is left out. Nothing of a phone but its maker is kept.

Source for the AD structures: Bluetooth Core Specification 5.4, volume 3, part C, section 11.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from gateway.errors import MalformedFrame

APPLE: Final = 0x004C
EDDYSTONE: Final = 0xFEAA
LINE: Final = 0xFE6F
LINE_POWER_UNSTATED: Final = 0x7F
UUID16_TAIL: Final = "-0000-1000-8000-00805f9b34fb"  # the Bluetooth base UUID: BlueZ writes 16-bit UUIDs out in full
RSSI_UNKNOWN: Final = frozenset({-127, 0, 127})  # bleak's stand-in, BlueZ's unset, the controller's "not available"
SERVICE_DATA: Final = 0x16
MANUFACTURER_DATA: Final = 0xFF


class IBeacon(Struct, frozen=True, tag=True):
    """Apple's proximity beacon."""

    uuid: str  # 32 hex digits, lower case
    major: int
    minor: int
    measured_power_dbm: int  # at 1 m


class AltBeacon(Struct, frozen=True, tag=True):
    """Radius Networks' open beacon."""

    company_id: int
    beacon_id: str  # 40 hex digits
    measured_power_dbm: int  # at 1 m
    reserved: int


class EddystoneUid(Struct, frozen=True, tag=True):
    """Google's beacon with a fixed identity."""

    namespace: str  # 20 hex digits
    instance: str  # 12 hex digits
    measured_power_dbm: int  # at 0 m


class LineSimpleBeacon(Struct, frozen=True, tag=True):
    """A LINE Simple Beacon; it proves nothing, anybody can send it."""

    hwid: str  # 10 hex digits
    device_message: bytes  # 1 to 13 bytes


class LineBeacon(Struct, frozen=True, tag=True):
    """A LINE Beacon with a secure message, not verified here."""

    hwid: str
    measured_power_dbm: int  # at 1 m
    mac: bytes  # 4 bytes
    masked_timestamp: int  # low 16 bits of a counter of 15 s steps
    battery: int  # 0 unknown or mains, 1 to 11 for 0 % to 100 %


class LineAmbiguous(Struct, frozen=True, tag=True):
    """A 7-byte message without a power: Simple Beacon or LINE Beacon, which only the HWID's owner can tell."""

    hwid: str
    device_message: bytes


class Phone(Struct, frozen=True, tag=True):
    """A payload that phones send. A class, not an identity: some watches and tablets send it too."""

    maker: str


class Unreadable(Struct, frozen=True, tag=True):
    """Something claimed a format and broke it."""

    what: str


Sighting = IBeacon | AltBeacon | EddystoneUid | LineSimpleBeacon | LineBeacon | LineAmbiguous | Phone | Unreadable
Reader = Callable[[bytes], Sighting | None]


class Heard(Struct, frozen=True):
    """One advertisement at one receiver. Address and signal strength stay inside this process."""

    t_s: float
    sensor: str
    address: str
    rssi_dbm: int
    sightings: tuple[Sighting, ...]


_IBEACON: Final = struct.Struct(">16sHHb")
_ALTBEACON: Final = struct.Struct(">20sbB")
_EDDYSTONE_UID: Final = struct.Struct(">b10s6s")
_LINE_SECURE: Final = struct.Struct(">4sHB")


def ibeacon_identity(text: str) -> tuple[str, int, int]:
    """UUID, major and minor as an `IBeacon` holds them, from `UUID/MAJOR/MINOR` of the configuration.

    Raises:
        ValueError: Not of that form.
    """
    uuid, major, minor = text.split("/")
    digits = uuid.replace("-", "").lower()
    if len(bytes.fromhex(digits)) != 16 or not 0 <= int(major) <= 0xFFFF or not 0 <= int(minor) <= 0xFFFF:
        raise ValueError(f"not an iBeacon identity: {text}")
    return digits, int(major), int(minor)


def usable(rssi_dbm: int) -> bool:
    """Whether a signal strength is a measurement; HCI gives -127 to 20 dBm and three values that mean "unknown"."""
    return -127 < rssi_dbm <= 20 and rssi_dbm not in RSSI_UNKNOWN


def parse_ibeacon(data: bytes) -> IBeacon:
    """Read an iBeacon frame out of Apple's manufacturer data.

    Layout, big-endian, 23 bytes, company identifier 0x004C already removed::

        02 15 | uuid 16 B | major u16 | minor u16 | measured power i8 (dBm at 1 m)

    Raises:
        MalformedFrame: Wrong prefix or length.

    Source: Apple, Proximity Beacon Specification R1, section 2.1.
    """
    if len(data) != 23 or data[:2] != b"\x02\x15":
        raise MalformedFrame("iBeacon")
    uuid, major, minor, power_dbm = _IBEACON.unpack_from(data, 2)
    return IBeacon(uuid.hex(), major, minor, power_dbm)


def parse_altbeacon(company_id: int, data: bytes) -> AltBeacon:
    """Read an AltBeacon frame out of any company's manufacturer data.

    Layout, big-endian, 24 bytes, company identifier already removed::

        BE AC | beacon id 20 B | reference RSSI i8 (dBm at 1 m) | reserved by the company u8

    Raises:
        MalformedFrame: Wrong prefix or length.

    Source: AltBeacon Protocol Specification v1.0.
    """
    if len(data) != 24 or data[:2] != b"\xbe\xac":
        raise MalformedFrame("AltBeacon")
    beacon_id, power_dbm, reserved = _ALTBEACON.unpack_from(data, 2)
    return AltBeacon(company_id, beacon_id.hex(), power_dbm, reserved)


def parse_eddystone(data: bytes) -> EddystoneUid | None:
    """Read Eddystone service data; None for frame types other than UID.

    Layout, big-endian, 18 or 20 bytes, UUID 0xFEAA already removed::

        00 | power i8 (dBm at 0 m) | namespace 10 B | instance 6 B | reserved 2 B, left out by some senders

    Raises:
        MalformedFrame: A UID frame of the wrong length, or nothing at all.

    Source: github.com/google/eddystone, eddystone-uid.
    """
    if not data:
        raise MalformedFrame("Eddystone")
    if data[0] != 0x00:
        return None
    if len(data) not in (18, 20):
        raise MalformedFrame("Eddystone-UID")
    power_dbm, namespace, instance = _EDDYSTONE_UID.unpack_from(data, 1)
    return EddystoneUid(namespace.hex(), instance.hex(), power_dbm)


def parse_line(data: bytes) -> LineSimpleBeacon | LineBeacon | LineAmbiguous | None:
    """Read LINE service data; None for frame types other than 0x02.

    Layout, big-endian, 8 to 20 bytes, UUID 0xFE6F already removed::

        02 | hwid 5 B | power i8 (dBm at 1 m) or 7F | device message 1 to 13 B

    A LINE Beacon's message is 7 bytes, ``MAC 4 | masked timestamp u16 | battery u8``, and its power may be 7F too; then a
    Simple Beacon with 7 bytes to say looks the same.

    Raises:
        MalformedFrame: Wrong length, or a power that neither kind may have with this message.

    Source: line/line-simple-beacon README; developers.line.biz, LINE Beacon device specification.
    """
    if not data:
        raise MalformedFrame("LINE")
    if data[0] != 0x02:
        return None
    if not 8 <= len(data) <= 20:
        raise MalformedFrame("LINE")
    hwid, power, message = data[1:6].hex(), data[6], data[7:]
    if power == LINE_POWER_UNSTATED:
        return LineAmbiguous(hwid, message) if len(message) == 7 else LineSimpleBeacon(hwid, message)
    if len(message) != 7:
        raise MalformedFrame("LINE")
    mac, masked_timestamp, battery = _LINE_SECURE.unpack(message)
    return LineBeacon(hwid, power - 256 if power > 127 else power, mac, masked_timestamp, battery)


# Continuity message types that phones send by themselves: AirDrop, Handoff, Nearby Action, Nearby Info. Others come from
# earphones (07), AirPlay boxes (09) or lost things (12). Source: furiousMAC/continuity, messages.
_CONTINUITY_OF_PHONES: Final = frozenset({0x05, 0x0C, 0x0F, 0x10})


def parse_apple(data: bytes) -> IBeacon | Phone | None:
    """Read Apple's manufacturer data: an iBeacon, a phone's Continuity messages, or None for other devices.

    Continuity is a row of (type u8, length u8, body); an iBeacon is type 02.

    Raises:
        MalformedFrame: An iBeacon of the wrong length, or a Continuity message that overruns its end.
    """
    if data[:1] == b"\x02":
        return parse_ibeacon(data)
    at = 0
    while at + 2 <= len(data):
        if data[at] in _CONTINUITY_OF_PHONES:
            if at + 2 + data[at + 1] > len(data):
                raise MalformedFrame("Continuity")
            return _APPLE_PHONE
        at += 2 + data[at + 1]
    return None


_APPLE_PHONE: Final = Phone("apple")


def _phone(maker: str) -> Reader:
    phone = Phone(maker)
    return lambda _data: phone


MANUFACTURER_READERS: Final[dict[int, Reader]] = {
    APPLE: parse_apple,
    0x0075: _phone("samsung"),
    0x00E0: _phone("google"),
    0x027D: _phone("huawei"),
    0x038F: _phone("xiaomi"),
}

SERVICE_READERS: Final[dict[int, Reader]] = {
    EDDYSTONE: parse_eddystone,
    LINE: parse_line,
    0xFEF3: _phone("google"),  # Nearby Connections and Quick Share
    0xFD6F: _phone("exposure"),  # what is left of Exposure Notification
}


def parse(ad: bytes) -> tuple[Sighting, ...]:
    """Read the AD structures of one advertisement, in their order.

    A structure that overruns the end makes the rest `Unreadable`; a length of zero ends the walk, as padding does.
    """
    found: list[Sighting] = []
    at, end = 0, len(ad)
    while at < end:
        length = ad[at]
        if length == 0:
            break
        following = at + 1 + length
        if following > end:
            found.append(Unreadable("AD structure"))
            break
        if length >= 3:
            kind = ad[at + 1]
            if kind == MANUFACTURER_DATA:
                _read_manufacturer(ad[at + 2] | ad[at + 3] << 8, ad[at + 4 : following], found)
            elif kind == SERVICE_DATA:
                _read_service(ad[at + 2] | ad[at + 3] << 8, ad[at + 4 : following], found)
        at = following
    return tuple(found)


def parse_fields(manufacturer: Mapping[int, bytes], service: Mapping[str, bytes]) -> tuple[Sighting, ...]:
    """Read what BlueZ hands over: manufacturer data by company identifier, service data by full UUID text.

    BlueZ merges the advertisements of a device, so an identity it no longer sends may still be among these.
    """
    found: list[Sighting] = []
    for company_id, data in manufacturer.items():
        _read_manufacturer(company_id, bytes(data), found)
    for uuid, data in service.items():
        short = _uuid16(uuid)
        if short is not None:
            _read_service(short, bytes(data), found)
    return tuple(found)


def _read_manufacturer(company_id: int, data: bytes, found: list[Sighting]) -> None:
    try:
        if data[:2] == b"\xbe\xac":
            found.append(parse_altbeacon(company_id, data))
            return
        reader = MANUFACTURER_READERS.get(company_id)
        sighting = reader(data) if reader is not None else None
    except MalformedFrame as error:
        sighting = Unreadable(error.args[0])
    if sighting is not None:
        found.append(sighting)


def _read_service(uuid16: int, data: bytes, found: list[Sighting]) -> None:
    reader = SERVICE_READERS.get(uuid16)
    if reader is None:
        return
    try:
        sighting = reader(data)
    except MalformedFrame as error:
        sighting = Unreadable(error.args[0])
    if sighting is not None:
        found.append(sighting)


def _uuid16(uuid: str) -> int | None:
    if len(uuid) != 36 or not uuid.startswith("0000") or uuid[8:].lower() != UUID16_TAIL:
        return None
    try:
        return int(uuid[4:8], 16)
    except ValueError:
        return None
