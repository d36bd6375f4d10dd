"""A radio without a radio: advertisements as bytes, made up or recorded, with time as an argument.

`Walkers` makes up a shop: its zones lie in a row, each receiver in the middle of its zone. The tags and members of the
configuration come in, walk from zone to zone, stay and leave; strangers' phones come and go with random addresses. Signal
strength falls with the logarithm of the distance, bodies take their share, some advertisements are lost. `Recording` plays
a file back. What leaves this module are complete AD structures: the parser and everything after it cannot tell the
difference.

A recording is a text file of JSON lines, one advertisement each, in order of time::

    {"t_s": 0.0, "sensor": "hci0", "address": "C0:00:00:00:00:01", "rssi": -61, "hex": "02010606094c…"}
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gateway.ble.advert import Heard, parse, usable
from gateway.clock import Clock
from gateway.errors import ConfigError

ZONE_M: Final = 8.0  # distance between the middles of two zones
WALK_M_PER_S: Final = 1.2
POWER_AT_1M_DBM: Final = -59
PATH_LOSS_EXPONENT: Final = 2.2  # indoor, between shelves
NOISE_DB: Final = 3.5  # of a single advertisement, standing still
MAX_BODY_LOSS_DB: Final = 8.0
LOSS: Final = 0.15  # share of advertisements lost to collisions
DEAF_DBM: Final = -96.0  # a Pi's radio hears nothing below
TAG_INTERVAL_S: Final = 0.25
ROTATION_S: Final = (840.0, 960.0)  # phones change their address about every 15 minutes
TICK_S: Final = 0.1
FIRST_STAY_S: Final = (5.0, 6.0)
STAY_S: Final = (5.0, 15.0)
PHONE_STAY_S: Final = 90.0  # mean
MAX_LATENESS_S: Final = 2.0  # after a pause of the machine nothing older is made up


Payloads = Callable[[], str]


class Reception(Struct, frozen=True):
    """One advertisement as one receiver got it; the fields are those of a recording."""

    t_s: float
    sensor: str
    address: str
    rssi: int
    hex: str

    def heard(self, t_s: float) -> Heard:
        """What the parser makes of it, at another time."""
        return Heard(t_s, self.sensor, self.address, self.rssi, parse(bytes.fromhex(self.hex)))


class Air(Protocol):
    """A source of advertisements."""

    def advance(self, t_s: float) -> list[Reception]:
        """Everything received up to this time that was not given before; times never decrease."""

    def hush(self, silent: bool) -> None:
        """Have everybody leave and nobody come, or let them come again."""


class Spot(Struct, frozen=True):
    """A place in the shop, and until when somebody stays there."""

    x_m: float
    y_m: float
    until_s: float


class Walker:
    """Somebody with a transmitter, walking along spots.

    Args:
        payloads: Gives an advertisement in hex; asked again at each change of address.
        address: A fixed one; empty for one that rotates.
    """

    def __init__(
        self, rng: random.Random, t_s: float, interval_s: float, payloads: Callable[[], str], address: str, spots: list[Spot]
    ) -> None:
        self._rng = rng
        self._payloads = payloads
        self._spots = spots
        self._body_loss_db = rng.uniform(0, MAX_BODY_LOSS_DB)
        self._interval_s = interval_s
        self._rotates_s = math.inf if address else t_s + rng.uniform(0, ROTATION_S[0])
        self._address = address or random_address(rng)
        self._hex = payloads()
        self.next_s = t_s
        self.gone_s = spots[-1].until_s

    def send(self) -> tuple[str, str]:
        """Address and advertisement of the next transmission, whose time is then moved on."""
        if self.next_s >= self._rotates_s:
            self._address, self._hex = random_address(self._rng), self._payloads()
            self._rotates_s += self._rng.uniform(*ROTATION_S)
        self.next_s += self._interval_s + self._rng.uniform(0, 0.01)  # advDelay of the core specification
        return self._address, self._hex

    def level_dbm(self, t_s: float, x_m: float, y_m: float) -> float:
        """Signal strength at a receiver, one advertisement's noise included."""
        here_x, here_y = self._place(t_s)
        distance_m = max(0.3, math.hypot(here_x - x_m, here_y - y_m))
        loss_db = 10 * PATH_LOSS_EXPONENT * math.log10(distance_m) + self._body_loss_db
        return POWER_AT_1M_DBM - loss_db + self._rng.gauss(0, NOISE_DB)

    def _place(self, t_s: float) -> tuple[float, float]:
        spot = self._spots[0]
        for following in self._spots[1:]:
            if t_s < spot.until_s:
                break
            way_m = math.hypot(following.x_m - spot.x_m, following.y_m - spot.y_m)
            done = (t_s - spot.until_s) * WALK_M_PER_S / way_m if way_m else 1.0
            if done < 1:
                return spot.x_m + done * (following.x_m - spot.x_m), spot.y_m + done * (following.y_m - spot.y_m)
            spot = following
        return spot.x_m, spot.y_m


class Walkers:
    """The made-up shop.

    Args:
        sensor_zone: Zone of each receiver.
        subjects: iBeacon identity (UUID digits, major, minor) of each subject that walks about.
        away_s: Shortest time a subject stays away; above the silence that ends a visit, so that each walk is a visit.
        phones: How many strangers' phones are there on average.
        seed: Same seed and times, same advertisements; 0 takes a new one.
    """

    def __init__(
        self, sensor_zone: Mapping[str, str], subjects: Mapping[str, tuple[str, int, int]], away_s: float, phones: int = 24, seed: int = 0
    ) -> None:
        self._rng = random.Random(seed or None)
        self._zones = sorted(set(sensor_zone.values()))
        self._sensors = {sensor: self._stand(sensor, sensor_zone) for sensor in sensor_zone}
        self._subjects = dict(subjects)
        self._addresses = {subject: random_address(self._rng, static=True) for subject in subjects}
        self._away_s = away_s
        self._phones = phones
        self._next_phone_s = 0.0
        self._came = False
        self._silent = False
        self._walkers: list[Walker] = []
        self._away_until: dict[str, float] = {}

    def hush(self, silent: bool) -> None:
        if silent:
            self._walkers.clear()
            self._came = False
        self._silent = silent

    def advance(self, t_s: float) -> list[Reception]:
        if self._silent or not self._sensors:
            return []
        if not self._came:
            self._open_shop(t_s)
        self._come(t_s)
        received: list[Reception] = []
        for walker in self._walkers:
            walker.next_s = max(walker.next_s, t_s - MAX_LATENESS_S)
            while walker.next_s <= min(t_s, walker.gone_s):
                at_s = walker.next_s
                received += self._receive(at_s, walker, *walker.send())
        self._walkers = [walker for walker in self._walkers if walker.gone_s > t_s]
        received.sort(key=lambda reception: reception.t_s)
        return received

    def _receive(self, t_s: float, walker: Walker, address: str, ad_hex: str) -> Iterable[Reception]:
        for sensor, (x_m, y_m) in self._sensors.items():
            level_dbm = walker.level_dbm(t_s, x_m, y_m)
            if self._rng.random() >= LOSS and level_dbm > DEAF_DBM:
                yield Reception(t_s, sensor, address, min(-1, round(level_dbm)), ad_hex)

    def _open_shop(self, t_s: float) -> None:
        self._came = True
        self._away_until = {subject: t_s + 0.2 + 1.7 * at for at, subject in enumerate(self._subjects)}
        self._walkers = [self._phone(t_s) for _ in range(self._phones)]
        self._next_phone_s = t_s
        for subject in list(self._subjects)[:1]:
            self._walkers.append(self._walk(subject, t_s, 1, FIRST_STAY_S))

    def _come(self, t_s: float) -> None:
        for subject, until_s in self._away_until.items():
            if t_s >= until_s:
                self._walkers.append(self._walk(subject, t_s, self._rng.randint(1, min(3, len(self._zones))), STAY_S))
        while self._phones and self._next_phone_s <= t_s:
            self._walkers.append(self._phone(self._next_phone_s))
            self._next_phone_s += self._rng.expovariate(self._phones / PHONE_STAY_S)

    def _walk(self, subject: str, t_s: float, zones: int, stay_s: tuple[float, float]) -> Walker:
        ad_hex = ibeacon(*self._subjects[subject]).hex()
        spots = self._spots(t_s, zones, lambda: self._rng.uniform(*stay_s))
        self._away_until[subject] = spots[-1].until_s + self._away_s + self._rng.uniform(0, 10)
        return Walker(self._rng, t_s, TAG_INTERVAL_S, lambda: ad_hex, self._addresses[subject], spots)

    def _phone(self, t_s: float) -> Walker:
        make = self._rng.choice(PHONES)
        spots = self._spots(t_s, self._rng.randint(1, 3), lambda: self._rng.expovariate(2 / PHONE_STAY_S))
        return Walker(self._rng, t_s, self._rng.uniform(0.4, 1.6), lambda: make(self._rng).hex(), "", spots)

    def _spots(self, t_s: float, count: int, stay_s: Callable[[], float]) -> list[Spot]:
        at = self._rng.randrange(len(self._zones))
        spots: list[Spot] = []
        for _ in range(count):
            x_m, y_m = (at + 0.5) * ZONE_M + self._rng.uniform(-2, 2), self._rng.uniform(-2, 2)
            way_s = math.hypot(x_m - spots[-1].x_m, y_m - spots[-1].y_m) / WALK_M_PER_S if spots else 0.0
            t_s += way_s + stay_s()
            spots.append(Spot(x_m, y_m, t_s))
            at = max(0, min(len(self._zones) - 1, at + self._rng.choice((-1, 1))))
        return spots

    def _stand(self, sensor: str, sensor_zone: Mapping[str, str]) -> tuple[float, float]:
        zone = sensor_zone[sensor]
        fellows = sorted(name for name, other in sensor_zone.items() if other == zone)
        offset_m = (fellows.index(sensor) - (len(fellows) - 1) / 2) * 3.0
        return (self._zones.index(zone) + 0.5) * ZONE_M + offset_m, 0.0


class Recording:
    """A file of receptions, played once from the first call of `advance` on.

    Raises:
        ConfigError: Not there, or a line that is no reception.
    """

    def __init__(self, path: Path) -> None:
        self._receptions = read_recording(path)
        self._at = 0
        self._started_s: float | None = None
        self._silent = False

    def hush(self, silent: bool) -> None:
        self._silent = silent

    def advance(self, t_s: float) -> list[Reception]:
        if self._started_s is None:
            self._started_s = t_s - (self._receptions[0].t_s if self._receptions else 0.0)
        first = self._at
        while self._at < len(self._receptions) and self._receptions[self._at].t_s + self._started_s <= t_s:
            self._at += 1
        played = [] if self._silent else self._receptions[first : self._at]
        return [msgspec.structs.replace(reception, t_s=reception.t_s + self._started_s) for reception in played]


class VirtualRadio:
    """Plays an air to the driver.

    Args:
        stop_file: While it exists, everybody is silent.
    """

    def __init__(self, air: Air, stop_file: Path, clock: Clock) -> None:
        self._air = air
        self._stop_file = stop_file
        self._clock = clock

    async def run(self, hear: Callable[[Heard], None], changed: Callable[[str, str], None]) -> None:
        """Play until cancelled."""
        changed("up", "virtual radio")
        while True:
            self._air.hush(self._stop_file.exists())
            for reception in self._air.advance(self._clock.boottime_ns() / 1e9):
                if usable(reception.rssi):
                    hear(reception.heard(reception.t_s))
            await asyncio.sleep(TICK_S)


def read_recording(path: Path) -> list[Reception]:
    """The receptions of a file, in order of time.

    Raises:
        ConfigError: Not there, or a line that is no reception.
    """
    receptions = []
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                receptions.append(_reception(line, f"{path}:{number}"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "Mend `radio` in [ble]") from error
    return sorted(receptions, key=lambda reception: reception.t_s)


def _reception(line: bytes, where: str) -> Reception:
    try:
        reception = msgspec.json.decode(line, type=Reception)
        bytes.fromhex(reception.hex)
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{where} is not a reception: {error}", "The form is in gateway/ble/virtual.py") from error
    return reception


def random_address(rng: random.Random, static: bool = False) -> str:
    """A static random address (top bits 11) or a resolvable private one (01)."""
    first = rng.randrange(64) | (0xC0 if static else 0x40)
    return ":".join(f"{byte:02X}" for byte in (first, *rng.randbytes(5)))


def structure(kind: int, body: bytes) -> bytes:
    """One AD structure."""
    return bytes((len(body) + 1, kind)) + body


def ibeacon(uuid: str, major: int, minor: int) -> bytes:
    """The advertisement of an iBeacon: flags and manufacturer data, 30 bytes."""
    identity = bytes.fromhex(uuid) + major.to_bytes(2, "big") + minor.to_bytes(2, "big")
    return structure(0x01, b"\x06") + structure(0xFF, b"\x4c\x00\x02\x15" + identity + (POWER_AT_1M_DBM & 0xFF).to_bytes(1, "big"))


def iphone(rng: random.Random) -> bytes:
    """Continuity, Nearby Info, with a fresh authentication tag."""
    return structure(0x01, b"\x1a") + structure(0xFF, b"\x4c\x00\x10\x05\x51\x18" + rng.randbytes(3))


def galaxy(rng: random.Random) -> bytes:
    """Samsung's manufacturer data as its phones send it."""
    return structure(0x01, b"\x1a") + structure(0xFF, b"\x75\x00\x42\x04\x01\x80\x60" + rng.randbytes(12))


def android(rng: random.Random) -> bytes:
    """Google's Nearby Connections service data."""
    return structure(0x03, b"\xf3\xfe") + structure(0x16, b"\xf3\xfe\x4a\x17\x23" + rng.randbytes(16))


PHONES: Final = (iphone, galaxy, android)
