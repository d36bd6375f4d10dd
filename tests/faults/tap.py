"""Counts the rows that cross the broker, beside headquarters: how many were sent more than once."""

import asyncio
import contextlib
import secrets
import struct
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from cloud_bridge.envelope import MAX_BATCH_UNPACKED_B, Header
from cloud_bridge.hq.broker import OWN_NAME
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.topics import ALL_UP
from gateway.errors import MalformedFrame
from gateway.signed import SIGNATURE_B, TAG_B, unpack_limited
from provisioning.authority import Authority

BATCH_LEAVES: Final = ("0", "1", "2")


class Tap:
    """A second reader of everything boxes send, with headquarters' own certificate."""

    def __init__(self, hq_dir: Path, addresses: list[tuple[str, int]]) -> None:
        cert, key = Authority.open(hq_dir / "authority").issue_own_client(hq_dir / "tap", OWN_NAME)  # headquarters renews its own
        tls = TlsFiles(str(hq_dir / "broker" / "ca.crt"), str(cert), str(key))
        (host, port), *others = addresses
        self._mqtt = Mqtt(
            host, port, f"tap-{secrets.token_hex(8)}", tls, server_name="localhost", subscriptions=[ALL_UP], on_message=self._take,
            on_state=lambda _: None, backoff_base_s=0.02, backoff_cap_s=0.05, others=others,
        )  # fmt: skip
        self._going: asyncio.Future[None] | None = None
        self.sent = 0
        self.messages = 0
        self._seen: defaultdict[tuple[str, int], set[int]] = defaultdict(set)

    @property
    def made(self) -> int:
        """Rows that crossed at least once."""
        return sum(len(seqs) for seqs in self._seen.values())

    @property
    def resent(self) -> int:
        """Rows that crossed again."""
        return self.sent - self.made

    async def start(self) -> None:
        """Listen from now on."""
        self._going = asyncio.ensure_future(self._mqtt.run())

    async def stop(self) -> None:
        """Stop listening."""
        if self._going is not None:
            self._going.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._going

    def _take(self, incoming: Incoming) -> None:
        incoming.ack()
        if incoming.topic.rpartition("/")[2] in BATCH_LEAVES:
            header = header_of(incoming.payload)
            self.messages += 1
            self.sent += header.last - header.first + 1
            self._seen[header.epoch, header.lane].update(range(header.first, header.last + 1))


def header_of(message: bytes) -> Header:
    """What a batch says about itself, unverified.

    Raises:
        MalformedFrame: It is no batch.
    """
    unpacked = unpack_limited(message[TAG_B + SIGNATURE_B :], MAX_BATCH_UNPACKED_B)
    try:
        (size,) = struct.unpack_from(">I", unpacked)
        return msgspec.json.decode(unpacked[4 : 4 + size], type=Header)
    except (struct.error, msgspec.DecodeError, ValueError) as error:
        raise MalformedFrame("not a batch") from error
