"""Sign-ins of headquarters: a name, its roles, and a random key that is shown once.

A key is `sgk_ID_SECRET`: the identifier finds the line, the secret has 256 random bits, so a keyed hash keeps it (no password is ever
chosen here; argon2 would only make guessing slow that is hopeless anyway). Browsers hold a session instead, made from the stored hash: it
ends by itself, and at once when the sign-in is revoked. The admin token of the data folder is the sign-in `admin`.

Headquarters is one process: what is in force is held in memory and read anew whenever it is changed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.roles import Role, Who
from cloud_bridge.hq.store import Connection, Store

ADMIN: Final = Who("admin", frozenset({Role.ADMIN}))
NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,30}")
KEY: Final = re.compile(r"sgk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
SESSION: Final = re.compile(r"([0-9a-f]{12})\.([0-9]{10})\.([0-9a-f]{64})")
SESSION_S: Final = 12 * 3_600  # a working day
YEAR_S: Final = 365 * 86_400


class SignIn(Struct, frozen=True):
    """One that is in force."""

    name: str
    key_id: str
    secret_hash: str
    roles: list[Role]

    @property
    def who(self) -> Who:
        """As routes see it."""
        return Who(self.name, frozenset(self.roles))


class SignIns:
    """Everybody who may enter.

    Args:
        token: The admin token.
        pepper: Keys the hashes: headquarters' own secret, not in the database.
    """

    def __init__(self, store: Store, token: str, pepper: bytes, now_us: Callable[[], int]) -> None:
        self.store = store
        self.now_us = now_us
        self._token = token
        self._pepper = hashlib.sha256(b"SGK1 sign-in\n" + pepper).digest()
        self._known: dict[str, SignIn] = {}

    async def load(self) -> None:
        """Read who is in force."""
        self._known = {one.key_id: one for one in await self.store.read(_in_force)}

    def bearer(self, key: str) -> Who | None:
        """Whose key it is; None: nobody's."""
        if hmac.compare_digest(key.encode(), self._token.encode()):
            return ADMIN
        said = KEY.fullmatch(key)
        found = self._known.get(said[1]) if said else None
        if said is None or found is None or not hmac.compare_digest(self._hash(said[1], said[2]), found.secret_hash):
            return None
        return found.who

    def session(self, cookie: str) -> Who | None:
        """Whose session it is; None: nobody's, or it has ended."""
        if hmac.compare_digest(cookie.encode(), session_of(self._token).encode()):
            return ADMIN
        said = SESSION.fullmatch(cookie)
        found = self._known.get(said[1]) if said else None
        if said is None or found is None or int(said[2]) * 1_000_000 < self.now_us():
            return None
        return found.who if hmac.compare_digest(self._session(found, said[2]), cookie) else None

    def opened(self, key: str) -> tuple[Who, str, int] | None:
        """A session for a key: whose, the cookie, and how many seconds it lasts; None: nobody's key."""
        who, said = self.bearer(key), KEY.fullmatch(key)
        if who is None:
            return None
        if said is None:
            return who, session_of(self._token), YEAR_S
        return who, self._session(self._known[said[1]], str(self.now_us() // 1_000_000 + SESSION_S)), SESSION_S

    async def make(self, name: str, roles: Iterable[Role], by: str) -> str:
        """Somebody new; their key, which is kept nowhere.

        Raises:
            RefusedAsk: No usable name, one that was used before, or no role.
        """
        wanted = sorted(set(roles))
        if not NAME.fullmatch(name):
            raise RefusedAsk(422, "a name is 2 to 31 letters a-z, digits and -, a letter first", field="name", code="refused.key_name")
        if not wanted:
            raise RefusedAsk(422, "a sign-in without a role may nothing", "Name at least one role", field="roles", code="refused.no_role")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        made = SignIn(name, key_id, self._hash(key_id, secret), wanted)
        await self.store.write(partial(_insert, made=made, by=by, now_us=self.now_us()))
        await self.load()
        return f"sgk_{key_id}_{secret}"

    async def revoke(self, name: str, by: str) -> None:
        """Take a sign-in away, for good: the next request with it is refused.

        Raises:
            RefusedAsk: There is none in force of that name.
        """
        await self.store.write(partial(_revoke, name=name, by=by, now_us=self.now_us()))
        await self.load()

    async def listed(self) -> list[dict[str, Any]]:
        """Everybody, the revoked too; no secret."""
        return await self.store.read(_describe)

    def _hash(self, key_id: str, secret: str) -> str:
        return hmac.new(self._pepper, f"{key_id}\n{secret}".encode(), hashlib.sha256).hexdigest()

    def _session(self, one: SignIn, until_s: str) -> str:
        said = hmac.new(self._pepper, f"session\n{one.key_id}\n{one.secret_hash}\n{until_s}".encode(), hashlib.sha256)
        return f"{one.key_id}.{until_s}.{said.hexdigest()}"


def session_of(token: str) -> str:
    """The administrator's cookie: made from the token, but no way back to it."""
    return hmac.new(token.encode(), b"hq session", hashlib.sha256).hexdigest()


def _in_force(db: Connection) -> list[SignIn]:
    found = db.execute("SELECT name, key_id, secret_hash, roles FROM signins WHERE revoked_us = 0").fetchall()
    return [SignIn(name, key_id, hashed, msgspec.json.decode(roles, type=list[Role])) for name, key_id, hashed, roles in found]


def _insert(db: Connection, made: SignIn, by: str, now_us: int) -> None:
    if made.name == ADMIN.name or db.execute("SELECT 1 FROM signins WHERE name = ?", (made.name,)).fetchone() is not None:
        hint = "Take another one: a name is used once, so that the journal stays clear"
        raise RefusedAsk(409, f"there is or was a sign-in {made.name}", hint, field="name", code="refused.key_taken")
    roles = msgspec.json.encode(made.roles).decode("ascii")
    db.execute("INSERT INTO signins VALUES (?, ?, ?, ?, ?, ?, 0, '')", (made.name, made.key_id, made.secret_hash, roles, now_us, by))


def _revoke(db: Connection, name: str, by: str, now_us: int) -> None:
    sql = "UPDATE signins SET revoked_us = ?, revoked_by = ? WHERE name = ? AND revoked_us = 0"
    if db.execute(sql, (now_us, by, name)).rowcount != 1:
        raise RefusedAsk(404, f"no sign-in {name} is in force", "GET /api/keys lists them")


def _describe(db: Connection) -> list[dict[str, Any]]:
    names = ("name", "roles", "made_us", "made_by", "revoked_us", "revoked_by")
    found = db.execute(f"SELECT {', '.join(names)} FROM signins ORDER BY revoked_us > 0, name").fetchall()  # noqa: S608 - our own names
    return [dict(zip(names, row, strict=True)) | {"roles": msgspec.json.decode(row[1])} for row in found]
