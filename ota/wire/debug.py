"""Debug sessions: remote debugging with an end time. They travel in the assignment; pictures and answers come back as uploads."""

from typing import Annotated, ClassVar

from msgspec import Meta

from ota.wire.base import Code, Count, Identifier, Instant, Message, Name, Part, Sha256, Text

FRAMES = ("none", "last", "burst")
"""What a session may ask for: no picture, the present one, or those of ten seconds."""
ANSWER_TYPE = "application/json"
"""Content type of a FrameAnswer; the pictures are image/jpeg."""
MAX_PICTURES = 100
"""In one answer of one camera."""
MAX_SESSIONS = 16
"""Open at once on one device, as an assignment names them; this server opens fewer."""


class DebugSession(Part, frozen=True, kw_only=True):
    """Until ``until_s`` the device logs at ``log_level`` and sends its lines; then it falls back by itself.

    ``frames`` (of FRAMES) are wanted of ``camera``, None: of each. ``frames_asked`` rises with every request, so that each is
    answered once. A device whose policy has no live view refuses, and says so.
    """

    id: Identifier
    until_s: Instant
    log_level: Code
    frames: Code = "none"
    frames_asked: Count = 0
    camera: Name | None = None


class FramePicture(Part, frozen=True, kw_only=True):
    """One picture of an answer, found among the session's uploads by its hash."""

    sha256: Sha256
    frame: Count
    at_s: Instant
    width_px: Count
    height_px: Count


def answers_name(session: str) -> str:
    """The name under which the answers of a session are uploaded; its pictures lie under the session's own id."""
    return f"{session}-answers"


class FrameAnswer(Message, frozen=True, kw_only=True):
    """What became of one request on one camera. Uploaded under purpose ``debug`` and ``answers_name``, after its pictures.

    ``state`` is done, partial or refused; ``reason`` one word for why it is not done (policy, privacy, camera, busy, too_often,
    silent, ended, spool), ``detail`` the same in a sentence. ``camera`` empty: of none in particular.
    """

    LIMIT_BYTES: ClassVar[int] = 64 * 1024

    session: Identifier
    asked: Count
    camera: Annotated[str, Meta(max_length=100)]
    frames: Code
    state: Code
    reason: Code = ""
    detail: Text = ""
    pictures: Annotated[list[FramePicture], Meta(max_length=MAX_PICTURES)] = []
