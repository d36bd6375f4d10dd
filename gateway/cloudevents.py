"""A row as a CloudEvents 1.0 event and back, without loss: how the rest of the world reads what shops tell. Pure.

    specversion  "1.0"
    source       the gateway's name, such as "tpe-001-a"
    id           EPOCH/LANE/SEQ, such as "7-1f2e3d4c/0/42"; unique with the source, the same however often it is asked for
    type         "store-gateway.voucher-redeemed.v1": the row's kind; what a later version drops or reinterprets counts it up
    time         when it happened, by the best knowledge there is; left out where no calendar has that day
    data         the row's fields as the ledger holds them, `event_time` among them; `contract/schemas/` describes them

Extensions: `epoch`, `lane`; `sequence` (the number within epoch and lane, 19 digits, so that text order is number order);
`recordtime` (when it was written, microseconds since 1970 UTC; a string, for the specification's integers end at 2^31);
`timetrust` (0 agrees with headquarters, 1 uncontradicted, 2 not to be believed); and `retimed`, true where headquarters has
since learned the true time: `time` is that, and `data.event_time` still is what the box's clock said.
"""

import datetime
import re
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.errors import MalformedFrame
from gateway.events import LANE_OF, Instant, Row

SPEC: Final = "1.0"
PREFIX: Final = "store-gateway."
VERSION: Final = ".v1"
MEDIA_TYPE: Final = "application/cloudevents+json"
BATCH_MEDIA_TYPE: Final = "application/cloudevents-batch+json"
MOST: Final = 1 << 62
SEQUENCE_DIGITS: Final = 19
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EPOCH_START: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017 - the older name for all readers
_FIRST_US: Final = -62_135_596_800_000_000  # year 1
_LAST_US: Final = 253_402_300_799_999_999  # year 9999
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Told(Struct, frozen=True):
    """A row and where it stands."""

    gateway: str
    epoch: str
    lane: int
    seq: int
    record_us: int
    event: Row
    fixed_us: int | None = None  # when it truly happened, where that was learned later


def words_of(kind: str) -> str:
    """A row's kind in words, such as `voucher-redeemed`."""
    return _WORDS.sub("-", kind).lower()


def type_of(kind: str) -> str:
    """A row's kind as a CloudEvents type."""
    return f"{PREFIX}{words_of(kind)}{VERSION}"


KINDS: Final[dict[str, type[Row]]] = {type_of(kind.__name__): kind for kind in LANE_OF}  # type: ignore[misc]


class _Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """The attributes this module writes, and no others."""

    specversion: str
    id: str
    source: str
    type: str
    datacontenttype: str
    epoch: str
    lane: int
    sequence: str
    recordtime: str
    timetrust: int
    data: dict[str, Any]
    time: str | None = None
    retimed: bool = False


def to_cloudevent(gateway: str, epoch: str, lane: int, seq: int, record_us: int, event: Row, fixed_us: int | None = None) -> dict[str, Any]:
    """The CloudEvent of a row, ready to be written as JSON.

    Args:
        fixed_us: When it truly happened, where headquarters learned that later, µs since 1970 UTC.
    """
    at: Instant = event.event_time
    data = msgspec.json.decode(msgspec.json.encode(event))
    kind = data.pop("type")
    said = {
        "specversion": SPEC,
        "id": f"{epoch}/{lane}/{seq}",
        "source": gateway,
        "type": type_of(kind),
        "datacontenttype": "application/json",
        "epoch": epoch,
        "lane": lane,
        "sequence": f"{seq:0{SEQUENCE_DIGITS}d}",
        "recordtime": str(record_us),
        "timetrust": int(at.trust),
        "data": data,
    }
    time = rfc3339(at.wall_us if fixed_us is None else fixed_us)
    if time is not None:
        said["time"] = time
    if fixed_us is not None:
        said["retimed"] = True
    return said


def from_cloudevent(said: object) -> Told:
    """The row of a CloudEvent that `to_cloudevent` wrote. Its event encodes to the very bytes of the row.

    Raises:
        MalformedFrame: Not such a CloudEvent, or one that contradicts itself.
    """
    try:
        shape = msgspec.convert(said, _Shape)
        kind = KINDS.get(shape.type)
        if kind is None:
            raise MalformedFrame("a CloudEvent of a type this release does not know")
        event = msgspec.convert({"type": kind.__name__, **shape.data}, kind, str_keys=True)
        seq, record_us = _whole(shape.sequence), _whole(shape.recordtime)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise MalformedFrame(f"not a CloudEvent of a row: {str(error)[:100]}") from error
    fixed_us = _microseconds(shape.time) if shape.retimed else None
    told = Told(shape.source, shape.epoch, shape.lane, seq, record_us, event, fixed_us)
    if not NAME.fullmatch(told.gateway) or not NAME.fullmatch(told.epoch) or to_cloudevent(*msgspec.structs.astuple(told)) != said:
        raise MalformedFrame("a CloudEvent that contradicts itself")
    return told


def rfc3339(wall_us: int) -> str | None:
    """A moment as RFC 3339 with microseconds; None: no calendar has that day."""
    if not _FIRST_US <= wall_us <= _LAST_US:
        return None
    moment = _EPOCH_START + datetime.timedelta(microseconds=wall_us)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z".rjust(27, "0")


def _microseconds(text: str | None) -> int:
    """What `rfc3339` wrote."""
    if text is None or len(text) != 27 or not text.endswith("Z"):
        raise MalformedFrame("a CloudEvent that was timed anew, without its time")
    try:
        moment = datetime.datetime.fromisoformat(text.removesuffix("Z") + "+00:00")
    except ValueError as error:
        raise MalformedFrame("a CloudEvent with an impossible time") from error
    return (moment - _EPOCH_START) // datetime.timedelta(microseconds=1)


def _whole(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or len(text) > SEQUENCE_DIGITS + 1 or not text.isascii() or abs(int(text)) >= MOST:
        raise ValueError("not a number")
    return int(text)
