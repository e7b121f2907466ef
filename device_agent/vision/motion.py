"""The motion gate: cheap enough for every frame, so that the detector need not run on a still picture. Pure numpy and OpenCV.

A small luma plane is compared with a running mean of itself. A change of light moves all pixels alike: the median of the
difference is taken out, and a change of nearly everything resets the mean instead of opening the gate.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.vision.types import Frame, Picture

GATE_WIDTH_PX, GATE_HEIGHT_PX = 178, 100
"""Size of the plane that is compared: 0.04 ms a frame was measured at it (research: edge anchors, section 2.4)."""
DARK_BELOW, BRIGHT_FROM = 70.0, 105.0
"""Mean luma 0..255 that parts dark, dim and bright frames: in the drawn yards most nights lie at 50 to 70, days above 105."""

Reason = Literal["motion", "track", "keep_alive", "startup", "still", "light"]
Brightness = Literal["dark", "dim", "bright"]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """`difference` in grey levels in bright light, less in the dark; shares of all pixels; times in seconds."""

    difference: float = 22.0
    least_difference: float = 9.0
    open_share: float = 0.004
    light_share: float = 0.6
    memory_s: float = 3.0
    keep_alive_s: float = 2.0
    enabled: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class LumaView:
    """The small luma plane of one frame, float32 (100, 178), and how many of its pixels a source pixel is across and down."""

    plane: npt.NDArray[np.float32]
    across: float
    down: float


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether the detector should look, and why. `moved` says whether there was motion, whatever else opened the gate.

    `brightness` is the mean luma, 0..255; `changed_share` the share 0..1 of pixels that differ from the running mean.
    """

    open: bool
    reason: Reason
    moved: bool
    changed_share: float
    brightness: float


def brightness_of(mean_luma: float) -> Brightness:
    """The word for a mean luma of 0..255."""
    return "dark" if mean_luma < DARK_BELOW else ("dim" if mean_luma < BRIGHT_FROM else "bright")


class MotionGate:
    """The gate of one camera: keeps the running mean and the time of the last look."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        self._mean: npt.NDArray[np.float32] | None = None
        self._last_s = 0.0
        self._looked_s = 0.0

    def step(self, frame: Frame, *, active_track: bool) -> GateResult:
        """Judge one frame; frames must come in order of `at_s`. An active track keeps the gate open: tracks are never starved."""
        plane = luma_plane(frame)
        brightness = float(plane.mean())
        if self._mean is None:
            self._mean = plane
            self._last_s = self._looked_s = frame.at_s
            return GateResult(True, "startup", False, 0.0, brightness)
        share, settings = self._compare(plane, frame.at_s, brightness), self._settings
        light = share > settings.light_share
        if light:
            self._mean = plane
        moved = settings.open_share < share <= settings.light_share
        reason: Reason = "light" if light else "still"
        if moved:
            reason = "motion"
        elif active_track:
            reason = "track"
        elif not settings.enabled or frame.at_s - self._looked_s >= settings.keep_alive_s:
            reason = "keep_alive"
        is_open = reason in ("motion", "track", "keep_alive")
        if is_open:
            self._looked_s = frame.at_s
        return GateResult(is_open, reason, moved, share, brightness)

    def _compare(self, plane: npt.NDArray[np.float32], at_s: float, brightness: float) -> float:
        """The share of changed pixels; moves the mean on by the time that has passed."""
        assert self._mean is not None
        difference = cv2.subtract(plane, self._mean)
        # A sample of every seventh pixel gives the median to well under a grey level, at a seventh of the sorting.
        drift = float(np.median(difference.ravel()[::7]))
        # In the dark contrast shrinks with the light; blurred noise (about one grey level) does not reach the lower bound.
        needed = max(self._settings.least_difference, self._settings.difference * min(1.0, brightness / BRIGHT_FROM))
        changed = np.count_nonzero(np.abs(difference - np.float32(drift)) > needed)
        weight = 1.0 - float(np.exp(-max(0.0, at_s - self._last_s) / self._settings.memory_s))
        self._last_s = at_s
        cv2.accumulateWeighted(plane, self._mean, weight)
        return changed / plane.size


def luma_plane(frame: Frame) -> npt.NDArray[np.float32]:
    """The frame's luma at the gate's size, slightly blurred against sensor noise: float32 (100, 178), 0..255."""
    size = (GATE_WIDTH_PX, GATE_HEIGHT_PX)
    if frame.luma is not None:
        small: Picture = np.asarray(cv2.resize(frame.luma, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    else:
        # Shrinking first makes the conversion of colours almost free.
        shrunk = cv2.resize(frame.picture_bgr, size, interpolation=cv2.INTER_LINEAR)
        small = np.asarray(cv2.cvtColor(shrunk, cv2.COLOR_BGR2GRAY), np.uint8)
    return np.asarray(cv2.blur(small, (3, 3)), np.float32)
