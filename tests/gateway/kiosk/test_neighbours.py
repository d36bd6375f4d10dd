"""Who is near a box, by the kernel's own word."""

import ipaddress
import json
import subprocess

import pytest

from gateway.kiosk import neighbours
from gateway.kiosk.neighbours import is_here, is_near, networks


def by_ip_command() -> set[str]:
    """The same by another program: private IPv4 addresses of interfaces that are up and neither loopback nor a tunnel."""
    said = subprocess.run(["ip", "-json", "-4", "address", "show", "up"], capture_output=True, check=True).stdout
    found = set()
    for link in json.loads(said):
        if not {"LOOPBACK", "POINTOPOINT"} & set(link["flags"]):
            # One address an interface: the ioctl tells the first.
            first = next(entry for entry in link["addr_info"] if not entry.get("secondary"))
            if ipaddress.ip_address(first["local"]).is_private:
                found.add(f"{first['local']}/{first['prefixlen']}")
    return found


def test_the_networks_are_those_that_ip_shows() -> None:
    try:
        expected = by_ip_command()
    except FileNotFoundError:
        pytest.skip("needs iproute2")
    assert {str(interface) for interface in networks()} == expected


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:db8::1", "fe80::1", "", "nonsense", "203.0.113.9"])
def test_a_stranger_is_neither_here_nor_near(address: str) -> None:
    assert not is_here(address) and not is_near(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_near_itself(address: str) -> None:
    assert is_here(address) and is_near(address)


def test_near_ends_at_the_edge_of_the_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "networks", lambda: [ipaddress.IPv4Interface("192.168.4.20/23")])
    assert is_near("192.168.4.1") and is_near("192.168.5.254")
    assert not is_near("192.168.6.1") and not is_near("192.168.3.255") and not is_near("10.0.0.1")
