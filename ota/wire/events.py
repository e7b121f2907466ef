"""Events: a rule that fired on one camera, with references to its crops. Numbered per device."""

from typing import Annotated, ClassVar

from msgspec import Meta

from ota.wire.base import Box, Code, Count, Identifier, Instant, Message, Name, Part, Sha256, Share


class CropRef(Part, frozen=True, kw_only=True):
    """A crop in the blob store. ``kind`` is first (at confirmation) or best (supersedes it)."""

    kind: Code
    key: Annotated[str, Meta(min_length=1, max_length=300)]
    sha256: Sha256
    length_bytes: Count
    score: Share
    at_s: Instant
    box: Box


class Event(Part, frozen=True, kw_only=True):
    """One firing of a rule. The same ``id`` with a higher ``revision`` supersedes: a better crop, or the end of the visit."""

    sequence: Count
    id: Identifier
    revision: Count = 0
    camera: Name
    track: Count
    label: Name
    rule: Name
    rule_kind: Code
    zone: Name | None = None
    direction: Code | None = None
    started_at_s: Instant
    ended_at_s: Instant | None = None
    start_frame: Count
    end_frame: Count
    score: Share
    threshold: Share
    box: Box
    frame_width_px: Count
    frame_height_px: Count
    bundle_sha256: Sha256
    release: Name
    """``name@version`` of the release that saw it."""
    model_sha256: Sha256 | None = None
    """Of the model's file that answered: after a fall to the CPU's variant it is another one of the same release."""
    weight: Annotated[float, Meta(ge=1, le=1e9)] | None = None
    """Of a recall sample (``rule_kind`` sample): how many frames without a detection it stands for. None for all others."""
    crops: list[CropRef] = []


class EventBatch(Message, frozen=True, kw_only=True):
    """Events in order of ``sequence``."""

    LIMIT_BYTES: ClassVar[int] = 1024 * 1024

    boot_id: Code
    events: Annotated[list[Event], Meta(max_length=500)]


class Stored(Message, frozen=True, kw_only=True):
    """The server's cumulative mark, given after its commit: everything up to ``sequence`` may be forgotten.

    ``refused`` names entries that can never be stored (sequence -> reason): the device counts them and forgets them too.
    """

    stream: Code
    sequence: Count
    refused: dict[str, str] = {}


class UploadRequest(Message, frozen=True, kw_only=True):
    """Asks for a place to put one blob. ``purpose`` is crop, debug or recall; ``name`` groups first and best of an event."""

    sha256: Sha256
    length_bytes: Annotated[int, Meta(ge=1, le=16 * 1024 * 1024)]
    content_type: Annotated[str, Meta(pattern=r"^[a-z]+/[a-z0-9.+-]+\Z", max_length=60)]
    purpose: Code = "crop"
    name: Identifier


class UploadSlot(Message, frozen=True, kw_only=True):
    """Where to put it: send exactly these headers. ``present`` means that the same bytes are there already."""

    key: str
    present: bool
    url: str = ""
    method: str = "PUT"
    headers: dict[str, str] = {}
    expires_s: Instant = 0
