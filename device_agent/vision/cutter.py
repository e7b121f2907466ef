"""The one place where a picture leaves a frame: masked, blurred, made small, encoded. None where privacy cannot be kept. No IO.

One Cutter belongs to one camera and is called by that camera's thread. The pipeline tells it every answer before anything is cut.
"""

import logging
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from device_agent.vision.detector import Answer, DetectorError
from device_agent.vision.privacy import Privacy, unrecognisable
from device_agent.vision.types import Box, Cut, Frame, Picture

BLUR_MEMORY_S = 0.5
"""Where a person was this long ago is blurred still: a detector that blinks for a frame bares nobody."""
REFUSED = "privacy"
"""The reason under which pictures that could not be made are counted."""
log = logging.getLogger(__name__)

Look = Callable[[Picture], Answer]


@dataclass(frozen=True, slots=True)
class CutOut:
    """A part of one frame as it may leave: JPEG without metadata, its size, and the part of the source picture that it shows."""

    jpeg: bytes
    width_px: int
    height_px: int
    cut: Cut


@dataclass(frozen=True, slots=True)
class PrivatePicture:
    """A part of one frame as it may leave, not yet encoded. ``picture_bgr`` is nobody else's: it may be drawn on."""

    picture_bgr: Picture
    cut: Cut


class Album(Protocol):
    """Whoever keeps pictures of a Cutter beyond the frame that they were cut from."""

    def forget_pictures(self) -> None:
        """What is to be kept from sight changes: no picture that was made before may be told any more."""
        ...


class _Sightings:
    """What one detector said of the present frame: which labels it looked for, and where it found them (source px)."""

    def __init__(self) -> None:
        self._key: tuple[int, float] | None = None
        self._labels: frozenset[str] = frozenset()
        self._boxes: tuple[Box, ...] = ()
        self._recent: list[tuple[float, tuple[Box, ...]]] = []

    def forget(self) -> None:
        """What was said counts no more; where somebody was a moment ago is remembered."""
        self._key = None

    def saw(self, frame: Frame) -> bool:
        """Whether this very frame was looked at."""
        return self._key == _key(frame)

    def of(self, frame: Frame) -> tuple[frozenset[str], tuple[Box, ...]]:
        """Labels that were looked for in this very frame, and boxes; none where it was not looked at."""
        return (self._labels, self._boxes) if self.saw(frame) else (frozenset(), ())

    def learn(self, frame: Frame, answer: Answer, privacy: Privacy) -> None:
        """Take in an answer; a model that the board does not list is not believed."""
        card, found = answer.card, answer.detections
        listed = not privacy.blur_by or card.name in privacy.blur_by
        self._labels = frozenset(privacy.blur & set(card.labels)) if listed else frozenset()
        now = tuple(
            (box[0], box[1], box[2], box[3])
            for box, number in zip(found.xyxy.tolist(), found.class_id.tolist(), strict=True)
            if 0 <= number < len(card.labels) and card.labels[number] in self._labels and all(map(math.isfinite, box))
        )
        # A film that begins again jumps back in time: what was before it is no memory of this frame.
        self._recent = [(at_s, boxes) for at_s, boxes in self._recent if 0 <= frame.at_s - at_s <= BLUR_MEMORY_S]
        self._boxes = now + tuple(box for _, boxes in self._recent for box in boxes)
        self._recent.append((frame.at_s, now))
        self._key = _key(frame)


class Cutter:
    """Cuts pictures out of the frames of one camera.

    ``refused`` is called with a reason for each picture that could not be made. ``look`` is a detector of its own for labels to
    be blurred that the pipeline's model does not know (boxes in px of the picture that it is given; may raise DetectorError): it
    is asked at most once for a frame, and only for one of which a picture is made. Every label to be blurred must have been
    looked for in this very frame, by the pipeline's model (``answered``) or by ``look``: else there is no picture.
    """

    def __init__(self, privacy: Privacy | None = None, *, look: Look | None = None) -> None:
        self._privacy = privacy or Privacy()
        self._look = look
        self._pipeline, self._own = _Sightings(), _Sightings()
        self._looked: tuple[int, float] | None = None
        self._told: tuple[str, ...] = ()
        self._albums: weakref.WeakSet[Album] = weakref.WeakSet()
        self.refused: Callable[[str], None] = lambda reason: None

    @property
    def privacy(self) -> Privacy:
        """What is kept from sight now."""
        return self._privacy

    def kept_by(self, album: Album) -> None:
        """Pictures of this Cutter are kept there: it is told when they may not be told any more. Not kept alive by this."""
        self._albums.add(album)

    def use(self, privacy: Privacy) -> None:
        """Keep this from sight from now on; between two frames. What was known of the present frame is forgotten.

        So are pictures that were made before and not told yet: what a new mask hides was seen on them.
        """
        if privacy != self._privacy:
            for album in list(self._albums):
                album.forget_pictures()
        self._privacy = privacy
        self._looked = None
        self._pipeline.forget()
        self._own.forget()

    def answered(self, frame: Frame, answer: Answer) -> Answer:
        """The detector's answer for a frame, boxes in px of the source picture: remembered for what is cut out of it.

        Returns what of it may be told: without the detections that lie more than half in a mask.
        """
        privacy = self._privacy
        if privacy.blur:
            self._pipeline.learn(frame, answer, privacy)
        if not privacy.masks or not len(answer.detections):
            return answer
        seen = privacy.seen(answer.detections.xyxy, frame.width_px, frame.height_px)
        return answer if seen.all() else replace(answer, detections=answer.detections[seen])

    def cut(self, frame: Frame, cut: Cut, longest_side_px: int, quality: int) -> CutOut | None:
        """A part of a frame as JPEG, at most ``longest_side_px`` long; None where privacy cannot be kept, or nothing is left.

        ``cut`` is in px of the source picture; what lies outside of the picture is left off.
        """
        made = self.picture(frame, cut, longest_side_px)
        if made is None:
            return None
        height, width = made.picture_bgr.shape[:2]
        return CutOut(encode_jpeg(made.picture_bgr, quality), width, height, made.cut)

    def picture(self, frame: Frame, cut: Cut, longest_side_px: int) -> PrivatePicture | None:
        """The same, not encoded: for those who draw on it."""
        inner = clipped(cut, frame.width_px, frame.height_px)
        if inner is None:
            return None
        privacy = self._privacy
        boxes: tuple[Box, ...] = ()
        if privacy.blur:
            found = self._found(frame)
            if found is None:
                self.refused(REFUSED)
                return None
            boxes = found
        region = frame.region(inner)
        if not privacy.nothing:
            region = region.copy()
            privacy.black_out(region, inner, frame.width_px, frame.height_px)
            unrecognisable(region, [_moved(box, inner) for box in boxes])
            # Blurring spreads what stands beside a mask into it: black again, so that a masked pixel is black whatever happens.
            privacy.black_out(region, inner, frame.width_px, frame.height_px)
        small = shrunk(region, longest_side_px)
        return PrivatePicture(small.copy() if small is region and privacy.nothing else small, inner)

    def masked(self, picture_bgr: Picture) -> Picture:
        """A picture of the whole view without what lies behind masks, itself where there are none. Not blurred: to be measured,
        never to leave."""
        privacy = self._privacy
        if not privacy.masks:
            return picture_bgr
        height_px, width_px = picture_bgr.shape[:2]
        shown = picture_bgr.copy()
        privacy.black_out(shown, (0, 0, width_px, height_px), width_px, height_px)
        return shown

    # -- what is blurred ------------------------------------------------------------------------------------------------

    def _found(self, frame: Frame) -> tuple[Box, ...] | None:
        """Boxes to blur in this frame (source px), those of the last moment too; None when nobody can say."""
        labels, boxes = self._pipeline.of(frame)
        if self._privacy.blur <= labels:
            return boxes
        if self._look is not None and self._looked != _key(frame):
            self._looked = _key(frame)
            try:
                self._own.learn(frame, _scaled(self._look(frame.picture_bgr), frame), self._privacy)
            except DetectorError as error:
                log.debug("the detector for blurring gave no answer: %s", error.message)
        own_labels, own_boxes = self._own.of(frame)
        if self._privacy.blur <= labels | own_labels:
            return boxes + own_boxes
        self._warn(frame, labels | own_labels)
        return None

    def _warn(self, frame: Frame, known: frozenset[str]) -> None:
        """Once for each set of labels: that nobody looks for them may last for ever, that a detector died passes."""
        missing = tuple(sorted(self._privacy.blur - known))
        if missing != self._told and self._pipeline.saw(frame) and (self._look is None or self._own.saw(frame)):
            self._told = missing
            log.warning("no picture leaves this camera: no model that may say so looks for %s", ", ".join(missing))


def whole(frame: Frame) -> Cut:
    """The cut that shows all of a frame."""
    return (0, 0, frame.width_px, frame.height_px)


def clipped(cut: Cut, width_px: int, height_px: int) -> Cut | None:
    """What of a cut lies in the picture; None when less than 2 x 2 px do."""
    left, top, right, bottom = max(0, cut[0]), max(0, cut[1]), min(width_px, cut[2]), min(height_px, cut[3])
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None


def cut_around(box: Box, margin: float, width_px: int, height_px: int) -> Cut | None:
    """The cut of a box with a margin (a share of its side, on each); None for a box outside of the picture or without numbers."""
    if not all(math.isfinite(value) for value in box):
        return None
    across, down = (box[2] - box[0]) * margin, (box[3] - box[1]) * margin
    around = (math.floor(box[0] - across), math.floor(box[1] - down), math.ceil(box[2] + across), math.ceil(box[3] + down))
    return clipped(around, width_px, height_px)


def shrunk(picture: Picture, longest_side_px: int) -> Picture:
    """A picture no longer than ``longest_side_px``: itself where it is short enough already."""
    longest = max(picture.shape[:2])
    if longest <= longest_side_px:
        return picture
    scale = longest_side_px / longest
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def encode_jpeg(picture_bgr: Picture, quality: int) -> bytes:
    """A picture as JPEG, without any metadata (OpenCV writes none)."""
    done, encoded = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes any BGR picture"
    return encoded.tobytes()


def _key(frame: Frame) -> tuple[int, float]:
    return (frame.index, frame.at_s)


def _moved(box: Box, cut: Cut) -> Box:
    return (box[0] - cut[0], box[1] - cut[1], box[2] - cut[0], box[3] - cut[1])


def _scaled(answer: Answer, frame: Frame) -> Answer:
    """The answer of the Cutter's own detector in px of the source picture (the pipeline scales its own)."""
    height_px, width_px = frame.picture_bgr.shape[:2]
    across, down = frame.width_px / width_px, frame.height_px / height_px
    boxes = answer.detections.xyxy * np.array([across, down, across, down], np.float32)
    return replace(answer, detections=replace(answer.detections, xyxy=boxes))
