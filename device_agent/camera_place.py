"""One camera's parts, and the one way by which a plan reaches them: between two frames. Pure but for what it is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_agent.configuration.plan import CameraPlan
from device_agent.duties.seeing import Seeing
from device_agent.duties.shadowing import Shadowing
from device_agent.local.output import LocalOutput
from device_agent.vision.annotate import Overlay
from device_agent.vision.cutter import Cutter
from device_agent.vision.live_view import LiveView
from device_agent.vision.pipeline import Pipeline
from device_agent.vision.privacy import Privacy
from device_agent.vision.recall import RecallSampler, RecallSettings
from device_agent.vision.scene import Watcher
from device_agent.vision.trigger_settings import make_triggers
from device_agent.vision.triggers import Triggers


class PlanError(ValueError):
    """A plan that this camera cannot follow; nothing of it was taken over."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a camera's picture goes through. ``privacy`` is the board's own; ``recall``, ``burst``: whether its policy lets
    samples and bursts leave; what it does not let out is not made either.
    """

    pipeline: Pipeline
    cutter: Cutter
    privacy: Privacy
    sampler: RecallSampler
    view: LiveView
    seeing: Seeing
    recall: bool
    burst: bool


class CameraPlace:
    """``use`` may be called from any thread, one at a time; what it brings takes effect before the camera's next frame."""

    def __init__(self, parts: Parts, local: LocalOutput, shadow: Shadowing, new_id: Callable[[], str]) -> None:
        self.parts = parts
        self._local, self._shadow, self._new_id = local, shadow, new_id
        self._triggers: Triggers | None = None

    def use(self, plan: CameraPlan) -> None:
        """Go on by this plan; raises PlanError with every fault, and the one before goes on."""
        faults: list[str] = []
        wanted = make_triggers(dict(plan.triggers), f"cameras.{plan.camera}.triggers", faults, plan.timezone)
        if faults or wanted is None:
            raise PlanError("; ".join(faults) or f"the triggers of {plan.camera} cannot be used")
        parts, watchers = self.parts, list[Watcher]()
        former, self._triggers = self._triggers, None
        if not parts.burst:
            wanted = wanted.without_bursts()
        if wanted.on:
            least = plan.pipeline.min_score
            self._triggers = Triggers(plan.camera, wanted, parts.cutter, self._new_id, min_score=least, former=former)
            watchers.append(self._triggers)
        disagreed = None if self._triggers is None else self._triggers.disagreed
        watchers.append(self._shadow.watcher(plan.camera, parts.cutter, disagreed))
        watchers += [parts.sampler, parts.view]
        privacy = parts.privacy.joined(plan.masks, plan.blur)
        recall = RecallSettings(per_day=plan.recall_per_day if parts.recall else 0)

        def before() -> None:
            parts.cutter.use(privacy)
            parts.sampler.use(recall)

        parts.pipeline.reconfigure(plan.pipeline, watchers=watchers, before=before)
        zones = [(zone.name, zone.polygon) for zone in plan.pipeline.zones]
        parts.view.overlay = Overlay(tuple(zones), plan.pipeline.lines)
        parts.seeing.use(enabled=plan.enabled, fps=plan.fps)
        self._local.places(plan.camera, [name for name, _ in zones], [line.name for line in plan.pipeline.lines])


def frames_of(places: Sequence[CameraPlace]) -> dict[str, int]:
    """Frames that each camera's pipeline has taken since this process began."""
    pipelines = [place.parts.pipeline for place in places]
    return {one.settings.camera: one.counts().frames for one in pipelines}
