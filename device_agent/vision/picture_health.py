"""Whether a camera still shows what it is there for: black, frozen, covered or out of focus. Pure, cheap, one a camera.

Looked at once a second, on small planes. What is judged is what night, fog and a still room leave alone:

* *black*: dark, and nothing in it stands out, not even a lamp. The darkest night with anything to be seen is not black.
* *frozen*: a sensor's noise never repeats, so identical pictures mean that it hangs. Only asked of sensors, and only after a
  minute: a thrifty H.264 encoder may repeat a still picture from one key frame to the next.
* *covered*: most places that used to have texture lost it, and what is left there does not resemble what used to be. Texture is
  contrast divided by brightness: less light takes both alike, so dusk is none; through fog the same scene shows, however faintly.
* *blurred*: fine detail in proportion to coarse at the strongest edges, less what noise there is elsewhere, against the camera's
  own history at the same brightness. Contrast falls out of the proportion, so fog and dusk are none.

A word is given after it held for some seconds, and taken back after it did not for some; in between lies a margin.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.vision.motion import Brightness, brightness_of
from device_agent.vision.types import Frame

HealthState = Literal["ok", "black", "frozen", "covered", "blurred"]
PLANE_PX = 320
"""Longer side of the plane that detail is measured in: in smaller ones a slight blur does not show."""
CELL_PX = 16
"""Side of the cells that texture is measured in."""
LEAST_TEXTURED = 0.05
"""A camera on a bare wall, with fewer cells of texture than that, has nothing that could be covered."""
SAMPLE_STEP = 7
"""Every so many pixels across and down are compared to find identical pictures."""
Plane = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Times in seconds, luma 0..255, shares 0..1. `noisy`: pictures come from a sensor, so that identical ones mean something.

    `black_luma`: mean below which a picture may be black (video black is 16); `black_contrast`: grey levels that anything in it
    may stand out by. `flat_texture`: contrast over brightness of a cell without texture; `no_texture`: below which in every cell
    nothing is to be seen at all. `covered_share`: of the cells that had texture and lost it; `alike`: correlation with what used
    to be there, from which on it still is. `blurred_ratio`: of the usual proportion of detail. `…_end_…`: the value that ends it.
    `learn_s`: the history before anything is compared with it; `memory_s`: its time constant; `bad_memory_s`: that of a scene
    that stays different.
    """

    noisy: bool = False
    every_s: float = 1.0
    black_luma: float = 26.0
    black_contrast: float = 7.0
    black_s: float = 3.0
    frozen_s: float = 60.0
    flat_texture: float = 0.035
    no_texture: float = 0.01
    alike: float = 0.15
    covered_share: float = 0.6
    covered_end_share: float = 0.4
    covered_s: float = 5.0
    blurred_ratio: float = 0.35
    blurred_end_ratio: float = 0.5
    blurred_s: float = 15.0
    ended_s: float = 3.0
    learn_s: float = 30.0
    memory_s: float = 300.0
    bad_memory_s: float = 86400.0


@dataclass(slots=True)
class _Word:
    """One state with its hysteresis in seconds: on after `needed_s` of holding, off after `ended_s` of not holding."""

    needed_s: float
    ended_s: float
    on: bool = False
    since_s: float | None = None

    def step(self, holds: bool | None, at_s: float) -> bool:
        """`holds` None: cannot be told now; then nothing changes, and nothing counts on."""
        if holds is None or holds == self.on:
            self.since_s = None
            return self.on
        if self.since_s is None:
            self.since_s = at_s
        if at_s - self.since_s >= (self.ended_s if self.on else self.needed_s):
            self.on, self.since_s = not self.on, None
        return self.on


@dataclass(slots=True)
class _Usual:
    """The usual proportion of detail at one brightness (natural logarithm), and for how long it was learnt."""

    log_ratio: float = 0.0
    learnt_s: float = 0.0


@dataclass(slots=True)
class _Past:
    """What is remembered of a camera."""

    at_s: float | None = None
    texture: Plane | None = None
    band: Plane | None = None
    learnt_s: float = 0.0
    usual: dict[Brightness, _Usual] = field(default_factory=dict)
    sample: bytes = b""


class PictureHealth:
    """The health of one camera's picture. One thread calls `saw`, any thread may read `state`."""

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self._settings = settings or HealthSettings()
        self._past = _Past()
        self.state: HealthState = "ok"
        chosen = self._settings
        self._black = _Word(chosen.black_s, chosen.ended_s)
        self._frozen = _Word(chosen.frozen_s, 0.0)
        self._covered = _Word(chosen.covered_s, chosen.ended_s)
        self._blurred = _Word(chosen.blurred_s, chosen.ended_s)

    def reopened(self) -> None:
        """The camera was opened again: times start anew and nothing is compared with its last picture; its history stays."""
        self._past.at_s, self._past.sample = None, b""
        for word in (self._black, self._frozen, self._covered, self._blurred):
            word.since_s = None
        self._frozen.on = False

    def saw(self, frame: Frame) -> HealthState:
        """Take in a frame; frames must come in order of `at_s`. Most are passed over at once."""
        past, settings = self._past, self._settings
        if past.at_s is not None and frame.at_s - past.at_s < settings.every_s:
            return self.state
        # A pause (an outage, a suspended board) counts as one look: nobody knows what was meanwhile.
        passed_s = 0.0 if past.at_s is None else min(frame.at_s - past.at_s, 4 * settings.every_s)
        past.at_s = frame.at_s
        look = _looked(_plane(frame))
        black = look.mean < settings.black_luma and look.range < settings.black_contrast
        states: list[tuple[HealthState, bool]] = [
            ("black", self._black.step(black, frame.at_s)),
            ("frozen", self._frozen.step(self._same(frame), frame.at_s)),
            ("covered", self._covered.step(None if black else self._hidden(look, passed_s), frame.at_s)),
            ("blurred", self._blurred.step(None if black or self._covered.on else self._soft(look, passed_s), frame.at_s)),
        ]
        self.state = next((state for state, on in states if on), "ok")
        return self.state

    def _same(self, frame: Frame) -> bool:
        """Whether this is the picture of the look before, to the last bit of a sample."""
        if not self._settings.noisy:
            return False
        source = frame.picture_bgr if frame.luma is None else frame.luma
        sample = source[::SAMPLE_STEP, ::SAMPLE_STEP].tobytes()
        same, self._past.sample = sample == self._past.sample, sample
        return same

    def _hidden(self, look: "_Look", passed_s: float) -> bool | None:
        """Whether the scene is hidden; learns from pictures where it is not. None where there is nothing to compare with yet."""
        past, settings = self._past, self._settings
        nothing = bool((look.texture < settings.no_texture).all())
        if past.texture is None or past.band is None or past.texture.shape != look.texture.shape:
            past.texture, past.band, past.learnt_s = look.texture.copy(), look.band.copy(), 0.0
            return True if nothing else None
        had = past.texture > 2 * settings.flat_texture
        lost = had & (look.texture < settings.flat_texture)
        learnt = past.learnt_s >= settings.learn_s and np.count_nonzero(had) >= LEAST_TEXTURED * had.size
        share = settings.covered_end_share if self._covered.on else settings.covered_share
        bad = bool(learnt and np.count_nonzero(lost) > share * np.count_nonzero(had))
        bad = bad and _alike(look.band, past.band, lost) < settings.alike
        bad = bad or (nothing and not learnt)
        memory_s = settings.bad_memory_s if bad or self._covered.on else min(settings.memory_s, past.learnt_s + 1.0)
        weight = 1.0 - math.exp(-passed_s / memory_s)
        cv2.accumulateWeighted(look.texture, past.texture, weight)
        cv2.accumulateWeighted(look.band, past.band, weight)
        past.learnt_s += passed_s
        return bad if learnt or nothing else None

    def _soft(self, look: "_Look", passed_s: float) -> bool | None:
        """Whether fine detail is missing against what is usual; learns otherwise. None where nothing can be told."""
        settings, usual = self._settings, self._past.usual.setdefault(brightness_of(look.mean), _Usual())
        ratio = _detail(look)
        if ratio is None:
            return None
        log_ratio = math.log(ratio)
        learnt = usual.learnt_s >= settings.learn_s
        needed = settings.blurred_end_ratio if self._blurred.on else settings.blurred_ratio
        bad = learnt and log_ratio < usual.log_ratio + math.log(needed)
        memory_s = settings.bad_memory_s if bad or self._blurred.on else min(settings.memory_s, usual.learnt_s + 1.0)
        usual.log_ratio += (1.0 - math.exp(-passed_s / memory_s)) * (log_ratio - usual.log_ratio) if usual.learnt_s else log_ratio
        usual.learnt_s += max(passed_s, 1e-6)
        return bad if learnt else None


@dataclass(frozen=True, slots=True)
class _Look:
    """What is measured of one picture: its plane, the same without noise (`calm`), mean luma, the range of what stands out of the
    noise, detail between 5 and 25 px (`band`), and the texture of each cell: the standard deviation in it over the brightness."""

    plane: Plane
    calm: Plane
    mean: float
    range: float
    band: Plane
    texture: Plane


def _looked(plane: Plane) -> _Look:
    calm = np.asarray(cv2.blur(plane, (5, 5)), np.float32)
    band = np.asarray(cv2.subtract(calm, cv2.blur(plane, (25, 25))), np.float32)
    mean = float(plane.mean())
    rows, columns = plane.shape[0] // CELL_PX, plane.shape[1] // CELL_PX
    cells = calm[: rows * CELL_PX, : columns * CELL_PX].reshape(rows, CELL_PX, columns, CELL_PX)
    texture = np.asarray(cells.std(axis=(1, 3)) / (mean + 10.0), np.float32)
    return _Look(plane, calm, mean, float(calm.max() - calm.min()), band, texture)


def _alike(band: Plane, past: Plane, cells: npt.NDArray[np.bool_]) -> float:
    """The correlation of two bands over some cells: 0 for two that have nothing to do with each other, up to 1."""
    pixels = np.repeat(np.repeat(cells, CELL_PX, axis=0), CELL_PX, axis=1)
    now, then = (one[: pixels.shape[0], : pixels.shape[1]][pixels] for one in (band, past))
    power = float(np.dot(now, now)) * float(np.dot(then, then))
    return float(np.dot(now, then)) / math.sqrt(power) if power > 0 else 0.0


def _plane(frame: Frame) -> Plane:
    """The frame's luma with a longer side of at most `PLANE_PX`: float32, 0..255."""
    source = frame.picture_bgr if frame.luma is None else frame.luma
    # Of a large picture every so many pixels first: averaging all of them would cost more than everything else here.
    step = max(1, max(source.shape[:2]) // (2 * PLANE_PX))
    source = np.ascontiguousarray(source[::step, ::step])
    height, width = source.shape[:2]
    scale = min(1.0, PLANE_PX / max(height, width))
    size = (max(CELL_PX, round(width * scale)), max(CELL_PX, round(height * scale)))
    small = cv2.resize(source, size, interpolation=cv2.INTER_AREA)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return np.asarray(small, np.float32)


def _detail(look: _Look) -> float | None:
    """Fine over coarse detail (energies) at the strongest edges; None where there is nothing that could be sharp.

    What there is of both elsewhere is noise, and is taken off.
    """
    fine = cv2.subtract(look.plane, look.calm)
    coarse = np.abs(look.band)
    edge, still = np.quantile(coarse[::3, ::3], (0.95, 0.5))
    strong, weak = coarse >= edge, coarse <= still
    below = float(np.square(coarse[strong]).mean() - np.square(coarse[weak]).mean())
    above = float(np.square(fine[strong]).mean() - np.square(fine[weak]).mean())
    return None if below < 9.0 else max(1e-4, above / below)
