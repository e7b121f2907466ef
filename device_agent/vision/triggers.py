"""Triggers: scenes that are worth a second look, as events of rule kind `trigger` with a burst of frames around them. No IO.

Four of them: the first of a class today, a track whose best score stays doubtful, two that nearly meet, and a shadow model that
sees otherwise. Each has its cool-down and its hourly limit: a broken camera must not eat the upload budget. All durations are
measured on the frames' own clock; the wall's time says only which day it is.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from device_agent.vision.best_crop import BestCrop
from device_agent.vision.burst import After, BurstRing, BurstSettings
from device_agent.vision.conditions import Limiter
from device_agent.vision.cutter import Cutter
from device_agent.vision.doubtful import Doubtful
from device_agent.vision.near_miss import NearMisses
from device_agent.vision.scene import Scene
from device_agent.vision.schedule import day_of
from device_agent.vision.trigger_settings import TriggerKind, TriggerSettings
from device_agent.vision.types import Box, Crop, Event, EventUpdate

DAYS_REMEMBERED = 8
"""A clock that jumps to and fro meets days that it had before: what was first on them is not first again."""
MOST_DISAGREEMENTS = 16
MOST_OPEN = 8
"""Bursts that are being taken at one time."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A shadow saw otherwise: what, where (px of the source picture), how sure, and in one word how (missed, extra, class)."""

    label: str
    box: Box
    score: float
    detail: str
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A trigger that would fire."""

    kind: TriggerKind
    rule: str
    track: int
    label: str
    box: Box
    score: float
    crop: Crop | None = None


class Triggers:
    """A watcher of one camera. `min_score`: labels that are reported from a higher score on than the model's card says.

    `former`: the triggers before a change of configuration, used no more: what they knew of the day and counted goes on.
    """

    name = "triggers"

    def __init__(
        self,
        camera: str,
        settings: TriggerSettings,
        cutter: Cutter,
        new_id: Callable[[], str],
        *,
        burst: BurstSettings | None = None,
        min_score: Mapping[str, float] | None = None,
        former: "Triggers | None" = None,
    ) -> None:
        self._camera, self._settings, self._cutter, self._new_id = camera, settings, cutter, new_id
        self._min_score = dict(min_score or {})
        # First of a class: the cool-down is that class's own, or the second class of a morning would never be first.
        self._limits = {
            kind: Limiter(limits.cooldown_s, limits.per_hour, per_class=kind == "first_today")
            for kind, limits in settings.on.items()
        }
        wanted = any(limits.burst for limits in settings.on.values())
        self._ring = BurstRing(cutter, burst) if wanted else None
        self._near = NearMisses(settings.near_miss.pairs if settings.near_miss else ())
        self._firsts: dict[date, set[str]] = {} if former is None else former._firsts
        self._doubtful = Doubtful(settings.low_confidence, cutter) if settings.low_confidence else None
        self._disagreed: deque[Disagreement] = deque(maxlen=MOST_DISAGREEMENTS)
        self._open: list[tuple[Event, After]] = []
        self._last_s = -math.inf
        self._fired: Counter[str] = Counter() if former is None else former._fired
        self._held_back: Counter[str] = Counter() if former is None else former._held_back
        cutter.kept_by(self)

    def forget_pictures(self) -> None:
        """Bursts that are being taken go on with what comes."""
        for _, after in self._open:
            after.crops.clear()

    def counts(self) -> dict[str, dict[str, int]]:
        """Since the start: how often each trigger fired, and how often its limits held it back."""
        return {kind: {"fired": self._fired[kind], "held_back": self._held_back[kind]} for kind in self._settings.on}

    def disagreed(self, what: Disagreement) -> None:
        """The shadow's word; any thread may call. It is told with the next scene."""
        if self._settings.disagreement is not None:
            self._disagreed.append(what)

    def saw(self, scene: Scene) -> Sequence[EventUpdate]:
        """Take in one scene; the triggers that fired, and the ends of those whose bursts are complete."""
        at_s = scene.moment.at_s
        updates = self._restart(scene) if at_s < self._last_s else []
        self._last_s = at_s
        if scene.answer is None:
            return updates + self._close(at_s, None)
        picture = self._ring.offer(scene.frame) if self._ring is not None else None
        updates += self._close(at_s, picture)
        for found in (*self._first_today(scene), *self._low_confidence(scene), *self._near_misses(scene), *self._disagreements()):
            updates += self._fire(found, scene)
        return updates

    def finish(self) -> Sequence[EventUpdate]:
        """The source ended: the ends of what was open, with the pictures that there are."""
        ends = [_end(event, after) for event, after in self._open]
        self._open.clear()
        if self._doubtful is not None:
            self._doubtful.finish()
        self._near.finish()
        if self._ring is not None:
            self._ring.clear()
        return ends

    # -- what fires -----------------------------------------------------------------------------------------------------

    def _first_today(self, scene: Scene) -> list[_Found]:
        limits = self._settings.first_today
        today = day_of(scene.moment.wall_s, self._settings.timezone) if limits is not None else None
        if limits is None or today is None:
            return []
        known = self._firsts.setdefault(today, set())
        while len(self._firsts) > DAYS_REMEMBERED:
            del self._firsts[min(day for day in self._firsts if day != today)]
        found = []
        for track in scene.tracks:
            if track.confirmed and track.seen and track.label not in known and limits.takes(track.label):
                known.add(track.label)
                found.append(_Found("first_today", "first_today", track.id, track.label, track.xyxy, track.score))
        return found

    def _low_confidence(self, scene: Scene) -> list[_Found]:
        if self._doubtful is None:
            return []
        doubts = self._doubtful.step(scene.tracks, scene.frame, lambda label: self._threshold(scene, label))
        return [
            _Found(
                "low_confidence", "low_confidence", doubt.track.id, doubt.track.label,
                doubt.crop.box if doubt.crop else doubt.track.xyxy, doubt.crop.score if doubt.crop else doubt.best, doubt.crop,
            )
            for doubt in doubts
        ]  # fmt: skip

    def _near_misses(self, scene: Scene) -> list[_Found]:
        limits = self._settings.near_miss
        if limits is None:
            return []
        found = []
        for miss in self._near.step([track for track in scene.tracks if limits.takes(track.label)], scene.moment.at_s):
            # A person is who matters beside a machine; of two alike, the smaller one.
            first = min((miss.first, miss.second), key=lambda track: (track.label != "person", _area(track.xyxy)))
            found.append(_Found("near_miss", "near_miss", first.id, first.label, miss.box, first.score))
        return found

    def _disagreements(self) -> list[_Found]:
        limits, found = self._settings.disagreement, []
        while limits is not None and self._disagreed:
            what = self._disagreed.popleft()
            if limits.takes(what.label):
                rule = f"disagreement.{what.detail}"
                found.append(_Found("disagreement", rule, 0, what.label, what.box, what.score, what.crop))
        return found

    # -- what comes of it -----------------------------------------------------------------------------------------------

    def _fire(self, found: _Found, scene: Scene) -> list[EventUpdate]:
        moment, limits = scene.moment, self._settings.on[found.kind]
        if len(self._open) >= MOST_OPEN or not self._limits[found.kind].lets(found.label, moment.at_s):
            self._held_back[found.kind] += 1
            return []
        self._fired[found.kind] += 1
        crop = found.crop or self._crop(found, scene)
        crops: tuple[Crop, ...] = () if crop is None else (replace(crop, kind="first"),)
        if limits.burst and self._ring is not None:
            crops += self._ring.before(moment.at_s)
        event = Event(
            id=self._new_id(),
            revision=0,
            camera=self._camera,
            track=found.track,
            label=found.label,
            rule=found.rule,
            rule_kind="trigger",
            zone=None,
            start_frame=moment.frame,
            start_s=moment.at_s,
            started_wall_s=moment.wall_s,
            end_frame=moment.frame,
            end_s=moment.at_s,
            ended_wall_s=moment.wall_s,
            open=True,
            score=found.score,
            threshold=self._threshold(scene, found.label),
            box=found.box,
            best_frame=crop.frame if crop else moment.frame,
            frame_width_px=moment.width_px,
            frame_height_px=moment.height_px,
            crops=crops,
        )
        if not limits.burst or self._ring is None:
            return [EventUpdate("start", event), _end(event, None)]
        settings = self._ring.settings
        self._open.append((event, After(moment.at_s + settings.after_s, settings.most_after)))
        return [EventUpdate("start", event)]

    def _crop(self, found: _Found, scene: Scene) -> Crop | None:
        crop = BestCrop(cutter=self._cutter)
        crop.offer(scene.frame, found.box, found.score, "first")
        return crop.best

    def _close(self, at_s: float, picture: Crop | None) -> list[EventUpdate]:
        ends, still = [], []
        for event, after in self._open:
            after.take(picture)
            if after.over(at_s):
                ends.append(_end(event, after))
            else:
                still.append((event, after))
        self._open = still
        return ends

    def _restart(self, scene: Scene) -> list[EventUpdate]:
        """The frames' clock began anew: nothing of before can be measured against it."""
        for limiter in self._limits.values():
            limiter.restart()
        return list(self.finish())

    def _threshold(self, scene: Scene, label: str) -> float:
        if scene.answer is None:
            return 0.0
        thresholds = scene.answer.card.thresholds
        return max(thresholds.per_class.get(label, thresholds.score), self._min_score.get(label, 0.0))


def _end(event: Event, after: After | None) -> EventUpdate:
    """The end of a trigger's event: with the pictures that came after, and the time of the last of them."""
    crops = tuple(after.crops) if after is not None else ()
    ended = replace(event, revision=1, open=False, crops=crops)
    if crops:
        ended = replace(ended, end_frame=crops[-1].frame, end_s=crops[-1].at_s, ended_wall_s=crops[-1].wall_s)
    return EventUpdate("end", ended)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
