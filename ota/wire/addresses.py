"""Where a URL leads, judged so that no two libraries can read it differently: for rules about hosts. Pure."""

from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Address:
    """``host`` without brackets, in lower case; ``port`` as said, else that of the scheme."""

    scheme: str
    host: str
    port: int


def plain_address(url: str) -> Address | None:
    """The place that ``url`` names; None where one library could read another place in it than the next.

    Whoever judges a host reads the URL here, whoever connects reads it by a parser of its own: a backslash, a blank, user
    information, an escaped host are where the two part ways. Such a URL is not interpreted, but refused.
    """
    if not _plain(url):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host or set(parts.netloc) & set("@%"):
        return None
    return Address(parts.scheme, host, port or _PORTS[parts.scheme])


def is_path(url: str) -> bool:
    """Whether ``url`` names no host at all: a path on whoever sent it."""
    if not _plain(url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return not parts.netloc


def _plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and not set(url) & set("\\ ")
