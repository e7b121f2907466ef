"""Pictures for a debug session: the present frame, or ten seconds of frames, with what was seen drawn in. Keeps nothing unasked.

A watcher. Whether a session may ask at all is decided before (policy, end, how often): here a wish is fulfilled or refused.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from device_agent.vision.annotate import Overlay, annotate
from device_agent.vision.cutter import Cutter, encode_jpeg, whole
from device_agent.vision.scene import Scene
from device_agent.vision.types import EventUpdate, Still
from ota.wire.debug import MAX_PICTURES, FrameAnswer, FramePicture

LONGEST_SIDE_PX, JPEG_QUALITY = 640, 70
BURST_S, BURST_GAP_S = 10.0, 1 / 3
"""A burst is so long, and its pictures are so far apart: thirty pictures of some 25 kB."""
PATIENCE_S = 15.0
"""A camera that gives no picture for so long is refused as silent; one whose pictures must be blurred and cannot, as privacy."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One request of one session on one camera. ``until_s`` (steady) is the session's end: nothing is sent after it."""

    session: str
    asked: int
    frames: Literal["last", "burst"]
    until_s: float


@dataclass(slots=True)
class _Running:
    wish: Wish
    begun_s: float
    pictures: list[FramePicture] = field(default_factory=list)
    first_at_s: float = 0.0
    next_at_s: float = float("-inf")
    hidden: int = 0


class LiveView:
    """One camera's. ``keep`` takes a picture and says whether there was room; ``answered`` hears how each wish ended.

    ``steady_s``: a monotonic clock. Both callbacks may be called from the camera's thread and from that of ``ask`` and ``tick``.
    """

    name = "live view"

    def __init__(
        self, camera: str, cutter: Cutter, keep: Callable[[Still], bool], answered: Callable[[FrameAnswer], None],
        steady_s: Callable[[], float], overlay: Overlay | None = None,
    ) -> None:  # fmt: skip
        self._camera, self._cutter, self._keep, self._answered = camera, cutter, keep, answered
        self._steady_s = steady_s
        self.overlay = overlay or Overlay()
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def ask(self, wish: Wish) -> None:
        """From any thread: fulfil this with the next frames. One at a time: a second is refused as busy."""
        with self._lock:
            if self._running is None:
                self._running = _Running(wish, self._steady_s())
                return
        self._answered(self._answer(wish, (), "refused", "busy", "another request is being answered; ask again in a moment"))

    def saw(self, scene: Scene) -> Sequence[EventUpdate]:
        """Take a picture if one is wanted now."""
        running = self._running
        if running is None:
            return ()
        if self._steady_s() >= running.wish.until_s:
            self._end(running, "ended")
            return ()
        at_s = scene.frame.at_s
        if running.pictures and at_s < running.first_at_s:
            # The film began again: what is left of the burst is measured on the new time.
            self._end(running, "")
        elif at_s >= running.next_at_s:
            self._take(running, scene)
        return ()

    def finish(self) -> Sequence[EventUpdate]:
        """The source ended: what there is of a burst is all that there will be."""
        running = self._running
        if running is not None and running.pictures:
            self._end(running, "silent")
        return ()

    def tick(self) -> None:
        """From any thread, now and then: end what waits for a camera that gives nothing, or whose session is over."""
        running = self._running
        if running is None:
            return
        now_s = self._steady_s()
        if now_s >= running.wish.until_s:
            self._end(running, "ended")
        elif now_s > running.begun_s + PATIENCE_S + (BURST_S if running.wish.frames == "burst" else 0.0):
            self._end(running, "privacy" if running.hidden and not running.pictures else "silent")

    def cancel(self, sessions: set[str]) -> None:
        """From any thread: only these sessions are open still."""
        running = self._running
        if running is not None and running.wish.session not in sessions:
            self._end(running, "ended")

    def _take(self, running: _Running, scene: Scene) -> None:
        made = self._cutter.picture(scene.frame, whole(scene.frame), LONGEST_SIDE_PX)
        if made is None:
            running.hidden += 1
            return
        jpeg = encode_jpeg(annotate(made, scene, self.overlay), JPEG_QUALITY)
        height, width = made.picture_bgr.shape[:2]
        frame, wish = scene.frame, running.wish
        seen = (self._camera, frame.index, frame.at_s, frame.wall_s)
        still = Still("debug", wish.session, jpeg, width, height, *seen, reason=wish.frames)
        if self._running is not running:
            return
        if not self._keep(still):
            self._end(running, "spool")
            return
        digest = hashlib.sha256(jpeg).hexdigest()
        if not running.pictures:
            running.first_at_s = frame.at_s
        picture = FramePicture(sha256=digest, frame=frame.index, at_s=max(0.0, frame.wall_s), width_px=width, height_px=height)
        running.pictures.append(picture)
        running.next_at_s = frame.at_s + BURST_GAP_S
        over = running.next_at_s > running.first_at_s + BURST_S or len(running.pictures) >= MAX_PICTURES
        if wish.frames == "last" or over:
            self._end(running, "")

    def _end(self, running: _Running, reason: str) -> None:
        """Answer a wish, once: whoever takes it out of the seat says how it ended."""
        with self._lock:
            if self._running is not running:
                return
            self._running = None
        pictures = tuple(running.pictures)
        state = "done" if not reason else "partial" if pictures else "refused"
        self._answered(self._answer(running.wish, pictures, state, reason, _DETAILS.get(reason, "")))

    def _answer(self, wish: Wish, pictures: Sequence[FramePicture], state: str, reason: str, detail: str) -> FrameAnswer:
        return FrameAnswer(
            session=wish.session, asked=wish.asked, camera=self._camera, frames=wish.frames, state=state, reason=reason,
            detail=detail, pictures=list(pictures),
        )  # fmt: skip


_DETAILS = {
    "ended": "the debug session ended before the pictures were taken",
    "silent": "the camera gave no frames",
    "privacy": "what must be blurred could not be found in any frame, so no picture was made",
    "spool": "there was no room for the picture on the board",
}
