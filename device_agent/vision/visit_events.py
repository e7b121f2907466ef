"""From visits and their crops to event updates: when an event, its better crop and its end are told. No IO."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from device_agent.vision.best_crop import BestCrop, CropSettings
from device_agent.vision.rules import RuleStep, Visit
from device_agent.vision.types import Crop, Event, EventUpdate, Frame, UpdateKind

ThresholdOf = Callable[[str], float]


@dataclass(slots=True, eq=False)
class _Open:
    """One visit's crop and what was told of it."""

    crop: BestCrop
    revision: int = 0
    told: list[Crop] = field(default_factory=list)
    next_s: float = 0.0


class VisitEvents:
    """One camera's events; a long visit's better crop is told after `publish_after_s`, at doubling intervals, at its end."""

    def __init__(self, camera: str, settings: CropSettings | None = None, *, publish_after_s: float = 10.0) -> None:
        self._camera = camera
        self._settings = settings or CropSettings()
        self._publish_after_s = publish_after_s
        self._open: dict[str, _Open] = {}

    def step(self, frame: Frame, rules: RuleStep, threshold_of: ThresholdOf) -> list[EventUpdate]:
        """Event updates of one frame, ends first: a new event's crop is encoded in this frame."""
        updates = [self._end(visit, threshold_of, still_open=False) for visit in rules.ended]
        for visit in rules.forgotten:
            self._open.pop(visit.id, None)
        started = {id(visit) for visit in rules.started}
        for visit, track in rules.present:
            state = self._open.setdefault(visit.id, _Open(BestCrop(self._settings)))
            state.crop.offer(frame, track.xyxy, track.score, "best" if state.told else "first")
            if id(visit) in started:
                state.next_s = frame.at_s + self._publish_after_s
                updates.append(self._tell(visit, state, "start", threshold_of))
            elif visit.raised and frame.at_s >= state.next_s and self._better(state):
                state.next_s = frame.at_s + 2 * max(self._publish_after_s, frame.at_s - visit.entered.at_s)
                updates.append(self._tell(visit, state, "update", threshold_of))
        return updates

    def finish(self, left: list[tuple[Visit, bool]], threshold_of: ThresholdOf) -> list[EventUpdate]:
        """The source ended: the ends of the events that are left, each with whether it was still open."""
        updates = [self._end(visit, threshold_of, still_open=still_open) for visit, still_open in left]
        self._open.clear()
        return updates

    @staticmethod
    def _better(state: _Open) -> bool:
        return state.crop.best is not None and (not state.told or state.told[-1] is not state.crop.best)

    def _end(self, visit: Visit, threshold_of: ThresholdOf, *, still_open: bool) -> EventUpdate:
        state = self._open.pop(visit.id, None) or _Open(BestCrop(self._settings))
        return self._tell(visit, state, "end", threshold_of, still_open=still_open)

    def _tell(
        self, visit: Visit, state: _Open, kind: UpdateKind, threshold_of: ThresholdOf, *, still_open: bool = False
    ) -> EventUpdate:
        best = state.crop.best
        news: tuple[Crop, ...] = ()
        if best is not None and self._better(state):
            news = (replace(best, kind="best" if state.told else "first"),)
            state.told.append(best)
        event = Event(
            id=visit.id,
            revision=state.revision,
            camera=self._camera,
            track=visit.track,
            label=visit.label,
            rule=visit.zone.name,
            rule_kind=visit.rule_kind,
            zone=visit.zone.name,
            start_frame=visit.entered.frame,
            start_s=visit.entered.at_s,
            started_wall_s=visit.entered.wall_s,
            end_frame=visit.last.frame,
            end_s=visit.last.at_s,
            ended_wall_s=visit.last.wall_s,
            open=kind != "end" or still_open,
            score=best.score if best else visit.score,
            threshold=threshold_of(visit.label),
            box=best.box if best else visit.box,
            best_frame=best.frame if best else visit.last.frame,
            frame_width_px=visit.last.width_px,
            frame_height_px=visit.last.height_px,
            crops=news,
        )
        state.revision += 1
        return EventUpdate(kind, event)
