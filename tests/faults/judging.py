"""Crash states rebuilt on a real disk (in memory where there is one) and judged one by one."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ota.durable_disk import write_whole
from tests.faults.crash_states import CrashState, Enumeration, enumerate_states
from tests.faults.disk_model import Disk, read_tree, write_tree
from tests.faults.recording import Kind, Op, read_log

MEMORY = Path("/dev/shm")
ROOM_BYTES = 64 * 2**20


@contextmanager
def scratch() -> Iterator[Path]:
    """A fresh folder, in memory where the machine has room there; gone afterwards."""
    parent = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES else None
    with tempfile.TemporaryDirectory(prefix="rookery-faults-", dir=parent) as name:
        yield Path(name)


@dataclass(slots=True)
class Recording:
    """One log, the tree that it began with, and all its crash states."""

    log: list[Op]
    start: Path
    states: Enumeration

    @staticmethod
    def read(log_file: Path, start: Path, now: Path) -> "Recording":
        """The log, proved: replayed without a crash it makes exactly the tree that the real code left."""
        log = read_log(log_file, now)
        disk = Disk(start)
        for op in log:
            disk.feed(op)
        assert disk.live() == read_tree(now), "the log is not the whole story: something changed the disk past the recorder"
        return Recording(log, start, enumerate_states(log, start))

    def syncs(self) -> list[int]:
        """Places of all syncs in the log."""
        return [place for place, op in enumerate(self.log) if op.kind is Kind.FSYNC]

    def without(self, *places: int) -> Iterator[CrashState]:
        """The crash states that exist only, or with more promised, where these lines of the log never happened."""
        known = {frozenset(state.tree.items()): len(state.promises) for state in self.states.distinct}
        for state in enumerate_states([op for at, op in enumerate(self.log) if at not in places], self.start).distinct:
            if len(state.promises) > known.get(frozenset(state.tree.items()), -1):
                yield state


@dataclass(frozen=True, slots=True)
class Failure:
    """A crash state that the code did not survive."""

    state: CrashState
    why: str

    def __str__(self) -> str:
        return f"{self.state}: {self.why}"


def judge(states: Iterable[CrashState], check: Callable[[Path, CrashState], None], *, first: bool = False) -> list[Failure]:
    """Rebuild each state and let ``check`` resume the real code on it; what failed (only the ``first`` where asked)."""
    failures: list[Failure] = []
    with scratch() as room:
        folder = room / "disk"
        for state in states:
            write_tree(state.tree, folder)
            try:
                check(folder, state)
            except Exception as error:
                failures.append(Failure(state, f"{type(error).__name__}: {error}"))
                if first:
                    return failures
            shutil.rmtree(folder)
    return failures


def missed(recording: Recording, path: str, check: Callable[[Path, CrashState], None]) -> Failure | None:
    """The negative control: the syncs of one kind of file (a pattern of its path) are overlooked one at a time, the last first,

    until a crash state fails; then two that follow one another (the state's folder is synced once more for the copy of its
    numbers: whoever forgot the sync of a folder forgot both). None where none fails.
    """
    places = [place for place in recording.syncs() if re.fullmatch(path, recording.log[place].path)]
    assert places, f"nothing like {path} is synced any more: {sorted({recording.log[at].path for at in recording.syncs()})}"
    for left_out in [*((place,) for place in reversed(places)), *pairwise(reversed(places))]:
        if found := judge(recording.without(*left_out), check, first=True):
            return found[0]
    return None


def told(failures: list[Failure], log: list[Op]) -> str:
    """Failures for a person: how many, and the first few with the line of the log after which the power went."""
    lines = [f"{len(failures)} states were not survived"]
    for failure in failures[:8]:
        op = log[failure.state.prefix - 1] if failure.state.prefix else None
        where = "before the first line" if op is None else f"{op.kind.name} {op.path} {op.other}"
        lines.append(f"{failure} [{where}]")
    return "\n".join(lines)


def keep_counts(name: str, counted: Enumeration | int) -> None:
    """In a run that keeps evidence: how many states there were, beside it."""
    evidence = os.environ.get("ROOKERY_EVIDENCE")
    if not evidence:
        return
    target = Path(evidence).with_name("crash_states_counts.json")
    known = json.loads(target.read_text()) if target.exists() else {}
    if isinstance(counted, Enumeration):
        known[name] = {**counted.counts, "in all": counted.total, "formula": counted.expected, "different": len(counted.distinct)}
    else:
        known[name] = {"drawn": counted}
    write_whole(target, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())
