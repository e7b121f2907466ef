"""Keeps the log: bursts to disk, batches to the server, and the level back where it belongs. Pure but for what it is given."""

import logging
from collections.abc import Callable
from typing import Protocol

from device_agent.duties.turn import Stop
from device_agent.errors import BrokenOffError
from device_agent.logs.batches import BATCH_BYTES, LEAST_BATCH_BYTES, batch, wanted
from device_agent.logs.debug_session import DebugSessions, Effective
from device_agent.logs.ring_disk import LogRing
from ota.wire.debug import DebugSession
from ota.wire.events import Stored
from ota.wire.logs import LogBatch

log = logging.getLogger(__name__)
TICK_S = 1.0
FLUSH_S, SESSION_FLUSH_S = 15.0, 1.0
"""Lines reach the disk this often; in a debug session someone is waiting for them."""


class LogDoor(Protocol):
    """What log batches need of the server."""

    def send_logs(self, lines: LogBatch) -> Stored:
        """Hand over lines; the answer is the server's mark after its commit."""
        ...


class LogLevels:
    """The level in force. ``apply`` sets it in Python's logging and the handler; ``keep`` writes open sessions down."""

    def __init__(
        self,
        sessions: DebugSessions,
        apply: Callable[[Effective], None],
        keep: Callable[[list[DebugSession]], None],
        *,
        now_s: Callable[[], float],
        steady_s: Callable[[], float],
    ) -> None:
        self._sessions, self._apply, self._keep = sessions, apply, keep
        self._now_s, self._steady_s = now_s, steady_s
        self._apply(sessions.effective())

    def adopt(self, wanted_sessions: list[DebugSession]) -> None:
        """The assignment's sessions."""
        if self._sessions.adopt(wanted_sessions, now_s=self._now_s(), monotonic_s=self._steady_s()):
            self._changed("the debug sessions of this device have changed")

    def use(self, base_level: str | None) -> None:
        """The level outside of sessions from now on; None is that of the settings."""
        if self._sessions.use(base_level):
            self._changed("the log level of this device's configuration has changed")

    def tick(self) -> None:
        """End sessions whose time is over, whether or not any server can be reached."""
        ended = self._sessions.expire(self._steady_s())
        if ended:
            self._changed(f"debug session {', '.join(ended)} has ended")

    def effective(self) -> Effective:
        """The level in force."""
        return self._sessions.effective()

    def _changed(self, why: str) -> None:
        effective = self._sessions.effective()
        self._apply(effective)
        self._keep(self._sessions.sessions)
        log.warning("log level is %s: %s", effective.level, why)


class LogSender:
    """Sends what is wanted of the ring. One step is one batch: half as large after one that broke off, on a slow line."""

    def __init__(self, ring: LogRing, door: LogDoor, *, boot_id: str, upload_level: str) -> None:
        self._ring, self._door, self._boot_id, self._upload_level = ring, door, boot_id, upload_level
        self._batch_bytes = BATCH_BYTES

    def step(self) -> bool:
        """Send one batch; True when more waits. Raises the link's errors; lines stay in the ring then."""
        self._ring.flush()
        unsent = self._ring.unsent()
        lines = [line for line in unsent if wanted(line, self._upload_level)]
        if not lines:
            if unsent:
                self._ring.stored(unsent[-1].sequence)
            return False
        dropped = self._ring.take_dropped()
        made = batch(lines, self._boot_id, dropped, self._batch_bytes)
        try:
            answer = self._door.send_logs(made)
        except BaseException as error:
            self._ring.put_back_dropped(dropped)
            if isinstance(error, BrokenOffError):
                self._batch_bytes = max(LEAST_BATCH_BYTES, self._batch_bytes // 2)
            raise
        self._batch_bytes = min(BATCH_BYTES, self._batch_bytes * 2)
        if answer.sequence > made.lines[-1].sequence and answer.sequence >= self._ring.last:
            # The server has numbers that this ring never gave (it was wiped): go on above them.
            self._ring.stored(answer.sequence)
        else:
            self._ring.stored(min(answer.sequence, made.lines[-1].sequence))
        return len(made.lines) < len(lines)


class KeepingLogs:
    """A duty: ticks the levels each second and flushes the ring; ``ring_bell`` wakes the sender after a flush."""

    def __init__(self, levels: LogLevels, ring: LogRing, ring_bell: Callable[[], None]) -> None:
        self.name = "log keeping"
        self.silence_s = 120.0
        self._levels, self._ring, self._ring_bell = levels, ring, ring_bell

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Keep until told to stop; what is buffered then is written."""
        since_flush_s = 0.0
        in_session = False
        while not stop.wait(TICK_S):
            self._levels.tick()
            since_flush_s += TICK_S
            # One more burst at once after a session: its last words say that it has ended.
            before, in_session = in_session, self._levels.effective().session is not None
            if since_flush_s >= (SESSION_FLUSH_S if in_session or before else FLUSH_S):
                since_flush_s = 0.0
                self._ring.flush()
                self._ring_bell()
            progress()
        self._ring.flush()
