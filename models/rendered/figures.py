"""Walkers, carts, animals and the clutter that resembles them, each drawn as a sprite with transparency.

A figure is drawn with OpenCV on a canvas three times as large as the picture and shrunk by area averaging, so that edges are
soft and positions move in thirds of a pixel. Coordinates inside a figure are units of its height: x to the right, y upwards
from the ground. SCENES.md describes every figure in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
SUPERSAMPLING = 3


@dataclass(frozen=True)
class Sprite:
    """A drawn figure: `bgra` uint8 (h, w, 4) with colours multiplied by alpha; its left top corner in the picture (px)."""

    bgra: npt.NDArray[np.uint8]
    left_px: int
    top_px: int


@dataclass(frozen=True)
class Look:
    """How one figure looks for as long as it lives: colours (BGR), build (relative width), variant (which extras it carries)."""

    main: Colour
    second: Colour
    skin: Colour
    build: float
    variant: int


class Pen:
    """Draws on one supersampled BGRA canvas in units of the figure's height, ground centre at (0, 0), y upwards."""

    def __init__(self, x_px: float, y_px: float, height_px: float, half_width: float, facing: int) -> None:
        margin_px = 2
        self.left_px = math.floor(x_px - half_width * height_px) - margin_px
        self.top_px = math.floor(y_px - 1.08 * height_px) - margin_px
        width = math.ceil(x_px + half_width * height_px) + margin_px - self.left_px
        height = math.ceil(y_px + 0.06 * height_px) + margin_px - self.top_px
        self._canvas = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING, 4), np.uint8)
        self._scale = height_px * SUPERSAMPLING
        self._origin = ((x_px - self.left_px) * SUPERSAMPLING, (y_px - self.top_px) * SUPERSAMPLING)
        self._size = (width, height)
        self._facing = facing

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(self._origin[0] + self._facing * x * self._scale), round(self._origin[1] - y * self._scale)

    def _long(self, length: float) -> int:
        return max(1, round(length * self._scale))

    def line(self, points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        """A broken line with round ends."""
        at = [self._at(x, y) for x, y in points]
        for start, end in pairwise(at):
            cv2.line(self._canvas, start, end, (*colour, 255), self._long(width))

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        cv2.circle(self._canvas, self._at(x, y), self._long(radius), (*colour, 255), -1)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        """A circle's outline."""
        cv2.circle(self._canvas, self._at(x, y), self._long(radius), (*colour, 255), self._long(width))

    def oval(self, x: float, y: float, radii: tuple[float, float], angle_deg: float, colour: Colour) -> None:
        """A filled ellipse."""
        axes = (self._long(radii[0]), self._long(radii[1]))
        cv2.ellipse(self._canvas, self._at(x, y), axes, -self._facing * angle_deg, 0, 360, (*colour, 255), -1)

    def shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """A filled polygon."""
        corners = np.array([self._at(x, y) for x, y in points], np.int32)
        cv2.fillPoly(self._canvas, [corners], (*colour, 255))

    def sprite(self) -> Sprite:
        """The finished figure at the picture's size."""
        small = cv2.resize(self._canvas, self._size, interpolation=cv2.INTER_AREA)
        return Sprite(np.asarray(small, np.uint8), self.left_px, self.top_px)


def shade(colour: Colour, factor: float) -> Colour:
    """The same colour, lighter or darker."""
    blue, green, red = (min(255, max(0, round(channel * factor))) for channel in colour)
    return blue, green, red


def person(pen: Pen, look: Look, phase: float) -> None:
    """A walker: legs and arms swing with `phase` (radians); phase 0 with no swing is standing."""
    swing, b = 0.13 * math.sin(phase), look.build
    leg, dark = look.second, shade(look.second, 0.8)
    pen.line([(0.02, 0.46), (-swing * 0.6, 0.25), (-swing * 1.4, 0.03)], 0.085 * b, dark)
    pen.line([(-0.05, 0.76), (0.02 + swing * 0.7, 0.6), (0.04 + swing * 1.2, 0.45)], 0.06 * b, shade(look.main, 0.8))
    pen.line([(-0.02, 0.46), (swing * 0.6, 0.25), (swing * 1.4, 0.03)], 0.085 * b, leg)
    width = 0.115 * b
    hem = 0.30 if look.variant & 1 else 0.43
    shoulders = [(-width, 0.8), (-width * 0.6, 0.85), (width * 0.6, 0.85), (width, 0.8)]
    pen.shape([*shoulders, (width * 0.85, hem), (-width * 0.85, hem)], look.main)
    pen.line([(0.03, 0.78), (-swing * 0.7, 0.6), (0.03 - swing * 1.2, 0.45)], 0.06 * b, shade(look.main, 1.15))
    if look.variant & 2:
        pen.oval(-width * 1.25, 0.68, (0.06, 0.12), 0, look.second)
    pen.line([(0.0, 0.84), (0.01, 0.88)], 0.06, look.skin)
    pen.disc(0.01, 0.925, 0.068, look.skin)
    if look.variant & 4:
        pen.oval(0.0, 0.965, (0.085, 0.04), 0, look.second)
    else:
        pen.oval(-0.012, 0.955, (0.066, 0.045), 15, shade(look.second, 0.5))


def cart(pen: Pen, look: Look, phase: float) -> None:
    """A hand cart: tray on two spoked wheels with a raised handle, sometimes loaded; wheels turn with `phase`."""
    pen.line([(-0.5, 0.46), (-0.78, 0.78), (-0.88, 0.78)], 0.06, shade(look.second, 0.7))
    if look.variant & 1:
        pen.shape([(-0.36, 0.6), (-0.34, 0.95), (0.05, 0.95), (0.07, 0.6)], shade(look.skin, 0.8))
    if look.variant & 2:
        pen.disc(0.27, 0.68, 0.17, look.second)
    pen.shape([(-0.55, 0.64), (0.58, 0.64), (0.5, 0.28), (-0.48, 0.28)], look.main)
    pen.line([(-0.54, 0.62), (0.56, 0.62)], 0.05, shade(look.main, 1.3))
    for x in (-0.3, 0.32):
        pen.disc(x, 0.19, 0.17, shade(look.second, 0.6))
        pen.ring(x, 0.19, 0.17, 0.045, (28, 28, 30))
        for spoke in range(2):
            turn = phase + spoke * math.pi / 2
            dx, dy = 0.15 * math.cos(turn), 0.15 * math.sin(turn)
            pen.line([(x - dx, 0.19 - dy), (x + dx, 0.19 + dy)], 0.03, (150, 150, 150))


def animal(pen: Pen, look: Look, phase: float) -> None:
    """A dog, goat or calf: long body on four legs, raised head with muzzle and ear, a tail."""
    swing = 0.14 * math.sin(phase)
    for x, sign in ((-0.42, 1), (0.34, -1)):
        pen.line([(x, 0.4), (x + sign * swing, 0.03)], 0.1, shade(look.main, 0.7))
    pen.line([(-0.55, 0.6), (-0.72, 0.72 + 0.1 * math.sin(phase * 0.7)), (-0.8, 0.85)], 0.06, shade(look.main, 0.9))
    pen.oval(-0.05, 0.52, (0.55 * look.build, 0.2), 0, look.main)
    for x, sign in ((-0.48, -1), (0.4, 1)):
        pen.line([(x, 0.45), (x + sign * swing, 0.03)], 0.1, shade(look.main, 0.88))
    if look.variant & 1:
        pen.oval(-0.1, 0.56, (0.22, 0.12), 10, look.second)
    pen.line([(0.4, 0.58), (0.6, 0.8)], 0.17, look.main)
    pen.oval(0.68, 0.84, (0.17, 0.105), -15, look.main)
    pen.disc(0.83, 0.8, 0.06, shade(look.main, 0.6))
    pen.shape([(0.52, 0.88), (0.57, 1.04), (0.66, 0.9)], shade(look.main, 0.6))


def coat_on_post(pen: Pen, look: Look, phase: float) -> None:
    """Clutter like a walker: a coat that hangs on a post; no head, one thin leg."""
    pen.line([(0.0, 0.0), (0.0, 0.93)], 0.05, (60, 80, 100))
    pen.shape([(-0.14, 0.8), (0.0, 0.87), (0.14, 0.8), (0.11, 0.36), (-0.12, 0.4)], look.main)
    pen.line([(-0.13, 0.78), (-0.17, 0.5)], 0.06, shade(look.main, 0.85))


def post(pen: Pen, look: Look, phase: float) -> None:
    """Clutter like a walker: a bollard or lamp stump with a round top and a coloured band."""
    pen.shape([(-0.08, 0.0), (0.08, 0.0), (0.07, 0.84), (-0.07, 0.84)], look.second)
    pen.shape([(-0.085, 0.45), (0.085, 0.45), (0.08, 0.7), (-0.08, 0.7)], look.main)
    pen.disc(0.0, 0.92, 0.075, shade(look.skin, 0.9))


def crate(pen: Pen, look: Look, phase: float) -> None:
    """Clutter like a cart: a crate, sometimes with two tyres leaning on it, never a handle."""
    pen.shape([(-0.55, 0.0), (0.55, 0.0), (0.55, 0.7), (-0.55, 0.7)], look.main)
    for y in (0.22, 0.46):
        pen.line([(-0.55, y), (0.55, y)], 0.03, shade(look.main, 0.7))
    if look.variant & 1:
        for x in (-0.28, 0.3):
            pen.disc(x, 0.2, 0.2, (40, 40, 42))
            pen.disc(x, 0.2, 0.08, shade(look.main, 0.8))


def barrel(pen: Pen, look: Look, phase: float) -> None:
    """Clutter: an upright barrel with hoops."""
    pen.shape([(-0.3, 0.0), (0.3, 0.0), (0.34, 0.45), (0.3, 0.92), (-0.3, 0.92), (-0.34, 0.45)], look.main)
    for y in (0.2, 0.7):
        pen.line([(-0.31, y), (0.31, y)], 0.05, shade(look.second, 0.8))
    pen.oval(0.0, 0.92, (0.3, 0.07), 0, shade(look.main, 1.2))


def sawhorse(pen: Pen, look: Look, phase: float) -> None:
    """Clutter like an animal: a beam on two pairs of legs, sometimes with a cloth; no head, no tail."""
    for x in (-0.5, 0.42):
        pen.line([(x - 0.1, 0.02), (x, 0.6)], 0.08, shade(look.main, 0.8))
        pen.line([(x + 0.1, 0.02), (x, 0.6)], 0.08, look.main)
    pen.line([(-0.62, 0.62), (0.58, 0.62)], 0.12, look.main)
    if look.variant & 1:
        pen.oval(0.0, 0.56, (0.4, 0.17), 0, look.second)


def bush(pen: Pen, look: Look, phase: float) -> None:
    """Clutter: a bush of overlapping discs, its shape chosen by the look's variant."""
    for index in range(9):
        turn = index * 2.4 + look.variant
        x, y = 0.4 * math.cos(turn), 0.42 + 0.26 * math.sin(turn * 1.7)
        green = (40 + 6 * (index % 4), 80 + 9 * (index % 5), 52 + 8 * (index % 3))
        pen.disc(x, y, 0.24, green)
    pen.shape([(-0.5, 0.0), (0.5, 0.0), (0.4, 0.4), (-0.4, 0.4)], (44, 84, 56))


def boards(pen: Pen, look: Look, phase: float) -> None:
    """An occluder: a piece of fence, upright boards with gaps."""
    for index in range(5):
        x = -0.56 + index * 0.28
        board = [(x - 0.1, 0.0), (x + 0.1, 0.0), (x + 0.1, 0.92), (x, 1.0), (x - 0.1, 0.92)]
        pen.shape(board, shade(look.main, 0.9 + 0.06 * (index % 3)))
    pen.line([(-0.62, 0.3), (0.62, 0.3)], 0.08, shade(look.main, 0.7))


Figure = Callable[[Pen, Look, float], None]

OBJECTS: dict[str, tuple[Figure, float]] = {"person": (person, 0.42), "cart": (cart, 0.98), "animal": (animal, 0.98)}
"""Class name -> (drawing, half width of its canvas in heights)."""

CLUTTER: dict[str, tuple[Figure, float]] = {
    "coat_on_post": (coat_on_post, 0.3), "post": (post, 0.2), "crate": (crate, 0.62), "barrel": (barrel, 0.42),
    "sawhorse": (sawhorse, 0.72), "bush": (bush, 0.75), "boards": (boards, 0.72),
}
"""Clutter name -> (drawing, half width of its canvas in heights)."""


def draw(name: str, look: Look, x_px: float, y_px: float, height_px: float, *, facing: int = 1, phase: float = 0.0) -> Sprite:
    """The sprite of object or clutter `name` that stands at (x, y), `height_px` tall, facing right (1) or left (-1)."""
    figure, half_width = OBJECTS[name] if name in OBJECTS else CLUTTER[name]
    pen = Pen(x_px, y_px, height_px, half_width, facing)
    figure(pen, look, phase)
    return pen.sprite()


def random_look(rng: np.random.Generator) -> Look:
    """A look: mostly dull colours near those of the ground, now and then a bright one."""
    def tone() -> Colour:
        base = int(rng.integers(35, 190))
        spread = 75 if rng.random() < 0.4 else 26
        blue, green, red = (int(np.clip(base + rng.integers(-spread, spread + 1), 8, 245)) for _ in range(3))
        return blue, green, red

    skins: tuple[Colour, ...] = ((140, 170, 215), (110, 140, 185), (70, 95, 140), (50, 65, 95))
    skin = skins[int(rng.integers(len(skins)))]
    return Look(tone(), tone(), skin, float(rng.uniform(0.85, 1.25)), int(rng.integers(8)))
