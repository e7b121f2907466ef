"""USB cameras (V4L2) and network streams (RTSP, HTTP) through OpenCV: always live, opened again when they fall silent.

FFmpeg reads may hang for ever after a reconnect (opencv issues 22677, 4506): so it gets time limits, and `LatestWins` around this
source gives up on a reader that never returns.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from device_agent.vision.backoff import Backoff
from device_agent.vision.types import CameraError, Frame, Picture

MAX_SILENCE_S = 20.0
"""A stream that cannot be had for so long ends the source: whoever supervises decides what to do."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Time limits for opening a stream and for one frame of it; how often and how long it is tried again."""

    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    max_silence_s: float = MAX_SILENCE_S
    first_wait_s: float = 0.5
    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time
    size_px: tuple[int, int] | None = None
    fps: float | None = None


@dataclass(slots=True)
class _Tries:
    """What became of the attempts to open the stream."""

    opened: int = 0
    failed: int = 0
    backoff: Backoff = field(default_factory=Backoff)


class StreamCamera:
    """A device (`0`, `/dev/video0`) or an address (`rtsp://…`, `http://…`). Frames are stamped when they were grabbed."""

    def __init__(self, name: str, source: str, settings: StreamSettings | None = None) -> None:
        self.name = name
        self._settings = settings or StreamSettings()
        self._target: int | str = int(source) if source.isdigit() else source
        self._tries = _Tries(backoff=Backoff(self._settings.first_wait_s, 30.0, good_needed=3))
        self._stopped = threading.Event()

    @property
    def dropped(self) -> int:
        """Frames that the driver dropped are not told to us."""
        return 0

    @property
    def reconnects(self) -> int:
        """How often the stream was opened again after it had been open."""
        return max(0, self._tries.opened - 1)

    def frames(self) -> Iterator[Frame]:
        """Frames until `close`; raises CameraError `unreachable` after `max_silence_s` without one."""
        settings = self._settings
        index, last_s = 0, settings.monotonic_s()
        while not self._stopped.is_set():
            capture = self._open()
            if capture is not None:
                for picture in self._read(capture):
                    last_s = settings.monotonic_s()
                    self._tries.backoff.worked()
                    yield Frame(self.name, index, last_s, settings.wall_s(), picture)
                    index += 1
            now_s = settings.monotonic_s()
            if now_s - last_s > settings.max_silence_s:
                raise CameraError("unreachable", f"camera {self.name}: no frame from {shown(self._target)} for "
                                  f"{now_s - last_s:.0f} s; check that it is plugged in, its address and its password")
            self._tries.backoff.failed(now_s)
            self._stopped.wait(self._tries.backoff.wait_s(now_s))

    def close(self) -> None:
        """End the reading; a read that is under way ends with its time limit."""
        self._stopped.set()

    def _open(self) -> cv2.VideoCapture | None:
        settings = self._settings
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(settings.open_timeout_s * 1e3)]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(settings.read_timeout_s * 1e3)]
        device = isinstance(self._target, int) or self._target.startswith("/dev/")
        if device:
            capture = cv2.VideoCapture(self._target, cv2.CAP_V4L2)
        else:
            # RTSP over TCP: UDP loses packets, and H.264 smears what it lost over seconds.
            os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
            capture = cv2.VideoCapture(str(self._target), cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            capture.release()
            self._tries.failed += 1
            return None
        if device and settings.size_px is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.size_px[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.size_px[1])
        if device and settings.fps is not None:
            capture.set(cv2.CAP_PROP_FPS, settings.fps)
        self._tries.opened += 1
        return capture

    def _read(self, capture: cv2.VideoCapture) -> Iterator[Picture]:
        """Pictures until the stream breaks off."""
        try:
            while not self._stopped.is_set():
                got, picture = capture.read()
                if not got or picture is None:
                    return
                yield np.asarray(picture, np.uint8)
        finally:
            capture.release()


def shown(target: int | str) -> str:
    """A source as it may stand in a log: without the password of an address."""
    text = str(target)
    scheme, mark, rest = text.partition("://")
    if not mark or "@" not in rest:
        return text
    return f"{scheme}://***@{rest.rpartition('@')[2]}"
