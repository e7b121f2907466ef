"""What stands still: when an object is at rest, and whether it is still there when the detector does not see it. Pure numpy and
OpenCV.

A parked car is one event, not a hundred. An object that has kept its place for a while is *stationary*: it is expected where it
stands, does not keep the gate open, and outlives missed detections, passers-by before it and changes of light. When the detector
does not see it, its place is compared with what it looked like when it was last measured (normalised correlation of the gate's
small luma plane, which a lamp or a cloud does not change): the same picture means that it is still there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import FloatArray, areas, intersections, iou
from device_agent.vision.motion import LumaView
from device_agent.vision.tracker_state import Objects

LEAST_PATCH_PX = 20
"""Fewer pixels of the small plane tell nothing."""
LEAST_CONTRAST = 4.0
"""Standard deviation in grey levels below which a patch is noise (blurred sensor noise has about one)."""


@dataclass(frozen=True, slots=True)
class StillSettings:
    """Times in seconds, overlaps and shares 0..1.

    At rest after `after_s` of boxes that overlap the resting place by `still_iou`. Seen away from it (less than `moved_iou`) for
    `moved_s`, or clearly away (`away_iou`): moves again. Looked for in vain, it is given up after `gone_s` if its place looks
    different or nothing can be looked at, after `unsure_s` if there is no contrast to tell by, after `hidden_s` while somebody
    stands before it (covering `hidden_share` of it), after `held_s` if its place looks the same (`same`: least correlation).
    """

    after_s: float = 10.0
    still_iou: float = 0.65
    moved_iou: float = 0.5
    away_iou: float = 0.2
    moved_s: float = 0.4
    follow_s: float = 8.0
    gone_s: float = 2.0
    unsure_s: float = 8.0
    hidden_s: float = 60.0
    held_s: float = 900.0
    hidden_share: float = 0.25
    same: float = 0.7


class StandingStill:
    """Judges the objects of one camera after each look; keeps the patches of what stands still."""

    def __init__(self, settings: StillSettings) -> None:
        self._settings = settings
        self._patches: dict[int, npt.NDArray[np.float32]] = {}

    def measured(self, objects: Objects, rows: npt.NDArray[np.int64], at_s: float, before_s: npt.NDArray[np.float64]) -> None:
        """Judge rows (N,) that were just measured; `before_s` (N,) is when each was measured before."""
        settings = self._settings
        box, anchor = objects.box[rows], objects.anchor[rows]
        overlap = _own_overlap(box, anchor)
        stays = overlap >= np.where(objects.stationary[rows], settings.moved_iou, settings.still_iou)
        # The resting place follows slowly: the mean of what was measured at first, of the last seconds later on.
        spent, rested = at_s - before_s, at_s - objects.since_s[rows]
        share = np.clip(spent / np.clip(rested, 1e-3, settings.follow_s), 0.0, 1.0).astype(np.float32)
        anchor += (box - anchor) * (share * (overlap >= settings.still_iou))[:, None]
        strayed = np.where(stays, np.inf, np.minimum(objects.strayed_s[rows], at_s))
        away = (at_s - strayed >= settings.moved_s) | (overlap < settings.away_iou)
        moves = ~stays & (~objects.stationary[rows] | away)
        anchor[moves] = box[moves]
        objects.anchor[rows] = anchor
        objects.strayed_s[rows] = np.where(moves, np.inf, strayed)
        objects.since_s[rows] = np.where(moves, at_s, objects.since_s[rows])
        ripe = objects.confirmed[rows] & (at_s - objects.since_s[rows] >= settings.after_s)
        objects.stationary[rows] = (objects.stationary[rows] | ripe) & ~moves
        objects.judged_s[rows] = at_s

    def settle(self, objects: Objects, rows: npt.NDArray[np.int64], view: LumaView | None) -> None:
        """What stands still is expected at its place with a standing filter; its picture is kept where it was just seen whole.

        What was seen away from its place is followed like everything else: it may be about to leave.
        """
        still = rows[objects.stationary[rows] & ~np.isfinite(objects.strayed_s[rows])]
        if not len(still):
            return
        anchor = objects.anchor[still]
        objects.centre[still, :2] = (anchor[:, :2] + anchor[:, 2:]) * np.float32(0.5)
        objects.centre[still, 2:] = anchor[:, 2:] - anchor[:, :2]
        objects.velocity[still], objects.both[still] = 0.0, 0.0
        objects.place[still], objects.rate[still] = 0.15**2, 0.5**2
        if view is None:
            return
        whole = _own_overlap(objects.box[still], anchor) >= self._settings.still_iou
        for row in still[whole].tolist():
            patch = _patch(view, objects.anchor[row])
            if patch is not None:
                self._patches[int(objects.id[row])] = patch

    def unseen(self, objects: Objects, missing: npt.NDArray[np.bool_], at_s: float, view: LumaView | None) -> None:
        """Judge stationary rows that this look did not find: the time for which that counts against them is added up."""
        settings = self._settings
        for row in np.flatnonzero(missing & objects.stationary).tolist():
            waited_s = at_s - objects.judged_s[row]
            objects.judged_s[row] = at_s
            alike = self._alike(objects, row, view)
            if alike is not None and alike >= settings.same:
                objects.missed_s[row] = 0.0
                continue
            patience_s = settings.gone_s
            if view is not None and self._hidden(objects, row, ~missing):
                patience_s = settings.hidden_s
            elif view is not None and alike is None:
                patience_s = settings.unsure_s
            # One budget serves all reasons: what may take longer counts less.
            objects.missed_s[row] += waited_s * settings.gone_s / patience_s

    def is_over(self, objects: Objects, at_s: float) -> npt.NDArray[np.bool_]:
        """Which stationary rows (T,) are to be given up."""
        away = (objects.missed_s > self._settings.gone_s) | (at_s - objects.last_at_s > self._settings.held_s)
        result: npt.NDArray[np.bool_] = objects.stationary & away
        return result

    def forget(self, objects: Objects) -> None:
        """Keep the pictures of what still stands, and no others."""
        if self._patches:
            standing = set(objects.id[objects.stationary].tolist())
            self._patches = {number: patch for number, patch in self._patches.items() if number in standing}

    def _hidden(self, objects: Objects, row: int, seen: npt.NDArray[np.bool_]) -> bool:
        """Whether something nearer that was measured now covers the object; what stands in its very place took it instead."""
        place, others = objects.anchor[row : row + 1], objects.box[seen]
        covered = intersections(others, place)[:, 0] >= np.float32(self._settings.hidden_share) * areas(place)[0]
        nearer = (others[:, 3] >= place[0, 3]) & (iou(others, place)[:, 0] < np.float32(self._settings.moved_iou))
        return bool(np.any(covered & nearer))

    def _alike(self, objects: Objects, row: int, view: LumaView | None) -> float | None:
        """How much the place looks as it did, -1..1; None when that cannot be told."""
        known = self._patches.get(int(objects.id[row]))
        if view is None or known is None:
            return None
        now = _patch(view, objects.anchor[row])
        if now is None or now.shape != known.shape:
            return None
        return correlation(known, now)


def correlation(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float | None:
    """Normalised correlation of two patches of one shape, -1..1, blind to gain and offset; None without contrast in the first."""
    one, two = first - first.mean(), second - second.mean()
    spread = float(np.sqrt(np.mean(one * one)))
    if spread < LEAST_CONTRAST:
        return None
    other = float(np.sqrt(np.mean(two * two)))
    return float(np.mean(one * two)) / (spread * max(other, 1e-3))


def _patch(view: LumaView, box: FloatArray) -> npt.NDArray[np.float32] | None:
    """The part of the small plane in which a box lies, or None where that is too little."""
    height, width = view.plane.shape
    left, top = max(0, int(box[0] * view.across)), max(0, int(box[1] * view.down))
    right, bottom = min(width, int(np.ceil(box[2] * view.across))), min(height, int(np.ceil(box[3] * view.down)))
    if right - left < 2 or bottom - top < 2 or (right - left) * (bottom - top) < LEAST_PATCH_PX:
        return None
    return view.plane[top:bottom, left:right].copy()


def _own_overlap(first: FloatArray, second: FloatArray) -> FloatArray:
    """IoU of each box with the one in the same row, (N,)."""
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    sides = np.maximum(high - low, np.float32(0))
    shared = sides[:, 0] * sides[:, 1]
    result: FloatArray = shared / np.maximum(areas(first) + areas(second) - shared, np.float32(1e-3))
    return result
