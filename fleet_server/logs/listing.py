"""What devices answered to requests for pictures: read from the blob store, where only their answers and pictures lie."""

from dataclasses import dataclass
from typing import Any

from fleet_server.blobs.store import BlobStore, check_key
from fleet_server.errors import NotFoundError
from ota.wire import codec
from ota.wire.debug import FrameAnswer, answers_name

MAX_ANSWERS = 100
"""Read for one session: a device may upload what it likes under its own prefix, nobody reads all of it."""
JPEG_MAGIC = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True)
class FramesAnswered:
    """One answer: ``state`` done, partial or refused (with ``reason``), and the pictures that it names, oldest first."""

    session: str
    asked: int
    camera: str
    frames: str
    state: str
    reason: str
    detail: str
    stored_s: float
    pictures: list[dict[str, Any]]


def answers(blobs: BlobStore, device_id: str, session_id: str) -> list[FramesAnswered]:
    """The newest request first. What is no answer of this session is left out. Call it OUTSIDE a transaction."""
    found: list[FramesAnswered] = []
    limit_bytes = codec.limit_bytes(FrameAnswer)
    for blob in blobs.list(f"{device_id}/debug/{answers_name(session_id)}/", limit=MAX_ANSWERS):
        if blob.length_bytes > limit_bytes:
            continue
        try:
            said = codec.decode(FrameAnswer, blobs.read(blob.key, limit_bytes + 1))
        except (codec.MessageError, NotFoundError):
            continue
        if said.session == session_id:
            found.append(_answered(said, blob.stored_s))
    return sorted(found, key=lambda one: (-one.asked, one.camera, one.stored_s))


def picture(blobs: BlobStore, device_id: str, session_id: str, sha256: str) -> bytes | None:
    """The bytes of one picture of a session; None where there is none, or what is there is no JPEG."""
    try:
        data = blobs.read(check_key(f"{device_id}/debug/{session_id}/{sha256}"))
    except (NotFoundError, ValueError):
        return None
    return data if data.startswith(JPEG_MAGIC) else None


def _answered(said: FrameAnswer, stored_s: float) -> FramesAnswered:
    pictures = [codec.to_builtins(one) for one in said.pictures]
    return FramesAnswered(
        said.session, said.asked, said.camera, said.frames, said.state, said.reason, said.detail, stored_s,
        sorted(pictures, key=lambda one: (one["at_s"], one["frame"])),
    )  # fmt: skip
