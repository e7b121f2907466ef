"""The trial's verdict: does the new model see as well as this device's own history says it should? Pure; three outcomes.

**The test.** Per brightness class, against the class's own history: is the share of motion frames with a detection below *half*
of what it was (``min_rate_ratio``)? Evidence is an e-value: the likelihood of what was seen under clearly lower rates, divided by
its likelihood at exactly half the history (a lower bound of it), averaged over the lower rates. If the true rate is at least half
of the history, the e-value ever exceeds 1 / alpha with probability at most alpha (Ville's inequality), however often one looks.
So the judge may be asked after every window, and the error rate stays as stated: alpha 0.01 for all classes together.

Frames of one visit resemble each other, so evidence is divided by ``FRAMES_PER_LOOK``: three frames count as one look.
"""

import math
from dataclasses import dataclass, field, replace

BRIGHTNESS = ("dark", "dim", "bright")
ALPHA = 0.01
"""Probability of rolling back a model whose true rate is at least half of the history, over a whole trial."""
DEADLINE_ALPHA = 0.1
"""At the trial's end the balance of evidence decides about a model that looks blind: weaker evidence is enough then."""
FRAMES_PER_LOOK = 3.0
LOWER_RATES = (0.02, 0.1, 0.25, 0.5, 0.75)
"""The alternatives, as shares of the rate that is tested against."""
LOWER_BOUND_Z = 2.326
"""One-sided 99 % (normal quantile): the history itself is known from a sample."""
LARGE_CLASS = 0.2
"""A brightness class with this share of the history must be seen before a trial can pass."""
MIN_HISTORY_FRAMES = 50.0
"""A class of which the history knows less is not judged; above it, ``lower_bound`` allows for what is not known."""
LATENCY_RATIO = 3.0
"""A median invoke this many times that of the release before, and above the signed budget, fails a trial."""
JUDGE_RATE_AFTER_S = 60.0
"""A busy moment of the board is not the model's frame rate."""
LINK_LIMIT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Motion-gated frames of one brightness, and how many had a detection. Fractions where an old count was faded."""

    gated: float = 0.0
    found: float = 0.0

    @property
    def rate(self) -> float:
        """Share with a detection, 0 where nothing was seen."""
        return self.found / self.gated if self.gated else 0.0

    def plus(self, other: "Seen") -> "Seen":
        """Both together."""
        return Seen(self.gated + other.gated, self.found + other.found)


@dataclass(frozen=True, slots=True)
class HealthWindow:
    """What was counted in one window of ``duration_s``, over all cameras of the device.

    ``light`` by brightness class; ``fps`` frames answered per second, ``camera_fps`` frames that came from the cameras;
    ``latency_ms`` median of the bare invoke; ``crashes`` deaths of the detector. ``link`` whether the server was reached since
    the window before; ``link_worse`` whether gateway or name lookups fail that worked before the switch. ``asked``: rates that
    the cameras were asked for, one a camera (`Seeing.asked_fps`); None where that changed within the window.
    """

    duration_s: float
    light: dict[str, Seen] = field(default_factory=dict)
    fps: float = 0.0
    camera_fps: float = 0.0
    latency_ms: float | None = None
    crashes: int = 0
    link: bool = True
    link_worse: bool = False
    asked: tuple[float, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Before:
    """The device's own history: rates by brightness, and its usual speed (0 or None: not known) at the rates asked for."""

    light: dict[str, Seen] = field(default_factory=dict)
    fps: float = 0.0
    camera_fps: float = 0.0
    latency_ms: float | None = None
    asked: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """All windows since the switch together; frame rates over ``rate_s``, since the cameras are asked for the present rates."""

    seconds: float = 0.0
    light: dict[str, Seen] = field(default_factory=dict)
    fps: float = 0.0
    camera_fps: float = 0.0
    latency_ms: float | None = None
    crashes: int = 0
    link: bool = True
    link_worse: bool = False
    asked: tuple[float, ...] = ()
    rate_s: float = 0.0

    @property
    def total(self) -> Seen:
        """All brightness classes together."""
        return _total(self.light)


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """When a trial is judged. ``budget_ms``: the signed latency budget with this board's allowance, None without one."""

    min_gated_frames: int = 50
    deadline_s: float = 86400.0
    min_rate_ratio: float = 0.5
    min_fps_ratio: float = 0.7
    max_crashes: int = 2
    budget_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """``outcome`` is pass, fail, unseen (the end came first) or unknown (go on); ``code`` a reason of the wire for a failure."""

    outcome: str
    code: str = ""
    reason: str = ""
    figures: dict[str, float] = field(default_factory=dict)


def add_window(trial: Trial, window: HealthWindow) -> Trial:
    """The trial with one more window; speeds are means weighted by time."""
    seconds = trial.seconds + window.duration_s
    share = window.duration_s / seconds if seconds > 0 else 0.0
    asked = trial.asked if window.asked is None else window.asked
    # A window of two rates says nothing about either; with other rates the mean begins anew.
    rate_s = (trial.rate_s if asked == trial.asked else 0.0) + (window.duration_s if window.asked is not None else 0.0)
    rate_share = window.duration_s / rate_s if rate_s > 0 and window.asked is not None else 0.0
    light = {word: trial.light.get(word, Seen()).plus(window.light.get(word, Seen())) for word in BRIGHTNESS}
    latency = _blend(trial.latency_ms, window.latency_ms, share)
    return replace(
        trial,
        seconds=seconds,
        light={word: seen for word, seen in light.items() if seen.gated},
        fps=trial.fps + (window.fps - trial.fps) * rate_share,
        camera_fps=trial.camera_fps + (window.camera_fps - trial.camera_fps) * rate_share,
        latency_ms=latency,
        crashes=trial.crashes + window.crashes,
        link=window.link,
        link_worse=window.link_worse,
        asked=asked,
        rate_s=rate_s,
    )


def judge(trial: Trial, before: Before, limits: TrialLimits, in_state_s: float) -> Verdict:
    """The verdict now; ``in_state_s`` is how long the trial has lasted. Past its end it is never ``unknown``."""
    figures = _figures(trial, before)
    over = in_state_s >= limits.deadline_s
    failed = _speed_fault(trial, before, limits) or _blind(trial, before, limits, over=over)
    if failed is not None:
        return replace(failed, figures=figures)
    missing = _not_yet_seen(trial, before, limits)
    if trial.link and not missing:
        reason = f"{trial.total.gated:.0f} gated frames, detections in {trial.total.rate:.0%}"
        return Verdict("pass", reason=reason, figures=figures)
    if not trial.link:
        if in_state_s >= max(limits.deadline_s, LINK_LIMIT_S):
            if trial.link_worse:
                reason = "the server is out of reach, and gateway or name lookups worked before the switch"
                return Verdict("fail", "deadline", reason, figures)
            return Verdict("unseen", reason="the server was out of reach for the whole trial", figures=figures)
        return Verdict("unknown", reason="the server is out of reach", figures=figures)
    if over:
        return Verdict("unseen", reason=f"the trial's time is over: {missing}", figures=figures)
    return Verdict("unknown", reason=missing, figures=figures)


def evidence_of_loss(seen: Seen, rate: float) -> float:
    """log of the e-value that the true share of ``seen`` is below ``rate``: ``-log(alpha)`` rejects at error rate alpha."""
    if not 0.0 < rate < 1.0 or seen.gated <= 0:
        return 0.0
    missed = seen.gated - seen.found
    logs = []
    for share in LOWER_RATES:
        lower = rate * share
        logs.append((seen.found * math.log(lower / rate) + missed * math.log((1 - lower) / (1 - rate))) / FRAMES_PER_LOOK)
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs) / len(logs))


def lower_bound(seen: Seen) -> float:
    """A rate that the true share exceeds with 99 % (Wilson), frames counted as independent looks."""
    looks = seen.gated / FRAMES_PER_LOOK
    if looks < 1e-6:
        return 0.0
    z2 = LOWER_BOUND_Z**2
    centre = seen.rate + z2 / (2 * looks)
    spread = LOWER_BOUND_Z * math.sqrt(seen.rate * (1 - seen.rate) / looks + z2 / (4 * looks**2))
    return max(0.0, (centre - spread) / (1 + z2 / looks))


def _blind(trial: Trial, before: Before, limits: TrialLimits, *, over: bool) -> Verdict | None:
    known = _judged(before)
    for word, history in known.items():
        seen = trial.light.get(word, Seen())
        tested = lower_bound(history) * limits.min_rate_ratio
        if seen.gated < limits.min_gated_frames or seen.rate >= history.rate * limits.min_rate_ratio:
            continue
        alpha = DEADLINE_ALPHA if over else ALPHA
        if evidence_of_loss(seen, tested) >= math.log(len(known) / alpha):
            return Verdict(
                "fail",
                "detection_rate",
                f"{word} frames: detections in {seen.rate:.0%} of {seen.gated:.0f} gated frames, "
                f"this device's own history says {history.rate:.0%} (error rate {alpha})",
            )
    return None


def _speed_fault(trial: Trial, before: Before, limits: TrialLimits) -> Verdict | None:
    if trial.crashes > limits.max_crashes:
        return Verdict("fail", "crashes", f"the detector died {trial.crashes} times, {limits.max_crashes} are allowed")
    if trial.total.gated >= limits.min_gated_frames and before.latency_ms is not None and trial.latency_ms is not None:
        allowed_ms = max(LATENCY_RATIO * before.latency_ms, limits.budget_ms or 0.0)
        if trial.latency_ms > allowed_ms:
            reason = f"median invoke {trial.latency_ms:.1f} ms, before it was {before.latency_ms:.1f} ms"
            return Verdict("fail", "latency", reason)
    # A configuration that asks the cameras for other rates than before makes the two beyond compare.
    if trial.rate_s < JUDGE_RATE_AFTER_S or trial.asked != before.asked:
        return None
    # A camera that delivers less is not the model's fault: its own rate must be what it was.
    camera_well = before.camera_fps > 0 and trial.camera_fps >= 0.9 * before.camera_fps
    if camera_well and before.fps > 0 and trial.fps < limits.min_fps_ratio * before.fps:
        return Verdict("fail", "frame_rate", f"{trial.fps:.1f} frames a second, before it were {before.fps:.1f}")
    return None


def _not_yet_seen(trial: Trial, before: Before, limits: TrialLimits) -> str:
    """What must still be seen before the trial can pass, in words; empty when enough was."""
    total = trial.total
    if total.gated < limits.min_gated_frames:
        return f"{total.gated:.0f} of {limits.min_gated_frames} gated frames seen"
    for word, history in _judged(before).items():
        seen = trial.light.get(word, Seen())
        large = history.gated >= LARGE_CLASS * _total(before.light).gated
        if large and seen.gated < limits.min_gated_frames:
            return f"{seen.gated:.0f} of {limits.min_gated_frames} {word} gated frames seen"
        if seen.gated >= limits.min_gated_frames and seen.rate < history.rate * limits.min_rate_ratio:
            return f"fewer detections than before in {word} frames ({seen.rate:.0%} against {history.rate:.0%}), not yet certain"
    return ""


def _judged(before: Before) -> dict[str, Seen]:
    """The brightness classes whose history is known well enough to judge by."""
    return {word: seen for word, seen in before.light.items() if seen.gated >= MIN_HISTORY_FRAMES and seen.found > 0}


def _figures(trial: Trial, before: Before) -> dict[str, float]:
    figures = {"trial_gated_frames": trial.total.gated, "trial_rate": trial.total.rate, "history_rate": _total(before.light).rate}
    for word in BRIGHTNESS:
        if word in trial.light:
            figures[f"trial_rate.{word}"] = trial.light[word].rate
        if word in before.light:
            figures[f"history_rate.{word}"] = before.light[word].rate
    return {name: round(value, 4) for name, value in figures.items()}


def _total(light: dict[str, Seen]) -> Seen:
    return Seen(sum(seen.gated for seen in light.values()), sum(seen.found for seen in light.values()))


def _blend(old: float | None, new: float | None, share: float) -> float | None:
    if new is None or old is None:
        return old if new is None else new
    return old + (new - old) * share
