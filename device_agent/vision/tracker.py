"""From boxes in frames to objects followed through time. Pure: frames' times come in, nothing is read from a clock.

Each track predicts its box with constant velocity. Strong detections are matched by overlap; tracks that found nothing may take a
weak detection (a score below what is reported) in the same place; what is left is matched by the distance of centres in body
sizes, because at a few frames a second a walker's boxes no longer overlap. Only one class goes with one track.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import (
    FloatArray,
    centre_distance,
    contained,
    from_centres,
    greedy_pairs,
    iou,
    size_ratio,
    to_centres,
)
from device_agent.vision.types import Box, Track

PREDICT_AT_MOST_S = 0.6
"""A lost object is not moved on for longer than this: people stop and turn."""


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """`near` is in body sizes, shares and IoU 0..1, times in seconds.

    A tentative track that is not measured for `tentative_s` is forgotten; a confirmed one is lost after `lost_after_s`.
    """

    confirm_hits: int = 3
    lost_after_s: float = 2.0
    tentative_s: float = 0.7
    strong_iou: float = 0.25
    weak_iou: float = 0.4
    near: float = 1.0
    near_size_ratio: float = 0.35
    duplicate_share: float = 0.8


@dataclass(frozen=True, slots=True)
class Sighting:
    """Detections of one frame as the tracker takes them: boxes (N, 4) px, scores (N,), class ids (N,), `strong` bool (N,).

    Strong are those whose score is at least what their class is reported from; the others may only continue a track.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: npt.NDArray[np.int32]
    strong: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TrackerStep:
    """Tracks alive after a frame (tentative ones too), and those confirmed ones that were given up with it."""

    tracks: list[Track]
    ended: list[Track]


@dataclass(slots=True)
class _State:
    """One track: what was measured last, and the filter's centre, size and velocity (px/s)."""

    id: int
    centre: FloatArray
    velocity: FloatArray
    box: Box
    score: float
    class_id: int
    hits: int
    first_frame: int
    first_at_s: float
    last_frame: int
    last_at_s: float
    confirmed: bool = False


class Tracker:
    """The tracks of one camera. Ids grow from 1 and are never used again."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self._settings = settings or TrackerSettings()
        self._states: list[_State] = []
        self._next_id = 1

    @property
    def active(self) -> bool:
        """Whether there is anything to follow: the detector must then keep looking."""
        return bool(self._states)

    def step(self, seen: Sighting, frame: int, at_s: float, labels: Sequence[str]) -> TrackerStep:
        """Take in one frame's detections. Frames must come in order of time; `labels[i]` names class id i."""
        matched, free = self._match(seen, at_s)
        for track, detection in matched:
            self._measure(self._states[track], seen, detection, frame, at_s)
        held = [detection for _, detection in matched]
        for detection in free:
            if not self._duplicate(seen, detection, held):
                self._born(seen, detection, frame, at_s)
                held.append(detection)
        ended = [self._shown(state, labels, at_s) for state in self._states if state.confirmed and self._is_lost(state, at_s)]
        self._states = [state for state in self._states if not self._is_lost(state, at_s)]
        return TrackerStep([self._shown(state, labels, at_s) for state in self._states], ended)

    def finish(self, labels: Sequence[str]) -> list[Track]:
        """The source ended: give up all tracks; returns the confirmed ones."""
        ended = [self._shown(state, labels, None) for state in self._states if state.confirmed]
        self._states = []
        return ended

    def _match(self, seen: Sighting, at_s: float) -> tuple[list[tuple[int, int]], list[int]]:
        """Pairs (track, detection), and the strong detections that no track took, best first."""
        strong = np.nonzero(seen.strong)[0]
        if not self._states or not len(seen.scores):
            return [], strong[np.argsort(-seen.scores[strong], kind="stable")].tolist()
        settings = self._settings
        predicted = self._predicted(at_s)
        found = to_centres(seen.boxes)
        overlap = iou(from_centres(predicted), seen.boxes)
        overlap[np.array([state.class_id for state in self._states])[:, None] != seen.classes[None, :]] = -1.0
        sure = np.array([state.confirmed for state in self._states])

        pairs = greedy_pairs(np.where(seen.strong[None, :], overlap, np.float32(-1)), settings.strong_iou)
        _strike(overlap, pairs)
        weak = greedy_pairs(np.where(~seen.strong[None, :] & sure[:, None], overlap, np.float32(-1)), settings.weak_iou)
        _strike(overlap, weak)
        reach = np.float32(1) - centre_distance(predicted, found) / np.float32(2 * settings.near)
        allowed = (overlap >= 0) & seen.strong[None, :] & (size_ratio(predicted, found) >= settings.near_size_ratio)
        near = greedy_pairs(np.where(allowed, reach, np.float32(-1)), 0.5)
        pairs += weak + near
        taken = {detection for _, detection in pairs}
        return pairs, [index for index in strong[np.argsort(-seen.scores[strong], kind="stable")].tolist() if index not in taken]

    def _predicted(self, at_s: float) -> FloatArray:
        """Where each track should be now: centre and size, (T, 4)."""
        centres = np.array([state.centre for state in self._states], np.float32)
        velocities = np.array([state.velocity for state in self._states], np.float32)
        ages = np.array([min(at_s - state.last_at_s, PREDICT_AT_MOST_S) for state in self._states], np.float32)
        centres[:, :2] += velocities * ages[:, None]
        return centres

    def _measure(self, state: _State, seen: Sighting, detection: int, frame: int, at_s: float) -> None:
        """Take a detection as the track's new measurement: an alpha-beta filter on the centre, smoothing on the size."""
        found = to_centres(seen.boxes[detection : detection + 1])[0]
        age_s = max(at_s - state.last_at_s, 1e-3)
        expected = state.centre[:2] + state.velocity * np.float32(min(age_s, PREDICT_AT_MOST_S))
        surprise = found[:2] - expected
        # The second measurement gives the whole velocity, later ones correct it: a new walker is not lagged behind.
        gain = 1.0 if state.hits == 1 else 0.4
        state.velocity = state.velocity + surprise * np.float32(gain / age_s)
        state.centre[:2] = expected + surprise * np.float32(0.8)
        state.centre[2:] += (found[2:] - state.centre[2:]) * np.float32(0.5)
        state.box = _box(seen.boxes, detection)
        state.score = float(seen.scores[detection])
        state.hits += 1
        state.last_frame, state.last_at_s = frame, at_s
        state.confirmed = state.confirmed or state.hits >= self._settings.confirm_hits

    def _duplicate(self, seen: Sighting, detection: int, held: list[int]) -> bool:
        """Whether a detection is part of what a track of its class was just measured as: half a body is no second one."""
        if not held:
            return False
        share = contained(seen.boxes[held], seen.boxes[detection : detection + 1])[:, 0]
        return bool(np.any((share > self._settings.duplicate_share) & (seen.classes[held] == seen.classes[detection])))

    def _born(self, seen: Sighting, detection: int, frame: int, at_s: float) -> None:
        centre = to_centres(seen.boxes[detection : detection + 1])[0]
        self._states.append(
            _State(
                self._next_id,
                centre,
                np.zeros(2, np.float32),
                _box(seen.boxes, detection),
                float(seen.scores[detection]),
                int(seen.classes[detection]),
                1,
                frame,
                at_s,
                frame,
                at_s,
                confirmed=self._settings.confirm_hits <= 1,
            )
        )
        self._next_id += 1

    def _is_lost(self, state: _State, at_s: float) -> bool:
        patience_s = self._settings.lost_after_s if state.confirmed else self._settings.tentative_s
        return at_s - state.last_at_s > patience_s

    @staticmethod
    def _shown(state: _State, labels: Sequence[str], at_s: float | None) -> Track:
        return Track(
            id=state.id,
            xyxy=state.box,
            score=state.score,
            class_id=state.class_id,
            label=labels[state.class_id],
            confirmed=state.confirmed,
            seen=state.last_at_s == at_s,
            hits=state.hits,
            first_frame=state.first_frame,
            first_at_s=state.first_at_s,
            last_frame=state.last_frame,
            last_at_s=state.last_at_s,
        )


def _strike(score: FloatArray, pairs: list[tuple[int, int]]) -> None:
    """Take matched tracks and detections out of a score matrix."""
    for row, column in pairs:
        score[row, :] = -1.0
        score[:, column] = -1.0


def _box(boxes: FloatArray, index: int) -> Box:
    left, top, right, bottom = boxes[index].tolist()
    return (left, top, right, bottom)
