"""The film's choreography: who is in the yard when, as a function of seed and time. Pure; drawn by `scenes`.

Time is cut into acts of ten seconds. In each the yard is empty at both ends; in between one or two persons walk into the zone,
stay there for one and a half to three seconds and leave, and up to three others cross the yard without stopping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.rendered.figures import Look, random_look
from models.rendered.yard import RELATIVE_HEIGHT, WIDTH_PX, walker_height_px

ACT_S = 10.0
TRANSITION_S = 0.6
"""A cycling film's light changes within this time around each act's end, when nobody is there."""
SHOWN_SEEDS = (1, 10, 11, 6)
"""Films that release 1 sees well by day and by night, with hardly a false alarm: the first three are the demo's."""
ZONE = ((0.34, 0.42), (0.66, 0.42), (0.72, 1.0), (0.28, 1.0))
ZONE_X_PX = (0.40 * WIDTH_PX, 0.60 * WIDTH_PX)
_OUTSIDE_PX = 42.0


@dataclass(frozen=True)
class Part:
    """One object's way through an act: from x0 to the stop at x1, a stay, on to x2; times in s from the act's start, x in px."""

    label: str
    look: Look
    track_id: int
    start_s: float
    x_px: tuple[float, float, float]
    y_px: tuple[float, float]
    speed_px_s: float
    stay_s: float
    scale: float

    @property
    def arrive_s(self) -> float:
        """When it reaches its stop."""
        return self.start_s + abs(self.x_px[1] - self.x_px[0]) / self.speed_px_s

    @property
    def gone_s(self) -> float:
        """When it has left the picture."""
        return self.arrive_s + self.stay_s + abs(self.x_px[2] - self.x_px[1]) / self.speed_px_s


@dataclass(frozen=True)
class Step:
    """Where an object is at one moment: ground point and height in px, where it faces, phase of its gait."""

    label: str
    look: Look
    track_id: int
    x_px: float
    y_px: float
    height_px: float
    facing: int
    phase: float


def cycle_darkness(t_s: float) -> float:
    """Darkness of a cycling film: even acts by day (0), odd acts by night (1), a short dusk between."""
    act, inside = divmod(t_s, ACT_S)
    night = int(act) % 2
    to_end = ACT_S - inside
    if to_end < TRANSITION_S / 2:
        share = 0.5 - to_end / TRANSITION_S
    elif inside < TRANSITION_S / 2 and act > 0:
        share = 0.5 + inside / TRANSITION_S
        night = 1 - night
    else:
        return float(night)
    return share if night == 0 else 1.0 - share


def _crossing(rng: np.random.Generator, label: str, track_id: int, start_s: float, end_s: float) -> Part:
    """An object that crosses the yard without a stop, fast enough to be gone in time."""
    ends = (-_OUTSIDE_PX, WIDTH_PX + _OUTSIDE_PX)
    way = ends if rng.random() < 0.5 else ends[::-1]
    y = float(rng.uniform(100, 226))
    needed = (ends[1] - ends[0]) / (end_s - start_s)
    return Part(label, random_look(rng), track_id, start_s, (way[0], (way[0] + way[1]) / 2, way[1]),
                (y, y + float(rng.uniform(-12, 6))), max(float(rng.uniform(58, 92)), needed), 0.0, float(rng.uniform(0.9, 1.12)))


def _visiting(rng: np.random.Generator, track_id: int, start_s: float, end_s: float) -> Part:
    """A person that walks into the zone, stays and leaves, often the way it came."""
    left, right = -_OUTSIDE_PX / 2, WIDTH_PX + _OUTSIDE_PX / 2
    first, last = (left, right) if rng.random() < 0.5 else (right, left)
    if rng.random() < 0.35:
        last = first
    stop = float(rng.uniform(*ZONE_X_PX))
    stay = float(rng.uniform(1.6, 2.8))
    y = float(rng.uniform(132, 222))
    distance = abs(stop - first) + abs(last - stop)
    needed = distance / (end_s - start_s - stay)
    return Part("person", random_look(rng), track_id, start_s, (first, stop, last), (y, y + float(rng.uniform(-8, 6))),
                max(float(rng.uniform(62, 84)), needed), stay, float(rng.uniform(0.92, 1.1)))


@lru_cache(maxsize=64)
def act_parts(seed: int, act: int) -> tuple[Part, ...]:
    """Everybody's way through one act of one film."""
    rng = np.random.default_rng((seed, 3, act))
    first_id = act * 8 + 1
    parts = [_visiting(rng, first_id, float(rng.uniform(0.7, 1.4)), 9.0)]
    if rng.random() < 0.6:
        parts.append(_visiting(rng, first_id + 1, float(rng.uniform(1.6, 2.6)), 9.2))
    for extra in range(int(rng.integers(1, 4))):
        label = ("cart", "animal", "person")[int(rng.choice(3, p=(0.4, 0.4, 0.2)))]
        parts.append(_crossing(rng, label, first_id + 2 + extra, float(rng.uniform(0.7, 3.4)), 9.2))
    return tuple(parts)


def _step(part: Part, at_s: float) -> Step:
    """One object at a time of its act between its start and its end."""
    x0, x1, x2 = part.x_px
    if at_s < part.arrive_s:
        walked, x = at_s - part.start_s, x0 + math.copysign((at_s - part.start_s) * part.speed_px_s, x1 - x0)
        facing, phase = int(math.copysign(1, x1 - x0)), walked * part.speed_px_s / 5.0
    elif at_s < part.arrive_s + part.stay_s:
        x, facing, phase = x1, int(math.copysign(1, x1 - x0)), 0.35 * math.sin(2.2 * (at_s - part.arrive_s))
    else:
        walked = at_s - part.arrive_s - part.stay_s
        x, facing = x1 + math.copysign(walked * part.speed_px_s, x2 - x1), int(math.copysign(1, x2 - x1))
        phase = walked * part.speed_px_s / 5.0
    share = (at_s - part.start_s) / (part.gone_s - part.start_s)
    y = part.y_px[0] + (part.y_px[1] - part.y_px[0]) * share
    height = walker_height_px(y) * RELATIVE_HEIGHT[part.label] * part.scale
    return Step(part.label, part.look, part.track_id, x, y, height, facing, phase)


def on_stage(seed: int, t_s: float) -> list[Step]:
    """Who is in the yard `t_s` seconds after the film's start, and where."""
    act = int(t_s // ACT_S)
    at_s = t_s - act * ACT_S
    return [_step(part, at_s) for part in act_parts(seed, act) if part.start_s <= at_s < part.gone_s]
