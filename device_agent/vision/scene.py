"""What one step of the pipeline saw, for those who watch beside it: triggers, samples, live view, shadow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from device_agent.vision.detector import Answer
from device_agent.vision.motion import GateResult
from device_agent.vision.rules import Moment
from device_agent.vision.types import EventUpdate, Frame, Track
from models.inference.types import Detections


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One frame after all stages. `answer` and `reported` (boxes in px of the source picture) are None where nobody looked.

    `answer` holds weak detections too, `reported` those above the card's thresholds. `updates` is what the rules brought.
    """

    frame: Frame
    gate: GateResult
    answer: Answer | None
    reported: Detections | None
    tracks: Sequence[Track]
    moment: Moment
    updates: Sequence[EventUpdate]


class Watcher(Protocol):
    """Watches one camera beside the rules. Called by the camera's own thread after each step; must be quick."""

    name: str

    def saw(self, scene: Scene) -> Sequence[EventUpdate]:
        """Take in one scene; events of its own, if it has any. An exception costs its word on this scene and is counted."""
        ...

    def finish(self) -> Sequence[EventUpdate]:
        """The source ended: what was still open. The next scene begins anew."""
        ...
