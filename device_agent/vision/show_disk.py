"""`--show`: a film of what was seen, drawn while it runs. The file is whole or absent, whatever happens on the way."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import cv2

from device_agent.vision.annotate import Overlay, annotate
from device_agent.vision.cutter import Cutter, whole
from device_agent.vision.scene import Scene
from device_agent.vision.types import CameraError, EventUpdate, Picture
from ota.durable_disk import fsync_folder

LONGEST_SIDE_PX = 1280
ENCODERS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""File endings that OpenCV's own wheel can write, with the encoder that it has for each."""
SLOWEST_FPS, FASTEST_FPS = 1.0, 60.0
LONGEST_GAP_S = 10.0
"""A longer gap between two frames is shown as one of this length: a camera that was away for an hour makes no hour of stills."""


class ShowFilm:
    """A watcher that draws each scene into a film. `close` makes the file appear; after `abort` or a crash there is none.

    Film time is the frames' own: where the source left frames out, the picture before them stands still. What goes wrong while
    it writes is told by `close`, for a watcher must not end what it watches.
    """

    name = "show"

    def __init__(self, path: Path, cutter: Cutter, overlay: Overlay | None = None) -> None:
        fourcc = ENCODERS.get(path.suffix.lower())
        if fourcc is None:
            raise CameraError("bad_source", f"--show {path}: a film ends in {', '.join(ENCODERS)}")
        if not path.parent.is_dir():
            raise CameraError("missing", f"{path} cannot be written: there is no folder {path.parent}")
        self._path, self._cutter, self._overlay, self._fourcc = path, cutter, overlay, fourcc
        self._temporary = path.with_name(f".{path.stem}.{os.urandom(4).hex()}.part{path.suffix.lower()}")
        self._writer: cv2.VideoWriter | None = None
        self._size: tuple[int, int] = (0, 0)
        self._fps = 0.0
        self._first_at_s = self._last_at_s = 0.0
        self._waiting: Picture | None = None
        self._wanted = self._written = 0
        self._problem = ""

    def saw(self, scene: Scene) -> Sequence[EventUpdate]:
        """Draw one scene."""
        if self._problem:
            return ()
        frame = scene.frame
        made = self._cutter.picture(frame, whole(frame), LONGEST_SIDE_PX)
        if made is None:  # privacy cannot be kept in this frame: the one before stands
            return ()
        picture = annotate(made, scene, self._overlay)
        if self._waiting is None:
            self._begin(picture, frame.at_s)
            return ()
        gap_s = frame.at_s - self._last_at_s
        if self._writer is None and gap_s > 0:
            self._open(1 / gap_s)
        # Time that jumps back (a source that begins anew) goes on where the film is.
        self._first_at_s += max(0.0, gap_s - LONGEST_GAP_S) if gap_s > 0 else gap_s
        self._last_at_s = frame.at_s
        self._stand_until(max(self._written + 1, round((frame.at_s - self._first_at_s) * self._fps)))
        self._waiting = self._fitting(picture)
        return ()

    def finish(self) -> Sequence[EventUpdate]:
        """The source ended."""
        return ()

    def close(self) -> None:
        """The film is whole: it appears under its name. Raises CameraError where it could not be written; then there is none."""
        try:
            if self._waiting is None and not self._problem:
                self._problem = "no frame was seen"
            if self._writer is None and not self._problem:
                self._open(SLOWEST_FPS)
            self._stand_until(self._written + 1)
            self._release()
            if not self._problem:
                self._check()
            if self._problem:
                raise CameraError("missing", f"{self._path} cannot be written: {self._problem}")
            with self._temporary.open("rb") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self._path)
            fsync_folder(self._path.parent)
        except OSError as error:
            raise CameraError("missing", f"{self._path} cannot be written: {error.strerror}") from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Nothing of it stays; after `close` this does nothing."""
        self._release()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _begin(self, picture: Picture, at_s: float) -> None:
        # An encoder wants even sides.
        self._size = (max(2, picture.shape[1] // 2 * 2), max(2, picture.shape[0] // 2 * 2))
        self._first_at_s = self._last_at_s = at_s
        self._waiting = self._fitting(picture)

    def _open(self, fps: float) -> None:
        self._fps = min(FASTEST_FPS, max(SLOWEST_FPS, fps))
        writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*self._fourcc), self._fps, self._size)
        if writer.isOpened():
            self._writer = writer
        else:
            writer.release()
            self._problem = f"this OpenCV has no encoder for {self._path.suffix} films of {self._size[0]}x{self._size[1]} px"

    def _stand_until(self, number: int) -> None:
        """Write the picture that waits until the film has so many."""
        while self._writer is not None and self._waiting is not None and self._written < number:
            self._writer.write(self._waiting)
            self._written += 1

    def _fitting(self, picture: Picture) -> Picture:
        if (picture.shape[1], picture.shape[0]) == self._size:
            return picture
        resized: Picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return resized

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _check(self) -> None:
        """OpenCV says nothing of a disk that is full: the film is opened again and its frames are counted."""
        film = cv2.VideoCapture(str(self._temporary))
        try:
            there = int(film.get(cv2.CAP_PROP_FRAME_COUNT)) if film.isOpened() else 0
        finally:
            film.release()
        if there != self._written:
            self._problem = f"{there} of {self._written} pictures arrived; is the disk full?"
