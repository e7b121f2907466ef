"""Debug sessions: the log level that they raise, and how it falls back by itself. Pure; the disk part is `sessions_disk`."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from device_agent.logs.batches import rank
from ota.wire.debug import DebugSession

MOST_SILENT = "warning"
"""The highest level that a server may set: refused requests and pictures that were sent are told as warnings."""
LONGEST_S = 24 * 3600.0
"""A session ends after a day at the latest, whatever the server (or a broken clock) says."""
REMEMBERED_ENDED = 256
"""Sixteen assignments full of them: an old assignment that is read again names its own."""


@dataclass(frozen=True, slots=True)
class Effective:
    """The level in force; ``until_s`` (seconds since 1970) and ``session`` are None outside of a session."""

    level: str
    until_s: float | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class _Open:
    session: DebugSession
    ends_monotonic_s: float


class DebugSessions:
    """The sessions of this device. Ends are kept on the monotonic clock: a jump of the wall clock prolongs nothing.

    ``base_level`` is the level of the settings; a session may only make the log more talkative, never silent.
    """

    def __init__(self, base_level: str) -> None:
        self._own_level = self._base = base_level
        self._open: dict[str, _Open] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def use(self, base_level: str | None) -> bool:
        """Another level outside of sessions, never above MOST_SILENT; None for that of the settings. True when it changed."""
        if base_level is not None and rank(base_level) > rank(MOST_SILENT):
            base_level = MOST_SILENT
        before, self._base = self._base, base_level or self._own_level
        return before != self._base

    def adopt(self, sessions: Iterable[DebugSession], *, now_s: float, monotonic_s: float) -> bool:
        """Take over the assignment's sessions; those that it no longer names end. True when something changed."""
        before = {key: entry.session for key, entry in self._open.items()}
        kept: dict[str, _Open] = {}
        for session in sessions:
            known = self._open.get(session.id)
            if known is not None and known.session == session:
                kept[session.id] = known
                continue
            left_s = min(session.until_s - now_s, LONGEST_S)
            # A session that has ended here stays ended: an old assignment that is read again does not revive it.
            if left_s > 0 and session.id not in self._ended:
                kept[session.id] = _Open(session, monotonic_s + left_s)
        self._open = kept
        return {key: entry.session for key, entry in kept.items()} != before

    def expire(self, monotonic_s: float) -> list[str]:
        """End what is over; the ids that ended now."""
        over = [key for key, entry in self._open.items() if entry.ends_monotonic_s <= monotonic_s]
        for key in over:
            del self._open[key]
            self._ended[key] = None
        while len(self._ended) > REMEMBERED_ENDED:
            self._ended.popitem(last=False)
        return over

    @property
    def sessions(self) -> list[DebugSession]:
        """Those that are open."""
        return [entry.session for entry in self._open.values()]

    def effective(self) -> Effective:
        """The level in force: the most talkative of the open sessions and the base."""
        if not self._open:
            return Effective(self._base)
        chosen = min((entry.session for entry in self._open.values()), key=lambda s: (rank(s.log_level), -s.until_s))
        level = chosen.log_level if rank(chosen.log_level) < rank(self._base) else self._base
        return Effective(level, chosen.until_s, chosen.id)
