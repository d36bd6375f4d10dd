"""What a check is, what it may look at, and what it says: in both languages, with the next step."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from gateway.config import GatewayConfig
from gateway.rules.reasons import NOTHING, Text


class State(StrEnum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"  # works now, and will not for ever
    FAIL = "fail"  # does not work
    SKIPPED = "skipped"  # could not be looked at, or does not apply here


class Outcome(Struct, frozen=True):
    """What one look found."""

    state: State
    what: Text
    next_step: Text = NOTHING
    subject: str = ""  # which one, where there are several: a unit, a file


class Box(Struct, frozen=True):
    """What checks may look at.

    `root` is `/`, except where a test holds a tree with another machine's /proc, /sys and /etc.
    """

    config_path: Path
    config: GatewayConfig | None
    config_trouble: str
    view: dict[str, Any] | None  # what core says at /v1/store; None: it does not answer
    view_trouble: str
    root: Path = Path("/")

    @property
    def known(self) -> GatewayConfig:
        """The configuration, for checks that need one."""
        assert self.config is not None  # noqa: S101 - `doctor` skips those checks without one
        return self.config

    @property
    def told(self) -> dict[str, Any]:
        """Core's view, for checks that need it."""
        assert self.view is not None  # noqa: S101 - `doctor` skips those checks without it
        return self.view


class Check(Struct, frozen=True):
    """One question about the box.

    `why` says what a customer or the chain loses when the answer is bad. `look` may take its time or raise: the doctor bounds it.
    """

    id: str
    title: Text
    why: Text
    look: Callable[[Box], list[Outcome]]
    needs: frozenset[str] = frozenset()


RETIRED: Final = "box_retired"  # core's word that headquarters has revoked this box
CONFIG: Final = frozenset({"config"})
CORE: Final = frozenset({"config", "core"})
WAIT: Final = ("等一分鐘，再執行一次", "Wait a minute, then run the doctor again")


def ok(zh: str, en: str, subject: str = "") -> Outcome:
    """All is well; the sentence says what was seen."""
    return Outcome(State.OK, Text(zh, en), NOTHING, subject)


def warn(what: tuple[str, str], next_step: tuple[str, str], subject: str = "") -> Outcome:
    """Will fail if nobody does anything."""
    return Outcome(State.WARN, Text(*what), Text(*next_step), subject)


def fail(what: tuple[str, str], next_step: tuple[str, str], subject: str = "") -> Outcome:
    """Does not work."""
    return Outcome(State.FAIL, Text(*what), Text(*next_step), subject)


def skipped(zh: str, en: str, subject: str = "") -> Outcome:
    """Not looked at, and why."""
    return Outcome(State.SKIPPED, Text(zh, en), NOTHING, subject)
