"""What this board's policy lets out: which kinds of pictures, and to which hosts. No server can widen it. Pure."""

from dataclasses import dataclass

from ota.wire.addresses import is_path, plain_address
from ota.wire.events import UploadSlot

CLASS_OF_KIND = {"first": "crop", "best": "crop", "burst": "burst"}


@dataclass(frozen=True, slots=True)
class UploadRule:
    """``classes`` of pictures (crop, burst, recall, debug) that may go; None: all. ``hosts``: ``host`` or ``host:port`` of object
    stores; None: any. ``own``: host and port of the server itself, which is always allowed: it is told everything else too.
    """

    classes: frozenset[str] | None = None
    hosts: tuple[str, ...] | None = None
    own: tuple[str, int] = ("", 443)

    def lets_class(self, purpose: str) -> bool:
        """Whether pictures of this kind may leave the board."""
        return self.classes is None or purpose in self.classes

    def lets_slot(self, slot: UploadSlot) -> bool:
        """Whether bytes may be put where a slot says. A URL without a host means the server itself."""
        if self.hosts is None:
            return True
        if is_path(slot.url):
            return True
        place = plain_address(slot.url)
        if place is None:
            return False
        return (place.host, place.port) == self.own or any(_names(entry, place.host, place.port) for entry in self.hosts)


def class_of(rule_kind: str, kind: str) -> str:
    """The class of an event's picture: that of a recall sample is ``recall``, whatever its kind."""
    return "recall" if rule_kind == "sample" else CLASS_OF_KIND.get(kind, "crop")


def _names(entry: str, host: str, port: int) -> bool:
    name, colon, given = entry.rpartition(":")
    if not colon or entry.endswith("]"):
        name, given = entry, ""
    return name.strip("[]").lower().rstrip(".") == host.lower().rstrip(".") and given in ("", str(port))
