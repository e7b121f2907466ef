"""On-disk formats and the agent's own update: which set of formats is written, which are read. Pure.

Every file that the agent writes carries its version, and whoever raises one raises ``FORMATS`` with it. An agent reads the
formats of its own set and of the one before; it writes the set that is in force on this board, which is raised only when it is
committed. So whatever an agent on trial wrote, the one before can read.
"""

from dataclasses import dataclass

FORMATS = 1
"""Of this code: the set of formats that it writes once it is committed. 1: all files of the first release."""
OLDEST_READ = 1
"""The oldest set that this code reads: FORMATS - 1, and not below 1."""
FIRST = 1
"""What is in force where nothing was ever written down."""


@dataclass(frozen=True, slots=True)
class Formats:
    """What an agent says of itself in its self-test."""

    writes: int
    oldest_read: int


OWN = Formats(FORMATS, OLDEST_READ)


def written(in_force: int, own: Formats = OWN) -> int:
    """The set that is written now: never newer than what is in force on this board."""
    return min(in_force, own.writes)


def problem(in_force: int, new: Formats) -> str:
    """Why an agent cannot follow on this board, in words; empty when it can."""
    if new.oldest_read > in_force:
        return f"it reads files from set {new.oldest_read} on, this board's are of set {in_force}: one in between goes first"
    if new.writes < in_force:
        return f"it reads files up to set {new.writes}, this board's are of set {in_force}"
    return ""


def after_commit(in_force: int, own: Formats = OWN) -> int:
    """The set in force once this agent is committed."""
    return max(in_force, own.writes)
