"""How often one caller may ask: token buckets in memory, one set per door process. Pure: time comes in."""

import ipaddress
import threading
from collections import OrderedDict
from dataclasses import dataclass

MOST_BUCKETS = 50_000
"""Kept at once; the one that was asked longest ago is forgotten first. A forgotten bucket is a full one."""
RETRY_AFTER_S = 5
"""Told to whoever is over: a twelfth of a minute's requests have come back by then."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Buckets:
    """For each key ``per_minute`` requests a minute, all of them at once if need be. 0: no limit."""

    def __init__(self, per_minute: int, most: int = MOST_BUCKETS) -> None:
        self._size, self._per_s, self._most = float(per_minute), per_minute / 60.0, most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def give_back(self, key: str) -> None:
        """One that was taken was no request to count after all."""
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.tokens = min(self._size, bucket.tokens + 1.0)

    def take(self, key: str, now_s: float) -> bool:
        """Whether one more request is allowed. A clock that was set back gives nothing and takes nothing."""
        if self._size <= 0:
            return True
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is None:
                self._buckets[key] = bucket = _Bucket(self._size, now_s)
                if len(self._buckets) > self._most:
                    self._buckets.popitem(last=False)
            else:
                self._buckets.move_to_end(key)
                bucket.tokens = min(self._size, bucket.tokens + max(0.0, now_s - bucket.at_s) * self._per_s)
                bucket.at_s = now_s
            if bucket.tokens < 1.0:
                return False
            bucket.tokens -= 1.0
            return True


class Rarely:
    """Says for each key how many times something happened, once per ``every_s``: what goes into the database of a flood."""

    def __init__(self, every_s: float, most: int = MOST_BUCKETS) -> None:
        self._every_s, self._most = every_s, most
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, key: str, now_s: float) -> int:
        """One more; answers how many came since the last telling (this one included), or 0 when it is not time to tell."""
        with self._lock:
            told_s, waiting = self._seen.get(key, (now_s - self._every_s, 0))
            due = not 0.0 <= now_s - told_s < self._every_s
            self._seen[key] = (now_s, 0) if due else (told_s, waiting + 1)
            self._seen.move_to_end(key)
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)
            return waiting + 1 if due else 0


def address_key(address: str) -> str:
    """What counts as one caller, wherever callers are counted: an IPv4 address, or the /64 of IPv6 that one household has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
