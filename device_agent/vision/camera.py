"""What a camera is to the rest of vision, and the two ways of pacing it.

*Recorded* sources are lossless and deterministic: the next frame is made when it is asked for. *Live* sources run on their own
clock: exactly one frame lies ready, the latest; what it replaces is dropped and counted. Sensors and network streams keep the
latest frame themselves; for the others a reader thread does (`LatestWins`).
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from device_agent.vision.types import CameraError, Frame

NO_FRAME_TIMEOUT_S = 10.0
"""Silence after which a live camera counts as dead: libcamera and USB drivers stop without an error (picamera2 issue 873)."""


class CameraSource(Protocol):
    """Where frames come from."""

    name: str

    @property
    def noisy(self) -> bool:
        """Whether pictures come from a sensor whose noise never repeats: identical ones mean that it hangs."""
        ...

    @property
    def process_bound(self) -> bool:
        """Whether opening it again and again in one process leaks: after a few failures only a new process helps."""
        ...

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were made or promised and that nobody saw, since the start, by reason; also how often it was reconnected.

        Reasons: late (a newer one came first), broken_frame, bad_time (a time stamp that cannot be), reconnected.
        """
        ...

    @property
    def newer(self) -> bool:
        """Whether a newer frame than the one given last lies ready; always False for recorded sources."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Frames in order of time, until the source ends; raises CameraError when it fails. To be iterated once at a time."""
        ...

    def close(self) -> None:
        """Give the device or file back and end a running `frames()`; may be called twice and from another thread."""
        ...


class Losses:
    """Counts by reason that one thread adds to and others read."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, reason: str, count: int = 1) -> None:
        """So many more; nothing for a count of 0 or less."""
        if count > 0:
            with self._lock:
                self._counts[reason] = self._counts.get(reason, 0) + count

    def read(self) -> dict[str, int]:
        """The counts now."""
        with self._lock:
            return dict(self._counts)


def joined(*counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, added up."""
    total: dict[str, int] = {}
    for one in counts:
        for reason, count in one.items():
            total[reason] = total.get(reason, 0) + count
    return total


class Pace:
    """Holds a source to a rate in real time. `wait` returns False as soon as `stop` is called."""

    def __init__(self, fps: float, clock_s: Callable[[], float]) -> None:
        self._period_s = 1.0 / fps
        self._clock_s = clock_s
        self._next_s: float | None = None
        self._stopped = threading.Event()

    def wait(self) -> bool:
        """Sleep until the next frame is due; a source that is too slow is not made to catch up. True while not stopped."""
        now_s = self._clock_s()
        if self._next_s is None or now_s - self._next_s > self._period_s:
            self._next_s = now_s
        if self._next_s > now_s and self._stopped.wait(self._next_s - now_s):
            return False
        self._next_s += self._period_s
        return not self._stopped.is_set()

    def stop(self) -> None:
        """End any wait, now and later."""
        self._stopped.set()


class LatestWins:
    """A live camera: reads `source` in a thread, keeps the latest frame, drops what nobody took in time."""

    def __init__(self, source: CameraSource, *, no_frame_timeout_s: float = NO_FRAME_TIMEOUT_S) -> None:
        self.name = source.name
        self._source = source
        self._timeout_s = no_frame_timeout_s
        self._ready = threading.Condition()
        self._latest: Frame | None = None
        self._ended = False
        self._error: CameraError | None = None
        self._replaced = 0
        self._reader: threading.Thread | None = None

    @property
    def noisy(self) -> bool:
        """As the source is."""
        return self._source.noisy

    @property
    def process_bound(self) -> bool:
        """As the source is."""
        return self._source.process_bound

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were replaced by a later one before anybody took them (`late`), and those that the source itself lost."""
        return joined({"late": self._replaced} if self._replaced else {}, self._source.dropped)

    @property
    def newer(self) -> bool:
        """Whether the next frame lies ready."""
        return self._latest is not None

    def frames(self) -> Iterator[Frame]:
        """The latest frame each time; raises CameraError `no_frames` when the source falls silent for longer than the timeout."""
        if self._reader is None:
            # A daemon: a driver call that never returns must not keep the agent from ending.
            self._reader = threading.Thread(target=self._read, name=f"camera-{self.name}", daemon=True)
            self._reader.start()
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        """End the source and the reader."""
        self._source.close()
        with self._ready:
            self._ended = True
            self._ready.notify_all()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(timeout=2.0)

    def _take(self) -> Frame | None:
        with self._ready:
            woken = self._ready.wait_for(lambda: self._latest is not None or self._ended, self._timeout_s)
            if not woken:
                message = f"camera {self.name} sent no frame for {self._timeout_s:g} s: check its cable and power"
                raise CameraError("no_frames", message)
            frame, self._latest = self._latest, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def _read(self) -> None:
        error: CameraError | None = None
        try:
            for frame in self._source.frames():
                with self._ready:
                    if self._ended:
                        return
                    self._replaced += self._latest is not None
                    self._latest = frame
                    self._ready.notify_all()
        except CameraError as found:
            error = found
        finally:
            with self._ready:
                self._error, self._ended = error, True
                self._ready.notify_all()
