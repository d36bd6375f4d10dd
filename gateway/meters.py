"""What Prometheus reads: a histogram, and the text format 0.0.4, by hand, since its client library weighs more than a unit.

Numbers only, and labels of our own making: no code, no order, no member, no name of a person is ever a label.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# From an SSD's fsync (0.2 ms) over an SD card's (5 ms) to a card that is about to die.
FSYNC_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

Labels = Mapping[str, str]


class Histogram(Struct):
    """How long something took: counts by upper bound. One thread observes, any may read."""

    bounds: tuple[float, ...] = FSYNC_BOUNDS_S
    counts: list[int] = field(default_factory=lambda: [0] * (len(FSYNC_BOUNDS_S) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)


def gauge(name: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> str:
    """A family of numbers that go up and down."""
    return _family(name, meaning, "gauge", [(name, labels, value) for labels, value in samples])


def counter(name: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> str:
    """A family of numbers that only grow; by custom its name ends in `_total`."""
    return _family(name, meaning, "counter", [(name, labels, value) for labels, value in samples])


def histogram(name: str, meaning: str, of: Histogram) -> str:
    """The three series of a histogram; buckets are cumulative."""
    below, samples = 0, []
    for bound, count in zip([*map(_number, of.bounds), "+Inf"], of.counts, strict=True):
        below += count
        samples.append((f"{name}_bucket", {"le": bound}, float(below)))
    return _family(name, meaning, "histogram", [*samples, (f"{name}_sum", {}, of.total), (f"{name}_count", {}, float(below))])


def _family(name: str, meaning: str, kind: str, samples: Iterable[tuple[str, Labels, float]]) -> str:
    explained = meaning.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# HELP {name} {explained}", f"# TYPE {name} {kind}"]
    lines += [f"{series}{_braced(labels)} {_number(value)}" for series, labels, value in samples]
    return "\n".join(lines) + "\n"


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
