"""Films and folders of pictures as cameras.

What cannot be decoded is left out, counted, and keeps its number and its time, so that everything after it stays where it was. A
film is read in the size of its first frame: FFmpeg behind OpenCV scales what comes in another one. Frame times are number / rate:
time stamps of films go back, leap and are missing; such are counted and not believed.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from device_agent.vision.camera import Losses, Pace
from device_agent.vision.types import CameraError, Frame, Pacing, Picture

DEFAULT_FPS = 10.0
"""For sources that do not say: folders of pictures, and films whose header holds no rate."""
MAX_FPS = 240.0
LEAST_FPS = 0.1
"""A header that says less is wrong; the slowest time-lapse is faster."""
WHOLE_SHARE = 0.8
"""A source of which less than this share of the promised frames could be seen is broken, and its end says so."""
ROUNDING_FRAMES, ROUNDING_SHARE = 2, 0.02
"""What containers promise is partly estimated: so much less at the end is no loss."""
GAP_FRAMES = 50
"""So many frames in a row that cannot be decoded are skipped; behind that lies the end."""
LEAP_S = 10.0
"""Time stamps of a film that leap further from one frame to the next are wrong."""
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

    noisy = process_bound = newer = False

    def __init__(self, name: str, playing: Playing, fps: float, most: float | None = None) -> None:
        self.name = name
        self.fps = fps
        self._playing = playing
        self._share = 1.0 if most is None else min(1.0, most / fps)
        self._pace = Pace(fps * self._share, playing.monotonic_s) if playing.pacing == "live" else None
        self._closed = False
        self._losses = Losses()

    @property
    def dropped(self) -> dict[str, int]:
        """What could not be decoded (`broken_frame`) and time stamps that cannot be (`bad_time`)."""
        return self._losses.read()

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
        """All pictures once; None in place of one that the limit leaves out or that cannot be decoded."""
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
            if not any(capture.grab() for _ in range(GAP_FRAMES)):
                raise CameraError("no_frames", f"the film {path} holds no frame that can be decoded; record it again")
        finally:
            capture.release()
        told = bool(np.isfinite(own_fps)) and LEAST_FPS <= own_fps <= MAX_FPS
        super().__init__(name, playing, own_fps if told else playing.fps or DEFAULT_FPS, playing.fps)
        self._losses.add("bad_time", 0 if told else 1)

    def _pictures(self) -> Iterator[Picture | None]:
        capture = _opened(self.path)
        count, lost, failed, size, stamp_s = 0, 0, 0, None, -math.inf
        try:
            while failed <= GAP_FRAMES:
                if not capture.grab():
                    failed += 1  # a damaged frame, or the end: what comes next tells
                    continue
                wanted = self._wanted(count + failed)
                got, picture = capture.retrieve() if wanted else (True, None)
                if not got:
                    failed += 1
                    continue
                stamp_s = self._stamped(stamp_s, capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
                lost += failed
                self._losses.add("broken_frame", failed)
                yield from [None] * failed
                count, failed = count + failed + 1, 0
                if picture is None:
                    yield None
                    continue
                # OpenCV gives a new array each time, so nobody has to copy it.
                decoded = np.asarray(picture, np.uint8)
                if size is not None and decoded.shape != size:
                    raise _size_changed(self.path, count - 1, size, decoded.shape)
                size = decoded.shape
                yield decoded
        finally:
            capture.release()
        self._judge(count, lost)

    def _stamped(self, before_s: float, stamp_s: float) -> float:
        """Count a time stamp that goes back or leaps; streams without any give nonsense, which is passed over."""
        if not 0 <= stamp_s < 1e9:
            return before_s
        self._losses.add("bad_time", int(before_s >= 0 and not before_s <= stamp_s <= before_s + LEAP_S))
        return stamp_s

    def _judge(self, count: int, lost: int) -> None:
        """Count what was promised behind the last frame; raise CameraError when too little of the film could be seen."""
        missing = self.declared_frames - count
        if missing > max(ROUNDING_FRAMES, ROUNDING_SHARE * self.declared_frames):
            self._losses.add("broken_frame", missing)
        if count - lost >= WHOLE_SHARE * max(count, self.declared_frames):
            return
        if missing > lost:
            raise CameraError("broken_frame", f"the film {self.path} breaks off after frame {count} of {self.declared_frames}: "
                              "the file is damaged or was cut short; copy it again")
        raise CameraError("broken_frame", f"{lost} of the {count} frames of the film {self.path} cannot be decoded: "
                          "the file is damaged; copy it again")


class PicturesCamera(_DiskCamera):
    """A folder of pictures, in the order of their names, one a frame."""

    def __init__(self, name: str, folder: Path, playing: Playing | None = None) -> None:
        playing = playing or Playing()
        self.folder = folder
        self.paths = list_pictures(folder)
        super().__init__(name, playing, playing.fps or DEFAULT_FPS)

    def _pictures(self) -> Iterator[Picture | None]:
        size, broken = None, 0
        for count, path in enumerate(self.paths):
            try:
                picture = read_picture(path)
            except CameraError as error:
                broken += 1
                self._losses.add(error.reason)
                if broken > (1 - WHOLE_SHARE) * len(self.paths):
                    raise
                yield None
                continue
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
