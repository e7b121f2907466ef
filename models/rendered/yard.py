"""The empty yard: sky or wall, ground with texture, painted lines, stains and distant clutter, all from one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.rendered.figures import CLUTTER, Look, Sprite, draw, random_look, shade

WIDTH_PX, HEIGHT_PX = 320, 240
MARGIN_PX = 8
"""The yard is drawn this much larger on every side, so that the shaking camera never sees an edge."""
HORIZON_PX = 62
FAR_PX, NEAR_PX = 100, 234
"""The ground line (picture y) of the farthest and nearest place where something may stand."""

Picture = npt.NDArray[np.uint8]
RELATIVE_HEIGHT = {"person": 1.0, "cart": 0.62, "animal": 0.5, "coat_on_post": 0.9, "post": 0.8, "crate": 0.5, "barrel": 0.55,
                   "sawhorse": 0.5, "bush": 0.55, "boards": 0.75}
"""Height of each thing relative to a walker at the same place."""


def walker_height_px(ground_y_px: float) -> float:
    """How tall a walker appears whose feet are at this picture y: grows linearly from the horizon to the lower edge."""
    return 12.0 + 0.4 * (ground_y_px - HORIZON_PX)


@dataclass(frozen=True)
class Standing:
    """A piece of clutter that stands in the yard: its sprite and its ground line (px), which orders what hides what."""

    sprite: Sprite
    ground_y_px: float


@dataclass(frozen=True)
class Yard:
    """What never moves: the background (uint8 BGR, with margin), the clutter from far to near, lamp places (x, y) in px."""

    background_bgr: Picture
    clutter: tuple[Standing, ...]
    lamps_px: tuple[tuple[float, float], ...]


def _smooth_noise(rng: np.random.Generator, width: int, height: int, cell_px: int) -> npt.NDArray[np.float32]:
    """Cloudy noise of about -1 to 1 with features of `cell_px`."""
    coarse = rng.standard_normal((height // cell_px + 2, width // cell_px + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _ground(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """The ground's colour field: gravel, asphalt, sand or grass with clouds, stains and grain."""
    tones = ((105, 112, 116), (92, 96, 98), (110, 140, 158), (70, 112, 98), (128, 132, 134))
    tone = np.array(tones[int(rng.integers(len(tones)))], np.float32) * np.float32(rng.uniform(0.8, 1.2))
    ground = np.tile(tone, (height, width, 1))
    for strength, cell_px in ((9, 48), (5, 12), (4, 3)):
        ground += strength * _smooth_noise(rng, width, height, cell_px)[:, :, None]
    return np.asarray(ground * np.linspace(0.86, 1.08, height, dtype=np.float32)[:, None, None], np.float32)


def _wall(rng: np.random.Generator, picture: Picture, horizon: int) -> None:
    """Sky with a building or a fence behind the yard."""
    width = picture.shape[1]
    sky = np.array((205, 190, 172), np.float32) * np.float32(rng.uniform(0.8, 1.1))
    picture[:horizon] = np.clip(sky, 0, 255).astype(np.uint8)
    tone = int(rng.integers(70, 170))
    wall = (tone, int(tone * rng.uniform(0.9, 1.1)), int(tone * rng.uniform(0.95, 1.25)))
    top = int(rng.integers(0, 26))
    start, end = (0, width) if rng.random() < 0.5 else sorted(int(v) for v in rng.integers(-40, width + 40, 2))
    cv2.rectangle(picture, (start, top), (end, horizon), wall, -1)
    for x in range(start + int(rng.integers(8, 30)), end - 20, int(rng.integers(30, 60))):
        cv2.rectangle(picture, (x, top + 10), (x + 14, top + 30), shade(wall, rng.uniform(0.4, 1.4)), -1)
    if rng.random() < 0.6:
        fence = shade((90, 110, 130), rng.uniform(0.5, 1.3))
        high = horizon - int(rng.integers(14, 30))
        for x in range(0, width, int(rng.integers(7, 14))):
            cv2.line(picture, (x, horizon), (x, high), fence, 1 + int(rng.random() < 0.4))
        cv2.line(picture, (0, high + 4), (width, high + 4), fence, 1)


def _marks(rng: np.random.Generator, picture: Picture, horizon: int) -> None:
    """Painted lines, cracks, drain covers and puddles on the ground."""
    height, width = picture.shape[:2]
    for _ in range(int(rng.integers(0, 4))):
        tone = int(rng.integers(120, 215))
        start = (int(rng.integers(0, width)), int(rng.integers(horizon, height)))
        end = (int(rng.integers(0, width)), int(rng.integers(horizon, height)))
        cv2.line(picture, start, end, (tone, tone, tone), int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 7))):
        centre = (int(rng.integers(0, width)), int(rng.integers(horizon + 12, height)))
        radii = (int(rng.integers(6, 30)), int(rng.integers(2, 9)))
        under = picture[centre[1], centre[0]].astype(float) * rng.uniform(0.55, 1.3)
        tone_b, tone_g, tone_r = (int(np.clip(v, 0, 255)) for v in under)
        cv2.ellipse(picture, centre, radii, 0, 0, 360, (tone_b, tone_g, tone_r), -1, cv2.LINE_AA)


def stand(rng: np.random.Generator, name: str, x_px: float, ground_y_px: float, scale: float = 1.0) -> Standing:
    """Clutter `name` at a place, as tall as the place demands."""
    height = walker_height_px(ground_y_px) * RELATIVE_HEIGHT[name] * scale * float(rng.uniform(0.85, 1.15))
    look = random_look(rng)
    if name in ("crate", "barrel", "boards", "sawhorse"):
        look = Look((78, 108, 140) if rng.random() < 0.5 else look.main, look.second, look.skin, look.build, look.variant)
    facing = 1 if rng.random() < 0.5 else -1
    return Standing(draw(name, look, x_px, ground_y_px, height, facing=facing), ground_y_px)


def draw_yard(rng: np.random.Generator) -> Yard:
    """The yard of one seed. Clutter keeps to no plan: some of it stands in the walkers' way and hides them."""
    width, height = WIDTH_PX + 2 * MARGIN_PX, HEIGHT_PX + 2 * MARGIN_PX
    horizon = HORIZON_PX + MARGIN_PX + int(rng.integers(-6, 7))
    picture = np.clip(_ground(rng, width, height), 0, 255).astype(np.uint8)
    _wall(rng, picture, horizon)
    _marks(rng, picture, horizon)
    names = list(CLUTTER)
    clutter = []
    for _ in range(int(rng.integers(4, 9))):
        y = float(rng.uniform(HORIZON_PX + 16, NEAR_PX + 4))
        clutter.append(stand(rng, names[int(rng.integers(len(names)))], float(rng.uniform(4, WIDTH_PX - 4)), y))
    lamps = tuple((float(rng.uniform(40, 280)), float(rng.uniform(95, 190))) for _ in range(int(rng.integers(1, 4))))
    return Yard(picture, tuple(sorted(clutter, key=lambda item: item.ground_y_px)), lamps)


def lamp_light(lamps_px: tuple[tuple[float, float], ...]) -> npt.NDArray[np.float32]:
    """How much of the lamps' light falls on each pixel, 0 to about 1, shape (240, 320) without margin."""
    light = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    ys, xs = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    for x, y in lamps_px:
        light += np.exp(-(((xs - x) / 62) ** 2 + ((ys - y) / 44) ** 2))
    return np.minimum(light, 1.0)


def shadow(background: Picture, x_px: float, y_px: float, height_px: float, width: float, lean: float, depth: float) -> None:
    """Darken the ground where a thing's shadow falls: an ellipse that leans with the sun; `depth` 0 draws nothing."""
    if depth <= 0.02:
        return
    length = height_px * (0.3 + abs(lean))
    centre = (round(x_px + 0.6 * lean * height_px), round(y_px))
    radii = (max(2, round(max(length * 0.62, width * height_px))), max(1, round(0.075 * height_px)))
    left, right = max(0, centre[0] - radii[0] - 1), min(background.shape[1], centre[0] + radii[0] + 2)
    top, bottom = max(0, centre[1] - radii[1] - 1), min(background.shape[0], centre[1] + radii[1] + 2)
    if left >= right or top >= bottom:
        return
    patch = background[top:bottom, left:right]
    mask = np.zeros(patch.shape[:2], np.uint8)
    tilt = math.degrees(math.atan2(0.08, 1.0))
    cv2.ellipse(mask, (centre[0] - left, centre[1] - top), radii, tilt if lean > 0 else -tilt, 0, 360, (255,), -1)
    patch[mask > 0] = (patch[mask > 0] * (1.0 - depth)).astype(np.uint8)
