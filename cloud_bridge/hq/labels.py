"""Enrolment labels: single-use secrets, of which only hashes are kept, and what became of each.

A label is used up in the transaction that stores the key of the box that brought it: of two boxes with one label, one is
enrolled. The same box may bring it again for an hour, with the same key, for its answer may have been lost on the way.
A label that others try afterwards, or another box does, is a complaint that headquarters shows.
"""

import hashlib
import secrets
from typing import Final

from msgspec import Struct

from cloud_bridge.hq.store import Connection
from provisioning.authority import EnrolAsk
from provisioning.label import SECRET_B

VALID_DAYS: Final = 30
DAY_US: Final = 86_400 * 1_000_000
AGAIN_US: Final = 3600 * 1_000_000  # a box whose answer was lost tries again within minutes
KEPT_COMPLAINTS: Final = 50  # of one box; older ones have been seen or never will be


class Issued(Struct, frozen=True):
    """A secret that was just issued; it is told once."""

    secret: bytes
    not_after_us: int


class Complaint(Struct, frozen=True):
    """Somebody tried a label that is not theirs."""

    at_us: int
    reason: str


def issue(db: Connection, gateway: str, now_us: int, days: int = VALID_DAYS) -> Issued:
    """A new secret for a box; those before it stop working."""
    secret, not_after_us = secrets.token_bytes(SECRET_B), now_us + days * DAY_US
    void(db, gateway)
    db.execute(
        "INSERT INTO labels (secret_sha256, gateway, issued_us, not_after_us) VALUES (?, ?, ?, ?)",
        (_sha256(secret.hex()), gateway, now_us, not_after_us),
    )
    return Issued(secret, not_after_us)


def void(db: Connection, gateway: str) -> None:
    """Stop every label of a box from working, the used one too: its box cannot fetch the answer again."""
    db.execute("UPDATE labels SET void = 1 WHERE gateway = ?", (gateway,))


def use(db: Connection, ask: EnrolAsk, now_us: int) -> str | None:
    """Use a label up for the box that brings it.

    Returns:
        Why not, a key of `provisioning.words.REASONS`; None: used, and the box's key is stored.
    """
    found = db.execute(
        "SELECT gateway, not_after_us, void, used_us, used_public FROM labels WHERE secret_sha256 = ?", (_sha256(ask.secret),)
    ).fetchone()
    if found is None:
        return "secret_wrong"
    gateway, not_after_us, is_void, used_us, used_public = found
    if gateway != ask.gateway or not _same_shop(db, ask):
        _complain(db, gateway, "wrong_box", now_us)
        return "wrong_box"
    if used_us is not None and (used_public != ask.public or is_void or now_us - used_us > AGAIN_US):
        _complain(db, gateway, "label_used", now_us)
        return "label_used"
    if is_void:
        return "label_replaced"
    if now_us > not_after_us:
        return "label_expired"
    if used_us is None:
        db.execute("UPDATE labels SET used_us = ?, used_public = ? WHERE secret_sha256 = ?", (now_us, ask.public, _sha256(ask.secret)))
        db.execute("UPDATE boxes SET public = ?, enrolled_us = ? WHERE gateway = ?", (ask.public, now_us, gateway))
    return None


def complaints(db: Connection, gateway: str) -> list[Complaint]:
    """What was tried with a box's labels, the newest first."""
    rows = db.execute("SELECT at_us, reason FROM label_complaints WHERE gateway = ? ORDER BY id DESC LIMIT 5", (gateway,))
    return [Complaint(*row) for row in rows]


def _same_shop(db: Connection, ask: EnrolAsk) -> bool:
    found = db.execute("SELECT tenant, store, number FROM boxes WHERE gateway = ?", (ask.gateway,)).fetchone()
    return found is not None and tuple(found) == (ask.tenant, ask.store, ask.number)


def _complain(db: Connection, gateway: str, reason: str, now_us: int) -> None:
    db.execute("INSERT INTO label_complaints (gateway, at_us, reason) VALUES (?, ?, ?)", (gateway, now_us, reason))
    db.execute(
        "DELETE FROM label_complaints WHERE gateway = ? AND id NOT IN"
        " (SELECT id FROM label_complaints WHERE gateway = ? ORDER BY id DESC LIMIT ?)",
        (gateway, gateway, KEPT_COMPLAINTS),
    )


def _sha256(secret_hex: str) -> str:
    # A random secret of 128 bits needs no slow hash.
    return hashlib.sha256(secret_hex.encode("utf-8", "surrogatepass")).hexdigest()
