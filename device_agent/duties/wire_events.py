"""Vision's events as the wire says them, each update with all of the event's crops. Pure."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

from device_agent.spool.entry import Crop as SpoolCrop
from device_agent.vision.types import Crop, Event, EventUpdate, box_xywh
from ota.wire.events import Event as WireEvent

REMEMBERED_EVENTS = 1000
"""Open events whose crops are remembered; one that ends is forgotten, so only a crowd of a thousand at once would lose any."""


@dataclass(frozen=True, slots=True)
class SeenBy:
    """The release that sees now."""

    bundle_sha256: str
    release: str


class EventTranslator:
    """Remembers the crops of open events: a later revision names them again without their bytes (the store has those)."""

    def __init__(self) -> None:
        self._crops: OrderedDict[str, dict[str, SpoolCrop]] = OrderedDict()

    def translate(self, update: EventUpdate, seen_by: SeenBy) -> tuple[WireEvent, list[SpoolCrop]]:
        """The wire event (without number and crop keys) and its crops in order of kind, new ones with bytes."""
        event = update.event
        known = self._crops.pop(event.id, {})
        crops = known | {crop.kind: _spool_crop(crop) for crop in event.crops}
        if update.kind != "end":
            self._crops[event.id] = {kind: replace(crop, jpeg=None) for kind, crop in crops.items()}
            while len(self._crops) > REMEMBERED_EVENTS:
                self._crops.popitem(last=False)
        return _wire_event(event, seen_by), [crops[kind] for kind in ("first", "best") if kind in crops]


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
    )


def _share(value: float) -> float:
    return min(1.0, max(0.0, float(value)))
