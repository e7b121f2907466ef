"""Whether the cameras run with a configuration that was put in. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from device_agent.configuration.plan import Plan

DEADLINE_S = 30.0
"""A camera that gives frames is answered within this (and two keep-alives of its gate), or the configuration goes back."""
ANSWERS = 3
"""So many answered frames of a camera show that it runs."""


@dataclass(frozen=True, slots=True)
class Sight:
    """How one camera is doing since the start: frames that came, frames that the detector answered, what its pipeline raised.

    ``pending``: it has not taken the settings that it was handed last.
    """

    camera: str
    frames: int
    looked: int
    failures: int
    failure: str
    pending: bool


@dataclass(slots=True)
class Trial:
    """A configuration that was put in: since when (steady clock), how the cameras stood before, and from when on they count."""

    digest: str
    plan: Plan
    since_s: float
    before: Mapping[str, Sight]
    patience_s: float
    begun: dict[str, Sight] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``over``: it need not be watched any longer; then a ``reason`` says why it goes back, none that it is good.

    ``doubtful``: frames came and nobody answered, which may be the detector's fault as well.
    """

    over: bool
    reason: str = ""
    doubtful: bool = False


def judged(trial: Trial, sights: Sequence[Sight], now_s: float) -> Verdict:
    """What the cameras show of a trial by now; notes in it from when on each camera counts.

    A camera that is switched off or gives no frames (unplugged) is not waited for beyond the deadline: no reason to go back.
    """
    late = now_s - trial.since_s >= trial.patience_s
    enabled = {plan.camera for plan in trial.plan.cameras if plan.enabled}
    waiting, silent = False, []
    for sight in sights:
        before = trial.before.get(sight.camera)
        if before is not None and sight.failures > before.failures:
            return Verdict(True, f"camera {sight.camera}: {sight.failure}")
        if sight.camera not in enabled:
            continue
        if not sight.pending:
            trial.begun.setdefault(sight.camera, sight)
        begun = trial.begun.get(sight.camera)
        answered = 0 if begun is None else sight.looked - begun.looked
        waiting = waiting or answered < ANSWERS
        came = sight.frames - (begun or before or sight).frames
        if came > 0 and answered == 0:
            silent.append(f"camera {sight.camera}: {came} frames and no answer within {trial.patience_s:.0f} s")
    if late and silent:
        return Verdict(True, "; ".join(silent), doubtful=True)
    return Verdict(late or not waiting)
