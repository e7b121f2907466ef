"""Bursts: a few small pictures from just before and just after a moment. No IO.

What was before must have been kept before anybody knew, so a ring of small JPEGs runs along, only where a trigger wants bursts
and only on frames that the detector saw. Every picture is cut at its own frame by the Cutter; nothing of a frame is kept.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from device_agent.vision.best_crop import within_bytes
from device_agent.vision.cutter import Cutter, whole
from device_agent.vision.types import Crop, Frame


@dataclass(frozen=True, slots=True)
class BurstSettings:
    """`before_s` and `after_s` make up to 3 s; at most `fps` pictures a second, `longest_side_px` long, `max_bytes` large."""

    before_s: float = 1.5
    after_s: float = 1.5
    fps: float = 3.0
    longest_side_px: int = 640
    jpeg_quality: int = 70
    max_bytes: int = 48 * 1024

    @property
    def most_before(self) -> int:
        """Pictures that the ring holds at most."""
        return math.ceil(self.before_s * self.fps) + 1

    @property
    def most_after(self) -> int:
        """Pictures that are taken after the moment at most."""
        return math.ceil(self.after_s * self.fps)


class BurstRing:
    """The latest pictures of one camera, at most `most_before` of `max_bytes` each."""

    def __init__(self, cutter: Cutter, settings: BurstSettings | None = None) -> None:
        self.settings = settings or BurstSettings()
        self._cutter = cutter
        self._ring: deque[Crop] = deque(maxlen=self.settings.most_before)
        self._next_s = -math.inf
        cutter.kept_by(self)

    def offer(self, frame: Frame) -> Crop | None:
        """Keep a frame if its turn has come; the new picture, None where there is none. A refused one has had its turn."""
        if frame.at_s < self._next_s:
            return None
        # A little grace: a camera of 6 frames a second gives every second one, not every third.
        self._next_s = frame.at_s + 0.95 / self.settings.fps
        made = self._cutter.cut(frame, whole(frame), self.settings.longest_side_px, self.settings.jpeg_quality)
        kept = None if made is None else within_bytes(made, self.settings.max_bytes)
        if kept is None:
            return None
        left, top, right, bottom = kept.cut
        box = (float(left), float(top), float(right), float(bottom))
        crop = Crop(
            "burst", kept.jpeg, kept.width_px, kept.height_px, 0.0, 0.0, frame.index, frame.at_s, frame.wall_s, box, kept.cut
        )
        self._ring.append(crop)
        return crop

    def before(self, at_s: float) -> tuple[Crop, ...]:
        """The pictures of the last `before_s`, oldest first, the present one included."""
        return tuple(crop for crop in self._ring if 0 <= at_s - crop.at_s <= self.settings.before_s)

    def forget_pictures(self) -> None:
        """What was before may not be shown any more."""
        self._ring.clear()

    def clear(self) -> None:
        """The source ended: what was before is of another scene."""
        self._ring.clear()
        self._next_s = -math.inf


@dataclass(slots=True)
class After:
    """The pictures after one moment: taken until `until_s`, `most` of them."""

    until_s: float
    most: int
    crops: list[Crop] = field(default_factory=list)

    def take(self, crop: Crop | None) -> None:
        """One more, if there is one and room for it."""
        if crop is not None and len(self.crops) < self.most and crop.at_s <= self.until_s:
            self.crops.append(crop)

    def over(self, at_s: float) -> bool:
        """Whether nothing more will come."""
        return at_s >= self.until_s or len(self.crops) >= self.most
