"""Which boxes there are, and who works in their shops.

A box is first expected; then enrolled by a label (`labels`), with the public key that signs its batches.
"""

import re
import secrets
from typing import Any, Final
from zoneinfo import available_timezones

import msgspec
from argon2 import PasswordHasher
from msgspec import Struct

from cloud_bridge.hq.store import Connection
from cloud_bridge.topics import LEVEL, Box
from gateway.errors import StoreError

PIN_DIGITS: Final = 6
STAFF_ROLES: Final = ["clerk", "manager"]
ROLE: Final = re.compile(r"[a-z_]{1,20}")
# OWASP's minimum for argon2id: 19 MiB, two passes, one lane; a Pi checks it in about a tenth of a second.
_hasher: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class RefusedAsk(StoreError):
    """Headquarters was asked for something that cannot be; `status` is the HTTP answer.

    For forms: `field` is the one it is about, `code` a key of the pages' words that says it in the reader's language.
    """

    def __init__(self, status: int, message: str, hint: str = "", *, field: str = "", code: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.field = field
        self.code = code


class BoxRow(Struct, frozen=True):
    """A box as registered."""

    gateway: str
    tenant: str
    shard: str
    store: str
    number: int
    name_zh: str
    name_en: str
    timezone: str
    public: str | None  # None: not enrolled yet

    @property
    def box(self) -> Box:
        """Its topics."""
        return Box(self.tenant, self.store, self.gateway, self.shard)


class NewStaff(Struct, frozen=True):
    """Somebody who starts to work in a shop; the PIN is shown once and kept nowhere."""

    staff_ref: str
    name: str
    pin: str
    pin_hash: str
    roles: list[str]


_COLUMNS: Final = "gateway, tenant, shard, store, number, name_zh, name_en, timezone, public"


def boxes(db: Connection) -> list[BoxRow]:
    """Every box, by shop number."""
    return [BoxRow(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM boxes ORDER BY number")]  # noqa: S608 - constant text


def box_of_store(db: Connection, store: str) -> BoxRow:
    """The box of a shop.

    Raises:
        RefusedAsk: There is no such shop.
    """
    found = db.execute(f"SELECT {_COLUMNS} FROM boxes WHERE store = ?", (store,)).fetchone()  # noqa: S608 - constant text
    if found is None:
        raise RefusedAsk(404, f"there is no shop {store}", "GET /api/stores lists them")
    return BoxRow(*found)


def expect_box(db: Connection, row: BoxRow, now_us: int) -> bool:
    """Register a box that will enrol.

    Args:
        db: Inside a transaction.
        row: The box. One that was registered before stays as it is.
        now_us: Now.

    Returns:
        Whether it is new; False: this very box of this very shop was registered before.

    Raises:
        RefusedAsk: A name no topic can carry, an unknown time zone, or the shop, its number or the box is taken.
    """
    if not all(LEVEL.fullmatch(name) for name in (row.tenant, row.shard, row.store, row.gateway)):
        raise RefusedAsk(422, "tenant, store and gateway are 1 to 40 letters, digits, - or _")
    if row.timezone not in available_timezones():
        raise RefusedAsk(422, f"there is no time zone {row.timezone}", "Use an IANA name such as Asia/Taipei")
    known = db.execute(
        "SELECT gateway, tenant, store, number FROM boxes WHERE gateway = ? OR store = ? OR number = ?",
        (row.gateway, row.store, row.number),
    ).fetchall()
    if [tuple(one) for one in known] == [(row.gateway, row.tenant, row.store, row.number)]:
        return False
    if known:
        raise RefusedAsk(409, "that shop, its number or that box is registered already")
    db.execute(
        "INSERT INTO boxes (gateway, tenant, shard, store, number, name_zh, name_en, timezone, created_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.gateway, row.tenant, row.shard, row.store, row.number, row.name_zh, row.name_en, row.timezone, now_us),
    )
    return True


def box_of(db: Connection, gateway: str) -> BoxRow:
    """A box by its name.

    Raises:
        RefusedAsk: There is none.
    """
    found = db.execute(f"SELECT {_COLUMNS} FROM boxes WHERE gateway = ?", (gateway,)).fetchone()  # noqa: S608 - constant text
    if found is None:
        raise RefusedAsk(404, f"there is no box {gateway}", "GET /api/stores lists them")
    return BoxRow(*found)


def new_staff(name: str, roles: list[str]) -> NewStaff:
    """Somebody with a random PIN. Hashing takes long on purpose: not for a loop, nor inside a transaction.

    Raises:
        RefusedAsk: No name, or a role that is not a word.
    """
    if not name.strip() or len(name) > 40 or not all(ROLE.fullmatch(role) for role in roles):
        raise RefusedAsk(422, "a name of up to 40 letters, and roles in lower case")
    pin = "".join(secrets.choice("0123456789") for _ in range(PIN_DIGITS))
    return NewStaff(f"s-{secrets.token_hex(4)}", name.strip(), pin, _hasher.hash(pin), roles)


def has_staff(db: Connection, gateway: str) -> bool:
    """Whether anybody works there."""
    return db.execute("SELECT 1 FROM staff WHERE gateway = ?", (gateway,)).fetchone() is not None


def hire(db: Connection, gateway: str, staff: NewStaff) -> None:
    """Add somebody to a shop."""
    roles = msgspec.json.encode(staff.roles).decode("utf-8")
    db.execute("INSERT INTO staff VALUES (?, ?, ?, ?, ?)", (staff.staff_ref, gateway, staff.name, staff.pin_hash, roles))


def describe(row: BoxRow) -> dict[str, Any]:
    """A box for the API."""
    return {
        "store": row.store,
        "number": row.number,
        "name_zh": row.name_zh,
        "name_en": row.name_en,
        "gateway": row.gateway,
        "tenant": row.tenant,
        "timezone": row.timezone,
        "enrolled": row.public is not None,
    }
