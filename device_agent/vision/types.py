"""What vision yields, in that order: frame, (detection), track, event, crop. Units and axes are said here once.

Pixels: x to the right, y down, origin at the top left corner of the top left pixel of the *source* picture. A `Box` is
(left, top, right, bottom) in such pixels. Points of zones are fractions 0..1 of width and height.
Times: `at_s` is the capture time on the source's monotonic clock (for a recorded film: seconds of film), the one that deadlines
and dwell are measured with; `wall_s` is seconds since 1970 and is only ever shown or sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
"""uint8, (height, width, 3) in BGR, or (height, width) for a luma plane."""
Box = tuple[float, float, float, float]
Cut = tuple[int, int, int, int]
"""(left, top, right, bottom) in whole pixels of the source picture, the right and lower ends excluded."""
RuleKind = Literal["zone", "dwell", "line", "trigger", "sample"]
CropKind = Literal["first", "best", "burst"]
StillPurpose = Literal["debug", "recall"]
UpdateKind = Literal["start", "update", "end"]
Pacing = Literal["live", "recorded"]


class CameraError(Exception):
    """A source that gives no frames; `reason` is one word for counters, the message says what was wrong and what to do.

    Reasons: bad_source, missing, not_a_film, no_frames, broken_frame, size_changed, unreachable, not_installed, closed.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class MainPicture(Protocol):
    """The large picture behind a frame: read for winners alone. Valid until the next frame is asked for."""

    @property
    def width_px(self) -> int:
        """Width of the large picture."""
        ...

    @property
    def height_px(self) -> int:
        """Height of the large picture."""
        ...

    def region(self, cut: Cut) -> Picture:
        """A part of it, BGR; `cut` lies within the picture."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of one camera. `picture_bgr` is (H, W, 3) uint8 and is not written to by anyone after it was yielded.

    `index` counts the source's frames from 0, dropped ones too. `luma` is a grey plane of any size with the same field of view,
    where the camera delivers one for nothing (the Y plane of a low-resolution stream); None otherwise. `main` is the large
    picture where the camera has one besides `picture_bgr`, which is then what the detector sees: same field of view, smaller.
    """

    camera: str
    index: int
    at_s: float
    wall_s: float
    picture_bgr: Picture
    luma: Picture | None = None
    main: MainPicture | None = None

    @property
    def width_px(self) -> int:
        """Width of the source picture."""
        return int(self.picture_bgr.shape[1]) if self.main is None else self.main.width_px

    @property
    def height_px(self) -> int:
        """Height of the source picture."""
        return int(self.picture_bgr.shape[0]) if self.main is None else self.main.height_px

    def region(self, cut: Cut) -> Picture:
        """A part of the source picture, BGR: not a copy where the picture is at hand, so not to be written to."""
        if self.main is not None:
            return self.main.region(cut)
        return self.picture_bgr[cut[1] : cut[3], cut[0] : cut[2]]


@dataclass(frozen=True, slots=True)
class Track:
    """One object followed through frames. `xyxy` is its last measured box, `seen` whether that was in the present frame.

    `id` only grows and is never used twice. `confirmed` tracks were measured often enough to be believed; rules act on no others.
    `stationary` ones have not moved for a while: they stay, `seen` or not, until they move or are known to be gone. `missing`:
    looked for in vain, in a place that does not look as it did.
    """

    id: int
    xyxy: Box
    score: float
    class_id: int
    label: str
    confirmed: bool
    seen: bool
    hits: int
    first_frame: int
    first_at_s: float
    last_frame: int
    last_at_s: float
    stationary: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Crop:
    """A cut-out of one frame as JPEG bytes without metadata. `box` is what was detected, `cut` what is shown of it."""

    kind: CropKind
    jpeg: bytes
    width_px: int
    height_px: int
    score: float
    quality: float
    frame: int
    at_s: float
    wall_s: float
    box: Box
    cut: Cut


@dataclass(frozen=True, slots=True)
class Still:
    """A picture that is no event's crop: JPEG bytes without metadata. `name` groups what belongs together (a debug session)."""

    purpose: StillPurpose
    name: str
    jpeg: bytes
    width_px: int
    height_px: int
    camera: str
    frame: int
    at_s: float
    wall_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A rule that fired: one visit of one object. The same `id` with a higher `revision` supersedes.

    `open` is true while the visit lasts, and stays true in the `end` update of a visit that the source's own end cut short.
    `score` and `box` are those of the best crop's frame (`best_frame`); `threshold` is the score that the label is reported from.
    `weight` is how many frames a recall sample stands for, None for all else.
    """

    id: str
    revision: int
    camera: str
    track: int
    label: str
    rule: str
    rule_kind: RuleKind
    zone: str | None
    start_frame: int
    start_s: float
    started_wall_s: float
    end_frame: int
    end_s: float
    ended_wall_s: float
    open: bool
    score: float
    threshold: float
    box: Box
    best_frame: int
    frame_width_px: int
    frame_height_px: int
    direction: str | None = None
    crops: tuple[Crop, ...] = field(default=())
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class EventUpdate:
    """What happened to an event: it started, has a better crop, or ended. Its event's `crops` are only the new ones."""

    kind: UpdateKind
    event: Event


def box_xywh(box: Box) -> tuple[float, float, float, float]:
    """A box as x, y, width, height: the form of the wire and of files that others read."""
    return (box[0], box[1], box[2] - box[0], box[3] - box[1])


def bbox_of(box: Sequence[float]) -> list[float]:
    """A box as files carry it: x, y, width, height in pixels, to a tenth."""
    x, y, width, height = box_xywh((box[0], box[1], box[2], box[3]))
    return [round(x, 1), round(y, 1), round(width, 1), round(height, 1)]
