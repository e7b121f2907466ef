"""A bounded queue between a camera's thread and one that talks to the world: putting never waits. Pure but for its lock."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """At most ``limit`` letters, each with the time that it was put in. When it is full the oldest goes, and that is counted.

    ``steady_s``: a monotonic clock. ``name`` begins the reasons under which drops are counted.
    """

    def __init__(self, name: str, limit: int, steady_s: Callable[[], float]) -> None:
        self._name, self._limit, self._steady_s = name, limit, steady_s
        self._letters: deque[tuple[float, T]] = deque()
        self._dropped: dict[str, int] = {}
        self._changed = threading.Condition()
        self._rung = False

    def put(self, letter: T) -> None:
        """Never waits for anybody who reads."""
        with self._changed:
            if len(self._letters) >= self._limit:
                self._letters.popleft()
                self._count("full")
            self._letters.append((self._steady_s(), letter))
            self._changed.notify()

    def ring(self) -> None:
        """End a wait without a letter."""
        with self._changed:
            self._rung = True
            self._changed.notify()

    def wait(self, timeout_s: float) -> bool:
        """Until a letter is there, somebody rang, or the time is over; True when there is a letter."""
        with self._changed:
            self._changed.wait_for(lambda: self._letters or self._rung, timeout_s)
            self._rung = False
            return bool(self._letters)

    def take(self, fresh_s: float) -> T | None:
        """The oldest letter that is no older than this; older ones are dropped and counted. None when there is none."""
        with self._changed:
            now_s = self._steady_s()
            while self._letters:
                at_s, letter = self._letters.popleft()
                if now_s - at_s <= fresh_s:
                    return letter
                self._count("stale")
            return None

    def drop(self, reason: str) -> None:
        """A letter that was taken could not be delivered."""
        with self._changed:
            self._count(reason)

    def dropped(self) -> dict[str, int]:
        """Letters that were not delivered, by reason (``name_reason``)."""
        with self._changed:
            return dict(self._dropped)

    def _count(self, reason: str) -> None:
        key = f"{self._name}_{reason}"
        self._dropped[key] = self._dropped.get(key, 0) + 1
