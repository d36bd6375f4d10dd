"""`store-gateway run enroll`: a box that is nobody yet waits for its label, from whatever shows it first.

It stands where core will stand: it listens on the link, so the scanners that run already state what they see to it, and on
core's port a page takes a photographed or pasted label. Codes are taken and dropped, since nothing is served yet; every other
event stays unanswered, so its driver keeps it and states it again to core. Once enrolled the process ends with status 0.

A label that headquarters cannot be asked about is tried again until it works, is refused, or another one is shown.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.events import CodePresented, Stated
from gateway.link import LinkServer
from gateway.rules.reasons import Reason, Text
from provisioning.enroll import enrol, is_enrolled
from provisioning.label import PREFIX
from provisioning.words import REASONS, EnrolRefused, HqUnreachable

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
PARTING_S: Final = 0.05  # for the link's connections to end by themselves
LAST_LOOK_S: Final = 1.5  # so that a page can still show that it worked

log = logging.getLogger(__name__)

WAITING: Final = Reason(
    Text("此機尚未註冊", "This box is not enrolled yet"),
    Text(
        "請將總部的註冊標籤對準掃描器，或用手機開啟本頁拍下標籤",
        "Hold headquarters' label before the scanner, or photograph it with a phone",
    ),
)
TRYING: Final = Reason(Text("正在向總部註冊…", "Enrolling with headquarters…"), Text("請稍候", "One moment, please"))
ENROLLED: Final = Reason(Text("註冊完成", "Enrolled"), Text("門市即將開始服務", "The shop starts now"))


class Standing(Struct, frozen=True):
    """How far enrolment has come, for a page; `number` grows with each change."""

    number: int
    state: str  # waiting, trying, refused, enrolled
    reason: str
    words: Reason


class EnrolDesk:
    """Takes labels from everywhere and enrols with the newest."""

    def __init__(self, config: GatewayConfig, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        self._newest = ""
        self._shown = asyncio.Event()
        self._by_page = False
        self._held: set[asyncio.Future[bytes]] = set()
        self.standing = Standing(0, "waiting", "", WAITING)

    def present(self, text: str, by_page: bool = False) -> None:
        """A label's text was read somewhere."""
        self._newest, self._by_page = text, by_page
        self._say("trying", "", TRYING)
        self._shown.set()

    async def run(self) -> None:
        """Returns when this box is enrolled."""
        pause_s = FIRST_PAUSE_S
        while not is_enrolled(self.config.enrolment_dir):
            await self._shown.wait()
            self._shown.clear()
            if await self._try(self._newest):
                break
            if self.standing.reason != HqUnreachable.reason:
                pause_s = FIRST_PAUSE_S
                continue
            try:  # the same label again, or a newer one at once
                async with asyncio.timeout(pause_s):
                    await self._shown.wait()
            except TimeoutError:
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                self._shown.set()
        self._say("enrolled", "", ENROLLED)
        if self._by_page:
            await asyncio.sleep(LAST_LOOK_S)

    async def _try(self, text: str) -> bool:
        try:
            enrolment = await asyncio.to_thread(enrol, text, self.config.enrolment_dir, self.config.store, self._clock)
        except (EnrolRefused, HqUnreachable) as error:
            log.warning("not enrolled: %s", error)
            if not self._shown.is_set():
                self._say("refused", error.reason, REASONS[error.reason])
            return False
        log.info("enrolled as %s", enrolment.facts.gateway)
        return True

    def _say(self, state: str, reason: str, words: Reason) -> None:
        self.standing = Standing(self.standing.number + 1, state, reason, words)

    # -- the link

    def decide(self, unit: str, event_id: str, event: Stated) -> Awaitable[bytes]:
        """What a driver stated."""
        if not isinstance(event, CodePresented):
            return self._hold_for_core()
        text = event.payload.decode("utf-8", "replace")
        if text.startswith(PREFIX):
            self.present(text)
        return _dropped()

    def _hold_for_core(self) -> Awaitable[bytes]:
        held: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._held.add(held)
        held.add_done_callback(self._held.discard)
        return held

    def let_go(self) -> None:
        """End the wait of what core will answer; drivers state it again."""
        for held in list(self._held):
            held.cancel()


async def _dropped() -> bytes:
    return b""


async def run(config: GatewayConfig, clock: Clock, page: Callable[[EnrolDesk], Awaitable[None]]) -> None:
    """Wait until this box is enrolled, then return.

    Args:
        config: The box.
        clock: Its clock.
        page: Serves the page until cancelled.
    """
    desk = EnrolDesk(config, clock)
    if is_enrolled(config.enrolment_dir):
        return
    config.link_path.parent.mkdir(parents=True, exist_ok=True)
    link = LinkServer(config.link_path, clock, desk.decide, lambda unit, there: None)
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(link.serve()), tasks.create_task(_serve(page, desk))]
        await desk.run()
        for task in beside:
            task.cancel()
        desk.let_go()
        await asyncio.sleep(PARTING_S)


async def _serve(page: Callable[[EnrolDesk], Awaitable[None]], desk: EnrolDesk) -> None:
    await page(desk)
