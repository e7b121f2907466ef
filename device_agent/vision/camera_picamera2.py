"""A Raspberry Pi camera through picamera2, which comes with the operating system and is imported only when it is asked for.

Main stream for detection and crops, a low-resolution YUV stream whose Y plane feeds the motion gate for nothing. Low-resolution
streams must be YUV on Pi Zero to 4 (VC4); rows are padded, so planes are cut out by the stride. A request is held only while its
pixels are copied: a held one starves the sensor. The camera may stop without any error: `LatestWins` around this source notices.
"""

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_agent.vision.types import CameraError, Frame, Picture

BUFFERS = 4
"""One being filled, one waiting, one held by us, one to spare; more cost contiguous memory that a Zero 2 W does not have."""

TURN_S = 0.5


@dataclass(frozen=True, slots=True)
class SensorSettings:
    """Sizes as (width, height) in px. `camera` is the number of the connector; times come from the sensor where it tells them."""

    main_px: tuple[int, int] = (1280, 720)
    lores_px: tuple[int, int] = (320, 180)
    fps: float = 15.0
    camera: int = 0
    load: Callable[[], Any] = lambda: importlib.import_module("picamera2")
    boottime_s: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time


class SensorCamera:
    """One sensor. Raises CameraError `not_installed` or `missing` when it cannot be had."""

    def __init__(self, name: str, settings: SensorSettings | None = None) -> None:
        self.name = name
        self._settings = settings or SensorSettings()
        self._stopped = threading.Event()
        self._camera: Any = self._open()
        self._stride = int(self._camera.stream_configuration("lores")["stride"])
        self._lock = threading.Lock()

    @property
    def dropped(self) -> int:
        """picamera2 keeps the newest completed request alone and does not count the others."""
        return 0

    def frames(self) -> Iterator[Frame]:
        """Frames until `close`, the newest each time."""
        index = 0
        while (request := self._next_request()) is not None:
            try:
                picture = np.asarray(request.make_array("main"), np.uint8)
                luma = self._luma(request)
                at_s = self._captured_s(request)
            finally:
                request.release()
            yield Frame(self.name, index, at_s, self._settings.wall_s(), picture, luma)
            index += 1

    def close(self) -> None:
        """Stop the sensor and give it back."""
        self._stopped.set()
        with self._lock:
            camera, self._camera = self._camera, None
        if camera is not None:
            camera.stop()
            camera.close()

    def _next_request(self) -> Any:
        """The next completed request, None once closed. Waits in short turns, so that `close` gets through to a silent sensor."""
        job: Any = None
        while not self._stopped.is_set():
            with self._lock:
                if self._camera is None:
                    break
                job = job or self._camera.capture_request(wait=False)
                try:
                    return self._camera.wait(job, timeout=TURN_S)
                except TimeoutError:
                    continue  # the same job is waited for again: a second one would be served after it
        return None

    def _open(self) -> Any:
        settings = self._settings
        try:
            module = settings.load()
        except ImportError as error:
            raise CameraError("not_installed", "picamera2 is not installed: apt install python3-picamera2, and create the "
                              "environment with --system-site-packages") from error
        try:
            camera = module.Picamera2(settings.camera)
        except (IndexError, RuntimeError) as error:
            raise CameraError("missing", f"there is no camera {settings.camera}: check its ribbon cable ({error})") from error
        try:
            period_us = round(1e6 / settings.fps)
            camera.configure(
                camera.create_video_configuration(
                    # In picamera2's naming, "RGB888" is what OpenCV calls BGR.
                    main={"size": settings.main_px, "format": "RGB888"},
                    lores={"size": settings.lores_px, "format": "YUV420"},
                    controls={"FrameDurationLimits": (period_us, period_us)},
                    buffer_count=BUFFERS,
                    queue=True,
                )
            )
            camera.start()
        except (RuntimeError, ValueError, OSError) as error:
            camera.close()
            raise CameraError("missing", f"camera {settings.camera} cannot be started: {error}") from error
        return camera

    def _luma(self, request: Any) -> Picture:
        """The Y plane of the low-resolution stream: the first rows of the buffer, without the padding of each row."""
        width, height = self._settings.lores_px
        planes = np.frombuffer(request.make_buffer("lores"), np.uint8)
        return planes[: self._stride * height].reshape(height, self._stride)[:, :width]

    def _captured_s(self, request: Any) -> float:
        """When the sensor took it, on the monotonic clock: its time stamp (ns) is on the clock that also runs in suspend."""
        now_s = self._settings.monotonic_s()
        stamp_ns = request.get_metadata().get("SensorTimestamp")
        if not stamp_ns:
            return now_s
        age_s = self._settings.boottime_s() - stamp_ns / 1e9
        return now_s - age_s if 0 <= age_s < 10 else now_s
