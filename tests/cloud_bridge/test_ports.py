"""Ports for servers that start a moment later."""

import socket
from pathlib import Path

import pytest

from cloud_bridge import ports
from cloud_bridge.ports import FREE, free_port


def test_no_connection_going_out_is_given_a_port_that_was_found_free() -> None:
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    assert FREE.stop <= int(lowest)
    assert {free_port() in FREE for _ in range(50)} == {True}


def test_a_taken_port_is_passed_over_and_none_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(ports, "TRIES", 1)
    monkeypatch.setattr(ports, "FREE", [port])
    assert free_port() == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        with pytest.raises(OSError, match="no free port"):
            free_port()
