"""The judge of an agent on trial: it must reach the server, and see frames from each camera that gave some before. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from device_agent.update.deployment import Event
from device_agent.update.health import HealthWindow

MIN_FRAMES = 10
"""Of each camera: one picture is not yet seeing."""
RECENT_S = 60.0
"""A camera that gave frames within this time before the switch must give some after it."""


@dataclass(frozen=True, slots=True)
class AgentTrialLimits:
    """``settle_s``: shortest trial. ``frames_s``: longest wait for every camera. ``link_s``: for the server (contracts.md §5)."""

    settle_s: float = 30.0
    frames_s: float = 600.0
    link_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class SeenOnTrial:
    """What the new agent has done so far. ``frames`` by camera since its start; ``before``: cameras that must give some, None
    where that is not known. ``reached``: an answer of the server was believed."""

    in_state_s: float
    frames: Mapping[str, int]
    before: list[str] | None
    reached: bool


def judge_agent(seen: SeenOnTrial, limits: AgentTrialLimits) -> tuple[Event | None, str]:
    """The end of the trial, if it has come to one, and what is missing in words.

    Without a server for ``link_s`` it fails, other than a model: an agent that stays and cannot be reached could never be
    mended, and the one before loses nothing by running again.
    """
    dark = [name for name in seen.before or [] if name in seen.frames and seen.frames[name] < MIN_FRAMES]
    figures = {"trial_frames": float(sum(seen.frames.values())), "trial_s": round(seen.in_state_s, 1)}
    if dark and seen.in_state_s >= limits.frames_s:
        detail = f"camera {', '.join(dark)} gave frames before and gives none for {seen.in_state_s:.0f} s"
        return Event(kind="bad", reason="frames", detail=detail, figures=figures), detail
    if not seen.reached and seen.in_state_s >= limits.link_s:
        detail = f"the server was not reached for {seen.in_state_s:.0f} s"
        return Event(kind="bad", reason="link", detail=detail, figures=figures), detail
    if not seen.reached:
        return None, "the server was not reached yet"
    if dark:
        return None, f"no frames yet from camera {', '.join(dark)}"
    if seen.in_state_s < limits.settle_s:
        return None, f"it has run for {seen.in_state_s:.0f} of {limits.settle_s:.0f} s"
    if not seen.before:
        why = "no camera gave frames before the switch" if seen.before is not None else "what was seen before is not known"
        return Event(kind="unseen", detail=why, figures=figures), why
    detail = f"the server was reached, and frames seen from {', '.join(sorted(seen.before))}"
    return Event(kind="good", detail=detail, figures=figures), detail


class AgentJudge:
    """Fits ``ports.Judge``. ``frames``: frames of each camera since this process began; ``reached``: an answer was believed in
    it; ``before``: what the agent before the switch wrote down, None before this process is the one on trial."""

    def __init__(
        self,
        frames: Callable[[], Mapping[str, int]],
        *,
        reached: Callable[[], bool],
        on_trial: Callable[[], bool],
        before: Callable[[], list[str] | None],
        limits: AgentTrialLimits,
    ) -> None:
        self.note = ""
        self._frames, self._reached = frames, reached
        self._on_trial, self._before, self._limits = on_trial, before, limits
        self._last: dict[str, tuple[int, float]] = {}
        self._now_s = 0.0

    def switched(self, steady_s: float) -> None:
        """A release on trial begins to answer."""
        self.note = ""

    def add(self, window: HealthWindow, steady_s: float, *, trial: bool) -> None:
        """Remember when each camera was last seen to give frames."""
        self._now_s = steady_s
        for name, count in self._frames().items():
            known = self._last.get(name)
            if (known is None and count > 0) or (known is not None and count != known[0]):
                self._last[name] = (count, steady_s)

    def seeing(self) -> list[str]:
        """Cameras that gave frames within the last minute."""
        return sorted(name for name, (_, at_s) in self._last.items() if self._now_s - at_s <= RECENT_S)

    def verdict(self, in_state_s: float, budget_ms: float | None) -> Event | None:
        """The end of the trial; None while it goes on, and always in the process that ends for the switch."""
        if not self._on_trial():
            self.note = "the launcher is asked to start it"
            return None
        seen = SeenOnTrial(in_state_s, dict(self._frames()), self._before(), self._reached())
        event, self.note = judge_agent(seen, self._limits)
        return event

    def keep(self, steady_s: float) -> None:
        """Nothing of it outlives the process."""
