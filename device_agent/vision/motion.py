"""The motion gate: cheap enough for every frame, so that the detector need not run on a still picture. Pure numpy and OpenCV.

A small luma plane is compared with a running mean of itself, after what light did is taken out. Light (a cloud, a lamp,
headlights, a camera's own exposure) multiplies whole regions, so the median ratio to the mean over a coarse neighbourhood is what
the mean is multiplied with; an object is smaller than such a neighbourhood, or at least has edges that are. Each pixel has a
tolerance of its own, learnt from how much it usually differs: the rim of a roof in a shaking picture, a bush in the wind and a
noisy night sensor earn more than a wall by day. Only pixels that differ close together are motion. Where nearly everything
differs (the infrared filter switched, somebody turned the camera), the mean is learnt anew and one look follows when that has
settled.

While an active track (or the settings) holds the gate open, whatever the picture shows, nobody waits for a verdict: the last one
stands for `HELD_S`, and the frames between cost nothing here.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.vision.types import Frame, Picture
from device_agent.vision.veil import Veil

GATE_WIDTH_PX, GATE_HEIGHT_PX = 178, 100
"""Size of the plane that is compared: 0.04 ms a frame was measured at it (research: edge anchors, section 2.4)."""
COARSE_WIDTH_PX, COARSE_HEIGHT_PX = 24, 14
"""Size of the plane on which light is estimated: medians over five of its pixels span a fifth of the picture's width."""
DARK_BELOW, BRIGHT_FROM = 70.0, 105.0
"""Mean luma 0..255 that parts dark, dim and bright frames: in the drawn yards most nights lie at 50 to 70, days above 105."""
HELD_S = 0.25
"""How old a verdict may become while the gate is held open: well below `recent_s`, the shortest memory that a frame feeds."""
CLOCK_S = 1e-3
"""Frames come at times that are rounded."""
WINDOW_PX = 5
"""Side of the window in which differing pixels are counted."""

FloatPlane = npt.NDArray[np.float32]
Reason = Literal["motion", "track", "keep_alive", "startup", "still", "light"]
Brightness = Literal["dark", "dim", "bright"]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """`difference` in grey levels in bright light, less in the dark; shares of pixels 0..1; times in seconds.

    `tolerance`: how many times its usual difference a pixel may differ. `light_doubt`: how much less a difference is believed
    while light changes (1 + light_doubt × |ratio - 1|). A window of 5 × 5 pixels moves if `dense` of it differs. More than
    `light_share` of all: the whole picture changed, and nothing is called motion for `settle_s`. All is looked at for
    `startup_s`.
    """

    difference: float = 12.0
    least_difference: float = 7.0
    tolerance: float = 4.0
    light_doubt: float = 4.0
    dense: float = 0.6
    recent: float = 0.7
    light_share: float = 0.5
    memory_s: float = 5.0
    recent_s: float = 0.6
    absorb_s: float = 0.8
    settle_s: float = 0.5
    keep_alive_s: float = 2.0
    startup_s: float = 0.5
    enabled: bool = True


class LumaView:
    """The small luma plane of one frame, float32 (100, 178), and how many of its pixels a source pixel is across and down.

    A plane that is given as a function is made when it is first asked for: of most frames nobody does.
    """

    __slots__ = ("_plane", "across", "down")

    def __init__(self, plane: "FloatPlane | Callable[[], FloatPlane]", across: float, down: float) -> None:
        self._plane = plane
        self.across, self.down = across, down

    @property
    def at_hand(self) -> bool:
        """Whether the plane costs nothing any more."""
        return not callable(self._plane)

    @property
    def plane(self) -> FloatPlane:
        """The plane; whatever masks hide is as bright in it as the rest is on average."""
        if callable(self._plane):
            self._plane = self._plane()
        return self._plane


@dataclass(slots=True)
class _Verdict:
    """What the latest frame that was judged showed, and when that was."""

    at_s: float = -math.inf
    moved: bool = False
    light: bool = False
    share: float = 0.0
    brightness: float = 0.0


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether the detector should look, and why. `moved` says whether there was motion, whatever else opened the gate.

    `brightness` is the mean luma, 0..255; `changed_share` the share 0..1 of pixels that differ from the running mean. While the
    gate is held open these and `moved` may be up to `HELD_S` old.
    """

    open: bool
    reason: Reason
    moved: bool
    changed_share: float
    brightness: float
    view: LumaView | None = None


def brightness_of(mean_luma: float) -> Brightness:
    """The word for a mean luma of 0..255."""
    return "dark" if mean_luma < DARK_BELOW else ("dim" if mean_luma < BRIGHT_FROM else "bright")


class MotionGate:
    """The gate of one camera: keeps the running mean, the tolerance of each pixel, and the time of the last look."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        self._scene: _Scene | None = None
        self._started_s = self._last_s = self._looked_s = self._settled_s = 0.0
        self._verdict = _Verdict()

    def step(self, frame: Frame, *, active_track: bool, veil: Veil | None = None) -> GateResult:
        """Judge one frame; frames must come in order of `at_s`. An active track keeps the gate open: tracks are never starved.

        Time that runs backwards (a camera that was opened anew) is a new start. What `veil` hides counts for nothing: it is as
        bright as the rest is on average, and no result differs by what happens behind it.
        """
        at_s, across, down = frame.at_s, GATE_WIDTH_PX / frame.width_px, GATE_HEIGHT_PX / frame.height_px
        verdict = self._verdict
        held = active_track or not self._settings.enabled
        if held and verdict.at_s <= self._last_s <= at_s < verdict.at_s + HELD_S - CLOCK_S:
            view = LumaView(functools.partial(_seen_plane, frame, veil), across, down)
        else:
            plane, brightness = _veiled(luma_plane(frame), veil)
            view = LumaView(plane, across, down)
            if self._scene is None or at_s < self._last_s:
                return self._start(plane, brightness, at_s, view)
            self._verdict = verdict = self._judged(self._scene, plane, brightness, at_s, veil)
        self._last_s = at_s
        reason = self._reason(at_s, moved=verdict.moved, light=verdict.light, active_track=active_track)
        is_open = reason not in ("still", "light")
        if is_open:
            self._looked_s = at_s
        return GateResult(is_open, reason, verdict.moved, verdict.share, verdict.brightness, view)

    def _start(self, plane: FloatPlane, brightness: float, at_s: float, view: LumaView) -> GateResult:
        """The first frame, or the first of a clock that began anew."""
        self._scene = _Scene(plane)
        self._started_s = self._last_s = self._looked_s = at_s
        self._settled_s = at_s + self._settings.settle_s
        self._verdict = _Verdict(at_s, brightness=brightness)
        return GateResult(True, "startup", False, 0.0, brightness, view)

    def _judged(self, scene: "_Scene", plane: FloatPlane, brightness: float, at_s: float, veil: Veil | None) -> _Verdict:
        """Compare a frame with what is usually there, and learn from it."""
        settings = self._settings
        share, dense = scene.compare(plane, brightness, settings)
        if veil is not None and veil.share > 0:
            share = min(1.0, share / veil.share)
        light = share > settings.light_share
        if light:
            self._scene = _Scene(plane)
            self._settled_s = at_s + settings.settle_s
            # One look as soon as the new picture has settled: somebody may have come with the change.
            self._looked_s = min(self._looked_s, self._settled_s - settings.keep_alive_s)
        else:
            scene.learn(plane, at_s - self._verdict.at_s, settings)
        return _Verdict(at_s, dense and not light and at_s >= self._settled_s, light, share, brightness)

    def _reason(self, at_s: float, *, moved: bool, light: bool, active_track: bool) -> Reason:
        settings = self._settings
        if moved:
            return "motion"
        if active_track:
            return "track"
        if at_s - self._started_s < settings.startup_s:
            return "startup"
        if not settings.enabled or at_s - self._looked_s >= settings.keep_alive_s:
            return "keep_alive"
        return "light" if light else "still"


class _Scene:
    """What is usually there: the mean of each pixel and how much it usually differs, both float32 (100, 178) in grey levels."""

    def __init__(self, plane: FloatPlane) -> None:
        self._mean = plane.copy()
        # Before anything is learnt: a wall is calm, and an edge that moves by most of a pixel changes by most of its slope.
        slope = np.abs(cv2.Sobel(plane, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(plane, cv2.CV_32F, 0, 1))
        self._usual = np.asarray(slope * np.float32(0.1) + np.float32(1.5), np.float32)
        self._recent = plane.copy()
        self._difference = np.zeros_like(plane)
        self._differs = np.zeros(plane.shape, np.uint8)
        self._rests = np.zeros(plane.shape, np.uint8)

    def compare(self, plane: FloatPlane, brightness: float, settings: GateSettings) -> tuple[float, bool]:
        """The share of pixels that differ by more than they may, and whether enough of them do so close together."""
        ratio, doubt = _light(plane, self._mean, settings.light_doubt)
        # White stays white when it gets brighter.
        np.multiply(self._mean, ratio, out=ratio)
        expected = cv2.min(ratio, 255.0)  # type: ignore[call-overload]
        cv2.absdiff(plane, expected, self._difference)
        # In the dark contrast shrinks with the light; blurred noise (about one grey level) does not reach the lower bound.
        least = max(settings.least_difference, settings.difference * min(1.0, brightness / BRIGHT_FROM))
        allowed = self._usual * np.float32(settings.tolerance)
        cv2.max(allowed, least, allowed)  # type: ignore[call-overload]
        cv2.compare(self._difference, np.multiply(allowed, doubt, out=doubt), cv2.CMP_GT, self._differs)
        count = cv2.countNonZero(self._differs)
        needed = settings.dense * WINDOW_PX * WINDOW_PX
        if count < needed:
            self._rests[:] = 0
            return count / plane.size, False
        # What differs but is as it was a moment ago came to rest, or is the wall behind what left: no motion, soon in the mean.
        cv2.compare(cv2.absdiff(plane, self._recent), allowed * np.float32(settings.recent), cv2.CMP_LE, self._rests)
        cv2.bitwise_and(self._rests, self._differs, self._rests)
        density = cv2.boxFilter(self._differs - self._rests, cv2.CV_32F, (WINDOW_PX, WINDOW_PX), normalize=False)
        return count / plane.size, bool(np.count_nonzero(density >= needed * 255) >= 2)

    def learn(self, plane: FloatPlane, spent_s: float, settings: GateSettings) -> None:
        """Move mean and tolerance on, after `compare` of the same plane. What differs now widens its tolerance only slowly."""
        weight = 1.0 - math.exp(-spent_s / settings.memory_s)
        limit = self._usual * np.float32(2.5)
        limit += np.float32(1)
        seen = cv2.min(self._difference, limit)
        cv2.copyTo(self._usual * np.float32(1.3), self._differs, seen)
        cv2.accumulateWeighted(seen, self._usual, weight)
        cv2.accumulateWeighted(plane, self._mean, weight)
        cv2.accumulateWeighted(plane, self._mean, 1.0 - math.exp(-spent_s / settings.absorb_s), self._rests)
        cv2.accumulateWeighted(plane, self._recent, 1.0 - math.exp(-spent_s / settings.recent_s))


def _light(plane: FloatPlane, mean: FloatPlane, doubt: float) -> tuple[FloatPlane, FloatPlane]:
    """How much brighter each region became, and how much less differences in it are believed; both (100, 178), 1 at rest."""
    # Four grey levels are added: the ratio of two nearly black regions is noise.
    ratio = (_coarse(plane) + np.float32(4)) / (_coarse(mean) + np.float32(4))
    ratio = cv2.blur(cv2.medianBlur(ratio, 5), (3, 3))
    trust = np.abs(ratio - np.float32(1)) * np.float32(doubt) + np.float32(1)
    size = (GATE_WIDTH_PX, GATE_HEIGHT_PX)
    return (np.asarray(cv2.resize(ratio, size, interpolation=cv2.INTER_LINEAR), np.float32),
            np.asarray(cv2.resize(trust, size, interpolation=cv2.INTER_LINEAR), np.float32))  # fmt: skip


def _coarse(plane: FloatPlane) -> FloatPlane:
    """A plane at the size at which light is estimated, averaged first."""
    # Halving twice averages four by four pixels at a third of what one wide blur costs.
    half = cv2.resize(plane, (GATE_WIDTH_PX // 2, GATE_HEIGHT_PX // 2), interpolation=cv2.INTER_LINEAR)
    quarter = cv2.resize(half, (GATE_WIDTH_PX // 4, GATE_HEIGHT_PX // 4), interpolation=cv2.INTER_LINEAR)
    averaged = cv2.blur(quarter, (3, 3))
    return np.asarray(cv2.resize(averaged, (COARSE_WIDTH_PX, COARSE_HEIGHT_PX), interpolation=cv2.INTER_LINEAR), np.float32)


def _veiled(plane: FloatPlane, veil: Veil | None) -> tuple[FloatPlane, float]:
    """A plane, what is hidden in it evened IN it, and its mean brightness."""
    if veil is None:
        return plane, cv2.mean(plane)[0]
    brightness = cv2.mean(plane, veil.seen)[0]
    plane[veil.hidden] = brightness
    return plane, brightness


def _seen_plane(frame: Frame, veil: Veil | None) -> FloatPlane:
    return _veiled(luma_plane(frame), veil)[0]


def luma_plane(frame: Frame) -> FloatPlane:
    """The frame's luma at the gate's size, slightly blurred against sensor noise: float32 (100, 178), 0..255."""
    size = (GATE_WIDTH_PX, GATE_HEIGHT_PX)
    if frame.luma is not None:
        small: Picture = np.asarray(cv2.resize(frame.luma, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    else:
        # Shrinking first makes the conversion of colours almost free.
        shrunk = cv2.resize(frame.picture_bgr, size, interpolation=cv2.INTER_LINEAR)
        small = np.asarray(cv2.cvtColor(shrunk, cv2.COLOR_BGR2GRAY), np.uint8)
    return np.asarray(cv2.blur(small, (3, 3)), np.float32)
