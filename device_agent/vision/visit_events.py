"""From visits, crossings and their crops to event updates: when an event, its better crop and its end are told. No IO."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from device_agent.vision.best_crop import BestCrop, CropSettings, inside_share, made_crop
from device_agent.vision.cutter import CutOut, Cutter
from device_agent.vision.rules import Crossing, RuleStep, Visit
from device_agent.vision.types import Crop, Cut, Event, EventUpdate, Frame, Track, UpdateKind
from device_agent.vision.zones import WHOLE_PICTURE, Zone

ThresholdOf = Callable[[str], float]
LEAST_BYTES = 4096
"""Less than this shows nothing: the event goes without a crop."""


@dataclass(slots=True, eq=False)
class _Open:
    """One visit's crop and the last that was told of it, without its bytes: those are on their way."""

    crop: BestCrop
    revision: int = 0
    told: Crop | None = None
    next_s: float = 0.0


class VisitEvents:
    """One camera's events; a long visit's better crop is told after `publish_after_s`, at doubling intervals, at its end.

    A crossing is a moment: its start and its end are told at once, with one crop. Where `cutter` gives no picture the event goes
    without. However many zones see an object, a frame's picture of it is made and kept once; the crops that wait to be told are
    bounded all together (`CropSettings.open_bytes`), by smaller ones first, then by none.
    """

    def __init__(
        self,
        camera: str,
        settings: CropSettings | None = None,
        *,
        cutter: Cutter | None = None,
        publish_after_s: float = 10.0,
    ) -> None:
        self._camera = camera
        self._settings = settings or CropSettings()
        self._cutter = cutter or Cutter()
        self._publish_after_s = publish_after_s
        self._open: dict[str, _Open] = {}
        self._made: dict[Cut, CutOut | None] = {}

    def step(self, frame: Frame, rules: RuleStep, threshold_of: ThresholdOf) -> list[EventUpdate]:
        """Event updates of one frame, ends first: a new event's crop is encoded in this frame."""
        self._made.clear()
        updates = [self._end(visit, threshold_of, still_open=False) for visit in rules.ended]
        for visit in rules.forgotten:
            self._open.pop(visit.id, None)
        started = {id(visit) for visit in rules.started}
        for visit, track in rules.present:
            state = self._open.get(visit.id)
            if state is None:
                state = self._open[visit.id] = self._new()
            self._offer(state, frame, visit, track)
            if id(visit) in started:
                state.next_s = frame.at_s + self._publish_after_s
                updates.append(self._tell(visit, state, "start", threshold_of))
            elif visit.raised and frame.at_s >= state.next_s and self._better(state):
                state.next_s = frame.at_s + 2 * max(self._publish_after_s, frame.at_s - visit.entered.at_s)
                updates.append(self._tell(visit, state, "update", threshold_of))
        for crossing in rules.crossings:
            updates += self._crossed(frame, crossing, threshold_of)
        self._made.clear()
        return updates

    def finish(self, left: list[tuple[Visit, bool]], threshold_of: ThresholdOf) -> list[EventUpdate]:
        """The source ended: the ends of the events that are left, each with whether it was still open."""
        updates = [self._end(visit, threshold_of, still_open=still_open) for visit, still_open in left]
        self._open.clear()
        return updates

    def _new(self) -> _Open:
        return _Open(self._crop())

    def _crop(self) -> BestCrop:
        return BestCrop(self._settings, cutter=self._cutter, make=self._cut_out)

    def _cut_out(self, frame: Frame, cut: Cut) -> CutOut | None:
        """This frame's picture of one place, made once whoever asks, within what is left for all that wait."""
        if cut not in self._made:
            waiting = [state.crop.best.jpeg for state in self._open.values() if state.crop.best is not None]
            waiting += [made.jpeg for made in self._made.values() if made is not None]
            held_bytes = sum({id(jpeg): len(jpeg) for jpeg in waiting}.values())
            max_bytes = min(self._settings.max_bytes, self._settings.open_bytes - held_bytes)
            roomy = max_bytes >= LEAST_BYTES
            self._made[cut] = made_crop(self._cutter, self._settings, max_bytes, frame, cut) if roomy else None
        return self._made[cut]

    @staticmethod
    def _offer(state: _Open, frame: Frame, visit: Visit, track: Track) -> None:
        """A new picture of what stands still for hours shows nothing new: after its first one was told it is not looked at."""
        if not track.seen or (track.stationary and state.told):
            return
        inside = functools.partial(share_in_zone, visit.zone, track, frame)
        state.crop.offer(frame, track.xyxy, track.score, "best" if state.told else "first", inside=inside)

    @staticmethod
    def _better(state: _Open) -> bool:
        return state.crop.best is not None and state.told is not state.crop.best

    def _end(self, visit: Visit, threshold_of: ThresholdOf, *, still_open: bool) -> EventUpdate:
        state = self._open.pop(visit.id, None) or self._new()
        return self._tell(visit, state, "end", threshold_of, still_open=still_open)

    def _tell(
        self, visit: Visit, state: _Open, kind: UpdateKind, threshold_of: ThresholdOf, *, still_open: bool = False
    ) -> EventUpdate:
        best = state.crop.best
        news: tuple[Crop, ...] = ()
        if best is not None and self._better(state):
            news = (replace(best, kind="best" if state.told else "first"),)
            state.told = state.crop.best = replace(best, jpeg=b"")
            state.crop.told(state.told)
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
            threshold=max(threshold_of(visit.label), visit.zone.min_score),
            box=best.box if best else visit.box,
            best_frame=best.frame if best else visit.last.frame,
            frame_width_px=visit.last.width_px,
            frame_height_px=visit.last.height_px,
            crops=news,
        )
        state.revision += 1
        return EventUpdate(kind, event)

    def _crossed(self, frame: Frame, crossing: Crossing, threshold_of: ThresholdOf) -> list[EventUpdate]:
        crop = self._crop()
        track, line = crossing.track, crossing.line
        crop.offer(frame, track.xyxy, track.score, "first")
        event = Event(
            id=crossing.id,
            revision=0,
            camera=self._camera,
            track=track.id,
            label=track.label,
            rule=line.name,
            rule_kind="line",
            zone=None,
            start_frame=crossing.crossed.frame,
            start_s=crossing.crossed.at_s,
            started_wall_s=crossing.crossed.wall_s,
            end_frame=crossing.counted.frame,
            end_s=crossing.counted.at_s,
            ended_wall_s=crossing.counted.wall_s,
            open=True,
            score=track.score,
            threshold=max(threshold_of(track.label), line.min_score),
            box=track.xyxy,
            best_frame=frame.index,
            frame_width_px=frame.width_px,
            frame_height_px=frame.height_px,
            direction=crossing.direction,
            crops=() if crop.best is None else (crop.best,),
        )
        return [EventUpdate("start", event), EventUpdate("end", replace(event, revision=1, open=False, crops=()))]


def share_in_zone(zone: Zone, track: Track, frame: Frame) -> float:
    """Share 0..1 of a track's lower half that lies in a zone."""
    if zone.polygon == WHOLE_PICTURE:
        return 1.0
    share = inside_share(zone.polygon, track.xyxy, frame.width_px, frame.height_px)
    return share if zone.inside else 1.0 - share
