"""Where a row stands, and whether HQ's count already holds it. Pure."""

from collections.abc import Mapping

RowPlace = tuple[int, int]  # of a row of lane 0: epoch number and seq
NOWHERE: RowPlace = (0, 0)


def beyond(place: RowPlace, marks: Mapping[int, int]) -> bool:
    """Whether a row lies beyond what HQ had of its epoch (`marks`: epoch number to seq)."""
    return place[1] > marks.get(place[0], 0)
