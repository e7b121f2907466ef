"""The device's own history: how often motion led to a detection, by brightness, and how fast it was. Pure."""

import math

import msgspec

from device_agent.update.health import BRIGHTNESS, Before, HealthWindow, Seen

VERSION = 1
MEMORY_FRAMES = 20_000.0
"""Older frames of a class fade so that about this many gated frames of it are remembered (a day or more of a busy yard)."""
SPEED_MEMORY_S = 600.0
"""Time constant of the usual frame rate and latency."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Faded counts by brightness class as (gated, found), and the usual speed. Also the form on the disk.

    ``asked``: the rates that the cameras are asked for; the usual frame rate is of the ``rate_s`` seconds since then.
    """

    v: int = VERSION
    light: dict[str, tuple[float, float]] = {}
    fps: float = 0.0
    camera_fps: float = 0.0
    latency_ms: float | None = None
    seconds: float = 0.0
    asked: tuple[float, ...] = ()
    rate_s: float = 0.0

    def before(self) -> Before:
        """As the trial's judge reads it."""
        light = {word: Seen(*self.light[word]) for word in BRIGHTNESS if word in self.light}
        return Before(light, self.fps, self.camera_fps, self.latency_ms, self.asked)

    @property
    def detection_share(self) -> float | None:
        """Share of all gated frames with a detection; None before anything was seen."""
        gated = sum(one[0] for one in self.light.values())
        return sum(one[1] for one in self.light.values()) / gated if gated else None


def remember(history: History, window: HealthWindow) -> History:
    """The history after one window of a committed release."""
    light = dict(history.light)
    for word in BRIGHTNESS:
        seen = window.light.get(word)
        if seen is None or not math.isfinite(seen.gated + seen.found) or not 0 <= seen.found <= seen.gated or seen.gated <= 0:
            continue
        gated, found = light.get(word, (0.0, 0.0))
        keep = math.exp(-seen.gated / MEMORY_FRAMES)
        light[word] = (gated * keep + seen.gated, found * keep + seen.found)
    seconds = history.seconds + window.duration_s
    # Young histories are plain means; old ones forget with SPEED_MEMORY_S.
    share = window.duration_s / min(seconds, SPEED_MEMORY_S) if seconds > 0 else 0.0
    share = min(1.0, share)
    asked = history.asked if window.asked is None else window.asked
    rate_s, rate_share = history.rate_s, 0.0
    if window.asked is not None:
        rate_s = (rate_s if asked == history.asked else 0.0) + window.duration_s
        rate_share = min(1.0, window.duration_s / min(rate_s, SPEED_MEMORY_S)) if rate_s > 0 else 0.0
    latency = window.latency_ms
    if latency is None or history.latency_ms is None:
        latency = history.latency_ms if latency is None else latency
    else:
        latency = history.latency_ms + (latency - history.latency_ms) * share
    return History(
        light=light,
        fps=history.fps + (window.fps - history.fps) * rate_share,
        camera_fps=history.camera_fps + (window.camera_fps - history.camera_fps) * rate_share,
        latency_ms=latency,
        seconds=seconds,
        asked=asked,
        rate_s=rate_s,
    )
