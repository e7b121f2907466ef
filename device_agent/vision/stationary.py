"""What stands still: when an object is at rest, and whether it is still there when the detector does not see it. Pure numpy and
OpenCV.

A parked car is one event, not a hundred. An object that has kept its place for a while is *stationary*: it is expected where it
stands, does not keep the gate open, and outlives missed detections, passers-by before it and changes of light. When the detector
does not see it, its place is compared with what it looked like when it was last measured (normalised correlation of the gate's
small luma plane, which a lamp or a cloud does not change): the same picture means that it is still there.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.vision.motion import LumaView
from device_agent.vision.tracker_matching import area, intersection, overlap
from device_agent.vision.tracker_state import Body
from device_agent.vision.types import Box

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

    def measured(self, body: Body, at_s: float, before_s: float) -> None:
        """Judge an object that was just measured; `before_s` is when it was measured before."""
        settings = self._settings
        share = overlap(body.box, body.anchor)
        stays = share >= (settings.moved_iou if body.stationary else settings.still_iou)
        # The resting place follows slowly: the mean of what was measured at first, of the last seconds later on.
        if share >= settings.still_iou:
            rested_s = min(max(at_s - body.since_s, 1e-3), settings.follow_s)
            follow = min(max((at_s - before_s) / rested_s, 0.0), 1.0)
            anchor, box = body.anchor, body.box
            body.anchor = (
                anchor[0] + (box[0] - anchor[0]) * follow, anchor[1] + (box[1] - anchor[1]) * follow,
                anchor[2] + (box[2] - anchor[2]) * follow, anchor[3] + (box[3] - anchor[3]) * follow,
            )  # fmt: skip
        strayed_s = math.inf if stays else min(body.strayed_s, at_s)
        away = at_s - strayed_s >= settings.moved_s or share < settings.away_iou
        if not stays and (not body.stationary or away):
            body.anchor, body.strayed_s, body.since_s, body.stationary = body.box, math.inf, at_s, False
        else:
            body.strayed_s = strayed_s
            body.stationary = body.stationary or (body.confirmed and at_s - body.since_s >= settings.after_s)
        body.judged_s = at_s

    def settle(self, body: Body, view: LumaView | None) -> None:
        """What stands still is expected at its place with a standing filter; its picture is kept where it was just seen whole.

        What was seen away from its place is followed like everything else: it may be about to leave.
        """
        if not body.stationary or body.strayed_s < math.inf:
            return
        left, top, right, bottom = body.anchor
        body.x, body.y, body.width, body.height = (left + right) * 0.5, (top + bottom) * 0.5, right - left, bottom - top
        body.across, body.down, body.both = 0.0, 0.0, 0.0
        body.place, body.rate = 0.15**2, 0.5**2
        # What stands still looks as it did a moment ago: no plane is made for its picture alone, but for its first one.
        wanted = view is not None and (view.at_hand or body.id not in self._patches)
        if view is not None and wanted and overlap(body.box, body.anchor) >= self._settings.still_iou:
            patch = _patch(view, body.anchor)
            if patch is not None:
                self._patches[body.id] = patch

    def unseen(self, bodies: Sequence[Body], measured: Collection[int], at_s: float, view: LumaView | None) -> None:
        """Judge stationary objects that this look did not find (all but the `measured` positions): the time for which that counts
        against them is added up."""
        settings = self._settings
        for row, body in enumerate(bodies):
            if row in measured or not body.stationary:
                continue
            waited_s = at_s - body.judged_s
            body.judged_s = at_s
            alike = self._alike(body, view)
            if alike is not None and alike >= settings.same:
                body.missed_s, body.left = 0.0, False
                continue
            patience_s, body.left = settings.gone_s, alike is not None
            if view is not None and self._hidden(body, [bodies[other].box for other in measured]):
                patience_s, body.left = settings.hidden_s, False
            elif view is not None and alike is None:
                patience_s = settings.unsure_s
            # One budget serves all reasons: what may take longer counts less.
            body.missed_s += waited_s * settings.gone_s / patience_s

    def vacant(self, body: Body, view: LumaView) -> bool:
        """Whether the place of what stood still looks different now."""
        alike = self._alike(body, view)
        return alike is not None and alike < self._settings.same

    def is_over(self, body: Body, at_s: float) -> bool:
        """Whether a stationary object is to be given up."""
        return body.missed_s > self._settings.gone_s or at_s - body.last_at_s > self._settings.held_s

    def forget(self, bodies: Sequence[Body]) -> None:
        """Keep the pictures of what still stands, and no others."""
        if self._patches:
            standing = {body.id for body in bodies if body.stationary}
            self._patches = {number: patch for number, patch in self._patches.items() if number in standing}

    def _hidden(self, body: Body, others: Sequence[Box]) -> bool:
        """Whether something nearer that was measured now covers the object; what stands in its very place took it instead."""
        place = body.anchor
        least = self._settings.hidden_share * area(place)
        return any(
            other[3] >= place[3] and intersection(other, place) >= least and overlap(other, place) < self._settings.moved_iou
            for other in others
        )

    def _alike(self, body: Body, view: LumaView | None) -> float | None:
        """How much the place looks as it did, -1..1; None when that cannot be told."""
        known = self._patches.get(body.id)
        if view is None or known is None:
            return None
        now = _patch(view, body.anchor)
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


def _patch(view: LumaView, box: Box) -> npt.NDArray[np.float32] | None:
    """The part of the small plane in which a box lies, or None where that is too little."""
    height, width = view.plane.shape
    left, top = max(0, int(box[0] * view.across)), max(0, int(box[1] * view.down))
    right, bottom = min(width, math.ceil(box[2] * view.across)), min(height, math.ceil(box[3] * view.down))
    if right - left < 2 or bottom - top < 2 or (right - left) * (bottom - top) < LEAST_PATCH_PX:
        return None
    return view.plane[top:bottom, left:right].copy()
