"""Where the bytes of a content file are: the address that the operator named, or a store that it sends us on to.

A store's signed address expires in the middle of a long download over a slow line; the first address gives a fresh one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.response import BaseHTTPResponse

from ota.trust.refusal import Refusal
from ota.trust.request_http import get
from ota.wire.addresses import plain_address

MOVED = (302, 303, 307, 308)
STALE = (401, 403, 404, 410)
"""What a store answers to an address that is not, or no longer, good."""


@dataclass(frozen=True, slots=True)
class Again:
    """Ask once more: why, after which pause (None: the usual one)."""

    reason: str
    wait_s: float | None = None
    progressed: bool = False
    free: bool = False
    """Another address, not another try."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Stores that ``url`` may send us on to: over a pool of their own, because none of them must see the device's certificate."""

    pool: urllib3.PoolManager
    allows: Callable[[str], bool]
    """Whether this board's policy lets it fetch from an address."""


class Aim:
    """One file's address. ``url`` may send us on once, to one of ``stores`` (None: to none); a stale place has ``url`` asked for
    a fresh address, once after each byte of progress.
    """

    def __init__(self, pool: urllib3.PoolManager, url: str, stores: Stores | None = None) -> None:
        self._pool, self.url, self._stores = pool, url, stores
        self._elsewhere: str | None = None
        self._asked_anew = False

    def ask(self, headers: dict[str, str], deadline_s: float, gap_s: float) -> BaseHTTPResponse:
        """The response of wherever the bytes are now; raises RequestError."""
        if self._elsewhere is None or self._stores is None:
            return get(self._pool, self.url, headers, deadline_s, gap_s)
        return get(self._stores.pool, self._elsewhere, headers, deadline_s, gap_s)

    def progressed(self) -> None:
        """Bytes came: the address was good."""
        self._asked_anew = False

    def moved(self, response: BaseHTTPResponse) -> Refusal | Again | None:
        """What an answer says about the address: try the other one, give up, or (None) nothing."""
        if self._elsewhere is None and response.status in MOVED and self._stores is not None:
            target = urljoin(self.url, response.headers.get("Location", ""))
            place = plain_address(target)
            if place is None:
                return Refusal("download", f"{self.url}: it sends us on to an address that can be read in more than one way")
            if not self._stores.allows(target):
                return Refusal("download", f"{self.url}: it sends us on to {place.host}, which the policy does not allow")
            self._elsewhere = target
            return Again("sent on", wait_s=0.0, free=True)
        if self._elsewhere is not None and response.status in STALE and not self._asked_anew:
            self._elsewhere, self._asked_anew = None, True
            return Again(f"the store answered {response.status}: a fresh address is asked for", wait_s=0.0, free=True)
        return None

    def __str__(self) -> str:
        """For people; a signed address is a secret and is never told, only its host."""
        return self.url if self._elsewhere is None else f"{self.url} (at {urlsplit(self._elsewhere).netloc})"
