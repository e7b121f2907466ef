"""Pictures that are no event's crops, and the answers that go with them: what bounds them here. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_STILLS = 120
"""Four bursts of a debug session; more than these nobody waits for."""
SHARE = 1 / 8
"""Of the outbox's budget."""


@dataclass(frozen=True, slots=True)
class StillInfo:
    """What an entry of the stream ``stills`` says of its one blob. ``purpose`` debug or recall; ``name`` groups (a session)."""

    purpose: str
    name: str
    content_type: str = "image/jpeg"

    @classmethod
    def of(cls, message: Mapping[str, object]) -> "StillInfo":
        """As it was kept."""
        return cls(*(str(message.get(key, "")) for key in ("purpose", "name", "content_type")))

    def message(self) -> dict[str, object]:
        """To be kept."""
        return {"purpose": self.purpose, "name": self.name, "content_type": self.content_type}


def surplus(sizes: Sequence[tuple[int, int]], incoming_bytes: int, max_bytes: int) -> list[int]:
    """Numbers of the oldest that must go so that one of ``incoming_bytes`` fits; ``sizes`` are (number, bytes), oldest first."""
    allowed = int(max_bytes * SHARE)
    used, count = sum(size for _, size in sizes) + incoming_bytes, len(sizes) + 1
    gone: list[int] = []
    for number, size in sizes:
        if used <= allowed and count <= MAX_STILLS:
            break
        gone.append(number)
        used, count = used - size, count - 1
    return gone
