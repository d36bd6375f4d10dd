"""Which boxes there are, and who works in their shops.

A box is first expected, with a random secret that enrols it once; then enrolled, with the public key that signs its batches.
Only the secret's hash is kept, and it goes in the transaction that stores the key: a second enrolment finds nothing.
"""

import hashlib
import re
import secrets
from typing import Any, Final
from zoneinfo import available_timezones

import msgspec
from argon2 import PasswordHasher
from msgspec import Struct

from cloud_bridge.hq.sqlite import Connection
from cloud_bridge.topics import LEVEL, Box
from gateway.errors import StoreError

SECRET_B: Final = 16
PIN_DIGITS: Final = 6
STAFF_ROLES: Final = ["clerk", "manager"]
ROLE: Final = re.compile(r"[a-z_]{1,20}")
# OWASP's minimum for argon2id: 19 MiB, two passes, one lane; a Pi checks it in about a tenth of a second.
_hasher: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class RefusedAsk(StoreError):
    """Headquarters was asked for something that cannot be; `status` is the HTTP answer."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


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


def expect_box(db: Connection, row: BoxRow, now_us: int, again: bool = False) -> str:
    """Register a box that will enrol. One that has not done so yet just gets a new secret.

    Args:
        db: Inside a transaction.
        row: The box.
        now_us: Now.
        again: Also when it has enrolled already: its disk was lost, or the answer was. What is registered stays as it is, and
            the old key goes on counting until the new one is here.

    Returns:
        The single-use secret.

    Raises:
        RefusedAsk: A name no topic can carry, an unknown time zone, or the shop, its number or the box is taken.
    """
    if not all(LEVEL.fullmatch(name) for name in (row.tenant, row.shard, row.store, row.gateway)):
        raise RefusedAsk(422, "tenant, store and gateway are 1 to 40 letters, digits, - or _")
    if row.timezone not in available_timezones():
        raise RefusedAsk(422, f"there is no time zone {row.timezone}", "Use an IANA name such as Asia/Taipei")
    known = db.execute(
        "SELECT gateway, store, public FROM boxes WHERE gateway = ? OR store = ? OR number = ?", (row.gateway, row.store, row.number)
    ).fetchall()
    secret = secrets.token_hex(SECRET_B)
    if again and [(gateway, store) for gateway, store, _ in known] == [(row.gateway, row.store)]:
        db.execute("UPDATE boxes SET secret_sha256 = ? WHERE gateway = ?", (_sha256(secret), row.gateway))
        return secret
    if any(gateway != row.gateway or public is not None for gateway, _, public in known):
        raise RefusedAsk(409, "that shop, its number or that box is registered already")
    db.execute("DELETE FROM boxes WHERE gateway = ?", (row.gateway,))
    db.execute(
        "INSERT INTO boxes (gateway, tenant, shard, store, number, name_zh, name_en, timezone, secret_sha256, created_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.gateway, row.tenant, row.shard, row.store, row.number, row.name_zh, row.name_en, row.timezone, _sha256(secret), now_us),
    )
    return secret


def enrol_box(db: Connection, gateway: str, secret: str, public: str, now_us: int) -> BoxRow:
    """Use up a secret and store the key of the box that brought it.

    Raises:
        RefusedAsk: The secret is wrong, used up, or another box's. One answer for all three.
    """
    used = db.execute(
        "UPDATE boxes SET secret_sha256 = NULL, public = ?, enrolled_us = ? WHERE gateway = ? AND secret_sha256 = ?",
        (public, now_us, gateway, _sha256(secret)),
    )
    if used.rowcount != 1:
        raise RefusedAsk(403, "this enrolment secret is not valid for this box, or was used already")
    return BoxRow(*db.execute(f"SELECT {_COLUMNS} FROM boxes WHERE gateway = ?", (gateway,)).fetchone())  # noqa: S608 - constant text


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


def _sha256(secret: str) -> str:
    # A random secret of 128 bits needs no slow hash.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
