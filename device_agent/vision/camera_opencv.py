"""USB cameras (V4L2) and network streams (RTSP, HTTP) through OpenCV: always live, opened again when they fall silent.

`StreamCamera` is the loop around whatever connection there is: it counts, waits longer after each failure, notices another size,
and gives up after `max_silence_s`. A USB camera is read in this process (`CaptureConnection`); its device node is looked at
before it is opened, so that one that was pulled out costs nothing until it is back. A network stream is read in a child that can
be killed (`camera_stream_process`): FFmpeg reads may hang for ever after a reconnect (opencv issues 22677, 4506).
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from device_agent.vision.backoff import Backoff
from device_agent.vision.camera import Losses
from device_agent.vision.types import CameraError, Frame, Picture

MAX_SILENCE_S = 20.0
"""A stream that cannot be had for so long ends the source: whoever supervises decides what to do."""
BAD_IN_A_ROW = 5
"""A device that gives so many pictures one after the other that are none is opened again."""
LONGEST_WAIT_S, LONGEST_DEVICE_WAIT_S = 30.0, 2.0
"""Between two attempts: an address may be somebody else's machine, a device node costs nothing to look for."""
LONGEST_AGE_S = 10.0
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}")
_END_OF_PLACE = re.compile(r"[/?#\\]")
_PLACE = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Time limits for opening a stream and for one frame of it; how often and how long it is tried again.

    `size_px`, `fps` and `fourcc` (MJPG, YUYV) are asked of a USB camera, which may give the nearest that it has.
    """

    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    max_silence_s: float = MAX_SILENCE_S
    first_wait_s: float = 0.5
    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time
    size_px: tuple[int, int] | None = None
    fps: float | None = None
    fourcc: str | None = None
    open_capture: Callable[..., Any] = cv2.VideoCapture
    exists: Callable[[Path], bool] = Path.exists


@dataclass(frozen=True, slots=True)
class Got:
    """A picture, when it was taken (monotonic), and how many were passed over since the one before."""

    picture_bgr: Picture
    at_s: float
    lost: int = 0


class Connection(Protocol):
    """One opened stream; one thread reads it, any thread may `interrupt`."""

    def open(self) -> str:
        """Open it; what is wrong in words, empty when it is open."""
        ...

    def next(self) -> Got | None:
        """The next picture; None when the stream broke off."""
        ...

    def interrupt(self) -> None:
        """End a wait in `open` or `next` where that can be done."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(slots=True)
class _Tries:
    """What became of the attempts to open the stream."""

    opened: int = 0
    words: str = ""
    backoff: Backoff = field(default_factory=Backoff)


class StreamCamera:
    """A device (`0`, `/dev/video0`) or an address (`rtsp://…`, `http://…`). Frames are stamped when they were taken."""

    noisy = True

    def __init__(self, name: str, source: str, settings: StreamSettings | None = None,
                 connect: Callable[[str, StreamSettings, Losses], Connection] | None = None) -> None:
        self.name = name
        self._settings = settings or StreamSettings()
        self._target = f"/dev/video{source}" if source.isdigit() else source
        self._connect = connect or CaptureConnection
        longest_s = LONGEST_DEVICE_WAIT_S if self._target.startswith("/dev/") else LONGEST_WAIT_S
        self._tries = _Tries(backoff=Backoff(self._settings.first_wait_s, longest_s, good_needed=3))
        self._losses = Losses()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._last_s: float | None = None

    @property
    def process_bound(self) -> bool:
        """Whether a reader that hangs stays in this process for good: FFmpeg's may, a device's read has a time limit."""
        return self._connect is CaptureConnection and not self._target.startswith("/dev/")

    @property
    def newer(self) -> bool:
        """Never known of a device: its reader thread knows."""
        return False

    @property
    def dropped(self) -> dict[str, int]:
        """What was lost, by reason: late, broken_frame; and how often the stream was opened again (`reconnected`)."""
        return self._losses.read()

    @property
    def reconnects(self) -> int:
        """How often the stream was opened again after it had been open."""
        return max(0, self._tries.opened - 1)

    def frames(self) -> Iterator[Frame]:
        """Frames until `close`; raises CameraError: `unreachable` after `max_silence_s` without one, `size_changed`."""
        settings = self._settings
        index, heard_s, size = 0, settings.monotonic_s(), None
        self._last_s = None
        while not self._stopped.is_set():
            for got in self._connected():
                index += got.lost
                self._losses.add("late", got.lost)
                if size is not None and got.picture_bgr.shape != size:
                    raise CameraError("size_changed", f"camera {self.name} now gives {got.picture_bgr.shape[1]}x"
                                      f"{got.picture_bgr.shape[0]} px instead of {size[1]}x{size[0]}; it is opened again")
                size = got.picture_bgr.shape
                heard_s = settings.monotonic_s()
                self._last_s = at_s = got.at_s if self._last_s is None else max(got.at_s, self._last_s + 1e-6)
                self._tries.backoff.worked()
                yield Frame(self.name, index, at_s, settings.wall_s(), got.picture_bgr)
                index += 1
            if self._stopped.is_set():
                return
            now_s = settings.monotonic_s()
            if now_s - heard_s > settings.max_silence_s:
                raise CameraError("unreachable", f"camera {self.name}: no frame from {shown(self._target)} for "
                                  f"{now_s - heard_s:.0f} s: {self._tries.words or 'the stream breaks off'}")
            self._tries.backoff.failed(now_s)
            self._stopped.wait(self._tries.backoff.wait_s(now_s))

    def close(self) -> None:
        """End the reading; a read of a device that is under way ends with its time limit."""
        self._stopped.set()
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    def _connected(self) -> Iterator[Got]:
        """Pictures of one connection until it breaks off; none where it cannot be had."""
        connection = self._connect(self._target, self._settings, self._losses)
        with self._lock:
            self._connection = connection
            stopped = self._stopped.is_set()
        try:
            self._tries.words = "" if stopped else connection.open()
            if stopped or self._tries.words:
                return
            self._tries.opened += 1
            self._losses.add("reconnected", int(self._tries.opened > 1))
            while not self._stopped.is_set() and (got := connection.next()) is not None:
                yield got
        finally:
            with self._lock:
                self._connection = None
            connection.close()


class CaptureConnection:
    """A stream that is read in this process. `close` is the reader's own: a capture must not go while it is read."""

    def __init__(self, target: str, settings: StreamSettings, losses: Losses) -> None:
        self._target, self._settings, self._losses = target, settings, losses
        self._capture: Any = None

    def open(self) -> str:
        """Open the device or address; what is wrong in words."""
        settings = self._settings
        if not self._target.startswith("/dev/"):
            # RTSP over TCP: UDP loses packets, and H.264 smears what it lost over seconds.
            os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
            # FFmpeg prints addresses with their passwords on the standard error, which is the journal.
            os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(settings.open_timeout_s * 1e3)]
            limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(settings.read_timeout_s * 1e3)]
            self._capture = settings.open_capture(self._target, cv2.CAP_FFMPEG, limits)
            return "" if self._capture.isOpened() else "check that it is switched on, its address and its password"
        if not settings.exists(Path(self._target)):
            return f"there is no {self._target}: plug the camera in"
        # How long a read of the device waits; OpenCV reads this when the device is opened.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(1, round(settings.read_timeout_s))))
        self._capture = settings.open_capture(self._target, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            return f"{self._target} cannot be opened: another program holds it, or this user is not in the group video"
        self._ask_for_format()
        return ""

    def next(self) -> Got | None:
        """The next picture that is one."""
        bad = 0
        while bad < BAD_IN_A_ROW:
            if not self._capture.grab():
                return None
            at_s = self._taken_s()
            got, picture = self._capture.retrieve()
            if got and _is_picture(picture):
                return Got(np.asarray(picture, np.uint8), at_s)
            bad += 1
            self._losses.add("broken_frame")
        return None

    def interrupt(self) -> None:
        """A read of a device ends with its time limit."""

    def close(self) -> None:
        """Give the device back."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _ask_for_format(self) -> None:
        settings = self._settings
        # The driver's queue of four pictures would add their age to every frame.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if settings.fourcc is not None:
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*settings.fourcc))
        if settings.size_px is not None:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.size_px[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.size_px[1])
        if settings.fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, settings.fps)

    def _taken_s(self) -> float:
        """When the picture was taken: V4L2 drivers stamp it on the monotonic clock; now where that cannot be."""
        now_s = self._settings.monotonic_s()
        if not self._target.startswith("/dev/"):
            return now_s
        stamp_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        return stamp_s if 0 <= now_s - stamp_s < LONGEST_AGE_S else now_s


def _is_picture(picture: Any) -> bool:
    """Whether it is BGR, uint8, and not empty: what a broken cable or a wrong format gives is not."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3:
        return False
    return bool(picture.shape[2] == 3 and picture.size > 0)


def shown(target: str) -> str:
    """A source as it may be shown to anybody: a device's path, or an address' scheme, host and port; stars for all else.

    Cameras take passwords before the host, behind the question mark and in the path (``/user=admin_password=...``), and people
    write them with ``/``, ``?`` and ``@`` in them. Where it is not plain which part is the host, none is shown.
    """
    if target.isdigit() or target.startswith("/dev/"):
        return target
    scheme, mark, rest = target.partition("://")
    if not mark or not _SCHEME.fullmatch(scheme):
        return "***"
    before = _END_OF_PLACE.split(rest, maxsplit=1)[0]
    place = before.rpartition("@")[2]
    plain = _PLACE.fullmatch(place) is not None and "@" not in rest[len(before) :]
    return f"{scheme}://{place if plain else '***'}"
