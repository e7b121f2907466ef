"""Asks the board whether an update may begin now: the lock file, the window, the heat, the memory, the line's budget."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from device_agent.update.conditions import Blocked, Moment, blocked, over_budget
from device_agent.update.deployment import Event
from device_agent.update.metered_disk import MeteredFile
from device_agent.update.policy import Policy
from device_agent.update.ports import Clock

MAX_INHIBIT_CHARS = 200
METERED_LOOK_S = 6 * 3600.0
"""How often a release that the month's budget does not hold is looked at again: a policy or a delta may have come."""
MEMORY_SPARE_BYTES = 32 * 1024 * 1024


class Conditions:
    """What forbids an update on this board, for the model's updater and the agent's. ``memory_bytes`` reads what is available."""

    def __init__(
        self,
        policy: Callable[[], Policy],
        clock: Clock,
        temperature_c: Callable[[], float | None],
        inhibit: Path,
        metered: MeteredFile,
        memory_bytes: Callable[[], int | None],
    ) -> None:
        self._policy, self._clock, self._temperature_c = policy, clock, temperature_c
        self._inhibit, self.metered, self._memory_bytes = inhibit, metered, memory_bytes
        self._was_hot = False

    def obstacle(self) -> Event | None:
        """What forbids an update now, as a ``blocked`` event."""
        now_s, inhibited = self._clock.now_s(), None
        with contextlib.suppress(OSError):
            inhibited = self._inhibit.read_text(encoding="utf-8", errors="replace")[:MAX_INHIBIT_CHARS]
        spent_bytes = self.metered.spent_bytes(now_s)
        moment = Moment(now_s, self._temperature_c(), inhibited, self._was_hot, spent_bytes)
        found = blocked(self._policy(), moment)
        self._was_hot = found is not None and found.reason == "heat"
        return None if found is None else _event(found)

    def too_much(self, needed_bytes: int) -> Event | None:
        """Whether the metered line's budget does not hold what is to be fetched; asked again after a while."""
        now_s = self._clock.now_s()
        found = over_budget(self._policy(), self.metered.spent_bytes(now_s), needed_bytes, now_s)
        if found is None:
            return None
        again_s = now_s + METERED_LOOK_S
        return _event(found, {"retry_at_s": again_s if found.until_s is None else min(found.until_s, again_s)})

    def too_little_memory(self, needed_bytes: int | None) -> Event | None:
        """A failure of class ``memory`` (tried again later) where what the release may use is not there."""
        free_bytes = None if needed_bytes is None else self._memory_bytes()
        if needed_bytes is None or free_bytes is None or free_bytes >= needed_bytes + MEMORY_SPARE_BYTES:
            return None
        detail = f"its signed budget is {needed_bytes >> 20} MiB beside the model that runs, {free_bytes >> 20} MiB are available"
        return Event(kind="failed", reason="memory", detail=detail)


def _event(found: Blocked, learned: dict[str, object] | None = None) -> Event:
    return Event(kind="blocked", reason=found.reason, detail=found.detail, until_s=found.until_s, learned=learned or {})


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can be used without swapping, as the kernel reckons it; None where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc" / "meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
