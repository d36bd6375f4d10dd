"""The ledger: one SQLite file, one writer, append-only; what was answered is on the disk, and the road to HQ starts here.

A row is known by (epoch, lane, seq). Every start opens a new epoch that names its parent and how far each lane of it had
come. Rows are stored in blocks, as committed together or merged later, and chained per lane by a keyed hash: what is damaged
is found at the start, set aside and named, and the rest serves. Writers share one fsync (group commit): money rows are
flushed at once, foot traffic and health at most once a second.
"""

from gateway.blocks import StoredAnswer
from gateway.chain import Epoch, StoredRow
from gateway.ledger.connect import connect
from gateway.ledger.ledger import Ledger
from gateway.ledger.reader import Block, LedgerReader
from gateway.ledger.records import StoredDocument
from gateway.ledger.room import Limits
from gateway.ledger.survey import Damage

__all__ = ["Block", "Damage", "Epoch", "Ledger", "LedgerReader", "Limits", "StoredAnswer", "StoredDocument", "StoredRow", "connect"]
