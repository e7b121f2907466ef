"""A yard by day, dusk and night with walkers, carts and animals whose truth is known. The specification is SCENES.md.

`Scene(seed).frame(t_s)` is a film: motion is continuous, objects enter, cross or stay in the zone and leave. `sample(seed)` is
one picture for training and tests. All follows from seed and time; nothing else is read, no call changes a later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.rendered import films, sensor
from models.rendered.figures import OBJECTS, Look, Sprite, draw, random_look
from models.rendered.yard import (
    FAR_PX,
    HEIGHT_PX,
    MARGIN_PX,
    NEAR_PX,
    RELATIVE_HEIGHT,
    WIDTH_PX,
    Picture,
    Standing,
    Yard,
    draw_yard,
    lamp_light,
    shadow,
    stand,
    walker_height_px,
)

LABELS = ("person", "cart", "animal")
"""The classes, in the order of the models' class ids."""
ZONE = films.ZONE
"""The zone that films are made for: a polygon of (x, y) fractions of the picture, as a `--zone` file holds it."""
SHOWN_SEEDS = films.SHOWN_SEEDS
"""Seeds of films that show the built-in models at work without surprises."""
OCCLUDED_FROM = 0.15
"""An object counts as occluded when at least this share of it is hidden."""
HIDDEN_FROM = 0.65
"""An object of which more is hidden, or whose visible box is under 8 px on its longer side, is not part of the truth."""
LightChoice = Literal["day", "dusk", "night", "cycle"]


@dataclass(frozen=True)
class Truth:
    """One object in a picture: box of its visible part (x1, y1, x2, y2 in px), class, hidden share, track, ground point (px)."""

    box_px: tuple[float, float, float, float]
    label: str
    occlusion: float
    track_id: int
    ground_px: tuple[float, float]


@dataclass(frozen=True)
class Rendered:
    """A drawn picture, uint8 BGR (240, 320, 3), with its truth, its light's name and darkness (0 day – 1 night).

    `clutter_px` holds the boxes (x1, y1, x2, y2) of what stands there and is no object, hidden parts included.
    """

    picture_bgr: Picture
    truth: list[Truth]
    light: str
    darkness: float
    clutter_px: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True)
class Placed:
    """An object at one moment: class, look, ground point and height in px, where it faces, phase of its gait, track."""

    label: str
    look: Look
    x_px: float
    y_px: float
    height_px: float
    facing: int
    phase: float
    track_id: int


def _blend(canvas: Picture, sprite: Sprite) -> tuple[slice, slice, npt.NDArray[np.uint8]] | None:
    """Lay a sprite on the canvas; returns where it lies (rows, columns) and its alpha there, or None when it lies outside."""
    height, width = sprite.bgra.shape[:2]
    left, top = sprite.left_px + MARGIN_PX, sprite.top_px + MARGIN_PX
    x1, y1, x2, y2 = max(0, left), max(0, top), min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x1 >= x2 or y1 >= y2:
        return None
    part = sprite.bgra[y1 - top : y2 - top, x1 - left : x2 - left]
    alpha = part[:, :, 3]
    under = canvas[y1:y2, x1:x2]
    under[:] = (under * ((255 - alpha).astype(np.uint16))[:, :, None] // 255 + part[:, :, :3]).astype(np.uint8)
    return slice(y1, y2), slice(x1, x2), alpha


def _seen_box(owner: npt.NDArray[np.int16], index: int, area: npt.NDArray[np.bool_], rows: slice, columns: slice,
              shift_px: tuple[float, float]) -> tuple[tuple[float, float, float, float], float] | None:
    """The box of what is visible of object `index` in picture px, and its hidden share; None when too little is left."""
    visible = (owner[rows, columns] == index) & area
    total, count = int(area.sum()), int(visible.sum())
    if total == 0 or count < (1.0 - HIDDEN_FROM) * total:
        return None
    ys, xs = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    dx, dy = columns.start - MARGIN_PX + shift_px[0], rows.start - MARGIN_PX + shift_px[1]
    box = (max(0.0, float(xs[0]) + dx), max(0.0, float(ys[0]) + dy),
           min(float(WIDTH_PX), float(xs[-1]) + 1 + dx), min(float(HEIGHT_PX), float(ys[-1]) + 1 + dy))
    if max(box[2] - box[0], box[3] - box[1]) < 8 or min(box[2] - box[0], box[3] - box[1]) < 3:
        return None
    return box, 1.0 - count / total


def _sprite_box(sprite: Sprite, shift_px: tuple[float, float]) -> tuple[float, float, float, float]:
    """Where a whole sprite lies in the picture, the two pixels of margin around its canvas left out."""
    left, top = sprite.left_px + 2 + shift_px[0], sprite.top_px + 2 + shift_px[1]
    height, width = sprite.bgra.shape[:2]
    return left, top, left + width - 4, top + height - 4


def compose(yard: Yard, placed: list[Placed], extra: list[Standing], camera: sensor.Camera, lamp: npt.NDArray[np.float32],
            darkness: float, t_s: float, lean: float, rng: np.random.Generator) -> Rendered:
    """Draw the yard with its objects from far to near and photograph it; `lean` is where shadows fall (heights per height)."""
    canvas = yard.background_bgr.copy()
    depth = 0.42 * max(0.0, 1.0 - darkness * 1.4)
    for item in placed:
        width = 0.16 if item.label == "person" else 0.6
        shadow(canvas, item.x_px + MARGIN_PX, item.y_px + MARGIN_PX, item.height_px, width, lean, depth)
    owner = np.full(canvas.shape[:2], -1, np.int16)
    standing = (*yard.clutter, *extra)
    layers: list[tuple[float, Placed | None, Sprite]] = [(item.ground_y_px, None, item.sprite) for item in standing]
    for item in placed:
        sprite = draw(item.label, item.look, item.x_px, item.y_px, item.height_px, facing=item.facing, phase=item.phase)
        layers.append((item.y_px, item, sprite))
    drawn: list[tuple[int, Placed, npt.NDArray[np.bool_], slice, slice]] = []
    for index, (_, thing, sprite) in enumerate(sorted(layers, key=lambda layer: layer[0])):
        where = _blend(canvas, sprite)
        if where is None:
            continue
        rows, columns, alpha = where
        solid = alpha > 127
        owner[rows, columns][solid] = index
        if thing is not None:
            drawn.append((index, thing, solid, rows, columns))
    shift = sensor.shake_at(camera, rng, t_s)
    truth = []
    for index, thing, solid, rows, columns in drawn:
        seen = _seen_box(owner, index, solid, rows, columns, shift)
        if seen is not None:
            ground = (thing.x_px + shift[0], thing.y_px + shift[1])
            truth.append(Truth(seen[0], thing.label, seen[1], thing.track_id, ground))
    picture = sensor.expose(canvas, lamp, camera, darkness, t_s, shift, rng)
    clutter = tuple(_sprite_box(item.sprite, shift) for item in (*yard.clutter, *extra))
    return Rendered(picture, truth, sensor.light_name(darkness), darkness, clutter)


class Scene:
    """One yard, filmed without end. Frames may be asked for in any order; the same seed and time give the same picture."""

    def __init__(self, seed: int, *, light: LightChoice = "day") -> None:
        if light not in ("day", "dusk", "night", "cycle"):
            raise ValueError(f"light must be day, dusk, night or cycle, not {light!r}")
        self.seed, self.light = seed, light
        rng = np.random.default_rng((seed, 0))
        self._yard = draw_yard(rng)
        self._camera = sensor.random_camera(rng)
        self._lean = float(rng.uniform(-0.9, 0.9))
        self._lamp = lamp_light(self._yard.lamps_px)

    def darkness(self, t_s: float) -> float:
        """0 by day, 1 by night; a cycling scene alternates every `films.ACT_S` seconds while the yard is empty."""
        if self.light == "cycle":
            return films.cycle_darkness(t_s)
        return {"day": sensor.DAY, "dusk": sensor.DUSK, "night": sensor.NIGHT}[self.light]

    def frame(self, t_s: float) -> Rendered:
        """The picture and its truth `t_s` seconds after the film's start (0 or later)."""
        placed = [Placed(step.label, step.look, step.x_px, step.y_px, step.height_px, step.facing, step.phase, step.track_id)
                  for step in films.on_stage(self.seed, t_s)]
        return self._photograph(placed, t_s, 1)

    def plate(self, t_s: float) -> Rendered:
        """The same yard without any object, photographed with another shake and noise: what a background model would know."""
        return self._photograph([], t_s, 2)

    def _photograph(self, placed: list[Placed], t_s: float, salt: int) -> Rendered:
        rng = np.random.default_rng((self.seed, salt, round(t_s * 1000)))
        return compose(self._yard, placed, [], self._camera, self._lamp, self.darkness(t_s), t_s, self._lean, rng)


def _placements(rng: np.random.Generator) -> tuple[list[Placed], list[Standing]]:
    """Objects at random places, apart from each other or overlapping as chance has it, some behind an occluder."""
    placed: list[Placed] = []
    occluders: list[Standing] = []
    for track_id in range(1, 1 + int(rng.choice((0, 1, 2, 3, 4, 5, 6), p=(0.04, 0.14, 0.24, 0.24, 0.18, 0.1, 0.06)))):
        label = LABELS[int(rng.choice(3, p=(0.46, 0.26, 0.28)))]
        x, y = float(rng.uniform(8, WIDTH_PX - 8)), float(rng.uniform(FAR_PX, NEAR_PX))
        height = walker_height_px(y) * RELATIVE_HEIGHT[label] * float(rng.uniform(0.88, 1.15))
        phase = float(rng.uniform(0, 6.28)) if rng.random() < 0.75 else 0.0
        placed.append(Placed(label, random_look(rng), x, y, height, 1 if rng.random() < 0.5 else -1, phase, track_id))
        if rng.random() < 0.23:
            name = ("boards", "bush", "crate", "barrel", "post")[int(rng.integers(5))]
            reach = height * (0.16 if label == "person" else 0.6)
            beside, before = x + float(rng.uniform(-1, 1)) * reach, y + float(rng.uniform(1, 5))
            occluders.append(stand(rng, name, beside, before, float(rng.uniform(0.6, 0.9))))
    return placed, occluders


def _whole(rendered: Rendered, placed: list[Placed]) -> bool:
    """Whether every placed object is part of the truth: pictures for training and tests hold no half-counted objects."""
    return len(rendered.truth) == len(placed)


@dataclass(frozen=True)
class _Still:
    """All that one single picture is drawn from, so that it can be drawn again without its objects."""

    yard: Yard
    camera: sensor.Camera
    lamp: npt.NDArray[np.float32]
    lean: float
    darkness: float
    t_s: float


def sample(seed: int, *, light: Literal["day", "dusk", "night"] | None = None) -> Rendered:
    """One picture of a yard of its own; without `light`, day 40 %, dusk 20 %, night 40 % with every shade between."""
    return _draw_sample(seed, light)[0]


def sample_and_plate(seed: int, *, light: Literal["day", "dusk", "night"] | None = None) -> tuple[Rendered, Picture]:
    """`sample(seed)` and the same yard without its objects, photographed with another shake and noise."""
    rendered, still, occluders = _draw_sample(seed, light)
    rng = np.random.default_rng((seed, 8))
    plate = compose(still.yard, [], occluders, still.camera, still.lamp, still.darkness, still.t_s + 1.0, still.lean, rng)
    return rendered, plate.picture_bgr


def _draw_sample(seed: int, light: Literal["day", "dusk", "night"] | None) -> tuple[Rendered, _Still, list[Standing]]:
    rng = np.random.default_rng((seed, 7))
    yard, camera = draw_yard(rng), sensor.random_camera(rng)
    lamp, lean = lamp_light(yard.lamps_px), float(rng.uniform(-0.9, 0.9))
    chosen = light or ("day", "dusk", "night")[int(rng.choice(3, p=(0.4, 0.2, 0.4)))]
    low, high = {"day": (0.0, 0.2), "dusk": (0.35, 0.65), "night": (0.85, 1.0)}[chosen]
    still = _Still(yard, camera, lamp, lean, float(rng.uniform(low, high)), float(rng.uniform(0, 60)))
    for _ in range(12):
        placed, occluders = _placements(rng)
        rendered = compose(yard, placed, occluders, camera, lamp, still.darkness, still.t_s, lean, rng)
        if _whole(rendered, placed):
            return rendered, still, occluders
    return compose(yard, [], [], camera, lamp, still.darkness, still.t_s, lean, rng), still, []


assert set(LABELS) == set(OBJECTS)
