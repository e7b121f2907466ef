"""Films and folders of pictures as cameras."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from device_agent.vision.camera import Pace
from device_agent.vision.types import CameraError, Frame, Pacing, Picture

DEFAULT_FPS = 10.0
"""For sources that do not say: folders of pictures, and films whose header holds no rate."""
MAX_FPS = 240.0
WHOLE_SHARE = 0.8
"""A film that ends before this share of its declared frames was cut short; the rest is rounding and estimates of containers."""
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True, slots=True)
class Playing:
    """How a source on disk is played; `loop` starts again at the end, without end.

    `fps`: the rate of a source that does not say its own; of one that does, at most so many frames a second are given.
    """

    pacing: Pacing = "recorded"
    fps: float | None = None
    loop: bool = False
    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time


class _DiskCamera:
    """What films and folders share: numbering, time stamps, pacing, looping. `fps` is the source's own rate, `most` the limit."""

    def __init__(self, name: str, playing: Playing, fps: float, most: float | None = None) -> None:
        self.name = name
        self.fps = fps
        self._playing = playing
        self._share = 1.0 if most is None else min(1.0, most / fps)
        self._pace = Pace(fps * self._share, playing.monotonic_s) if playing.pacing == "live" else None
        self._closed = False

    @property
    def dropped(self) -> int:
        """Nothing is dropped here."""
        return 0

    def frames(self) -> Iterator[Frame]:
        """Frames in order, numbered as in the source; a recorded one's time is number / fps, a live one's is the clock's."""
        start_wall_s = self._playing.wall_s()
        index = 0
        while not self._closed:
            for picture in self._pictures():
                if picture is None:
                    index += 1
                    continue
                if self._closed or (self._pace is not None and not self._pace.wait()):
                    return
                film_s = index / self.fps
                at_s = film_s if self._pace is None else self._playing.monotonic_s()
                wall_s = start_wall_s + film_s if self._pace is None else self._playing.wall_s()
                yield Frame(self.name, index, at_s, wall_s, picture)
                index += 1
            if not self._playing.loop:
                return

    def close(self) -> None:
        """End the playing."""
        self._closed = True
        if self._pace is not None:
            self._pace.stop()

    def _pictures(self) -> Iterator[Picture | None]:
        """All pictures once; None in place of one that the limit leaves out."""
        raise NotImplementedError

    def _wanted(self, number: int) -> bool:
        """Whether this picture of the source (from 0) is given: as many as the limit allows, evenly spread."""
        return number == 0 or math.floor(number * self._share) != math.floor((number - 1) * self._share)


class FilmCamera(_DiskCamera):
    """A film file through OpenCV. Refuses what is not a film before the first frame is asked for.

    `declared_frames` is what the header says: a film that ends before it was cut short, which `frames` reports as `broken_frame`.
    """

    def __init__(self, name: str, path: Path, playing: Playing | None = None) -> None:
        playing = playing or Playing()
        self.path = path
        capture = _opened(path)
        try:
            own_fps = float(capture.get(cv2.CAP_PROP_FPS))
            self.declared_frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            if not capture.grab():
                raise CameraError("no_frames", f"the film {path} holds no frame that can be decoded; record it again")
        finally:
            capture.release()
        usable = own_fps if np.isfinite(own_fps) and 0 < own_fps <= MAX_FPS else playing.fps or DEFAULT_FPS
        super().__init__(name, playing, usable, playing.fps)

    def _pictures(self) -> Iterator[Picture | None]:
        capture = _opened(self.path)
        count, size = 0, None
        try:
            while capture.grab():
                if not self._wanted(count):
                    count += 1
                    yield None
                    continue
                got, picture = capture.retrieve()
                if not got:
                    break
                # OpenCV gives a new array each time, so nobody has to copy it.
                decoded = np.asarray(picture, np.uint8)
                if size is not None and decoded.shape != size:
                    raise _size_changed(self.path, count, size, decoded.shape)
                size = decoded.shape
                count += 1
                yield decoded
        finally:
            capture.release()
        if count < WHOLE_SHARE * self.declared_frames:
            raise CameraError("broken_frame", f"the film {self.path} breaks off after frame {count} of {self.declared_frames}: "
                              "the file is damaged or was cut short; copy it again")


class PicturesCamera(_DiskCamera):
    """A folder of pictures, in the order of their names, one a frame."""

    def __init__(self, name: str, folder: Path, playing: Playing | None = None) -> None:
        playing = playing or Playing()
        self.folder = folder
        self.paths = list_pictures(folder)
        super().__init__(name, playing, playing.fps or DEFAULT_FPS)

    def _pictures(self) -> Iterator[Picture | None]:
        size = None
        for count, path in enumerate(self.paths):
            picture = read_picture(path)
            if size is not None and picture.shape != size:
                raise _size_changed(path, count, size, picture.shape)
            size = picture.shape
            yield picture


def list_pictures(folder: Path) -> list[Path]:
    """The picture files of a folder in order of name; raises CameraError `missing` or `no_frames`."""
    if not folder.is_dir():
        raise CameraError("missing", f"there is no folder {folder}")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if not found:
        raise CameraError("no_frames", f"the folder {folder} holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return found


def read_picture(path: Path) -> Picture:
    """A picture file as BGR (H, W, 3); raises CameraError `missing` or `broken_frame`."""
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise CameraError("missing", f"the picture {path} cannot be read: {error.strerror}") from error
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if picture is None:
        raise CameraError("broken_frame", f"{path} is not a picture that OpenCV can decode")
    return np.asarray(picture, np.uint8)


def _opened(path: Path) -> cv2.VideoCapture:
    """An open film; raises CameraError `missing` or `not_a_film`."""
    if not path.is_file():
        raise CameraError("missing", f"there is no film {path}")
    # FFmpeg alone: the pattern backend would read "clip01.jpg" as a series of pictures.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise CameraError("not_a_film", f"{path} is not a film that can be decoded (MP4, MKV, AVI with H.264, MPEG-4 or MJPEG)")
    return capture


def _size_changed(where: Path, count: int, old: tuple[int, ...], new: tuple[int, ...]) -> CameraError:
    return CameraError("size_changed", f"frame {count} of {where} is {new[1]}x{new[0]} px, "
                       f"those before were {old[1]}x{old[0]} px; one source must keep one size")
