"""What local output says: topics, and an event as JSON. Pure."""

import hashlib
import json
import re
from typing import Any

from device_agent.local.places import PlaceState
from device_agent.vision.types import EventUpdate, bbox_of

FORMAT = 1
ROOT = "rookery"
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")


def level(name: str) -> str:
    """A name as one level of a topic; one that holds other characters gets a piece of its hash, so that two never meet."""
    fit = _UNFIT.sub("_", name)[:60]
    return fit if fit and fit == name else f"{fit or '_'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def availability_topic(device: str) -> str:
    """Retained: online or offline (the last will)."""
    return f"{ROOT}/{level(device)}/availability"


def event_topic(device: str, camera: str) -> str:
    """Not retained: every event update of a camera."""
    return f"{ROOT}/{level(device)}/{level(camera)}/event"


def place_topic(device: str, camera: str, place: str, what: str) -> str:
    """Retained: ``what`` is state, occupancy, count or count/DIRECTION."""
    return f"{ROOT}/{level(device)}/{level(camera)}/{level(place)}/{what}"


def event_body(update: EventUpdate, device: str) -> dict[str, Any]:
    """An event update for whoever listens on the spot: what, where and when; never a picture.

    ``box`` is [x, y, width, height] in pixels of the source picture; times are seconds since 1970.
    """
    event = update.event
    return {
        "v": FORMAT, "device": device, "camera": event.camera, "kind": update.kind, "id": event.id, "revision": event.revision,
        "label": event.label, "rule": event.rule, "rule_kind": event.rule_kind, "zone": event.zone, "direction": event.direction,
        "track": event.track, "score": round(float(event.score), 4), "box": bbox_of(event.box),
        "frame_width_px": event.frame_width_px, "frame_height_px": event.frame_height_px,
        "started_at_s": event.started_wall_s, "ended_at_s": None if event.open else event.ended_wall_s, "open": event.open,
    }  # fmt: skip


def states_of(place: PlaceState, device: str) -> dict[str, str]:
    """The retained topics of a place and what they say."""
    counts = {"count": str(place.count)} | {f"count/{level(way)}": str(number) for way, number in place.directions}
    occupied = {"state": "on" if place.occupancy else "off", "occupancy": str(place.occupancy)} if place.zone else {}
    return {place_topic(device, place.camera, place.name, what): value for what, value in (occupied | counts).items()}


def discovery_of(place: PlaceState, device: str, prefix: str) -> dict[str, str]:
    """Retained topics that tell Home Assistant of a place: an occupancy sensor for a zone, a counter for each."""
    # Names joined by "_" meet where they hold one themselves ("yard_gate" + "x", "yard" + "gate_x"): the hash of the whole tells.
    mark = hashlib.sha256(json.dumps([device, place.camera, place.name]).encode()).hexdigest()[:12]
    unique = f"{ROOT}_{level(device)}_{level(place.camera)}_{level(place.name)}_{mark}".replace(".", "_")
    shared = {
        "availability_topic": availability_topic(device),
        "device": {"identifiers": [f"{ROOT}_{level(device)}"], "name": device, "manufacturer": "Rookery"},
    }
    counter = {
        "name": f"{place.camera} {place.name} count", "unique_id": f"{unique}_count", "state_class": "total_increasing",
        "state_topic": place_topic(device, place.camera, place.name, "count"),
    }  # fmt: skip
    found = {f"{prefix}/sensor/{unique}/count/config": counter}
    if place.zone:
        found[f"{prefix}/binary_sensor/{unique}/occupied/config"] = {
            "name": f"{place.camera} {place.name}", "unique_id": f"{unique}_occupied", "device_class": "occupancy",
            "state_topic": place_topic(device, place.camera, place.name, "state"), "payload_on": "on", "payload_off": "off",
        }  # fmt: skip
    return {topic: json.dumps(body | shared) for topic, body in found.items()}
