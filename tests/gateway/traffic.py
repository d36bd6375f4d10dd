"""Rows of foot traffic as the radio unit really states them: a made-up shop's bytes through the real driver, faster than time."""

import time

import msgspec

from gateway.ble.driver import Driver, followed, sensor_zones
from gateway.ble.virtual import Walkers
from gateway.clock import SystemClock
from gateway.config import BleTable, SensorTable, TagTable
from gateway.events import Event, Instant, Stated, TimeTrust

UUID = "d0d2ce249efc11e582c41c6a7a17ef38"
ZONES = ("door", "kiosk", "shelf-a", "shelf-b", "till", "lockers")
TICK_S = 0.5


class HurriedClock(SystemClock):
    """The machine's clock, with its jitter, moved on by hand."""

    def __init__(self, ago_s: float) -> None:
        super().__init__()
        self.ahead_ns = -int(ago_s * 1e9)

    def now(self) -> Instant:
        return Instant((time.time_ns() + self.ahead_ns) // 1000, self.boottime_ns(), "5bd2f3a1", TimeTrust.SYNCED)

    def boottime_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self.ahead_ns


def traffic(count: int, tags: int = 40, seed: int = 11, ago_s: float = 0.0) -> list[tuple[int, Event]]:
    """(record_us, event) of `count` rows of lane 1, committed once a second; the first was written so long ago."""
    subjects = [("member", f"m-{at:04d}") if at % 3 == 0 else ("tag", f"trolley-{at}") for at in range(tags)]
    ble = BleTable(
        radio="virtual", sensors=[SensorTable(f"hci{at}", zone) for at, zone in enumerate(ZONES)],
        tags=[TagTable(subject, kind, f"{UUID}/1/{at}") for at, (kind, subject) in enumerate(subjects)],
    )  # fmt: skip
    clock, stated, rows = HurriedClock(ago_s), list[Stated](), list[tuple[int, Event]]()
    driver = Driver(ble, "ble@radio", clock, stated.append, 10.0)
    walkers = Walkers(sensor_zones(ble), {tag.subject: at for at, tag in followed(ble).items()}, ble.exit_after_s + 2, phones=12, seed=seed)
    while len(rows) < count:
        for _ in range(2):
            clock.ahead_ns += int(TICK_S * 1e9)
            for reception in walkers.advance(clock.boottime_ns() / 1e9):
                driver.hear(reception.heard(reception.t_s))
            driver.tick()
        rows += [(clock.now().wall_us, event) for event in stated]
        stated.clear()
    return rows[:count]


def traffic_rows(count: int, tags: int = 40, seed: int = 11, ago_s: float = 0.0) -> list[tuple[int, bytes]]:
    """The same as `gateway.columns` takes them: (record_us, event_json)."""
    return [(record_us, msgspec.json.encode(event)) for record_us, event in traffic(count, tags, seed, ago_s)]
