"""The networks this machine stands in: at which address a phone in the shop finds it, and who is near enough to be one.

Near is who speaks from this machine or out of a private IPv4 network on one of its own cables or radios; whoever comes
through a router is not. The kernel is asked each time, since addresses come and go with cables, and by ioctl, because the
usual calls speak netlink, which the unit's sandbox shuts.
"""

import contextlib
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path
from typing import Final

INTERFACES: Final = Path("/sys/class/net")
SIOCGIFFLAGS: Final = 0x8913
SIOCGIFADDR: Final = 0x8915
SIOCGIFNETMASK: Final = 0x891B
IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
IFF_POINTOPOINT: Final = 0x10  # tunnels and mobile data: nobody of the shop is at the other end
ELSEWHERE: Final = ("198.51.100.1", 9)  # nobody's address (RFC 5737); choosing a way there sends nothing


def networks() -> list[ipaddress.IPv4Interface]:
    """This machine's address in each private network that it stands in, the one its default route leaves by first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in sorted(path.name for path in INTERFACES.iterdir()):
            with contextlib.suppress(OSError):  # it has no IPv4 address, or has just gone
                if (interface := _interface(probe, name)) is not None:
                    found.append(interface)
        with contextlib.suppress(OSError):  # no way out of the shop
            probe.connect(ELSEWHERE)
            usual = probe.getsockname()[0]
            found.sort(key=lambda interface: str(interface.ip) != usual)
    return found


def is_here(address: str) -> bool:
    """Whether that is this machine itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_near(address: str) -> bool:
    """Whether that is this machine or one of the networks it stands in."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    return peer.is_loopback or any(peer in interface.network for interface in networks())


def _interface(probe: socket.socket, name: str) -> ipaddress.IPv4Interface | None:
    def ask(what: int) -> bytes:
        return fcntl.ioctl(probe, what, struct.pack("256s", name.encode()))

    (flags,) = struct.unpack_from("H", ask(SIOCGIFFLAGS), 16)
    if not flags & IFF_UP or flags & (IFF_LOOPBACK | IFF_POINTOPOINT):
        return None
    address, mask = (socket.inet_ntoa(ask(what)[20:24]) for what in (SIOCGIFADDR, SIOCGIFNETMASK))
    interface = ipaddress.IPv4Interface(f"{address}/{mask}")
    return interface if interface.is_private else None
