"""The radio unit: from what is heard to what is stated.

Owned tags and members' apps, both named in `[[ble.tags]]`, have visits: `VisitStarted` and `VisitEnded` with one visit id,
which no restart of this process reuses. Everybody else is only counted: `OccupancyEstimated`, once per zone and window.
Open visits live in memory. At a shutdown none is ended, for nobody has left; after a restart their subjects start new
visits, and the old ones stay without an end.

A window is 60 s long on a real radio, because its fifth must exceed the 10.7 s gaps of a controller that filters duplicates,
and 10 s on a virtual or replayed one. While the file `sources-stop` lies in the run folder, virtual and replayed sources are
silent and nothing is estimated: visits end by `exit_after_s`, then nothing more is stated.
"""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from gateway.ble.advert import Heard, IBeacon, Phone, Unreadable, ibeacon_identity
from gateway.ble.footfall import Footfall
from gateway.ble.virtual import Air, Recording, VirtualRadio, Walkers
from gateway.ble.zones import Entered, Left, Visits
from gateway.clock import Clock
from gateway.config import BleTable, GatewayConfig, TagTable
from gateway.errors import ConfigError
from gateway.events import DeviceChanged, Instant, OccupancyEstimated, Stated, SubjectKind, VisitEnded, VisitStarted
from gateway.health import Watchdog
from gateway.link import LinkClient

STOP_FILE: Final = "sources-stop"
REAL_WINDOW_S: Final = 60.0
VIRTUAL_WINDOW_S: Final = 10.0
TICK_S: Final = 0.5  # visits end after seconds of silence, windows last ten
GAPPY_EXIT_S: Final = 12.0  # a degraded scan has gaps of 10.7 s; a shorter silence would end visits that go on
REPLAY: Final = "replay:"
TICKS: Final = "ticks"  # the watchdog's name for the driver's own loop; adapters have theirs

State = Callable[[Stated], object]


class Radio(Protocol):
    """Where advertisements come from."""

    async def run(self, hear: Callable[[Heard], None], changed: Callable[[str, str], None]) -> None:
        """Receive until cancelled."""


class Driver:
    """What the unit knows of its surroundings.

    Args:
        state: Called with each event, in order.
        paused: Whether nothing is to be estimated now.
    """

    def __init__(
        self, ble: BleTable, unit: str, clock: Clock, state: State, window_s: float, paused: Callable[[], bool] = lambda: False
    ) -> None:
        zones = sensor_zones(ble)
        self._followed = followed(ble)
        self._exit_after_s = ble.exit_after_s
        self._unit = unit
        self._clock = clock
        self._state = state
        self._paused = paused
        self._kinds = {tag.subject: SubjectKind(tag.kind) for tag in ble.tags}
        self._visits = Visits(zones, ble.exit_after_s, lambda: secrets.token_hex(16))
        self._footfall = Footfall(zones, window_s, lambda: secrets.token_bytes(32))
        self._quiet = paused()
        self.unreadable = 0

    def hear(self, heard: Heard) -> None:
        """Take one advertisement."""
        stranger = False
        for sighting in heard.sightings:
            if isinstance(sighting, IBeacon):
                tag = self._followed.get((sighting.uuid, sighting.major, sighting.minor))
                if tag is not None:
                    for change in self._visits.hear(heard.t_s, tag.subject, heard.sensor, heard.rssi_dbm):
                        self._state_visit(change)
                    return
            elif isinstance(sighting, Phone):
                stranger = True
            elif isinstance(sighting, Unreadable):
                self.unreadable += 1
        if stranger and not self._quiet:
            self._close_window(heard.t_s)
            self._footfall.hear(heard.t_s, heard.sensor, heard.address, heard.rssi_dbm)

    def changed(self, device_state: str, detail: str) -> None:
        """The radio came, went or limps."""
        self._visits.exit_after_s = self._exit_after_s if device_state == "up" else max(self._exit_after_s, GAPPY_EXIT_S)
        self._state(DeviceChanged(self._unit, device_state, detail, self._clock.now()))

    def tick(self) -> None:
        """Let time do its part: visits end by silence, windows close."""
        now_s = self._clock.boottime_ns() / 1e9
        for change in self._visits.tick(now_s):
            self._state_visit(change)
        self._quiet = self._paused()
        if self._quiet:
            self._footfall.forget()
        else:
            self._close_window(now_s)

    async def run(self, ticked: Callable[[], None] = lambda: None) -> None:
        """Tick until cancelled."""
        while True:
            self.tick()
            ticked()
            await asyncio.sleep(TICK_S)

    def _close_window(self, t_s: float) -> None:
        for estimate in self._footfall.tick(t_s):
            self._state(
                OccupancyEstimated(
                    self._unit, estimate.zone, self._footfall.window_s, estimate.value, estimate.low, estimate.high, self._clock.now()
                )
            )

    def _state_visit(self, change: Entered | Left) -> None:
        kind = self._kinds[change.subject]
        if isinstance(change, Entered):
            event_time = self._instant(change.enter_s)
            self._state(VisitStarted(self._unit, change.visit_id, change.subject, kind, change.zone, event_time))
        else:
            dwell_s = round(change.exit_s - change.enter_s, 3)
            event_time = self._instant(change.exit_s)
            self._state(VisitEnded(self._unit, change.visit_id, change.subject, kind, change.zone, dwell_s, event_time))

    def _instant(self, t_s: float) -> Instant:
        """A moment of the monotonic clock, as the wall clock would have shown it."""
        now = self._clock.now()
        past_ns = now.mono_ns - round(t_s * 1e9)
        return Instant(now.wall_us - past_ns // 1000, now.mono_ns - past_ns, now.boot_id, now.trust)


def sensor_zones(ble: BleTable) -> dict[str, str]:
    """Zone of each receiver.

    Raises:
        ConfigError: No receiver, or two of one name.
    """
    zones = {sensor.name: sensor.zone for sensor in ble.sensors}
    if not zones:
        raise ConfigError("the radio has no receiver", 'Add [[ble.sensors]] with name = "hci0" and its zone')
    if len(zones) < len(ble.sensors):
        raise ConfigError("two [[ble.sensors]] have the same name", "Give each receiver its own")
    return zones


def followed(ble: BleTable) -> dict[tuple[str, int, int], TagTable]:
    """Who may be followed, by iBeacon identity.

    Raises:
        ConfigError: An identity that is none, or is given twice.
    """
    tags: dict[tuple[str, int, int], TagTable] = {}
    for tag in ble.tags:
        if not tag.ibeacon:
            continue
        try:
            identity = ibeacon_identity(tag.ibeacon)
        except ValueError as error:
            raise ConfigError(f"`ibeacon` of {tag.subject} is not UUID/MAJOR/MINOR", "Copy it from the tag's label") from error
        if identity in tags:
            raise ConfigError(f"{tag.subject} and {tags[identity].subject} have the same `ibeacon`", "Give each its own")
        tags[identity] = tag
    return tags


def open_radio(config: GatewayConfig, clock: Clock, looked: Callable[[str], None] = lambda _adapter: None) -> Radio:
    """The radio the configuration names.

    Args:
        looked: Called by a real radio with the adapter's name whenever it has asked for it, in vain or not.

    Raises:
        ConfigError: A radio nobody knows, or a recording that cannot be played.
    """
    ble = config.ble
    zones = sensor_zones(ble)
    if ble.radio == "bluez":
        from gateway.ble.radio import BluezRadio  # bleak costs memory that a virtual radio need not pay

        return BluezRadio(list(zones), clock, looked)
    air: Air
    if ble.radio == "virtual":
        subjects = {tag.subject: identity for identity, tag in followed(ble).items()}
        air = Walkers(zones, subjects, away_s=ble.exit_after_s + 2, seed=ble.seed)
    elif ble.radio.startswith(REPLAY):
        air = Recording(Path(ble.radio.removeprefix(REPLAY)))
    else:
        raise ConfigError(f"nobody knows the radio {ble.radio}", "`radio` in [ble] is bluez, virtual or replay:FILE")
    return VirtualRadio(air, stop_file(config), clock)


def stop_file(config: GatewayConfig) -> Path:
    """The file that silences virtual and replayed sources."""
    return Path(config.paths.run) / STOP_FILE


async def run(config: GatewayConfig, name: str, clock: Clock) -> None:
    """Run the radio unit until cancelled.

    Args:
        name: The instance, `name` of `[ble]`.

    Raises:
        ConfigError: No such instance, or a configuration that cannot be used.
    """
    if name != config.ble.name:
        raise ConfigError(f"there is no [ble] named {name}", f"Known: {config.ble.name}")
    unit = f"ble@{name}"
    link = LinkClient(config.link_path, unit, clock)
    adapters = [sensor.name for sensor in config.ble.sensors] if config.ble.radio == "bluez" else []
    watchdog = Watchdog(TICKS, *adapters)
    radio = open_radio(config, clock, watchdog.turned)
    if config.ble.radio == "bluez":
        driver = Driver(config.ble, unit, clock, link.state, REAL_WINDOW_S)
    else:
        driver = Driver(config.ble, unit, clock, link.state, VIRTUAL_WINDOW_S, stop_file(config).exists)
    async with asyncio.TaskGroup() as group:
        group.create_task(link.run())
        group.create_task(radio.run(driver.hear, driver.changed))
        group.create_task(driver.run(lambda: watchdog.turned(TICKS)))
        group.create_task(watchdog.run())
