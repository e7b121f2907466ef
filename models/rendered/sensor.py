"""From a drawn yard to what a cheap camera delivers: light of the hour, lamps, shake, blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from models.rendered.yard import HEIGHT_PX, MARGIN_PX, WIDTH_PX, Picture

DAY, DUSK, NIGHT = 0.0, 0.5, 1.0
"""Darkness of each light; a cycling scene passes through all of them."""


@dataclass(frozen=True)
class Camera:
    """One camera's faults: shake (px), blur (sigma, px), noise (grey levels by day and by night), drift of the light (share)."""

    shake_px: float
    blur_px: float
    noise_day: float
    noise_night: float
    drift: float
    night_gain: float
    dusk_gain: float


def random_camera(rng: np.random.Generator) -> Camera:
    """A camera between decent and poor."""
    return Camera(float(rng.uniform(0.3, 2.4)), float(rng.uniform(0.3, 0.95)), float(rng.uniform(3, 8)), float(rng.uniform(5, 9)),
                  float(rng.uniform(0.02, 0.1)), float(rng.uniform(0.3, 0.44)), float(rng.uniform(0.55, 0.72)))


def light_name(darkness: float) -> str:
    """The word for a darkness of 0 to 1."""
    return "day" if darkness < 0.25 else ("dusk" if darkness < 0.75 else "night")


@lru_cache(maxsize=1)
def _noise_bank() -> npt.NDArray[np.int8]:
    """Standard noise times 32, drawn once a process from a fixed seed: a frame's noise is a window of it at a random place."""
    bank = np.random.default_rng(32_1).standard_normal((HEIGHT_PX + 180, WIDTH_PX + 240, 3)) * 32
    return np.clip(bank, -127, 127).astype(np.int8)


def shake_at(camera: Camera, rng: np.random.Generator, t_s: float) -> tuple[float, float]:
    """How far the camera is off (px) at a time: a slow sway with jitter, never beyond the margin."""
    sway = camera.shake_px * 0.6
    jitter = rng.uniform(-1.0, 1.0, 2) * camera.shake_px * 0.8
    x = sway * math.sin(2.1 * t_s) + float(jitter[0])
    y = sway * math.sin(1.7 * t_s + 1.0) + float(jitter[1])
    limit = MARGIN_PX - 2.0
    return max(-limit, min(limit, x)), max(-limit, min(limit, y))


def gains(camera: Camera, darkness: float, t_s: float) -> tuple[float, npt.NDArray[np.float32]]:
    """Overall gain (drift included) and colour cast (B, G, R) at a darkness: white by day, warm at dusk, blue by night."""
    drift = 1.0 + camera.drift * math.sin(0.5 * t_s)
    if darkness <= DUSK:
        share = darkness / DUSK
        gain = 1.0 + (camera.dusk_gain - 1.0) * share
        cast = np.array((1.0 - 0.2 * share, 1.0 - 0.08 * share, 1.0 + 0.08 * share), np.float32)
    else:
        share = (darkness - DUSK) / (NIGHT - DUSK)
        gain = camera.dusk_gain + (camera.night_gain - camera.dusk_gain) * share
        dusk, night = np.array((0.8, 0.92, 1.08), np.float32), np.array((1.18, 1.0, 0.86), np.float32)
        cast = dusk + (night - dusk) * np.float32(share)
    return gain * drift, cast


def expose(yard_bgr: Picture, lamp: npt.NDArray[np.float32], camera: Camera, darkness: float, t_s: float,
           shift_px: tuple[float, float], rng: np.random.Generator) -> Picture:
    """The camera's picture (240, 320, 3) of the drawn yard (with margin), shifted by the shake, lit, blurred and noisy."""
    move = np.array([[1, 0, -MARGIN_PX + shift_px[0]], [0, 1, -MARGIN_PX + shift_px[1]]], np.float32)
    seen = cv2.warpAffine(yard_bgr, move, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if camera.blur_px > 0.35:
        seen = cv2.GaussianBlur(seen, (0, 0), camera.blur_px)
    gain, cast = gains(camera, darkness, t_s)
    if darkness > 0.3:
        share = min(1.0, (darkness - 0.3) / 0.5)
        local = np.float32(gain) + lamp * np.float32(0.5 * share)
        grey = np.asarray(cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY), np.float32)[:, :, None] * np.float32(0.6 * share)
        lit = (seen * np.float32(1.0 - 0.6 * share) + grey) * local[:, :, None] * cast
    else:
        lit = seen * (cast * np.float32(gain))
    bank = _noise_bank()
    top, left = int(rng.integers(0, 180)), int(rng.integers(0, 240))
    sigma = camera.noise_day + (camera.noise_night - camera.noise_day) * darkness
    lit += bank[top : top + HEIGHT_PX, left : left + WIDTH_PX] * np.float32(sigma / 32)
    return np.asarray(cv2.convertScaleAbs(np.maximum(lit, 0)), np.uint8)
