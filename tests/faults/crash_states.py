"""Every state in which a crash may leave the disk, from the log of what a program did; and how many there must be.

For every prefix of the log: all unsynced changes kept, all dropped, the names kept and the bytes lost, each single one dropped;
and where bytes are unsynced, the last write torn at 0, at half and one byte before its end (all else kept).
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disk_model import Change, Disk, Name, Tree, Write
from tests.faults.recording import Kind, Op

TORN = ("torn at 0", "torn at half", "torn at length - 1")


@dataclass(slots=True)
class CrashState:
    """One state: after the first ``prefix`` lines, and what had been promised by then (the log's marks, in order)."""

    prefix: int
    variation: str
    tree: Tree
    promises: list[str]
    also: list[str] = field(default_factory=list)
    """The other ways to the same state."""

    def __str__(self) -> str:
        return f"after line {self.prefix}, {self.variation}"


@dataclass(slots=True)
class Enumeration:
    """All crash states of one log: how many there are by kind, and the different ones."""

    counts: Counter[str]
    distinct: list[CrashState]
    expected: int

    @property
    def total(self) -> int:
        """All states, equal ones counted as often as they occur."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
        return f"{self.total} crash states ({by_kind}), {len(self.distinct)} different; the formula says {self.expected}"


def enumerate_states(log: Sequence[Op], start: Path) -> Enumeration:
    """All states of a log that began with the tree ``start``. Equal ones are given once, with the most that was promised."""
    counts: Counter[str] = Counter()
    distinct: dict[frozenset[object], CrashState] = {}
    for state in _all(log, start):
        counts[state.variation.partition(":")[0]] += 1
        key = frozenset(state.tree.items())
        before = distinct.get(key)
        if before is None:
            distinct[key] = state
        else:
            # Later prefixes have promised no less: the state is judged by them.
            before.also.append(str(state))
            before.promises = state.promises
    return Enumeration(counts, list(distinct.values()), expected_count(log, start))


def _all(log: Sequence[Op], start: Path) -> Iterator[CrashState]:
    disk, promises = Disk(start), []
    yield from _here(disk, 0, [])
    for prefix, op in enumerate(log, start=1):
        disk.feed(op)
        if op.kind is Kind.MARK:
            promises.append(op.path)
        yield from _here(disk, prefix, list(promises))


def _here(disk: Disk, prefix: int, promises: list[str]) -> Iterator[CrashState]:
    def one(variation: str, tree: Tree) -> CrashState:
        return CrashState(prefix, variation, tree, promises)

    pending = disk.pending
    yield one("all kept", disk.state())
    yield one("all dropped", disk.state([]))
    yield one("bytes lost", disk.state([change for change in pending if isinstance(change, Name)]))
    for place, dropped in enumerate(pending):
        yield one(f"one dropped: {place}", disk.state([change for change in pending if change is not dropped]))
    writes = [place for place, change in enumerate(pending) if isinstance(change, Write)]
    if writes:
        for word in TORN:
            yield one(f"{word}: {writes[-1]}", disk.state(None, {writes[-1]: torn_at(pending[writes[-1]], word)}))


def expected_count(log: Sequence[Op], start: Path) -> int:
    """How many states there must be, counted without building one: 3 for each prefix, one for each change that is unsynced there,

    and 3 more where a write is unsynced. A change is unsynced from its own line to the first later line that syncs it.
    """
    disk, changes = Disk(start), []
    for line, op in enumerate(log, start=1):
        before = {id(change) for change in disk.pending}
        made = disk.feed(op)
        left = {id(change) for change in disk.pending}
        for entry in changes:
            if id(entry[0]) in before - left:
                entry[2] = line
        changes += [[change, line, len(log) + 1] for change in made]
    total = 3 * (len(log) + 1)
    written = set()
    for change, made_at, synced_at in changes:
        total += synced_at - made_at
        if isinstance(change, Write):
            written.update(range(made_at, synced_at))
    return total + 3 * len(written)


def sample_states(log: Sequence[Op], start: Path, seed: str, count: int) -> Iterator[CrashState]:
    """``count`` states drawn at random (a prefix, then one of its variations), for logs that have too many for all."""
    draw = random.Random(seed)
    prefixes = Counter(draw.randrange(len(log) + 1) for _ in range(count))
    disk, promises = Disk(start), []
    for prefix in range(len(log) + 1):
        if prefix:
            op = log[prefix - 1]
            disk.feed(op)
            if op.kind is Kind.MARK:
                promises.append(op.path)
        if prefixes[prefix]:
            yield from _drawn(disk, prefix, list(promises), prefixes[prefix], draw)


def _drawn(disk: Disk, prefix: int, promises: list[str], count: int, draw: random.Random) -> Iterator[CrashState]:
    pending = disk.pending
    last = max((place for place, change in enumerate(pending) if isinstance(change, Write)), default=-1)
    for _ in range(count):
        number = draw.randrange(3 + len(pending) + (3 if last >= 0 else 0))
        if number == 0:
            yield CrashState(prefix, "all kept", disk.state(), promises)
        elif number == 1:
            yield CrashState(prefix, "all dropped", disk.state([]), promises)
        elif number == 2:
            names = [change for change in pending if isinstance(change, Name)]
            yield CrashState(prefix, "bytes lost", disk.state(names), promises)
        elif number < 3 + len(pending):
            dropped = pending[number - 3]
            tree = disk.state([change for change in pending if change is not dropped])
            yield CrashState(prefix, f"one dropped: {number - 3}", tree, promises)
        else:
            word = TORN[number - 3 - len(pending)]
            yield CrashState(prefix, f"{word}: {last}", disk.state(None, {last: torn_at(pending[last], word)}), promises)


def torn_at(change: Change, word: str) -> Write:
    """A write of which only the beginning arrived."""
    assert isinstance(change, Write)
    length = {TORN[0]: 0, TORN[1]: len(change.data) // 2, TORN[2]: len(change.data) - 1}[word]
    return Write(change.file, change.offset, change.data[:length])
