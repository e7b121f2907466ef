"""Crowds whose every step is known, and a detector that makes the mistakes of real ones. Pure: all is drawn from the seed.

People walk, run, stop, turn and go in pairs through a picture of 1280×720 px, in front of and behind each other and behind
pillars. The detector's score falls with what is hidden of a body and wanders slowly, so that whole bodies turn weak or vanish for
a while; boxes shake, shrink to what is seen, swallow each other (suppression), come twice, and appear where nobody is.
The world is the same at every rate of frames; only the moments at which it is looked at, and the detector's dice, differ.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
WIDTH_PX, HEIGHT_PX = 1280.0, 720.0
TICKS_PER_S = 30
DURATION_S = 24.0
SEEN_FROM = 0.25
"""Share of a body that must be visible for it to count: less is neither owed nor punished."""
LEAST_SCORE = 0.15
SUPPRESSED_FROM_IOU = 0.6


@dataclass(frozen=True)
class CrowdFrame:
    """One look: true ids (N,), boxes (N, 4) px and whether they count (N,); detections (M, 4) with scores (M,)."""

    at_s: float
    ids: npt.NDArray[np.int64]
    truth: Floats
    counts: npt.NDArray[np.bool_]
    boxes: Floats
    scores: Floats


@dataclass(frozen=True)
class _Walker:
    """One person's way: tick of birth, feet (T, 2) px and the slow wandering of the detector's opinion (T,)."""

    id: int
    born: int
    feet: Floats
    mood: Floats
    drift: Floats
    build: float


def crowd(seed: int, fps: int) -> list[CrowdFrame]:
    """The frames of one crowd, looked at `fps` times a second; `fps` divides 30."""
    if TICKS_PER_S % fps:
        raise ValueError(f"fps must divide {TICKS_PER_S}, not {fps}")
    world = np.random.default_rng((seed, 1))
    walkers = _walkers(world)
    pillars = [(float(world.uniform(150, 1130)), float(world.uniform(30, 70)), float(world.uniform(380, 620)))
               for _ in range(int(world.integers(2, 5)))]  # fmt: skip
    clutter = _clutter(world)
    dice = np.random.default_rng((seed, 2, fps))
    ticks = range(0, round(DURATION_S * TICKS_PER_S), TICKS_PER_S // fps)
    return [_look(walkers, pillars, clutter, tick, dice) for tick in ticks]


def height_px(y: Floats | float) -> Floats | float:
    """How tall somebody is whose feet stand at y: 50 px far away, 240 px near."""
    return 50.0 + (np.clip(y, 260.0, 700.0) - 260.0) / 440.0 * 190.0


def _wander(rng: np.random.Generator, count: int, time_s: float, sigma: float, columns: int = 1) -> Floats:
    """A random process (count, columns) that forgets itself within `time_s`."""
    keep = np.exp(-1.0 / (TICKS_PER_S * time_s))
    shocks = rng.normal(0.0, sigma * np.sqrt(1 - keep * keep), (count, columns))
    values = np.empty((count, columns))
    value = rng.normal(0.0, sigma, columns)
    for tick in range(count):
        value = value * keep + shocks[tick]
        values[tick] = value
    return values


def _walkers(rng: np.random.Generator) -> list[_Walker]:
    """Everybody who ever is in the picture: some from the start, others come in from the sides or from doors far away."""
    wanted = int(rng.integers(5, 17))
    total = round(DURATION_S * TICKS_PER_S)
    births = [0] * wanted
    tick = 0.0
    while (tick := tick + float(rng.exponential(TICKS_PER_S * 12.0 / wanted))) < total - TICKS_PER_S:
        births.append(int(tick))
    walkers: list[_Walker] = []
    for born in births:
        start, heading = _entrance(rng, born == 0)
        speed = float(rng.uniform(1.5, 2.2)) if rng.random() < 0.1 else float(np.clip(rng.normal(0.8, 0.2), 0.3, 1.2))
        feet = _way(rng, start, heading, speed, total - born)
        company = [feet]
        if rng.random() < 0.25:
            aside = np.array([0.5, 0.08]) * float(height_px(start[1])) * rng.choice((-1.0, 1.0))
            company.append(feet + aside + _wander(rng, len(feet), 1.5, 6.0, 2))
        for way in company:
            walkers.append(_Walker(len(walkers) + 1, born, way, _wander(rng, len(way), 0.4, 0.12)[:, 0],
                                   _wander(rng, len(way), 0.3, 0.02, 4), float(rng.uniform(0.9, 1.1))))  # fmt: skip
    return walkers


def _entrance(rng: np.random.Generator, inside: bool) -> tuple[Floats, float]:
    """Where somebody starts and which way he goes (radians, 0 to the right)."""
    if inside:
        return np.array([rng.uniform(100, 1180), rng.uniform(280, 700)]), float(rng.choice((0.0, np.pi)) + rng.normal(0, 0.5))
    if rng.random() < 0.2:
        return np.array([rng.uniform(200, 1080), 262.0]), float(rng.uniform(0.6, 2.5))
    left = rng.random() < 0.5
    place = np.array([-30.0 if left else WIDTH_PX + 30.0, rng.uniform(290, 700)])
    return place, (0.0 if left else np.pi) + float(rng.normal(0, 0.3))


def _way(rng: np.random.Generator, start: Floats, heading: float, speed: float, ticks: int) -> Floats:
    """Feet at each tick, until the picture is left; speed in body heights a second."""
    feet, place, pace = [], start.copy(), speed
    turns = _wander(rng, ticks, 2.0, 0.35)[:, 0]
    rest, wanted = 0, speed
    for tick in range(ticks):
        if rest > 0:
            rest -= 1
            if rest == 0:
                wanted, heading = speed, heading + (np.pi if rng.random() < 0.25 else 0.0)
        elif rng.random() < 0.05 / TICKS_PER_S:
            rest, wanted = int(rng.uniform(1.0, 6.0) * TICKS_PER_S), 0.0
        pace += (wanted - pace) / (0.3 * TICKS_PER_S)
        angle = heading + turns[tick]
        step = pace * float(height_px(place[1])) / TICKS_PER_S
        place = place + np.array([np.cos(angle), 0.35 * np.sin(angle)]) * step
        place[1] = np.clip(place[1], 262.0, 712.0)
        feet.append(place)
        if tick > TICKS_PER_S and not -60.0 < place[0] < WIDTH_PX + 60.0:
            break
    return np.array(feet)


def _clutter(rng: np.random.Generator) -> list[tuple[Floats, npt.NDArray[np.bool_]]]:
    """Places that are taken for a person now and then: box, and at which ticks."""
    total, found = round(DURATION_S * TICKS_PER_S), []
    for _ in range(int(rng.integers(1, 4))):
        x, y = float(rng.uniform(80, 1200)), float(rng.uniform(300, 690))
        tall = float(height_px(y)) * float(rng.uniform(0.6, 1.0))
        on = np.zeros(total, np.bool_)
        tick = 0.0
        while (tick := tick + float(rng.exponential(15.0 * TICKS_PER_S))) < total:
            on[int(tick) : int(tick + rng.exponential(0.8 * TICKS_PER_S)) + 1] = True
        found.append((np.array([x - tall * 0.2, y - tall, x + tall * 0.2, y]), on))
    return found


def _look(walkers: list[_Walker], pillars: list[tuple[float, float, float]], clutter: list[tuple[Floats, npt.NDArray[np.bool_]]],
          tick: int, dice: np.random.Generator) -> CrowdFrame:  # fmt: skip
    """What is there, and what the detector makes of it."""
    here = [walker for walker in walkers if walker.born <= tick < walker.born + len(walker.feet)]
    feet = np.array([walker.feet[tick - walker.born] for walker in here]).reshape(-1, 2)
    tall = height_px(feet[:, 1]) * np.array([walker.build for walker in here])
    boxes = np.stack([feet[:, 0] - 0.2 * tall, feet[:, 1] - tall, feet[:, 0] + 0.2 * tall, feet[:, 1]], axis=1)
    visible, seen = _visible(boxes, feet[:, 1], pillars)
    kept = visible > 0.0
    clipped = np.clip(boxes, 0.0, [WIDTH_PX, HEIGHT_PX, WIDTH_PX, HEIGHT_PX])
    found, scores = [], []
    for index in np.flatnonzero(kept):
        walker, size = here[index], tall[index]
        age = tick - walker.born
        quality = 0.83 - 0.85 * max(0.0, 0.85 - visible[index]) - (0.1 if size < 70 else 0.0)
        quality += walker.mood[age] + dice.normal(0, 0.05)
        if quality < LEAST_SCORE or dice.random() < 0.02:
            continue
        exact = seen[index] if visible[index] < 0.75 and dice.random() < 0.7 else clipped[index]
        shake = (walker.drift[age] + dice.normal(0, 0.02, 4)) * np.array([1.0, 1.2, 1.0, 1.2]) * size
        found.append(exact + shake)
        scores.append(min(quality, 0.98))
        if dice.random() < 0.03:
            found.append(np.array([exact[0], exact[1], exact[2], exact[1] + 0.45 * (exact[3] - exact[1])]) + shake)
            scores.append(max(LEAST_SCORE, quality - float(dice.uniform(0.05, 0.4))))
    for box, on in clutter:
        if on[tick] and dice.random() < 0.8:
            found.append(box + dice.normal(0, 0.03, 4) * (box[3] - box[1]))
            scores.append(float(dice.uniform(0.25, 0.65)))
    for _ in range(int(dice.poisson(0.12))):
        x, y = float(dice.uniform(20, 1260)), float(dice.uniform(280, 715))
        size = float(height_px(y)) * float(dice.uniform(0.4, 1.2))
        found.append(np.array([x - size * 0.2, y - size, x + size * 0.2, y]))
        scores.append(float(LEAST_SCORE + 0.5 * dice.beta(1.2, 2.0)))
    detections, confidence = _suppress(np.array(found).reshape(-1, 4), np.array(scores))
    ids = np.array([walker.id for walker in here], np.int64)
    return CrowdFrame(tick / TICKS_PER_S, ids[kept], clipped[kept], visible[kept] >= SEEN_FROM, detections, confidence)


def _visible(boxes: Floats, feet_y: Floats, pillars: list[tuple[float, float, float]]) -> tuple[Floats, Floats]:
    """The visible share of each body (N,), and the box around what is visible (N, 4), by a grid of points in each box."""
    across, down = (np.arange(6) + 0.5) / 6, (np.arange(10) + 0.5) / 10
    grid_x, grid_y = (grid.ravel() for grid in np.meshgrid(across, down))
    side = boxes[:, 2:] - boxes[:, :2]
    x, y = boxes[:, :1] + side[:, :1] * grid_x, boxes[:, 1:2] + side[:, 1:] * grid_y
    free = (x >= 0) & (x < WIDTH_PX) & (y >= 0) & (y < HEIGHT_PX)
    for left, width, base in pillars:
        free &= ~((x >= left) & (x < left + width) & (y < base) & (feet_y < base)[:, None])
    for index in range(len(boxes)):
        left, top, right, bottom = boxes[index]
        thin = 0.1 * (right - left)
        behind = (feet_y < feet_y[index])[:, None]
        free &= ~(behind & (x >= left + thin) & (x < right - thin) & (y >= top) & (y < bottom))
    seen = np.zeros_like(boxes)
    for index in np.flatnonzero(free.any(axis=1)):
        near, mask = side[index] / [12, 20], free[index]
        seen[index] = [x[index, mask].min() - near[0], y[index, mask].min() - near[1],
                       x[index, mask].max() + near[0], y[index, mask].max() + near[1]]  # fmt: skip
    return free.mean(axis=1), seen


def _suppress(boxes: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """What a detector's own suppression leaves: of two boxes that overlap much the better one."""
    kept: list[int] = []
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for index in np.argsort(-scores, kind="stable"):
        low, high = np.maximum(boxes[kept, :2], boxes[index, :2]), np.minimum(boxes[kept, 2:], boxes[index, 2:])
        shared = np.prod(np.maximum(high - low, 0.0), axis=1)
        if not np.any(shared > SUPPRESSED_FROM_IOU * (area[kept] + area[index] - shared)):
            kept.append(int(index))
    return boxes[kept], scores[kept]
