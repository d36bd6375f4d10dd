"""Virtual shoppers and a clerk: they use the doors people use (HQ's API, the shop's camera, the staff page) and nothing else.

Their day: buy a voucher online and show it to the shop's camera; show it again; try a forged one; order something, have it
staged by the clerk, and collect it. In between the line to HQ is cut and comes back; they go on.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from virtual_store.plan import STATION, STORE
from virtual_store.web import Refused, Web

SHOW_S: Final = 2.5
BETWEEN_S: Final = 1.0
DOOR_S: Final = 12.0
DOCUMENT_S: Final = 15.0
GIFTS: Final = [("招牌拿鐵買一送一", "Latte, buy one get one"), ("手工餅乾一盒", "A box of cookies"), ("體驗瓶兌換", "Trial bottle")]
GOODS: Final = [("陳小明", ["蘋果禮盒 x1"]), ("林美玲", ["洗髮精 x2", "護手霜 x1"]), ("John Smith", ["Tea gift set x1"])]


class Deeds(Struct):
    """What the shoppers did, and what did not go as they expected."""

    redeemed: int = 0
    refused: int = 0
    collected: int = 0
    surprises: list[str] = []


class Shoppers:
    """Everybody who touches something in the virtual store.

    Args:
        hq: Headquarters, signed in.
        shop: Core's pages.
        camera: Control socket of the shop's virtual camera.
        pin: The clerk's PIN and reference.
    """

    def __init__(self, hq: Web, shop: Web, camera: Path, clerk: tuple[str, str]) -> None:
        self._hq = hq
        self._shop = shop
        self._camera = camera
        self._clerk = clerk
        self.deeds = Deeds()

    async def day(self, stop: asyncio.Event) -> None:
        """Go on until told to stop; an errand that is under way is finished."""
        errands: list[Callable[[int], Awaitable[None]]] = [self.redeem_twice, self.collect, self.try_forged]
        number = 0
        while not stop.is_set():
            try:
                await errands[number % len(errands)](number)
            except (Refused, OSError, TimeoutError, json.JSONDecodeError) as error:
                # Anything may be killed at any moment: a person shrugs, waits and tries again.
                self.deeds.surprises.append(f"could not go on: {error}")
                await asyncio.sleep(BETWEEN_S)
            number += 1
            await asyncio.sleep(BETWEEN_S)

    async def redeem_twice(self, number: int) -> None:
        """Buy a voucher, use it, and try to use it again."""
        title_zh, title_en = GIFTS[number % len(GIFTS)]
        voucher = await self._hq.post("/api/vouchers", {"store": STORE, "title_zh": title_zh, "title_en": title_en, "valid_days": 30})
        await self._show_expecting(voucher["token"], "redeemed")
        await self._show_expecting(voucher["token"], "refused")

    async def try_forged(self, number: int) -> None:
        """Show a code that looks right and is signed by nobody."""
        del number
        voucher = await self._hq.post(
            "/api/vouchers", {"store": STORE, "title_zh": "偽造試驗", "title_en": "To be forged", "valid_days": 1}
        )
        text = str(voucher["token"])
        place = len(text) - 20
        letter = "A" if text[place] != "A" else "B"
        await self._show_expecting(text[:place] + letter + text[place + 1 :], "refused")

    async def collect(self, number: int) -> None:
        """Order online; the clerk stages it; collect it at the locker."""
        customer, lines = GOODS[number % len(GOODS)]
        order = await self._hq.post("/api/orders", {"store": STORE, "customer": customer, "lines": lines})
        await self._until(order["order_id"], "paid", DOCUMENT_S)
        await self._shop.post("/v1/staff/stage", {"order_id": order["order_id"], "key": secrets.token_hex(16)})
        await self._until(order["order_id"], "staged", DOOR_S)
        await self._show_expecting(order["token"], "collecting")
        await self._until(order["order_id"], "collected", DOOR_S)
        self.deeds.collected += 1

    async def sign_in(self) -> None:
        """The clerk signs in at the staff page."""
        await self._shop.post("/v1/staff/sign-in", {"staff_ref": self._clerk[0], "pin": self._clerk[1]})

    async def _show_expecting(self, text: str, expected: str) -> None:
        before = int((await self._screen())["number"])
        await show(self._camera, text)
        screen = await self._next_screen(before)
        state = str(screen["state"])
        if state != expected:
            self.deeds.surprises.append(f"saw the screen say {state} ({(screen.get('answer') or {}).get('reason', '')}), not {expected}")
        self.deeds.redeemed += state == "redeemed"
        self.deeds.refused += state == "refused"
        await asyncio.sleep(SHOW_S)  # the code is taken away before the next is shown

    async def _screen(self) -> dict[str, Any]:
        return dict(await self._shop.get(f"/v1/stations/{STATION}"))

    async def _next_screen(self, before: int) -> dict[str, Any]:
        for _ in range(60):
            screen = await self._screen()
            if int(screen["number"]) > before and screen["state"] != "attract":
                return screen
            await asyncio.sleep(0.1)
        raise TimeoutError("the station's screen did not change")

    async def _until(self, order_id: str, state: str, within_s: float) -> None:
        for _ in range(int(within_s / 0.2)):
            try:
                orders = await self._shop.get("/v1/staff/orders")
            except Refused as error:
                if error.status != 401:
                    raise
                await self.sign_in()  # core was restarted: sessions live in its memory only
                continue
            if any(order["order_id"] == order_id and order["state"] == state for order in orders):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"an order did not become {state}")


async def show(camera: Path, text: str, seconds: float = SHOW_S) -> dict[str, Any]:
    """Hold a code before the shop's virtual camera.

    Raises:
        OSError: The camera's process is not there.
    """
    return await order(camera, do="show", text=text, seconds=seconds)


async def order(camera: Path, **words: Any) -> dict[str, Any]:
    """Order the virtual camera about, and return its answer.

    Raises:
        OSError: The camera's process is not there.
    """
    reader, writer = await asyncio.open_unix_connection(camera)
    try:
        writer.write(json.dumps(words).encode() + b"\n")
        await writer.drain()
        return dict(json.loads(await reader.readline()))
    finally:
        writer.close()
