"""`store-gateway hq broker`: files a broker can be started with, and written again when a box is revoked."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from cloud_bridge.hq.brokers import NODES, write
from gateway.errors import ConfigError

from .rig import Hq


async def test_mosquitto_is_told_of_revoked_boxes_only(demo: Hq, tmp_path: Path) -> None:
    for number, store in enumerate(("s1", "s2"), 1):
        await demo.new_box(store, number)
    await demo.post("/api/boxes/gw-s2/revoke")
    folder = tmp_path / "mosquitto"
    (conf,) = await asyncio.to_thread(write, Path(demo.options.data_dir), "mosquitto", folder, ("0.0.0.0", 8883), ["broker.example"])
    assert "require_certificate true" in conf.read_text() and "listener 8883 0.0.0.0" in conf.read_text()
    acl = (folder / "mosquitto.acl").read_text()
    assert re.findall(r"user (\S+)\ntopic deny", acl) == ["gw-s2"]
    key = (folder / "server.key").read_bytes()
    await asyncio.to_thread(write, Path(demo.options.data_dir), "mosquitto", folder, ("0.0.0.0", 8883), ["broker.example"])
    assert (folder / "server.key").read_bytes() == key  # written again, it is the same server


async def test_nats_knows_every_box_by_name_and_a_revoked_one_only_hears(demo: Hq, tmp_path: Path) -> None:
    for number, store in enumerate(("s1", "s2"), 1):
        await demo.new_box(store, number)
    await demo.post("/api/boxes/gw-s2/revoke")
    confs = await asyncio.to_thread(write, Path(demo.options.data_dir), "nats", tmp_path / "nats", ("0.0.0.0", 8883), ["broker.example"])
    assert len(confs) == NODES
    users = json.loads((tmp_path / "nats" / "users.json").read_text().partition(": ")[2])
    assert [user["user"] for user in users] == ["CN=hq.ingest", "CN=gw-s1", "CN=gw-s2"]
    assert users[1]["permissions"]["publish"] == ["sgw.1.*.*.*.gw-s1.up.*"]
    assert users[2]["permissions"]["publish"] == {"deny": [">"]}


def test_without_a_headquarters_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write(tmp_path / "hq", "nats", tmp_path / "nats", ("0.0.0.0", 8883), ["localhost"])
    assert not (tmp_path / "nats").exists()
