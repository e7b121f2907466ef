"""A drawn yard as a camera: the same seed gives the same film. The only importer of `models.rendered`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast, get_args

from device_agent.vision.camera import Pace
from device_agent.vision.types import CameraError, Frame, Pacing
from models.rendered.scenes import LightChoice, Scene

LIGHTS: tuple[str, ...] = get_args(LightChoice)
DEFAULT_FPS = 10.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a scene is filmed. Recorded: as fast as frames are asked for, each 1 / fps s later than the one before."""

    pacing: Pacing = "recorded"
    fps: float = DEFAULT_FPS
    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time


class RenderedCamera:
    """One scene, filmed without end."""

    noisy = process_bound = newer = False

    def __init__(self, name: str, seed: int, light: str = "day", drawing: Drawing | None = None) -> None:
        if light not in LIGHTS:
            raise CameraError("bad_source", f"rendered scenes know the lights {', '.join(LIGHTS)}, not {light!r}")
        self.name = name
        self._drawing = drawing or Drawing()
        self._scene = Scene(seed, light=cast(LightChoice, light))
        self._pace = Pace(self._drawing.fps, self._drawing.monotonic_s) if self._drawing.pacing == "live" else None
        self._closed = False

    @property
    def dropped(self) -> dict[str, int]:
        """Nothing is dropped here."""
        return {}

    def frames(self) -> Iterator[Frame]:
        """Frames until `close`; the scene's time is frame number / fps, so a slow board sees the same film, only slower."""
        drawing = self._drawing
        start_wall_s = drawing.wall_s()
        index = 0
        while not self._closed and (self._pace is None or self._pace.wait()):
            film_s = index / drawing.fps
            picture = self._scene.frame(film_s).picture_bgr
            if self._pace is None:
                yield Frame(self.name, index, film_s, start_wall_s + film_s, picture)
            else:
                yield Frame(self.name, index, drawing.monotonic_s(), drawing.wall_s(), picture)
            index += 1

    def close(self) -> None:
        """End the filming."""
        self._closed = True
        if self._pace is not None:
            self._pace.stop()
