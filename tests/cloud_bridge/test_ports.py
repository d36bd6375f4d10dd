"""Ports for servers that start a moment later."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_bridge import ports
from cloud_bridge.ports import FREE, free_port


def test_no_connection_going_out_is_given_a_port_that_was_found_free() -> None:
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    assert FREE.stop <= int(lowest)
    assert {free_port() in FREE for _ in range(50)} == {True}


def test_a_taken_port_is_passed_over_and_none_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(ports, "TRIES", 1)
        monkeypatch.setattr(ports, "FREE", [taken.getsockname()[1]])
        with pytest.raises(OSError, match="no free port"):
            free_port()


def test_processes_that_look_at_the_same_time_are_never_given_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    few = list(range(FREE.start, FREE.start + 40))
    look = (
        f"from cloud_bridge import ports as p; p.FREE, p.TRIES = {few}, 40; print(*(p.free_port() for _ in range(5)), flush=True); input()"
    )
    looking = [subprocess.Popen([sys.executable, "-c", look], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    given = [port for one in looking if one.stdout is not None for port in one.stdout.readline().split()]
    for one in looking:
        one.communicate("\n")
    assert len(given) == len(set(given)) == 20
    assert {one.returncode for one in looking} == {0}
