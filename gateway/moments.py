"""A moment, how far its wall clock can be believed, and the root of everything that happens in one. Pure."""

from enum import IntEnum

from msgspec import Struct


class TimeTrust(IntEnum):
    """How far the wall clock can be believed."""

    SYNCED = 0  # T0: HQ's signed time agrees
    HOLDOVER = 1  # T1: nothing contradicts it
    UNTRUSTED = 2  # T2: it lies before something that has happened


class Instant(Struct, frozen=True, array_like=True, gc=False):
    """A moment: what the wall clock said, and what it was worth."""

    wall_us: int
    mono_ns: int  # CLOCK_BOOTTIME
    boot_id: str
    trust: TimeTrust


class Event(Struct, frozen=True, tag=True):
    """The root of everything that is stated or stored."""
