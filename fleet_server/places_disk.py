"""Where this server is reached: hosts that its certificate names, and the addresses that boards are told. ``pki/hosts.json``.

Boards are told several addresses while one takes the place of another: the wanted one first, the old one for as long as it works.
"""

import functools
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fleet_server.errors import SettingsError
from ota.durable_disk import write_whole

FILE = "hosts.json"
MOST = 8
"""Addresses that a board is told; the wire takes no more."""


class Places(msgspec.Struct, frozen=True):
    """``own``: hosts of the settings, as the server was started last. ``told``: ``HOST`` or ``HOST:PORT`` (IPv6 in brackets), as
    ``rookery-server pki server`` was told them, the wanted one first: what boards are told, and certified as well.
    """

    own: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    @property
    def hosts(self) -> list[str]:
        """Every host once, for the server's certificate."""
        return list(dict.fromkeys([*self.own, *(split_place(one)[0] for one in self.told)]))


def split_place(place: str) -> tuple[str, int | None]:
    """``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT`` in its parts; ValueError where the port is none."""
    if place.count(":") > 1 and not place.startswith("["):
        return place, None  # a bare IPv6 address
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place.strip("[]"), None
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{port!r} is not a port")
    return host.strip("[]"), int(port)


def stamp(*files: Path) -> tuple[tuple[int, int, int], ...]:
    """What changes when one of these files is replaced; absent ones count too."""
    found = []
    for file in files:
        try:
            seen = file.stat()
            found.append((seen.st_mtime_ns, seen.st_ino, seen.st_size))
        except FileNotFoundError:
            found.append((0, 0, 0))
    return tuple(found)


def read_places(pki: Path) -> Places:
    """What ``hosts.json`` says; nothing where there is none. SettingsError where it cannot be read."""
    path = pki / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Places)
    except FileNotFoundError:
        return Places()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", "remove it, then: rookery-server pki server --host …") from None


def write_places(pki: Path, now: Places) -> None:
    """Remember them."""
    write_whole(pki / FILE, msgspec.json.encode(now) + b"\n")


def told_urls(pki: Path, own_url: str) -> list[str]:
    """The addresses of the device door that boards are told; empty: none besides the one that they know.

    Those without a port have that of ``own_url``.
    """
    return list(_urls(pki, urlsplit(own_url).port or 443, stamp(pki / FILE)))


@functools.lru_cache(maxsize=8)
def _urls(pki: Path, port: int, _stamp: object) -> tuple[str, ...]:
    urls = []
    for place in read_places(pki).told[:MOST]:
        host, own_port = split_place(place)
        urls.append(f"https://{f'[{host}]' if ':' in host else host}:{own_port or port}")
    return tuple(urls)
