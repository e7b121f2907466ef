"""The first steps of the way to the server, looked at by themselves: does the gateway answer, does the server's name resolve."""

import contextlib
import ipaddress
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROUTE_UP_GATEWAY = 0x3
"""RTF_UP and RTF_GATEWAY of include/uapi/linux/route.h."""
ARP_COMPLETE = 0x2
"""ATF_COM of include/uapi/linux/if_arp.h: the neighbour has answered."""
DISCARD_PORT = 9
"""What is sent to it is thrown away (RFC 863); on its way the kernel must ask who the gateway is."""
ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Way:
    """``gateway``: the default gateway answers. ``names``: the server's name resolves. None: not known, or not asked for."""

    gateway: bool | None = None
    names: bool | None = None

    def worse_than(self, before: "Way") -> bool:
        """Something that worked before is known not to work now."""
        pairs = ((before.gateway, self.gateway), (before.names, self.names))
        return any(old is True and new is False for old, new in pairs)


def look_at_way(server_url: str, net: Path = Path("/proc/net")) -> Way:
    """Look now; takes a second, and longer where the resolver is silent. ``net`` is the kernel's folder of its tables."""
    return Way(gateway=_gateway_answers(net), names=_resolves(urlsplit(server_url).hostname or ""))


def default_gateway(route_table: str) -> str | None:
    """The IPv4 address of the default gateway in a text like /proc/net/route, None where there is none. Pure."""
    for line in route_table.splitlines()[1:]:
        words = line.split()
        with contextlib.suppress(IndexError, ValueError, struct.error):
            if int(words[1], 16) == 0 and int(words[3], 16) & ROUTE_UP_GATEWAY == ROUTE_UP_GATEWAY:
                # The kernel prints the four bytes as a number of this machine's own byte order.
                return socket.inet_ntoa(struct.pack("=I", int(words[2], 16)))
    return None


def neighbour_answered(arp_table: str, address: str) -> bool | None:
    """Whether a neighbour has answered, by a text like /proc/net/arp; None where it is not named (a line without ARP). Pure."""
    for line in arp_table.splitlines()[1:]:
        words = line.split()
        with contextlib.suppress(IndexError, ValueError):
            if words[0] == address:
                return bool(int(words[2], 16) & ARP_COMPLETE)
    return None


def _gateway_answers(net: Path) -> bool | None:
    try:
        gateway = default_gateway((net / "route").read_text())
        if gateway is None:
            return False
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (gateway, DISCARD_PORT))
            time.sleep(ANSWER_S)
        return neighbour_answered((net / "arp").read_text(), gateway)
    except OSError:
        return None


def _resolves(host: str) -> bool | None:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True
