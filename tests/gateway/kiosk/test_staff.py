"""Staff: one person, one PIN, and nothing without it."""

import asyncio
import secrets
from dataclasses import dataclass

from gateway.clock import SystemClock
from gateway.kiosk.sessions import FREE_TRIES, MAX_SESSIONS, SESSION_NS, Sessions, Tries
from tests.gateway.kiosk.conftest import Shop
from tests.gateway.kiosk.desk_stand import COFFEE, PIN


@dataclass
class SetClock(SystemClock):
    """A monotonic clock that moves when told."""

    ns: int = 1

    def boottime_ns(self) -> int:
        return self.ns


async def sign_in(shop: Shop, ref: str = "s-1", pin: str = PIN) -> int:
    return (await shop.client.post("/v1/staff/sign-in", json={"staff_ref": ref, "pin": pin})).status_code


async def test_nothing_works_without_signing_in(shop: Shop) -> None:
    calls = [
        shop.client.get("/v1/staff/orders"),
        shop.client.get("/v1/staff/me"),
        shop.client.post("/v1/staff/stage", json={"order_id": "order-1", "key": "a" * 32}),
        shop.client.post("/v1/staff/redeem", json={"code": COFFEE, "presentation_id": "a" * 32}),
    ]
    for answer in await asyncio.gather(*calls):
        assert (answer.status_code, answer.json()["error"]) == (401, "not_signed_in")
    shop.client.cookies.set("staff", "guessed", domain="127.0.0.1")
    assert (await shop.client.get("/v1/staff/orders")).status_code == 401
    assert shop.desk.presented == []


async def test_the_cookie_is_out_of_scripts_reach(shop: Shop) -> None:
    answer = await shop.client.post("/v1/staff/sign-in", json={"staff_ref": "s-1", "pin": PIN})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie and "max-age=28800" in cookie
    assert answer.json() == {"staff_ref": "s-1", "name": "林怡君", "roles": ["clerk"]}
    assert "pin" not in answer.text


async def test_staff_redeem_and_stage_under_their_name(shop: Shop) -> None:
    assert await sign_in(shop) == 200
    answer = await shop.client.post("/v1/staff/redeem", json={"code": COFFEE, "presentation_id": secrets.token_hex(16), "source": "camera"})
    assert answer.json()["decision"] == "redeemed"
    assert shop.desk.presented[0].read_point == "camera@staff"
    refused = (await shop.redeem(COFFEE)).json()
    assert refused["before"]["staff"] == "s-1"

    key = secrets.token_hex(16)
    staged = [await shop.client.post("/v1/staff/stage", json={"order_id": "order-1", "key": key, "compartment": 4}) for _ in range(2)]
    assert staged[0].json()["compartment"] == 4
    assert staged[0].content == staged[1].content
    orders = (await shop.client.get("/v1/staff/orders")).json()
    assert (orders[0]["number"], orders[0]["state"]) == ("A1041", "staging")


async def test_signing_out_ends_the_session(shop: Shop) -> None:
    await sign_in(shop)
    secret = shop.client.cookies["staff"]
    assert (await shop.client.post("/v1/staff/sign-out", json={})).status_code == 200
    shop.client.cookies.set("staff", secret, domain="127.0.0.1")
    assert (await shop.client.get("/v1/staff/orders")).status_code == 401


async def test_somebody_who_left_is_signed_out_at_once(shop: Shop) -> None:
    await sign_in(shop)
    shop.desk.staff = lambda: []  # type: ignore[method-assign]
    assert (await shop.client.get("/v1/staff/orders")).status_code == 401


async def test_five_wrong_pins_make_that_person_wait_and_nobody_else(shop: Shop) -> None:
    assert [await sign_in(shop, pin="000000") for _ in range(5)] == [401] * 5
    answer = await shop.client.post("/v1/staff/sign-in", json={"staff_ref": "s-1", "pin": PIN})
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_tries")
    assert 1 <= int(answer.headers["retry-after"]) <= 31
    assert await sign_in(shop, "s-2") == 200


async def test_tries_at_the_same_time_count_each(shop: Shop) -> None:
    answers = await asyncio.gather(*(sign_in(shop, pin=f"{n:06}") for n in range(20)))
    assert sorted(answers) == [401] * 5 + [429] * 15
    assert shop.desk.sign_ins == 5


async def test_an_unknown_person_is_told_the_same_as_a_wrong_pin(shop: Shop) -> None:
    assert await sign_in(shop, ref="nobody") == 401
    assert shop.desk.sign_ins == 0


def test_the_wait_doubles_up_to_an_hour_and_a_right_pin_ends_it() -> None:
    clock = SetClock()
    tries = Tries(clock)
    waits = []
    for n in range(FREE_TRIES + 10):
        assert tries.begin("s-1") == 0.0
        if n >= FREE_TRIES - 1:
            waits.append(tries.begin("s-1"))
            clock.ns += int(waits[-1] * 1e9) + 1
    assert waits[:4] == [30.0, 60.0, 120.0, 240.0]
    assert waits[-1] == 3600.0
    tries.right("s-1")
    assert [tries.begin("s-1") for _ in range(FREE_TRIES)] == [0.0] * FREE_TRIES


def test_a_session_ends_after_a_shift_and_the_oldest_makes_room() -> None:
    clock = SetClock()
    sessions = Sessions(clock)
    first = sessions.open("s-1")
    assert sessions.whose(first) == "s-1" and sessions.whose(None) is None and sessions.whose("") is None
    clock.ns += SESSION_NS
    assert sessions.whose(first) is None
    secrets_ = [sessions.open("s-2") for _ in range(MAX_SESSIONS + 1)]
    assert len(set(secrets_)) == MAX_SESSIONS + 1
    assert sessions.whose(secrets_[0]) is None and sessions.whose(secrets_[-1]) == "s-2"
