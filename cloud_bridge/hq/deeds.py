"""The office's journal: every refused and every sensitive action at headquarters, with who did it. Inside a transaction.

What is about to be done is written first, its outcome afterwards: an action nobody knows the end of stands there with status 0. The
journal names routes and what stood in the path; no body, no query, no secret, and nothing that looks like a card or a telephone number.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from cloud_bridge.hq.store import Connection
from gateway.codes import holds_card

MOST_ABOUT: Final = 200
MOST_LISTED: Final = 500
BEGUN: Final = 0
_NUMBERLIKE: Final = re.compile(r"(?:[^A-Za-z0-9]*[0-9]){7}")
_ODD: Final = re.compile(r"[^ -~]")


def note(db: Connection, at_us: int, who: str, route: str, about: Mapping[str, str], status: int = BEGUN) -> int:
    """Write down that something is about to be done, or was refused; its number."""
    said = " ".join(f"{name}={clean(value)}" for name, value in about.items())[:MOST_ABOUT]
    sql = "INSERT INTO deeds (at_us, who, route, about, status) VALUES (?, ?, ?, ?, ?) RETURNING id"
    return int(db.execute(sql, (at_us, who, route, said, status)).fetchone()[0])


def ended(db: Connection, deed: int, status: int) -> None:
    """Write down how it ended."""
    db.execute("UPDATE deeds SET status = ? WHERE id = ?", (status, deed))


def listed(db: Connection, who: str = "", before: int = 0) -> list[dict[str, Any]]:
    """The newest deeds, or those before one; `who` empty: everybody's."""
    names = ("id", "at_us", "who", "route", "about", "status")
    sql = "SELECT id, at_us, who, route, about, status FROM deeds WHERE (? = '' OR who = ?) AND (? = 0 OR id < ?) ORDER BY id DESC LIMIT ?"
    found = db.execute(sql, (who, who, before, before, MOST_LISTED)).fetchall()
    return [dict(zip(names, row, strict=True)) for row in found]


def clean(value: str) -> str:
    """A parameter as it may stand in a file: people type numbers of telephones and cards into any field."""
    if holds_card(value) or (_NUMBERLIKE.search(value) and not re.search(r"[A-Za-z]", value)):
        return "(a number)"
    return _ODD.sub("?", value)[:80]
