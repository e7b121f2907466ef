"""A bounded ring of log lines on disk. Lines are written in bursts, never one fsync per line: SD cards wear out.

A line is sent only after its burst is on disk, so a number that a server has seen is never used again.
"""

import logging
import os
import threading
from collections import deque
from pathlib import Path

import msgspec

from ota.wire.logs import LogLine

SEGMENTS = 4
"""The oldest quarter goes when the ring is full."""
UNSENT_LINES = 5000
"""Lines that wait in memory for the server; beyond it the oldest are counted as dropped (they stay on disk)."""
_decoder = msgspec.json.Decoder(LogLine)
log = logging.getLogger(__name__)


class LogRing:
    """Lines under ``folder``, at most ``max_bytes`` of them. Safe from any thread; disk errors lose lines, never the caller."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._segment_bytes = folder, max(1024, max_bytes // SEGMENTS)
        self._lock = threading.RLock()
        self._buffer: list[LogLine] = []
        self._unsent: deque[LogLine] = deque()
        self._dropped = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._sent = self._read_sent()
        self._last = self._sent
        for path in self._segments():
            for line in _whole_lines(path):
                self._last = max(self._last, line.sequence)
                if line.sequence > self._sent:
                    self._unsent.append(line)
        self._trim()

    def append(self, at_s: float, level: str, logger: str, text: str, session: str | None) -> None:
        """Take a line; it is on disk after the next ``flush``."""
        with self._lock:
            self._last += 1
            line = LogLine(
                sequence=self._last, at_s=at_s, level=level, logger=logger[:100] or "root", text=text[:4000], session=session
            )
            self._buffer.append(line)

    def flush(self) -> None:
        """Write what is buffered, with one fsync. A full disk drops the burst and counts it."""
        with self._lock:
            if not self._buffer:
                return
            burst, self._buffer = self._buffer, []
            try:
                self._write(b"".join(msgspec.json.encode(line) + b"\n" for line in burst))
            except OSError:
                self._dropped += len(burst)
                return
            self._unsent.extend(burst)
            self._trim()

    @property
    def last(self) -> int:
        """The highest number given so far."""
        return self._last

    def unsent(self) -> list[LogLine]:
        """Lines on disk that the server does not have yet, in order."""
        with self._lock:
            return list(self._unsent)

    def stored(self, mark: int) -> None:
        """The server has everything up to ``mark``."""
        with self._lock:
            while self._unsent and self._unsent[0].sequence <= mark:
                self._unsent.popleft()
            if mark > self._sent:
                self._sent = mark
                self._last = max(self._last, mark)
                self._write_sent()

    def count_dropped(self) -> None:
        """A line was lost before it came here (rate limit)."""
        with self._lock:
            self._dropped += 1

    def take_dropped(self) -> int:
        """Lines lost since the last call."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def put_back_dropped(self, count: int) -> None:
        """The batch that told of these losses did not arrive."""
        with self._lock:
            self._dropped += count

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _trim(self) -> None:
        while len(self._unsent) > UNSENT_LINES:
            self._unsent.popleft()
            self._dropped += 1

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("log-*.jsonl"))

    def _write(self, data: bytes) -> None:
        segments = self._segments()
        active = segments[-1] if segments else self._folder / "log-00000001.jsonl"
        if active.exists() and active.stat().st_size + len(data) > self._segment_bytes:
            active = self._folder / f"log-{int(active.stem[4:]) + 1:08d}.jsonl"
            for old in segments[: max(0, len(segments) - SEGMENTS + 1)]:
                old.unlink(missing_ok=True)
        with active.open("ab") as file:
            start = file.tell()
            try:
                # A torn line of before a power cut must not swallow the first line of this burst.
                file.write(b"\n" + data if start and not _ends_whole(active) else data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(active, start)
                raise

    def _read_sent(self) -> int:
        try:
            return int((self._folder / "sent").read_text())
        except (OSError, ValueError):
            return 0

    def _write_sent(self) -> None:
        # No fsync: when it is lost, lines are sent again and the server ignores what it has.
        temp = self._folder / "sent.part"
        try:
            temp.write_text(str(self._sent))
            temp.replace(self._folder / "sent")
        except OSError as error:
            log.debug("the mark of sent log lines cannot be kept: %s", error)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _whole_lines(path: Path) -> list[LogLine]:
    """Lines that can be read; a torn one (power cut) is skipped: it was never sent."""
    found = []
    try:
        data = path.read_bytes()
    except OSError:
        return []
    for raw in data.split(b"\n"):
        if raw:
            try:
                found.append(_decoder.decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
    return found
