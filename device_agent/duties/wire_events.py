"""Vision's events as the wire says them, each update with all of the event's crops. Pure."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

from device_agent.spool.entry import Crop as SpoolCrop
from device_agent.vision.types import Crop, CropKind, Event, EventUpdate, box_xywh
from ota.wire.events import Event as WireEvent

REMEMBERED_EVENTS = 1000
"""Open events whose crops are remembered; one that ends is forgotten, so only a crowd of a thousand at once would lose any."""


KINDS: tuple[CropKind, ...] = ("first", "best", "burst")
CropPlace = tuple[int, int]
"""Where a crop stands among its event's: number of its kind, frame of a burst's."""


@dataclass(frozen=True, slots=True)
class SeenBy:
    """The release that sees now, and the digest of the model's file that answers (None where the release does not tell)."""

    bundle_sha256: str
    release: str
    model_sha256: str | None = None


class EventTranslator:
    """Remembers the crops of open events: a later revision names them again without their bytes (the store has those)."""

    def __init__(self) -> None:
        self._crops: OrderedDict[str, dict[CropPlace, SpoolCrop]] = OrderedDict()

    def translate(self, update: EventUpdate, seen_by: SeenBy) -> tuple[WireEvent, list[SpoolCrop]]:
        """The wire event (without number and crop keys) and its crops: first, best, then a burst in order of time. New ones have
        bytes. A second picture of one moment (a burst's, told again) takes the first one's place."""
        event = update.event
        known = self._crops.pop(event.id, {})
        crops = known | {_place(crop): _spool_crop(crop) for crop in event.crops}
        if update.kind != "end":
            self._crops[event.id] = {place: replace(crop, jpeg=None) for place, crop in crops.items()}
            while len(self._crops) > REMEMBERED_EVENTS:
                self._crops.popitem(last=False)
        return _wire_event(event, seen_by), [crops[place] for place in sorted(crops)]


def _place(crop: Crop) -> CropPlace:
    """An event has one first and one best crop; of a burst it has one for each frame."""
    return (KINDS.index(crop.kind), crop.frame if crop.kind == "burst" else 0)


def _spool_crop(crop: Crop) -> SpoolCrop:
    return SpoolCrop(
        kind=crop.kind,
        sha256=hashlib.sha256(crop.jpeg).hexdigest(),
        length_bytes=len(crop.jpeg),
        score=_share(crop.score),
        at_s=crop.wall_s,
        box=box_xywh(crop.box),
        jpeg=crop.jpeg,
    )


def _wire_event(event: Event, seen_by: SeenBy) -> WireEvent:
    return WireEvent(
        sequence=0,
        id=event.id,
        revision=event.revision,
        camera=event.camera,
        track=event.track,
        label=event.label,
        rule=event.rule,
        rule_kind=event.rule_kind,
        zone=event.zone,
        direction=event.direction,
        started_at_s=event.started_wall_s,
        ended_at_s=None if event.open else event.ended_wall_s,
        start_frame=event.start_frame,
        end_frame=event.end_frame,
        score=_share(event.score),
        threshold=_share(event.threshold),
        box=box_xywh(event.box),
        frame_width_px=event.frame_width_px,
        frame_height_px=event.frame_height_px,
        bundle_sha256=seen_by.bundle_sha256,
        release=seen_by.release,
        weight=event.weight,
        model_sha256=seen_by.model_sha256,
    )


def _share(value: float) -> float:
    return min(1.0, max(0.0, float(value)))
