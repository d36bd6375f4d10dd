"""The names of MQTT topics: one tree for each box, so that a broker can fence boxes from each other by the client's name.

    sgw/1/TENANT/SHARD/STORE/GATEWAY/up/LANE       batches of rows         sealed, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/up/beat       heartbeat               sealed, QoS 0
    sgw/1/TENANT/SHARD/STORE/GATEWAY/up/want       wanted piece of a document   JSON, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/up/renew      next certificate wanted   sealed, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/up/claim      voucher wanted          sealed, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/dn/ack        acknowledgement         sealed by HQ, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/dn/ask        rows wanted again       sealed by HQ, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/dn/beat       heartbeat heard         sealed by HQ, QoS 0
    sgw/1/TENANT/SHARD/STORE/GATEWAY/dn/manifest   documents to have       sealed by HQ, QoS 1, retained
    sgw/1/TENANT/SHARD/STORE/GATEWAY/dn/chunk      piece of a document     JSON, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/dn/renew      next certificate        sealed by HQ, QoS 1
    sgw/1/TENANT/SHARD/STORE/GATEWAY/dn/claimed    voucher given, or wanted back   sealed by HQ, QoS 1

Levels are `[A-Za-z0-9_-]`, which every broker passes on unchanged (NATS maps `/` to `.`). The shard spreads boxes over ingest
workers; one worker needs but shard 0.
"""

import re
from typing import Final

from msgspec import Struct

from gateway.errors import MalformedFrame

ROOT: Final = "sgw/1"
LEVEL: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Box(Struct, frozen=True):
    """Whose topics."""

    tenant: str
    store: str
    gateway: str
    shard: str = "0"

    @property
    def prefix(self) -> str:
        """The box's own tree."""
        return f"{ROOT}/{self.tenant}/{self.shard}/{self.store}/{self.gateway}"

    def up(self, leaf: str | int) -> str:
        """A topic towards HQ: a lane's number, `beat`, `want`, `renew` or `claim`."""
        return f"{self.prefix}/up/{leaf}"

    def down(self, leaf: str) -> str:
        """A topic towards the box: `ack`, `ask`, `beat`, `manifest`, `chunk`, `renew` or `claimed`."""
        return f"{self.prefix}/dn/{leaf}"


ALL_UP: Final = f"{ROOT}/+/+/+/+/up/#"


def parse_up(topic: str) -> tuple[Box, str]:
    """Whose message it is and its leaf.

    Raises:
        MalformedFrame: Not an upward topic of the tree.
    """
    levels = topic.split("/")
    if len(levels) != 8 or "/".join(levels[:2]) != ROOT or levels[6] != "up" or not all(LEVEL.fullmatch(level) for level in levels):
        raise MalformedFrame("not an upward topic")
    _, _, tenant, shard, store, gateway, _, leaf = levels
    return Box(tenant, store, gateway, shard), leaf
