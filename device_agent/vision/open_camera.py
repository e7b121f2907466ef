"""From a source's short name, as it stands in settings and on the command line, to a camera."""

from dataclasses import dataclass
from pathlib import Path

from device_agent.vision.camera import NO_FRAME_TIMEOUT_S, CameraSource, LatestWins
from device_agent.vision.camera_disk import MAX_FPS, FilmCamera, PicturesCamera, Playing
from device_agent.vision.camera_opencv import MAX_SILENCE_S, StreamCamera, StreamSettings
from device_agent.vision.camera_picamera2 import SensorCamera, SensorSettings
from device_agent.vision.camera_rendered import DEFAULT_FPS, Drawing, RenderedCamera
from device_agent.vision.types import CameraError, Pacing

FORMS = "film:PATH, pictures:DIR, rendered:SEED[:LIGHT], opencv:DEVICE_OR_URL, picamera2"


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """One camera of the settings: see `FORMS` for `source`. Sensors and streams are always live, whatever `pacing` says."""

    name: str
    source: str
    pacing: Pacing = "recorded"
    loop: bool = False
    fps: float | None = None
    no_frame_timeout_s: float = NO_FRAME_TIMEOUT_S


def open_camera(settings: CameraSettings) -> CameraSource:
    """The camera of a source; raises CameraError with what is wrong with it."""
    if settings.fps is not None and not 0 < settings.fps <= MAX_FPS:
        raise CameraError("bad_source", f"camera {settings.name}: fps must be above 0, at most {MAX_FPS:g}")
    kind, _, rest = settings.source.partition(":")
    source: CameraSource
    live, timeout_s = settings.pacing == "live", settings.no_frame_timeout_s
    if kind == "film" and rest:
        source = FilmCamera(settings.name, Path(rest), Playing(settings.pacing, settings.fps, settings.loop))
    elif kind == "pictures" and rest:
        source = PicturesCamera(settings.name, Path(rest), Playing(settings.pacing, settings.fps, settings.loop))
    elif kind == "rendered" and rest:
        source = _rendered(settings, rest)
    elif kind == "opencv" and rest:
        source, live = StreamCamera(settings.name, rest, StreamSettings(fps=settings.fps)), True
        timeout_s = max(timeout_s, 2 * MAX_SILENCE_S)  # the stream first tries to get its frames back by itself
    elif settings.source == "picamera2":
        source, live = SensorCamera(settings.name, SensorSettings(fps=settings.fps or SensorSettings().fps)), True
    else:
        raise CameraError("bad_source", f"camera {settings.name}: {settings.source!r} is no source; write one of {FORMS}")
    return LatestWins(source, no_frame_timeout_s=timeout_s) if live else source


def _rendered(settings: CameraSettings, rest: str) -> RenderedCamera:
    seed, _, light = rest.partition(":")
    if not seed.isdigit():
        raise CameraError("bad_source", f"camera {settings.name}: write rendered:SEED[:LIGHT], not {settings.source!r}")
    return RenderedCamera(settings.name, int(seed), light or "day", Drawing(settings.pacing, settings.fps or DEFAULT_FPS))
