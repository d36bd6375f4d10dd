"""Where a virtual store lives: its ports and its files."""

import socket
import tomllib
from pathlib import Path

from gateway.config import load
from virtual_store.plan import USUAL_PORTS, Plan, Ports, choose_ports


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number = int(taken.getsockname()[1])
        usual = dict(USUAL_PORTS)
        try:
            USUAL_PORTS["kiosk"] = number
            ports = choose_ports()
        finally:
            USUAL_PORTS.update(usual)
    assert ports.kiosk != number
    with socket.socket() as free:
        free.bind(("127.0.0.1", ports.kiosk))


def test_what_the_starter_writes_is_what_the_box_reads(tmp_path: Path) -> None:
    plan = Plan(tmp_path, Ports(1, 2, 3, 4), seed=5)
    plan.write()
    config = load(plan.gateway_toml)
    assert (config.core.port, config.bridge.port) == (1, 4)
    assert [station.name for station in config.stations] == ["counter", "entrance"]
    assert config.station_of("scanner@counter") == config.stations[0]
    assert config.scanner("counter").seed == 5
    assert {tag.kind for tag in config.ble.tags} == {"tag", "member"}
    plan.write_hq()
    options = tomllib.loads(plan.hq_toml.read_text(encoding="utf-8"))
    assert options["relay_ports"] == {"tpe-001": 4}
