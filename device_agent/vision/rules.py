"""What rules see, what they are set to, and what they yield: moments, visits, crossings. Pure: all times come in with the frame.

All durations are measured on the frames' own clock (`at_s`); the wall's time decides the schedule alone.
"""

import math
from dataclasses import dataclass, field

from device_agent.vision.types import Box, RuleKind, Track
from device_agent.vision.zones import Line, Zone

SURE_SHARE, SURE_AFTER_S = 0.3, 4.0
"""Hands and shadows that a detector takes for people are gone after a second or two; who stays for twice that is there."""


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Times in seconds, distances in body sizes (mean of a box's width and height).

    `settle_s`: how much longer than the bridge a visit waits, so that a new track has time to be confirmed before it may be the
    continuation. `near` and `near_per_s`: how far a new track may be born from where the old one was last seen.
    `back`: who was on his way is not found so far (body sizes) behind where he was last seen. `rim_s`: who went out over the
    picture's rim is not found elsewhere than at that rim before so long.
    `still_after_s`: who does not leave his place for so long, under whatever id, stands still for the rules too.
    `stationary_bridge_s`: a visit of what stood still when it was lost goes on when something like it is found in its place,
    unless the picture showed that the place was empty. `stationary_memory_s`: after that too, no second event is raised there,
    not even after the camera was away.
    `same_place`: how far (body sizes) that may be, `same_size`: least ratio of widths and heights. `line_band`: half of the width
    of a line, in body sizes: whoever does not leave it has not crossed. `sure_share`: how far above its threshold a track's
    scores must lie, as a share of what is left to 1, to be believed at once (0: all are), `sure_after_s`: for how long it must be
    seen at its threshold and above to be believed without that (`sureness`).
    """

    bridge_s: float = 2.0
    settle_s: float = 1.5
    near: float = 1.0
    near_per_s: float = 0.75
    back: float = 0.5
    rim_s: float = 1.0
    still_after_s: float = 30.0
    stationary_bridge_s: float = 60.0
    stationary_memory_s: float = 900.0
    same_place: float = 0.12
    same_size: float = 0.8
    line_band: float = 0.15
    sure_share: float = SURE_SHARE
    sure_after_s: float = SURE_AFTER_S


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame as rules see it: its number, times, and size in pixels."""

    frame: int
    at_s: float
    wall_s: float
    width_px: int
    height_px: int


@dataclass(slots=True, eq=False)
class Visit:
    """One stay in one zone. `entered` and `last` are the first and the latest frame in which the object stood inside.

    `inside_from_s` is where the present stay without a way out began (None: out now). `admitted`: its score and size sufficed
    once, `sure`: its track was believed once. `rest_box` and `rest_s`: where it has been since when without leaving that place.
    `muted` visits raise nothing: their event was raised before the object was lost. `proven` is the latest frame that leaves no
    doubt that it was there: what stands still is believed to be there without being seen. `drift`: how it last
    moved, body sizes a second.
    """

    id: str
    zone: Zone
    track: int
    label: str
    entered: Moment
    last: Moment
    box: Box
    score: float
    born_s: float
    first_box: Box
    rest_box: Box
    rest_s: float
    inside_from_s: float | None
    settled: bool = False
    admitted: bool = False
    sure: bool = False
    raised: bool = False
    muted: bool = False
    held_back: bool = False
    stationary: bool = False
    proven: Moment | None = None
    drift: tuple[float, float] = (0.0, 0.0)
    former: int | None = None
    resumed: Moment | None = None

    @property
    def rule_kind(self) -> RuleKind:
        """A zone with a dwell time is a dwell rule."""
        return "dwell" if self.zone.dwell_s > 0 else "zone"


@dataclass(frozen=True, slots=True)
class Crossing:
    """A confirmed track crossed a line: first seen beyond it in the frame `crossed`, for sure in `counted`."""

    id: str
    line: Line
    track: Track
    direction: str
    crossed: Moment
    counted: Moment


@dataclass(frozen=True, slots=True)
class RuleStep:
    """What one frame brought: visits whose confirmed track is inside now, visits that became events, events that are over.

    `forgotten` are visits that ended before they became an event, `crossings` those that are events.
    """

    present: list[tuple[Visit, Track]] = field(default_factory=list)
    started: list[Visit] = field(default_factory=list)
    ended: list[Visit] = field(default_factory=list)
    forgotten: list[Visit] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)


def anchor_of(box: Box, now: Moment) -> tuple[float, float]:
    """The middle of a box's lower edge as fractions of the picture, cut off at its rim."""
    x, y = (box[0] + box[2]) / 2 / now.width_px, box[3] / now.height_px
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


def body_size(box: Box) -> float:
    """The mean of a box's width and height, px: what distances of people and things are measured in."""
    return (box[2] - box[0] + box[3] - box[1]) / 2


def body_distance(first: Box, second: Box) -> float:
    """Distance of two boxes' centres in body sizes."""
    gap_x = (first[0] + first[2] - second[0] - second[2]) / 2
    gap_y = (first[1] + first[3] - second[1] - second[3]) / 2
    return math.hypot(gap_x, gap_y) / max((body_size(first) + body_size(second)) / 2, 1e-3)


MOVING = 0.5
"""Body sizes a second from which somebody is on his way (a walker makes about one)."""
RIM_SHARE = 0.02
"""Share of the picture's width or height within which a box touches its rim."""


def drifted(drift: tuple[float, float], before: Box, box: Box, passed_s: float) -> tuple[float, float]:
    """How something moves (body sizes a second) after one more box, over about the last half second."""
    if passed_s <= 0:
        return drift
    size, share = max(body_size(box), 1e-3), min(1.0, passed_s / 0.5)
    across = (box[0] + box[2] - before[0] - before[2]) / 2 / size / passed_s
    down = (box[1] + box[3] - before[1] - before[3]) / 2 / size / passed_s
    return drift[0] + (across - drift[0]) * share, drift[1] + (down - drift[1]) * share


def way_leads(visit: Visit, born: Box, gap_s: float, settings: RuleSettings) -> bool:
    """Whether who was lost with `visit` may be who appeared at `born` after `gap_s`, as far as the way that he went tells."""
    across, down = visit.drift
    speed = math.hypot(across, down)
    if speed < MOVING:
        return True
    wide, high, box = visit.last.width_px, visit.last.height_px, visit.box
    for pace, before, after, rim in (
        (-across, box[0], born[0], wide * RIM_SHARE), (across, wide - box[2], wide - born[2], wide * RIM_SHARE),
        (-down, box[1], born[1], high * RIM_SHARE), (down, high - box[3], high - born[3], high * RIM_SHARE),
    ):  # fmt: skip
        if pace >= MOVING and before <= rim:
            if after <= rim:
                return True
            if gap_s < settings.rim_s:
                return False
    size = max((body_size(visit.box) + body_size(born)) / 2, 1e-3)
    gap_x = (born[0] + born[2] - visit.box[0] - visit.box[2]) / 2
    gap_y = (born[1] + born[3] - visit.box[1] - visit.box[3]) / 2
    return (gap_x * across + gap_y * down) / (speed * size) >= -settings.back
