"""What goes first when the outbox is over its budget: by value, never by chance. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from device_agent.spool.entry import Header

STREAM_PRIORITY = {"stills": -1, "events": 0, "reports": 1}
"""A report is small and is the only proof of an update: all events go before the first report does, and before any event goes a
still, which can be asked for again."""

AGE_HALF_LIFE_S = 24 * 3600.0
"""After a day an event is worth half: the same visit of a week ago helps nobody who looks at the page now."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One entry of the outbox. ``priority`` is its rule's (higher stays longer), ``score`` 0 to 1."""

    stream: str
    sequence: int
    size_bytes: int
    priority: int
    score: float
    age_s: float


def candidate_of(header: Header, size_bytes: int) -> Candidate:
    """A newcomer."""
    return Candidate(header.stream, header.sequence, size_bytes, header.priority, header.score, 0.0)


@dataclass(slots=True)
class Known:
    """What is known of an entry without reading it again."""

    path: Path
    size_bytes: int
    created_s: float
    priority: int
    score: float

    def candidate(self, stream: str, number: int, now_s: float) -> Candidate:
        """As one that may go."""
        return Candidate(stream, number, self.size_bytes, self.priority, self.score, now_s - self.created_s)


def value(entry: Candidate) -> tuple[int, int, float]:
    """Order of worth: stream, the rule's priority, then score halved for every day of age."""
    return (
        STREAM_PRIORITY.get(entry.stream, 0),
        entry.priority,
        entry.score * 0.5 ** (max(0.0, entry.age_s) / AGE_HALF_LIFE_S),
    )


def choose(entries: Iterable[Candidate], need_bytes: int, *, below: Candidate | None = None) -> list[Candidate]:
    """The least worthy entries whose sizes add up to ``need_bytes``; none at all where all that may go would not suffice.

    ``below`` is the newcomer for whom room is made: nothing worth more than it is given up. A disk that another program filled is
    not made free by us, so what waits here is not given up for a need that it cannot meet.
    """
    chosen: list[Candidate] = []
    freed = 0
    limit = None if below is None else value(below)
    for entry in sorted(entries, key=lambda e: (value(e), e.sequence)):
        if freed >= need_bytes:
            break
        if limit is not None and value(entry) > limit:
            break
        chosen.append(entry)
        freed += entry.size_bytes
    return chosen if freed >= need_bytes else []


def over_budget_bytes(used_bytes: int, incoming_bytes: int, free_bytes: int, *, max_bytes: int, min_free_bytes: int) -> int:
    """How many bytes must go so that the newcomer fits into the budget and leaves the disk its reserve; 0 when it fits."""
    over_own = used_bytes + incoming_bytes - max_bytes
    over_disk = min_free_bytes + incoming_bytes - free_bytes
    return max(0, over_own, over_disk)
