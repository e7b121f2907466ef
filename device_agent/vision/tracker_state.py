"""What a tracker knows of its objects. Pure Python floats: a camera follows a handful of objects, and for so few a numpy call
costs more than the sum that it works out.

The motion model is a Kalman filter with constant velocity that fades (an object nobody sees is as likely to stop as to go on),
kept in body sizes (the mean of a box's width and height) so that near and far, person and car share one set of numbers, and in
seconds. Both axes share one covariance: the filter is blind to direction. Width and height are smoothed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from device_agent.vision.types import Box, Track

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


@dataclass(slots=True, eq=False)
class Body:
    """One object. `box` is what was measured last, `score` its score, `belief` the sum of all scores.

    `x`, `y`, `width`, `height` are the filter's (px), `across` and `down` its velocity (px/s); `place`, `rate` and `both` the
    covariance (position, velocity, mixed) in body sizes and seconds. `anchor` is where it stands, `since_s` since when,
    `strayed_s` when it was first seen away from there (infinite while it is not), `missed_s` how long it was looked for in vain,
    `judged_s` when that was last counted, `left` whether its place was seen to look different then, with nobody before it.
    """

    id: int
    class_id: int
    box: Box
    score: float
    first_frame: int
    first_at_s: float
    last_frame: int
    last_at_s: float
    belief: float
    x: float
    y: float
    width: float
    height: float
    anchor: Box
    since_s: float
    judged_s: float
    across: float = 0.0
    down: float = 0.0
    place: float = MEASURED_WITHIN**2
    rate: float = ANY_SPEED**2
    both: float = 0.0
    hits: int = 1
    confirmed: bool = False
    stationary: bool = False
    strayed_s: float = math.inf
    missed_s: float = 0.0
    left: bool = False


def born(number: int, box: Box, score: float, class_id: int, frame: int, at_s: float) -> Body:
    """An object that was seen for the first time."""
    left, top, right, bottom = box
    x, y, width, height = (left + right) * 0.5, (top + bottom) * 0.5, right - left, bottom - top
    return Body(number, class_id, box, score, frame, at_s, frame, at_s, score, x, y, width, height, box, at_s, at_s)


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """Where one object should be now: centre, width and height (px), velocity (px/s), covariance as in `Body`, size (px)."""

    x: float
    y: float
    width: float
    height: float
    across: float
    down: float
    place: float
    rate: float
    both: float
    size: float


def expect(body: Body, at_s: float) -> Expected:
    """The filter's prediction. What stands still is expected where it stands, however long nobody looked."""
    age = 0.0 if body.stationary and body.strayed_s == math.inf else at_s - body.last_at_s
    fade = math.exp(-age / FADE_S)
    reach = FADE_S * (1.0 - fade)
    shock = SHOCK**2 * age
    place = body.place + 2 * reach * body.both + reach * reach * body.rate + shock * age * age / 3
    return Expected(
        body.x + body.across * reach, body.y + body.down * reach, body.width, body.height, body.across * fade, body.down * fade,
        max(place, 0.3 * MEASURED_WITHIN**2), min(fade * fade * body.rate + shock, ANY_SPEED**2),
        fade * (body.both + reach * body.rate) + shock * age / 2, max((body.width + body.height) * 0.5, 1.0),
    )  # fmt: skip


def stepped(expected: Expected, box: Box) -> Expected:
    """What stood still was found a step away: it is there now, and may have any speed."""
    left, top, right, bottom = box
    return replace(
        expected, x=(left + right) * 0.5, y=(top + bottom) * 0.5, across=0.0, down=0.0, place=MEASURED_WITHIN**2,
        rate=ANY_SPEED**2, both=0.0,
    )  # fmt: skip


def blur(score: float) -> float:
    """Variance of a measured centre in body sizes²: the weaker the score, the less its box is worth."""
    spread = MEASURED_WITHIN * (1.0 + 2.0 * (1.0 - score))
    return spread * spread


def measure(body: Body, expected: Expected, box: Box, score: float, frame: int, at_s: float) -> None:
    """Take a box as the new measurement of an object."""
    left, top, right, bottom = box
    place, both = expected.place, expected.both
    spread = place + blur(score)
    gain_place, gain_rate = place / spread, both / spread
    surprise_x, surprise_y = (left + right) * 0.5 - expected.x, (top + bottom) * 0.5 - expected.y
    follow = max(1.0 - math.exp((body.last_at_s - at_s) / SIZE_GAIN_S), 0.3)
    body.x, body.y = expected.x + surprise_x * gain_place, expected.y + surprise_y * gain_place
    body.width = expected.width + (right - left - expected.width) * follow
    body.height = expected.height + (bottom - top - expected.height) * follow
    body.across, body.down = expected.across + surprise_x * gain_rate, expected.down + surprise_y * gain_rate
    body.rate = expected.rate - gain_rate * both
    body.place, body.both = place * (1.0 - gain_place), both * (1.0 - gain_place)
    body.box, body.score = box, score
    body.hits += 1
    body.belief += score
    body.last_frame, body.last_at_s, body.missed_s, body.left = frame, at_s, 0.0, False


def as_tracks(bodies: Iterable[Body], labels: Sequence[str], frame: int) -> list[Track]:
    """Objects as the rules take them; `frame` is the present one."""
    return [
        Track(
            body.id, body.box, body.score, body.class_id, labels[body.class_id], body.confirmed, body.last_frame == frame,
            body.hits, body.first_frame, body.first_at_s, body.last_frame, body.last_at_s, body.stationary,
            body.missed_s > 0.0,
        )
        for body in bodies
    ]  # fmt: skip
