"""The physical world of a virtual locker: doors, bolts, and a hand that uses them.

It lives in a file beside the port, replaced atomically, so killing the board's process moves no door. Nothing moves by
itself: every look first lets happen what was due by then, also what a hand did while no process was there to see it.
"""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from gateway.clock import Clock, read_boot_id
from gateway.errors import DeviceError
from gateway.events import DoorState

RELEASED_NS: Final = 3_000_000_000  # an unlocked door that nobody pulls latches again


class Lock(Struct):
    """One compartment's door; times are CLOCK_BOOTTIME nanoseconds."""

    door: DoorState = DoorState.CLOSED
    jammed: bool = False
    pulses: int = 0  # ever, so that a test can tell one intent, one pulse
    released_until_ns: int = 0
    pull_at_ns: int | None = None  # when the hand will pull
    close_at_ns: int | None = None


class World(Struct):
    """What the file beside the port holds."""

    boot_id: str
    locks: list[Lock]


class Cabinet:
    """All doors of one bank.

    Args:
        file: Where the doors are kept.
        compartments: How many there are.
        pull_after_s: From the pulse to the hand that pulls; None: no hand.
        close_after_s: From the pulse to the hand that closes; None: it leaves the door open.

    Raises:
        DeviceError: The file is not one of ours.
    """

    def __init__(self, file: Path, compartments: int, pull_after_s: float | None, close_after_s: float | None, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self.pull_after_s = pull_after_s
        self.close_after_s = close_after_s
        self._world = self._load(compartments)

    def lock(self, compartment: int) -> Lock:
        """One compartment as it is now.

        Raises:
            DeviceError: There is no such compartment.
        """
        locks = self.locks()
        if not 1 <= compartment <= len(locks):
            raise DeviceError(f"there is no compartment {compartment}", f"Name one from 1 to {len(locks)}")
        return locks[compartment - 1]

    def locks(self) -> list[Lock]:
        """All compartments as they are now."""
        now_ns = self._clock.boottime_ns()
        if any([_let_happen(lock, now_ns) for lock in self._world.locks]):
            self.save()
        return self._world.locks

    def pulse(self, compartment: int) -> None:
        """The coil of a lock is driven once."""
        lock = self.lock(compartment)
        now_ns = self._clock.boottime_ns()
        lock.pulses += 1
        if not lock.jammed and lock.door is DoorState.CLOSED:
            lock.released_until_ns = now_ns + RELEASED_NS
            if self.pull_after_s is not None and lock.pull_at_ns is None:
                lock.pull_at_ns = now_ns + round(self.pull_after_s * 1e9)
                lock.close_at_ns = None if self.close_after_s is None else now_ns + round(self.close_after_s * 1e9)
        self.save()

    def pull(self, compartment: int) -> None:
        """A hand pulls: the door opens if its lock is released."""
        lock = self.lock(compartment)
        if self._clock.boottime_ns() <= lock.released_until_ns and not lock.jammed:
            lock.door = DoorState.OPEN
        self.save()

    def force(self, compartment: int) -> None:
        """A crowbar: the door opens whatever the lock says."""
        self.lock(compartment).door = DoorState.OPEN
        self.save()

    def close(self, compartment: int) -> None:
        """A hand closes the door, which latches."""
        _shut(self.lock(compartment))
        self.save()

    def jam(self, compartment: int) -> None:
        """The bolt sticks: pulses release nothing."""
        self.lock(compartment).jammed = True
        self.save()

    def unjam(self, compartment: int) -> None:
        """The bolt moves again."""
        self.lock(compartment).jammed = False
        self.save()

    def save(self) -> None:
        """Keep the world."""
        fresh = self._file.with_name(self._file.name + ".new")
        fresh.write_bytes(msgspec.json.encode(self._world))
        fresh.replace(self._file)

    def _load(self, compartments: int) -> World:
        boot_id = read_boot_id()
        try:
            world = msgspec.json.decode(self._file.read_bytes(), type=World)
        except FileNotFoundError:
            world = World(boot_id, [])
        except msgspec.DecodeError as error:
            raise DeviceError(f"{self._file} holds no doors: {error}", "Remove it; all virtual doors are then closed") from error
        if world.boot_id != boot_id:  # the clock began anew: whatever hands were about to do, they have done
            for lock in world.locks:
                _let_happen(lock, 2**63)
                lock.released_until_ns = 0
        locks = (world.locks + [Lock() for _ in range(compartments)])[:compartments]
        return World(boot_id, locks)


def _let_happen(lock: Lock, now_ns: int) -> bool:
    """Do what a hand was to do by now; True if anything moved."""
    moved = False
    if lock.pull_at_ns is not None and now_ns >= lock.pull_at_ns:
        lock.pull_at_ns = None
        if lock.jammed:
            lock.close_at_ns = None
        else:
            lock.door = DoorState.OPEN
        moved = True
    if lock.pull_at_ns is None and lock.close_at_ns is not None and now_ns >= lock.close_at_ns:
        _shut(lock)
        moved = True
    return moved


def _shut(lock: Lock) -> None:
    lock.door = DoorState.CLOSED
    lock.released_until_ns = 0
    lock.pull_at_ns = lock.close_at_ns = None
