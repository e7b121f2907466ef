"""When a poll is worth a write: a device that asks every two seconds is not written down every two seconds. Pure."""

from threading import Lock


class Contacts:
    """Remembers when each device was last written down by this process. For many threads."""

    def __init__(self, every_s: float = 10.0, bound: int = 200_000) -> None:
        self._every_s = every_s
        self._bound = bound
        self._written_s: dict[str, float] = {}
        self._lock = Lock()

    def is_due(self, device_id: str, now_s: float) -> bool:
        """True at most once in ``every_s`` for each device."""
        with self._lock:
            last_s = self._written_s.get(device_id)
            if last_s is not None and 0 <= now_s - last_s < self._every_s:
                return False
            if len(self._written_s) >= self._bound:
                self._written_s.clear()
            self._written_s[device_id] = now_s
            return True
