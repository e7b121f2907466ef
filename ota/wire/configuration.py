"""What the server may tell a board to do differently with its cameras. Pure; ``configuration_faults`` judges it as a whole.

A configuration is a layer: what it does not name is as the layer below says, and below the lowest stands the board's own
agent.toml. Tables are laid over each other key by key (a camera's gate, its least scores); lists (zones, masks) and single
values replace. ``every_camera`` holds for each camera of a board; what ``cameras`` says of one by name goes before it, from
whichever layer it comes. No layer can loosen the board's policy: masks and blur are added to it, hosts and the live view stand
only there.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ota.wire.base import Share

MAX_LAYER_BYTES = 32 * 1024
"""As JSON. Three layers over each other, quoted in an assignment, still fit its 256 KiB."""
PLACE = r"^[A-Za-z0-9 _.-]+\Z"
Place = Annotated[str, Meta(min_length=1, max_length=60, pattern=PLACE)]
"""Name of a camera, zone or line: as agent.toml takes them."""
Label = Annotated[str, Meta(min_length=1, max_length=100)]
Labels = Annotated[list[Label], Meta(max_length=200)]
Side = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z0-9_.-]+\Z")]
"""As a wire Code: an event's direction is one."""
Point = tuple[Share, Share]
"""x, y as fractions of the picture."""
Polygon = Annotated[list[Point], Meta(min_length=3, max_length=200)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Pixels = Annotated[float, Meta(ge=0, le=20_000)]
Clock = Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z", examples=["07:30"])]
Zoneinfo = Annotated[
    str, Meta(max_length=60, pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*\Z", examples=["Europe/Zurich"])
]  # fmt: skip
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Level = Literal["debug", "info", "warning"]
"""No higher one: what a server asks of a board stands in its log as warnings, and no server may silence those."""
_FROM: Any = msgspec.field(name="from")


class Piece(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a configuration: unknown keys are faults, what was not said stays unsaid."""


class Window(Piece, frozen=True, kw_only=True):
    """When a rule is awake, by the camera's time zone: from ``from`` until ``to`` (excluded, 24:00 is midnight).

    ``to`` before ``from`` runs over midnight and belongs to the day that it begins on. ``days`` left out means all.
    """

    from_: Clock = _FROM
    to: Clock
    days: Annotated[list[Day], Meta(min_length=1, max_length=7)] | UnsetType = UNSET


Schedule = Annotated[list[Window], Meta(max_length=50)]


class Zone(Piece, frozen=True, kw_only=True):
    """A part of the picture where a stay raises an event.

    ``inside`` False turns it round: outside of the polygon counts. ``inertia_s``: so long inside before a visit begins at all;
    ``dwell_s``: so long before it is an event. ``min_share``: least share of the picture's area that the box has, ``min_px`` its
    least longer side. ``cooldown_s``: after an event the next one here (of the same class with ``cooldown_per_class``) waits so
    long.
    """

    name: Place
    polygon: Polygon
    inside: bool = True
    inertia_s: Seconds = 0.0
    dwell_s: Seconds = 0.0
    classes: Labels = []
    min_score: Share = 0.0
    min_share: Share = 0.0
    min_px: Pixels = 0.0
    schedule: Schedule = []
    cooldown_s: Seconds = 0.0
    cooldown_per_class: bool = False


class Line(Piece, frozen=True, kw_only=True):
    """A line whose crossing raises an event.

    ``right``, ``left``: words for the side that was entered, seen from the first point towards the second.
    """

    name: Place
    points: Annotated[list[Point], Meta(min_length=2, max_length=2)]
    right: Side = "in"
    left: Side = "out"
    classes: Labels = []
    min_score: Share = 0.0
    min_share: Share = 0.0
    min_px: Pixels = 0.0
    schedule: Schedule = []
    cooldown_s: Seconds = 0.0
    cooldown_per_class: bool = False


class Trigger(Piece, frozen=True, kw_only=True):
    """A scene that is worth keeping, with a burst of frames around it or without. ``per_hour``: at most so many."""

    cooldown_s: Seconds | UnsetType = UNSET
    per_hour: Annotated[int, Meta(ge=1, le=3600)] | UnsetType = UNSET
    burst: bool | UnsetType = UNSET
    classes: Labels | UnsetType = UNSET


class LowConfidence(Trigger, frozen=True, kw_only=True):
    """A score within ``below`` under and ``above`` over the threshold."""

    below: Share | UnsetType = UNSET
    above: Share | UnsetType = UNSET


class NearMiss(Trigger, frozen=True, kw_only=True):
    """Two tracks that nearly meet; ``pairs`` of classes, none means any two."""

    pairs: Annotated[list[tuple[Label, Label]], Meta(max_length=50)] | UnsetType = UNSET


class Triggers(Piece, frozen=True, kw_only=True):
    """Which scenes are worth keeping; one that is not named is off."""

    first_today: Trigger | UnsetType = UNSET
    low_confidence: LowConfidence | UnsetType = UNSET
    near_miss: NearMiss | UnsetType = UNSET
    disagreement: Trigger | UnsetType = UNSET


class Mask(Piece, frozen=True, kw_only=True):
    """A part of the picture that nobody gets to see, besides those of the board's own policy."""

    name: Place = "mask"
    polygon: Polygon


class Gate(Piece, frozen=True, kw_only=True):
    """The motion gate. ``sensitivity`` 0.5 is the built-in one, 1 the finest. ``enabled`` False looks at every frame.

    ``keepalive_s``: a look at the latest so long after the last.
    """

    enabled: bool | UnsetType = UNSET
    sensitivity: Share | UnsetType = UNSET
    keepalive_s: Annotated[float, Meta(ge=0.2, le=300)] | UnsetType = UNSET


class Crops(Piece, frozen=True, kw_only=True):
    """Bounds of the pictures of events: longer side, JPEG quality, bytes. A board with little memory lowers them further."""

    longest_side_px: Annotated[int, Meta(ge=64, le=1920)] | UnsetType = UNSET
    jpeg_quality: Annotated[int, Meta(ge=30, le=95)] | UnsetType = UNSET
    max_bytes: Annotated[int, Meta(ge=4096, le=512 * 1024)] | UnsetType = UNSET


class CameraConfiguration(Piece, frozen=True, kw_only=True):
    """One camera. ``zones`` and ``lines``, once named (even as none), replace those of agent.toml. ``fps``: at most.

    ``timezone``: IANA name, for schedules and for "today". ``min_score``: a class is told of from here on, where that is above
    the model card's own threshold. ``sureness``: a share of what is left to 1: a track whose scores lie so far above the
    threshold raises its event at once (0: any does), another once it was seen at its threshold and above for ``sure_after_s``.
    ``recall_per_day``: recall samples, where the policy lets them.
    """

    enabled: bool | UnsetType = UNSET
    fps: Annotated[float, Meta(ge=0.1, le=240)] | UnsetType = UNSET
    timezone: Zoneinfo | UnsetType = UNSET
    zones: Annotated[list[Zone], Meta(max_length=50)] | UnsetType = UNSET
    lines: Annotated[list[Line], Meta(max_length=50)] | UnsetType = UNSET
    triggers: Triggers | UnsetType = UNSET
    masks: Annotated[list[Mask], Meta(max_length=50)] | UnsetType = UNSET
    blur: Annotated[list[Label], Meta(max_length=20)] | UnsetType = UNSET
    gate: Gate | UnsetType = UNSET
    crops: Crops | UnsetType = UNSET
    recall_per_day: Annotated[int, Meta(ge=0, le=1000)] | UnsetType = UNSET
    min_score: dict[Label, Share] | UnsetType = UNSET
    sureness: Share | UnsetType = UNSET
    sure_after_s: Seconds | UnsetType = UNSET


class LocalOutput(Piece, frozen=True, kw_only=True):
    """Which of the board's own outputs speak: only those that its files name; where they speak to stands there alone."""

    mqtt: bool | UnsetType = UNSET
    webhook: bool | UnsetType = UNSET
    gpio: bool | UnsetType = UNSET


class Configuration(Piece, frozen=True, kw_only=True):
    """The whole. ``shadow_duty``: share of the detector's time that a candidate model may have."""

    every_camera: CameraConfiguration | UnsetType = UNSET
    cameras: dict[Place, CameraConfiguration] | UnsetType = UNSET
    shadow_duty: Annotated[float, Meta(ge=0, le=0.5)] | UnsetType = UNSET
    local_output: LocalOutput | UnsetType = UNSET
    log_level: Level | UnsetType = UNSET


def laid_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Two layers as one: tables key by key, all else as the upper one says. Associative for valid layers; copies nothing."""
    result = dict(lower)
    for key, value in upper.items():
        old = result.get(key)
        result[key] = laid_over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def for_camera(configuration: Configuration, name: str) -> CameraConfiguration:
    """What holds for one camera: what is said of every camera, and over it what is said of this one."""
    layers = [configuration.every_camera, (configuration.cameras or {}).get(name, UNSET)]
    found: dict[str, Any] = {}
    for layer in layers:
        if layer is not UNSET:
            found = laid_over(found, msgspec.to_builtins(layer))
    return msgspec.convert(found, CameraConfiguration)


def digest_of(value: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON: the same on both sides, whatever the order of keys."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
