"""Where the server is: the address that this board was given, those that the server has told since, the one in use. Pure.

A server that moves tells its boards both addresses for a while, the new one first. A board goes where it is told only after the
new place has proven itself, goes back where the old one still works, and never where its policy does not let it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from ota.wire.addresses import plain_address


@dataclass(frozen=True, slots=True)
class Addresses:
    """``home``: of agent.toml; ``told``: by the server, the wanted one first; ``chosen``: in use, empty: home."""

    home: str
    told: tuple[str, ...] = ()
    chosen: str = ""

    @property
    def current(self) -> str:
        """The address in use."""
        return self.chosen or self.home

    @property
    def wanted(self) -> str:
        """Where the board should be: where the server wants it, else where it is."""
        return self.told[0] if self.told else self.current

    def others(self) -> list[str]:
        """Every other address, the wanted one first."""
        return [one for one in dict.fromkeys([*self.told, self.home]) if one != self.current]

    def hear(self, told: tuple[str, ...], allows: Callable[[str, int], bool]) -> "Addresses":
        """The server has told this: what is no address, or not allowed here, is left out."""
        return replace(self, told=tuple(one for one in told if _is_allowed(one, allows)))

    def allowed(self, allows: Callable[[str, int], bool]) -> "Addresses":
        """Without what the policy does not let: it may have become stricter since these were heard. Home has its own check."""
        chosen = self.chosen if not self.chosen or _is_allowed(self.chosen, allows) else ""
        return replace(self.hear(self.told, allows), chosen=chosen)

    def broker_at(self, host: str, port: int) -> tuple[str, int]:
        """Where the broker is: it goes with the server, where it was told to be at one of the server's addresses."""
        if host.lower() in {_host(one) for one in (self.home, *self.told, self.current)}:
            return _host(self.current), port
        return host, port


class _Kept(msgspec.Struct, frozen=True):
    told: tuple[str, ...] = ()
    chosen: str = ""


def to_bytes(addresses: Addresses) -> bytes:
    """As it is kept on the disk."""
    return msgspec.json.encode(_Kept(addresses.told, addresses.chosen))


def from_bytes(home: str, data: bytes) -> Addresses:
    """What was kept; only home where it cannot be read."""
    try:
        kept = msgspec.json.decode(data, type=_Kept)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Addresses(home)
    return Addresses(home, kept.told, kept.chosen if kept.chosen in kept.told else "")


def _is_allowed(url: str, allows: Callable[[str, int], bool]) -> bool:
    place = plain_address(url)
    return place is not None and place.scheme == "https" and allows(place.host, place.port)


def _host(url: str) -> str:
    place = plain_address(url)
    return place.host if place is not None else ""
