"""What a tracker knows of its objects, as columns: one row an object. Pure numpy.

The motion model is a Kalman filter with constant velocity that fades (an object nobody sees is as likely to stop as to go on),
kept in body sizes (the mean of a box's width and height) so that near and far, person and car share one set of numbers, and in
seconds. Both axes share one covariance: the filter is blind to direction. Width and height are smoothed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import FloatArray, to_centres
from device_agent.vision.types import Track

FADE_S = 3.0
"""Time in which the expected velocity of an unseen object falls to a third."""
ANY_SPEED = 1.5
"""Standard deviation of what velocity a new object may have, body sizes a second (a walker's is about one)."""
SHOCK = 1.0
"""How much an object's velocity may change: standard deviation after one second, body sizes a second."""
MEASURED_WITHIN = 0.07
"""Standard deviation of a good box's centre, body sizes; a weak one's is up to three times that."""
SIZE_GAIN_S = 0.35
"""Width and height follow what is measured with this time constant."""


@dataclass(slots=True)
class Objects:
    """All tracks of one camera. `centre` (T, 4) is the filter's x, y, width, height; `box` (T, 4) what was measured last,
    `belief` (T,) the sum of all scores.

    `place`, `rate` and `both` (T,) are the covariance (position, velocity, mixed) in body sizes and seconds. `anchor` (T, 4) is
    where an object stands (left, top, right, bottom), `since_s` since when, `strayed_s` when it was first seen away from there
    (infinite while it is not), `missed_s` how long it was looked for in vain, `judged_s` when that was last counted,
    `held_s` when it was last measured or its place proved unchanged.
    """

    id: npt.NDArray[np.int64]
    class_id: npt.NDArray[np.int32]
    hits: npt.NDArray[np.int64]
    confirmed: npt.NDArray[np.bool_]
    stationary: npt.NDArray[np.bool_]
    score: FloatArray
    belief: FloatArray
    box: FloatArray
    centre: FloatArray
    velocity: FloatArray
    place: FloatArray
    rate: FloatArray
    both: FloatArray
    anchor: FloatArray
    first_frame: npt.NDArray[np.int64]
    last_frame: npt.NDArray[np.int64]
    first_at_s: npt.NDArray[np.float64]
    last_at_s: npt.NDArray[np.float64]
    since_s: npt.NDArray[np.float64]
    strayed_s: npt.NDArray[np.float64]
    missed_s: npt.NDArray[np.float64]
    judged_s: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.id)

    def only(self, rows: npt.NDArray[np.bool_]) -> "Objects":
        """Some of the rows."""
        return Objects(*(getattr(self, name)[rows] for name in COLUMNS))

    def and_new(self, newer: "Objects") -> "Objects":
        """These and others below them."""
        return Objects(*(np.concatenate((getattr(self, name), getattr(newer, name))) for name in COLUMNS))


COLUMNS = tuple(field.name for field in fields(Objects))


def born(ids: Sequence[int], boxes: FloatArray, scores: FloatArray, classes: npt.NDArray[np.int32], frame: int,
         at_s: float) -> Objects:  # fmt: skip
    """Rows of objects that were seen for the first time: boxes (N, 4), scores (N,), classes (N,)."""
    count = len(ids)
    at = np.full(count, at_s)
    return Objects(
        id=np.array(ids, np.int64),
        class_id=classes,
        hits=np.ones(count, np.int64),
        confirmed=np.zeros(count, np.bool_),
        stationary=np.zeros(count, np.bool_),
        score=scores,
        belief=scores.copy(),
        box=boxes,
        centre=to_centres(boxes),
        velocity=np.zeros((count, 2), np.float32),
        place=np.full(count, MEASURED_WITHIN**2, np.float32),
        rate=np.full(count, ANY_SPEED**2, np.float32),
        both=np.zeros(count, np.float32),
        anchor=boxes.copy(),
        first_frame=np.full(count, frame),
        last_frame=np.full(count, frame),
        first_at_s=at,
        last_at_s=at.copy(),
        since_s=at.copy(),
        strayed_s=np.full(count, np.inf),
        missed_s=np.zeros(count),
        judged_s=at.copy(),
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """Where objects should be now: centre (T, 4) px, velocity (T, 2) px/s, covariance (T,) as in `Objects`, size (T,) px."""

    centre: FloatArray
    velocity: FloatArray
    place: FloatArray
    rate: FloatArray
    both: FloatArray
    size: FloatArray


def expect(objects: Objects, at_s: float) -> Expected:
    """The filter's prediction. What stands still is expected where it stands, however long nobody looked."""
    age = (at_s - objects.last_at_s).astype(np.float32)
    age[objects.stationary & ~np.isfinite(objects.strayed_s)] = 0.0
    fade = np.exp(-age / np.float32(FADE_S))
    reach = np.float32(FADE_S) * (np.float32(1) - fade)
    centre = objects.centre.copy()
    centre[:, :2] += objects.velocity * reach[:, None]
    shock = np.float32(SHOCK**2) * age
    place = objects.place + 2 * reach * objects.both + reach * reach * objects.rate + shock * age * age / np.float32(3)
    np.maximum(place, np.float32(0.3 * MEASURED_WITHIN**2), out=place)
    both = fade * (objects.both + reach * objects.rate) + shock * age / np.float32(2)
    rate = np.minimum(fade * fade * objects.rate + shock, np.float32(ANY_SPEED**2))
    return Expected(centre, objects.velocity * fade[:, None], place, rate, both, sizes(centre))


def sizes(centres: FloatArray) -> FloatArray:
    """Body sizes (N,) px of (x, y, w, h)."""
    result: FloatArray = np.maximum((centres[:, 2] + centres[:, 3]) * np.float32(0.5), np.float32(1))
    return result


def blur(scores: FloatArray) -> FloatArray:
    """Variance (N,) of measured centres in body sizes²: the weaker the score, the less its box is worth."""
    spread: FloatArray = np.float32(MEASURED_WITHIN) * (np.float32(1) + np.float32(2) * (np.float32(1) - scores))
    return spread * spread


def measure(objects: Objects, expected: Expected, rows: npt.NDArray[np.int64], boxes: FloatArray, scores: FloatArray,
            frame: int, at_s: float) -> None:  # fmt: skip
    """Take boxes (N, 4) with scores (N,) as the new measurements of `rows` (N,)."""
    found = to_centres(boxes)
    centre, place, both = expected.centre[rows], expected.place[rows], expected.both[rows]
    spread = place + blur(scores)
    gain_place, gain_rate = place / spread, both / spread
    surprise = found[:, :2] - centre[:, :2]
    follow = np.float32(1) - np.exp(-(at_s - objects.last_at_s[rows]) / SIZE_GAIN_S).astype(np.float32)
    np.maximum(follow, np.float32(0.3), out=follow)
    centre[:, :2] += surprise * gain_place[:, None]
    centre[:, 2:] += (found[:, 2:] - centre[:, 2:]) * follow[:, None]
    objects.centre[rows] = centre
    objects.velocity[rows] = expected.velocity[rows] + surprise * gain_rate[:, None]
    objects.rate[rows] = expected.rate[rows] - gain_rate * both
    objects.place[rows] = place * (np.float32(1) - gain_place)
    objects.both[rows] = both * (np.float32(1) - gain_place)
    objects.box[rows], objects.score[rows] = boxes, scores
    objects.hits[rows] += 1
    objects.belief[rows] += scores
    objects.last_frame[rows], objects.last_at_s[rows] = frame, at_s
    objects.missed_s[rows] = 0.0


def as_tracks(objects: Objects, labels: Sequence[str], frame: int) -> list[Track]:
    """The rows as the rules take them; `frame` is the present one."""
    columns = (objects.id, objects.box, objects.score, objects.class_id, objects.confirmed, objects.hits, objects.first_frame,
               objects.first_at_s, objects.last_frame, objects.last_at_s, objects.stationary)  # fmt: skip
    return [
        Track(number, tuple(box), score, kind, labels[kind], sure, last == frame, hits, first, first_s, last, last_s, still)
        for number, box, score, kind, sure, hits, first, first_s, last, last_s, still in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]
