"""Cohorts: sticky orders and shares of devices, and the interval of a rate. Pure.

Everything is decided by hashes, so the same device falls on the same side whenever and wherever it is asked.
"""

import hashlib
import math
from collections.abc import Iterable

Z_90 = 1.6449
"""Standard normal quantile of a two-sided 90 % interval."""


def point(salt: str, item: str) -> float:
    """Where ``item`` stands between 0 (included) and 1 (excluded) under this salt; uniform over items."""
    digest = hashlib.sha256(f"{salt}\0{item}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def in_order(salt: str, items: Iterable[str]) -> list[str]:
    """The items in the order that the salt gives them; adding one never changes the order of the others."""
    return sorted(set(items), key=lambda item: (hashlib.sha256(f"{salt}\0{item}".encode()).digest(), item))


def in_share(salt: str, item: str, share: float) -> bool:
    """Whether the item is in the first ``share`` (0..1) of all; who is in a share stays in every larger one."""
    return point(salt, item) < share


def rate_interval(hits: int, trials: int, z: float = Z_90) -> tuple[float, float] | None:
    """Wilson interval of ``hits / trials``; None where nothing was tried. Raises ValueError for impossible counts."""
    if hits < 0 or trials < 0 or hits > trials:
        raise ValueError(f"{hits} hits of {trials} trials cannot be")
    if trials == 0:
        return None
    rate = hits / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At no hits and at all hits the bound is the rate itself; rounding must not put it a hair inside.
    return min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))
