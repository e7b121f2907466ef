"""Who is in which stage of a rollout. Pure: the same rollout over the same devices always gives the same stages."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil

from fleet_server.statistics.cohorts import in_order

SMALL_START = 10
"""A stage is never smaller than this many devices or a third of the fleet, whichever is less: few devices say little."""
MAX_STAGES = 20


def shares_problem(shares: Sequence[float]) -> str | None:
    """Why these shares are no stages, or None: they rise, lie in (0, 1] and end at 1."""
    if not 1 <= len(shares) <= MAX_STAGES:
        return f"{len(shares)} stages; there may be 1 to {MAX_STAGES}"
    if any(not 0 < share <= 1 for share in shares):
        return "every stage is a share above 0 and at most 1"
    if any(later <= earlier for earlier, later in pairwise(shares)):
        return "the shares must rise from stage to stage"
    if shares[-1] != 1:
        return "the last stage must be 1.0, the whole selection: a rollout that reaches only a part never ends"
    return None


def stage_size(share: float, count: int) -> int:
    """How many of ``count`` devices have the release when the stage of this share is open: max(⌈share·n⌉, min(10, ⌈n/3⌉))."""
    # Exact arithmetic: ⌈0.07 · 100⌉ must be 7, and in floating point it is 8.
    wanted = ceil(Fraction(str(share)) * count)
    return min(count, max(wanted, min(SMALL_START, ceil(Fraction(count, 3)))))


def stages(rollout_id: str, devices: Iterable[str], shares: Sequence[float]) -> list[list[str]]:
    """For each share the devices that it ADDS to those before it, in the rollout's own order; empty ones are fine.

    Every device is in exactly one stage. Raises ValueError where ``shares_problem`` has something to say.
    """
    problem = shares_problem(shares)
    if problem is not None:
        raise ValueError(problem)
    ordered = in_order(rollout_id, devices)
    result: list[list[str]] = []
    begun = 0
    for share in shares:
        size = max(begun, stage_size(share, len(ordered)))
        result.append(ordered[begun:size])
        begun = size
    return result
