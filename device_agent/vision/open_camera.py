"""From a source's short name, as it stands in settings and on the command line, to a camera."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.vision.camera import NO_FRAME_TIMEOUT_S, CameraSource, LatestWins
from device_agent.vision.camera_disk import MAX_FPS, FilmCamera, PicturesCamera, Playing
from device_agent.vision.camera_opencv import MAX_SILENCE_S, StreamCamera, StreamSettings, shown
from device_agent.vision.camera_picamera2 import BUFFERS, LEAST_BUFFERS, SensorCamera, SensorSettings
from device_agent.vision.camera_stream_process import NetworkCamera
from device_agent.vision.types import CameraError, Pacing

FORMS = "film:PATH, pictures:DIR, rendered:SEED[:LIGHT], opencv:DEVICE_OR_URL, picamera2[:NUMBER]"

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,40}")
RAW_PX = 640 * 480
"""USB 2 has room for uncompressed pictures of that size at 30 a second, and for larger ones as MJPG alone."""


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """One camera of the settings: see `FORMS` for `source`. Sensors and streams are always live, whatever `pacing` says.

    `detector_px`: width and height of the model's input; a sensor's small stream is made as large. `size_px`: of a sensor's large
    stream, or what is asked of a USB camera. `sensor_mode`: pins a mode by width, height and bit depth. `low_memory`: for boards
    with less than half a gigabyte: fewer buffers, and network streams are read in this process.
    """

    name: str
    source: str = field(repr=False)
    pacing: Pacing = "recorded"
    loop: bool = False
    fps: float | None = None
    no_frame_timeout_s: float = NO_FRAME_TIMEOUT_S
    detector_px: tuple[int, int] | None = None
    size_px: tuple[int, int] | None = None
    sensor_mode: tuple[int, int, int] | None = None
    low_memory: bool = False


def open_camera(settings: CameraSettings) -> CameraSource:
    """The camera of a source; raises CameraError with what is wrong with it."""
    if settings.fps is not None and not 0 < settings.fps <= MAX_FPS:
        raise CameraError("bad_source", f"camera {settings.name}: fps must be above 0, at most {MAX_FPS:g}")
    kind, _, rest = settings.source.partition(":")
    told = shown_source(settings.source)
    source: CameraSource
    if kind in ("film", "pictures") and "://" in rest:
        raise CameraError("bad_source", f"camera {settings.name}: {told!r} is a stream: write opencv:ADDRESS")
    if kind == "film" and rest:
        source = FilmCamera(settings.name, Path(rest), Playing(settings.pacing, settings.fps, settings.loop))
    elif kind == "pictures" and rest:
        source = PicturesCamera(settings.name, Path(rest), Playing(settings.pacing, settings.fps, settings.loop))
    elif kind == "rendered" and rest:
        source = _rendered(settings, rest)
    elif kind == "opencv" and rest:
        return _stream(settings, rest)
    elif kind == "picamera2" and (not rest or rest.isdigit()) and settings.source != "picamera2:":
        return SensorCamera(settings.name, sensor_settings(settings, int(rest or 0)))
    else:
        raise CameraError("bad_source", f"camera {settings.name}: {told!r} is no source; write one of {FORMS}")
    return LatestWins(source, no_frame_timeout_s=settings.no_frame_timeout_s) if settings.pacing == "live" else source


def sensor_settings(settings: CameraSettings, number: int) -> SensorSettings:
    """How a sensor is opened for these settings."""
    usual = SensorSettings()
    main_px = settings.size_px or usual.main_px
    return SensorSettings(
        main_px=main_px,
        lores_px=usual.lores_px if settings.detector_px is None else small_px(main_px, settings.detector_px),
        fps=settings.fps or usual.fps,
        camera=number,
        buffers=LEAST_BUFFERS if settings.low_memory else BUFFERS,
        mode=settings.sensor_mode,
    )


def small_px(main_px: tuple[int, int], detector_px: tuple[int, int]) -> tuple[int, int]:
    """The small stream: the shape of the large one, on no side smaller than the model's input, even, and not larger than main."""
    scale = min(1.0, max(detector_px[0] / main_px[0], detector_px[1] / main_px[1]))
    width, height = (min(-(-round(side * scale, 3) // 2) * 2, side - side % 2) for side in main_px)
    return int(width), int(height)


def shown_source(source: str) -> str:
    """A source as it may be shown to anybody: see `shown`. What is no source at all may still hold a password."""
    kind, colon, rest = source.partition(":")
    if rest.startswith("//"):
        return shown(source)
    if not _WORD.fullmatch(kind):
        return "***"
    if not rest or kind == "rendered":
        return source if _WORD.fullmatch(rest.replace(":", "")) or not rest else f"{kind}:***"
    return f"{kind}{colon}{shown(rest)}"


def _stream(settings: CameraSettings, target: str) -> CameraSource:
    large = settings.size_px is not None and settings.size_px[0] * settings.size_px[1] > RAW_PX
    stream = StreamSettings(fps=settings.fps, size_px=settings.size_px, fourcc="MJPG" if large else None)
    device = target.isdigit() or target.startswith("/dev/")
    if not device and "://" not in target:
        raise CameraError("bad_source", f"camera {settings.name}: write opencv:NUMBER, opencv:/dev/videoN or opencv:rtsp://HOST/PATH,"
                          f" not {shown_source(settings.source)!r}")
    if not device and not settings.low_memory:
        return NetworkCamera(settings.name, target, stream)
    # The stream first tries to get its frames back by itself; then the thread around it counts as hung.
    timeout_s = max(settings.no_frame_timeout_s, 2 * MAX_SILENCE_S)
    return LatestWins(StreamCamera(settings.name, target, stream), no_frame_timeout_s=timeout_s)


def _rendered(settings: CameraSettings, rest: str) -> CameraSource:
    # Drawing scenes takes near to a megabyte of modules, for demonstrations alone.
    from device_agent.vision.camera_rendered import DEFAULT_FPS, Drawing, RenderedCamera

    seed, _, light = rest.partition(":")
    if not seed.isdigit():
        raise CameraError("bad_source", f"camera {settings.name}: write rendered:SEED[:LIGHT], not "
                          f"{shown_source(settings.source)!r}")
    return RenderedCamera(settings.name, int(seed), light or "day", Drawing(settings.pacing, settings.fps or DEFAULT_FPS))
