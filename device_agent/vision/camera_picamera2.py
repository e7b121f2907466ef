"""A Raspberry Pi camera through picamera2, which comes with the operating system and is imported only when it is asked for.

Two streams of one sensor: `main`, large, that crops are cut from, and `lores`, YUV, about as large as the model's input, that the
motion gate and the detector see. One request a frame. The small stream is copied out plane by plane (rows are padded); the large
one is touched where a winner is cut, and never as a whole. A request is held from its frame to the next: held longer it would
starve the sensor. picamera2 keeps the newest completed request itself (`queue=True`), so this source is *latest wins* without a
thread.

libcamera stops without any error (a cable, the supply): silence is noticed here and ends the source. Opening a sensor again and
again in one process leaks contiguous memory (picamera2 issues 887, 958, 1125), so `process_bound` is True.
"""

import concurrent.futures
import importlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from device_agent.vision.camera import Losses
from device_agent.vision.camera_planes import MainFormat, Planes, region_bgr
from device_agent.vision.types import CameraError, Cut, Frame, Picture

log = logging.getLogger(__name__)
BUFFERS, LEAST_BUFFERS = 4, 3
"""One being filled, one waiting, one held by us, and one to spare: each costs contiguous memory that a Zero 2 W does not have."""
TURN_S = 0.5
"""A wait for a frame is cut into such turns, so that `close` gets through to a silent sensor."""
LEAST_SILENCE_S, SILENCE_PERIODS = 3.0, 10.0
"""A sensor that is silent for longer than both has stopped."""
LONGEST_AGE_S = 10.0
"""A time stamp that says more is not on the clock that we think."""


@dataclass(frozen=True, slots=True)
class SensorSettings:
    """Sizes as (width, height) in px. `camera` is the number of the connector; times come from the sensor where it tells them.

    `close_s`: the library's own event loop may hang with the sensor; after so long it is left behind.
    `mode` pins a mode of the sensor by its output size and bit depth: trying out all modes may run out of memory (issue 1358).
    `load_colour` gives the one colour space that OpenCV's conversion from YUV is right for (BT.601, limited range).
    """

    main_px: tuple[int, int] = (1280, 720)
    lores_px: tuple[int, int] = (640, 360)
    main_format: MainFormat = "YUV420"
    fps: float = 15.0
    camera: int = 0
    buffers: int = BUFFERS
    mode: tuple[int, int, int] | None = None
    close_s: float = 5.0
    load: Callable[[], Any] = lambda: importlib.import_module("picamera2")
    load_colour: Callable[[], Any] = lambda: importlib.import_module("libcamera").ColorSpace.Smpte170m()
    boottime_s: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time

    @property
    def silence_s(self) -> float:
        """So long without a frame means that the sensor has stopped."""
        return max(LEAST_SILENCE_S, SILENCE_PERIODS / self.fps)


class HeldMain:
    """The large picture of one request, as `MainPicture`: there until `give_back`, which the camera calls."""

    def __init__(self, request: Any, mapped: Callable[..., Any], stream: dict[str, Any]) -> None:
        self.width_px, self.height_px = (int(side) for side in stream["size"])
        self._request, self._mapped = request, mapped
        self._planes = Planes(self.width_px, self.height_px, int(stream["stride"]))
        self._format: MainFormat = stream["format"]
        self._lock = threading.Lock()  # giving back while it is read would pull the memory from under the reader

    def region(self, cut: Cut) -> Picture:
        """A part of it, BGR, copied; raises CameraError `closed` once the request has gone back to the sensor."""
        with self._lock:
            if self._request is None:
                raise CameraError("closed", "the large picture has gone back to the sensor: cut it before the next frame "
                                  "is asked for")
            with self._mapped(self._request, "main") as mapped:
                return region_bgr(mapped.array, self._planes, self._format, cut)

    def give_back(self) -> None:
        """Release the request; may be called twice."""
        with self._lock:
            request, self._request = self._request, None
            if request is not None:
                request.release()


class SensorCamera:
    """One sensor. Raises CameraError `not_installed` or `missing` when it cannot be had."""

    noisy = process_bound = True

    def __init__(self, name: str, settings: SensorSettings | None = None) -> None:
        self.name = name
        self._settings = settings or SensorSettings()
        self._losses = Losses()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._held: HeldMain | None = None
        self._last_s: float | None = None
        self._camera: Any = self._open()
        streams = {name: dict(self._camera.stream_configuration(name)) for name in ("main", "lores")}
        self._main = streams["main"]
        width, height = (int(side) for side in streams["lores"]["size"])
        self._planes = Planes(width, height, int(streams["lores"]["stride"]))

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that the sensor made meanwhile (`late`), from the gaps between its time stamps."""
        return self._losses.read()

    @property
    def newer(self) -> bool:
        """Whether the sensor must have made another frame since the last one."""
        return self._last_s is not None and self._settings.monotonic_s() - self._last_s > 2.0 / self._settings.fps

    def frames(self) -> Iterator[Frame]:
        """Frames until `close`, the newest each time; raises CameraError `no_frames` when the sensor falls silent."""
        index = 0
        try:
            while (request := self._next_request()) is not None:
                main = HeldMain(request, self._mapped, self._main)
                with self._lock:
                    self._held = main
                    if self._camera is None:  # closed in the meantime: it goes straight back
                        break
                planes = self._small(request)
                at_s, lost = self._captured(request)
                self._losses.add("late", lost)
                index += lost
                picture = np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), np.uint8)
                luma = planes[: self._planes.height_px]
                yield Frame(self.name, index, at_s, self._settings.wall_s(), picture, luma, main)
                index += 1
                self._give_back()
        finally:
            self._give_back()

    def close(self) -> None:
        """Stop the sensor and give it back; what the library does not get done in time is left behind."""
        self._stopped.set()
        self._give_back()
        with self._lock:
            camera, self._camera = self._camera, None
        if camera is not None:
            _closed(camera, self.name, self._settings.close_s)

    def _give_back(self) -> None:
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            held.give_back()

    def _small(self, request: Any) -> Picture:
        try:
            with self._mapped(request, "lores") as mapped:
                return self._planes.copied(mapped.array)
        except (RuntimeError, ValueError) as error:
            message = f"the sensor of camera {self.name} gave a frame that cannot be read: {error}"
            raise CameraError("broken_frame", message) from error

    def _mapped(self, request: Any, stream: str) -> Any:
        """A stream's memory as it is: no copy, padding and all."""
        return self._module.MappedArray(request, stream, reshape=False, **self._read_only)

    def _next_request(self) -> Any:
        """The next completed request; None once closed. The same job is waited for again: a second one would come after it."""
        settings = self._settings
        job: Any = None
        since_s = settings.monotonic_s()
        while not self._stopped.is_set():
            with self._lock:
                camera = self._camera
            if camera is None:
                break
            try:
                job = job or camera.capture_request(wait=False)
                return camera.wait(job, timeout=TURN_S)
            except TimeoutError:
                silent_s = settings.monotonic_s() - since_s
                if silent_s > settings.silence_s:
                    raise CameraError("no_frames", f"the sensor of camera {self.name} has sent no frame for {silent_s:.0f} s: "
                                      "check its ribbon cable and the power supply") from None
            except concurrent.futures.CancelledError:
                break
            except RuntimeError as error:
                if self._stopped.is_set():
                    break
                raise CameraError("no_frames", f"the sensor of camera {self.name} failed: {error}") from error
        return None

    def _open(self) -> Any:
        settings = self._settings
        try:
            self._module = settings.load()
            colour = settings.load_colour()
        except ImportError as error:
            raise CameraError("not_installed", "picamera2 is not installed: apt install python3-picamera2, and create the "
                              "environment with --system-site-packages") from error
        # Older releases know no `write`; with it a dirty cache is not written back for a picture that was only read.
        self._read_only = {"write": False} if takes_write(self._module.MappedArray) else {}
        try:
            camera = self._module.Picamera2(settings.camera)
        except (IndexError, RuntimeError) as error:
            raise CameraError("missing", f"there is no camera {settings.camera}: check its ribbon cable ({error})") from error
        try:
            camera.configure(camera.create_video_configuration(**configuration(settings, colour)))
            camera.start()
        except (RuntimeError, ValueError, OSError) as error:
            _closed(camera, self.name, settings.close_s)
            raise CameraError("missing", f"camera {settings.camera} cannot be started: {error}") from error
        return camera

    def _captured(self, request: Any) -> tuple[float, int]:
        """When the sensor took it, on the monotonic clock, and how many it took since the last one that we do not have.

        Its time stamp (ns) is on the clock that also runs in suspend; the wall clock plays no part.
        """
        now_s = self._settings.monotonic_s()
        stamp_ns = request.get_metadata().get("SensorTimestamp")
        age_s = self._settings.boottime_s() - stamp_ns / 1e9 if stamp_ns else -1.0
        at_s = now_s - age_s if 0 <= age_s < LONGEST_AGE_S else now_s
        before_s, lost = self._last_s, 0
        if before_s is not None:
            if at_s <= before_s:
                self._losses.add("bad_time")
                at_s = max(now_s, before_s + 1e-6)
            elif at_s - before_s < self._settings.silence_s:
                lost = max(0, round((at_s - before_s) * self._settings.fps) - 1)
        self._last_s = at_s
        return at_s, lost


def configuration(settings: SensorSettings, colour: Any) -> dict[str, Any]:
    """The keyword arguments of `create_video_configuration`: no raw stream, which would cost as much memory as all the others."""
    period_us = round(1e6 / settings.fps)
    chosen: dict[str, Any] = {
        # In picamera2's naming, "RGB888" is what OpenCV calls BGR.
        "main": {"size": settings.main_px, "format": settings.main_format},
        # `preserve_ar` stays at its default for small streams, False: the same part of the sensor as the large one.
        "lores": {"size": settings.lores_px, "format": "YUV420"},
        "raw": None,
        "colour_space": colour,
        "controls": {"FrameDurationLimits": (period_us, period_us)},
        "buffer_count": max(LEAST_BUFFERS, settings.buffers),
        "queue": True,
        "display": None,
        "encode": None,
    }
    if settings.mode is not None:
        chosen["sensor"] = {"output_size": settings.mode[:2], "bit_depth": settings.mode[2]}
    return chosen


def takes_write(mapped_array: Callable[..., Any]) -> bool:
    """Whether this release's MappedArray has the argument `write`."""
    return "write" in inspect.signature(mapped_array).parameters


def _closed(camera: Any, name: str, within_s: float) -> None:
    """End a camera in a thread of its own: where the library hangs, so does the thread, and nobody else."""

    def end() -> None:
        try:
            flush = getattr(camera, "cancel_all_and_flush", None)  # not there before 0.3.20
            if flush is not None:
                flush()
            camera.stop()
        except (RuntimeError, OSError) as error:
            log.debug("while stopping camera %s: %s", name, error)
        try:
            camera.close()
        except (RuntimeError, OSError) as error:
            log.debug("while closing camera %s: %s", name, error)

    ending = threading.Thread(target=end, name=f"closing-{name}", daemon=True)
    ending.start()
    ending.join(within_s)
