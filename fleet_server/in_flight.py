"""One at a time: what a caller may not have twice in flight at a door. In memory, one set per door process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fleet_server.errors import TooManyError

RETRY_AFTER_S = 2
"""A batch is stored in a fraction of this, where nobody floods."""


class InFlight:
    """What is under way now, by key. The database has one writer: who queues before it eight times keeps all others waiting."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def only(self, key: str) -> Iterator[None]:
        """For the time of the block nobody else is in one of this key; TooManyError at once where somebody is."""
        with self._lock:
            if key in self._keys:
                raise TooManyError("a batch of this device is being stored already", "send one after the other", RETRY_AFTER_S)
            self._keys.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._keys.discard(key)
