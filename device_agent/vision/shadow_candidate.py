"""What runs as a shadow: a model that can be opened, looks at pictures, and can be closed. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from device_agent.vision.detector import Answer
from device_agent.vision.types import Picture


class NoCandidateError(Exception):
    """The candidate cannot be had now: not fetched, not allowed, expired. ``reason`` is one word, the message says why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Looks(Protocol):
    """As much of a detector as a shadow needs."""

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture; raises DetectorError."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to run beside the current one. ``key`` changes when it is another one.

    ``load`` opens it, and may have to fetch it first; raises ModelError or NoCandidateError.

    ``threads`` is how many cores a look may use: its cost is its duration times this, an upper bound.
    """

    key: str
    release: str
    load: Callable[[], Looks]
    threads: int = 1
