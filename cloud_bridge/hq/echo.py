"""Headquarters speaks to itself through the broker, and cuts its line when it does not hear itself.

A broker may forget a subscription and keep the connection: amqtt does when another client takes the same name, nats-server 2.9
leaves open QoS 1 subscriptions dead after it has read its users again. Nothing else would tell a quiet night from that.
"""

import asyncio
import logging
import secrets
from typing import Final

from cloud_bridge.mqtt import Incoming, Mqtt
from cloud_bridge.topics import Box
from gateway.errors import BrokerError

log = logging.getLogger(__name__)

TOPIC: Final = Box("hq", "hq", "hq").up("echo")
EVERY_S: Final = 5.0
MOST_MISSED: Final = 3


class Echo:
    """Of one line, which must be subscribed to `TOPIC`."""

    def __init__(self, line: Mqtt, every_s: float = EVERY_S) -> None:
        self._line = line
        self._every_s = every_s
        self._awaited = b""
        self._missed = 0

    def heard(self, incoming: Incoming) -> bool:
        """Whether a message is an echo; it is taken then."""
        if incoming.topic != TOPIC:
            return False
        if incoming.payload == self._awaited:
            self._awaited, self._missed = b"", 0
        incoming.ack()
        return True

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if not self._line.connected:
                self._awaited, self._missed = b"", 0
                continue
            self._missed += bool(self._awaited)
            if self._missed >= MOST_MISSED:
                log.warning("the broker keeps this connection and delivers nothing: a new one is made")
                self._awaited, self._missed = b"", 0
                self._line.drop()
                continue
            self._awaited = secrets.token_bytes(16)  # nobody else can say it
            try:
                self._line.publish(TOPIC, self._awaited, 1)
            except BrokerError:
                self._awaited = b""
