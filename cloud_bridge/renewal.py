"""Renewing the box's certificate over the road it already has.

When two thirds of its life are over, the bridge makes a new key, asks headquarters for a certificate, puts both beside the old
pair and connects with them once, on a line of their own. Only if headquarters answers a beat over that line does the new pair take
over; the old line is not touched meanwhile. Whatever goes wrong, the old pair stays in force and the bridge tries again later: a
third of a life is left for that. A box that was dark for the whole of it has to be enrolled anew.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.topics import Box
from gateway.clock import Clock
from gateway.errors import BrokerError, MalformedFrame
from gateway.signed import ANSWER_TAG, RENEW_TAG, RENEWED_TAG, BeatAnswered, Renew, Renewed, seal, unseal
from provisioning.authority import Enrolment
from provisioning.renewing import Identity, Pair, due_us, new_key

log = logging.getLogger(__name__)

TRIAL_BEATS: Final = 1 << 40  # above every number of the bridge's own beats, below what headquarters takes
BEAT_AGAIN_S: Final = 1.0


class Pace(Struct, frozen=True):
    """How patient renewal is."""

    look_s: float = 60.0
    line_s: float = 2.0  # until it looks again whether the line has come up
    reply_s: float = 30.0
    trial_s: float = 30.0
    again_s: float = 900.0  # after a failure


class Road(Struct, frozen=True):
    """What renewal uses of the bridge."""

    box: Box
    line: Callable[[TlsFiles, dict[str, Any]], Mqtt]  # a new line with these files; the rest as `Mqtt` takes it
    connected: Callable[[], bool]  # whether the line that is in use is up
    publish: Callable[[str, bytes], object]  # on that line
    beat: Callable[[int], bytes | None]  # a sealed beat of that number; None: core is away
    use: Callable[[TlsFiles], None]  # the pair for every later connection


class Renewal:
    """Keeps the box's certificate from running out."""

    def __init__(self, enrolment: Enrolment, state_dir: Path, clock: Clock, road: Road, pace: Pace | None = None) -> None:
        self._enrolment = enrolment
        self._identity = Identity(enrolment, state_dir)
        self._clock = clock
        self._road = road
        self._pace = pace or Pace()
        self._arriving: asyncio.Future[str] | None = None

    def files(self) -> TlsFiles:
        """The pair in force.

        Raises:
            ConfigError: There is none.
        """
        return self._files(self._identity.in_force())

    async def run(self) -> None:
        """Renew in time, until cancelled."""
        while True:
            pause_s = self._pace.look_s
            if await asyncio.to_thread(self.is_due):
                pause_s = await self._try() if self._road.connected() else self._pace.line_s
            await asyncio.sleep(pause_s)

    async def _try(self) -> float:
        """Renew; seconds until the next look."""
        try:
            await self.renew()
        except (BrokerError, MalformedFrame, OSError) as error:
            log.warning("the certificate was not renewed: %s; the old one stays in use", error)
            return self._pace.again_s
        log.info("the certificate was renewed")
        return self._pace.look_s

    def is_due(self) -> bool:
        """Whether it is time."""
        return self._clock.now().wall_us >= due_us(self._identity.in_force().certificate)

    async def renew(self) -> None:
        """Once through all steps; a certificate that came before the last power cut is not asked for again.

        Raises:
            BrokerError: No answer, or the new pair did not work: the old one stays.
            MalformedFrame: The answer is no certificate for this box.
        """
        waiting = await asyncio.to_thread(self._identity.next)
        pair = waiting or await self._ask()
        if not await self._works(pair):
            await asyncio.to_thread(self._identity.drop_next)
            raise BrokerError("headquarters did not answer over a line with the new certificate")
        promoted = await asyncio.to_thread(self._identity.promote)
        self._road.use(self._files(promoted))

    def heard(self, payload: bytes) -> None:
        """Headquarters' reply on `dn/renew`.

        Raises:
            MalformedFrame: Not headquarters', or for another box.
        """
        reply = unseal(RENEWED_TAG, payload, self._enrolment.hq_public, Renewed)
        if self._arriving is None or self._arriving.done():
            return  # an answer to an earlier ask, whose key is gone
        if reply.gateway != self._enrolment.facts.gateway:
            raise MalformedFrame("a certificate for another box")
        self._arriving.set_result(reply.certificate)

    async def _ask(self) -> Pair:
        key, csr = await asyncio.to_thread(new_key, self._enrolment.facts.gateway)
        arrived = self._arriving = asyncio.get_running_loop().create_future()
        ask = Renew(self._enrolment.facts.gateway, csr, self._clock.now().wall_us)
        try:
            self._road.publish(self._road.box.up("renew"), seal(RENEW_TAG, ask, self._enrolment.sign_key))
            async with asyncio.timeout(self._pace.reply_s):
                certificate = await arrived
        except TimeoutError as error:
            raise BrokerError("headquarters did not answer the request for a certificate") from error
        finally:
            self._arriving = None
        return await asyncio.to_thread(self._identity.keep_next, key, certificate)

    async def _works(self, pair: Pair) -> bool:
        """Whether headquarters answers a beat over a line with that pair."""
        number = TRIAL_BEATS + secrets.randbelow(TRIAL_BEATS)
        answered = asyncio.Event()

        def take(incoming: Incoming) -> None:
            incoming.ack()
            with contextlib.suppress(MalformedFrame):
                answer = unseal(ANSWER_TAG, incoming.payload, self._enrolment.hq_public, BeatAnswered)
                if answer.number == number:
                    answered.set()

        told: dict[str, Any] = {"subscriptions": [self._road.box.down("beat")], "on_message": take, "on_state": lambda _: None}
        line = self._road.line(self._files(pair), told)
        running = asyncio.ensure_future(line.run())
        try:
            async with asyncio.timeout(self._pace.trial_s):
                await self._beat_until(line, number, answered)
        except TimeoutError:
            return False
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return True

    async def _beat_until(self, line: Mqtt, number: int, answered: asyncio.Event) -> None:
        while not answered.is_set():
            beat = self._road.beat(number)
            if line.connected and beat is not None:
                with contextlib.suppress(BrokerError):
                    line.publish(self._road.box.up("beat"), beat, 0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_AGAIN_S if line.connected else 0.1):
                    await answered.wait()

    def _files(self, pair: Pair) -> TlsFiles:
        return TlsFiles(self._enrolment.ca_path, pair.cert_path, pair.key_path)
