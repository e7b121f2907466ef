"""The recall sample: a few frames a day on which nothing was found, so that somebody can count what was missed. Pure.

Frames with motion and without a detection are drawn uniformly: the day is cut into as many slices as there are samples, and in
each a reservoir of one picture is kept (the n-th candidate replaces it with probability 1/n). At the end of a slice its picture
goes out with its *weight* n, the number of frames that it stands for. Every candidate of a slice had the same chance 1/n, and a
sum over samples, each times its weight, is an unbiased estimate of the sum over all such frames; nothing is kept for a day.

Off by default: a frame in which the model saw nothing may show anything at all, so its owner must ask for it, and the board's
policy must allow it (upload class ``recall``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_agent.vision.best_crop import within_bytes
from device_agent.vision.cutter import Cutter, whole
from device_agent.vision.scene import Scene
from device_agent.vision.types import Crop, Event, EventUpdate

DAY_S = 86_400.0
RULE = "recall"
NOTHING = "none"
"""The label of an event that says that nothing was found."""
LONGEST_SIDE_PX = 640
JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class RecallSettings:
    """`per_day` samples of each camera; 0 is none. `max_bytes_per_day` bounds them all together, `max_bytes` one."""

    per_day: int = 0
    max_bytes_per_day: int = 4 * 1024 * 1024
    max_bytes: int = 64 * 1024

    @property
    def slice_s(self) -> float:
        """Length of one slice."""
        return DAY_S / max(1, self.per_day)

    @property
    def cap_bytes(self) -> int:
        """The most that one sample may take, so that the day's budget is never passed."""
        return min(self.max_bytes, self.max_bytes_per_day // max(1, self.per_day))


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The picture that a slice's reservoir holds now."""

    crop: Crop
    threshold: float
    width_px: int
    height_px: int


class RecallSampler:
    """A watcher of one camera. `draw` gives numbers in [0, 1). `refused` hears why a drawn frame gave no picture.

    Slices are measured with the frames' own clock; a source that begins anew goes on in the slice where the one before ended. The
    agent's end loses the slice it is in: a restart can only lower the number of samples, never raise it.
    """

    name = "recall sample"

    def __init__(
        self,
        camera: str,
        settings: RecallSettings,
        cutter: Cutter,
        new_id: Callable[[], str],
        *,
        draw: Callable[[], float],
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._camera, self._settings, self._cutter = camera, settings, cutter
        self._new_id, self._draw, self._refused = new_id, draw, refused
        self._candidates = 0
        self._drawn: _Drawn | None = None
        self._elapsed_s = 0.0
        self._last_at_s: float | None = None
        cutter.kept_by(self)

    def use(self, settings: RecallSettings) -> None:
        """Change the number of samples between two frames; the slice that is open begins anew."""
        if settings != self._settings:
            self._settings = settings
            self._begin()

    def forget_pictures(self) -> None:
        """The picture that was drawn goes; frames that come are drawn against all of the slice as before."""
        self._drawn = None

    def saw(self, scene: Scene) -> Sequence[EventUpdate]:
        """One frame: it may be drawn, and it may end a slice."""
        if self._settings.per_day <= 0:
            return ()
        updates = self._pass_time(scene.frame.at_s)
        if scene.gate.moved and scene.answer is not None and scene.reported is not None and not len(scene.reported):
            self._candidate(scene, scene.answer.card.thresholds.lowest)
        return updates

    def finish(self) -> Sequence[EventUpdate]:
        """The source ended: the slice stays open, the next source goes on in it."""
        self._last_at_s = None
        return ()

    def _pass_time(self, at_s: float) -> list[EventUpdate]:
        if self._last_at_s is not None:
            self._elapsed_s += max(0.0, at_s - self._last_at_s)
        self._last_at_s = at_s
        if self._elapsed_s < self._settings.slice_s:
            return []
        drawn, weight = self._drawn, self._candidates
        since_s = self._elapsed_s % self._settings.slice_s
        self._begin()
        self._elapsed_s = since_s
        return [] if drawn is None else [EventUpdate("end", self._event(drawn, weight))]

    def _begin(self) -> None:
        self._elapsed_s, self._candidates, self._drawn = 0.0, 0, None

    def _candidate(self, scene: Scene, threshold: float) -> None:
        self._candidates += 1
        if self._draw() * self._candidates >= 1.0:
            return
        # Drawn, so the picture before is given up whatever comes of this one: keeping it would favour frames that can be shown.
        self._drawn = None
        frame = scene.frame
        made = self._cutter.cut(frame, whole(frame), LONGEST_SIDE_PX, JPEG_QUALITY)
        kept = None if made is None else within_bytes(made, self._settings.cap_bytes)
        if kept is None:
            if made is not None:
                self._refused("recall_budget")
            return
        box = (0.0, 0.0, float(frame.width_px), float(frame.height_px))
        crop = Crop(
            "first", kept.jpeg, kept.width_px, kept.height_px, 0.0, 0.0, frame.index, frame.at_s, frame.wall_s, box, kept.cut
        )
        self._drawn = _Drawn(crop, threshold, frame.width_px, frame.height_px)

    def _event(self, drawn: _Drawn, weight: int) -> Event:
        crop = drawn.crop
        return Event(
            id=self._new_id(),
            revision=0,
            camera=self._camera,
            track=0,
            label=NOTHING,
            rule=RULE,
            rule_kind="sample",
            zone=None,
            start_frame=crop.frame,
            start_s=crop.at_s,
            started_wall_s=crop.wall_s,
            end_frame=crop.frame,
            end_s=crop.at_s,
            ended_wall_s=crop.wall_s,
            open=False,
            score=0.0,
            threshold=drawn.threshold,
            box=crop.box,
            best_frame=crop.frame,
            frame_width_px=drawn.width_px,
            frame_height_px=drawn.height_px,
            crops=(crop,),
            weight=float(weight),
        )
