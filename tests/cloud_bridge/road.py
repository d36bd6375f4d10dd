"""An outbox as a bridge uses it, and a headquarters that takes rows only without a gap."""

from cloud_bridge.outbox import AGE_S, Outbox, Span

BATCH = 5
ROW_B = 20


def send(outbox: Outbox, now_s: float, cut: int | None = None) -> Span | None:
    """The next span as it is sent: at most its rows, or cut down to fit a message."""
    span = outbox.next(now_s)
    if span is None:
        return None
    upto = min(span.upto, span.after + span.rows)
    if cut is not None and span.after < cut < upto:
        upto = cut
    outbox.sent(span, upto, (upto - span.after) * ROW_B, now_s)
    return Span(span.epoch, span.lane, span.after, upto, span.rows)


def drained(outbox: Outbox, now_s: float = 0.0) -> list[tuple[int, int, int, int]]:
    """(epoch, lane, after, upto) of all that goes now."""
    spans = []
    while (span := send(outbox, now_s)) is not None:
        spans.append((span.epoch, span.lane, span.after, span.upto))
        assert len(spans) < 1_000
    return spans


def heeding(reach: dict[int, dict[int, int]], cursors: dict[int, dict[int, int]] | None = None) -> Outbox:
    """An outbox on a line that works; its rows have waited long enough to go in batches that are not full."""
    outbox = Outbox(BATCH)
    outbox.heed(reach, cursors or {}, -max(AGE_S.values()))
    outbox.restart(-1.0)
    outbox.heard(-0.5)
    return outbox


class Hq:
    """Takes rows of a lane only without a gap, whatever comes; knows the order of epochs."""

    def __init__(self) -> None:
        self.marks: dict[tuple[int, int], int] = {}
        self.taken: dict[int, list[tuple[int, int]]] = {}  # by lane
        self.clock_us = 0

    def take(self, span: Span) -> tuple[Span, int, int, int]:
        """Commit what follows the mark; what is answered: the batch, the lower of its end and the mark, the mark, the time."""
        mark = self.marks.get((span.epoch, span.lane), 0)
        if span.after <= mark:
            self.taken.setdefault(span.lane, []).extend((span.epoch, seq) for seq in range(mark + 1, span.upto + 1))
            mark = self.marks[span.epoch, span.lane] = max(mark, span.upto)
        self.clock_us += 1
        return span, min(span.upto, mark), mark, self.clock_us
