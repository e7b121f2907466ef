"""What agent and inference child say to each other, as bytes. Pure.

A message is a length (4 bytes, little endian, of what follows), one byte for its kind, and a payload: fixed numbers for what is
said at every frame, JSON for the rest. An SSD's head travels as its own numbers: they are read where they are used. Pictures do
not travel here; they lie in shared memory, already at the model's input size.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.inference.decode_ssd import SsdBox, SsdNumbers
from models.inference.errors import REASONS, ModelError
from models.inference.types import Detections

HEADER = struct.Struct("<IB")
LOAD, LOOK, READY, FOUND, REFUSED, NUMBERS = range(1, 7)
"""Kinds: load a model and look at slot (agent to child); ready, found, refused, an SSD's numbers (child to agent)."""
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
_LOOK = struct.Struct("<IIIf")
_FOUND = struct.Struct("<fI")
_FULL_LOOK = struct.Struct("<IBIIIf")
_FULL_FOUND = struct.Struct("<IBfI")
_BOX = struct.Struct("<fffffi")
_NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Ready:
    """A model was loaded and has answered once, which took `first_ms`."""

    runtime: str
    accelerator: str
    first_ms: float


def pack(kind: int, payload: bytes) -> bytes:
    """A whole message."""
    return HEADER.pack(len(payload) + 1, kind) + payload


def pack_json(kind: int, value: dict[str, Any]) -> bytes:
    """A message with a JSON payload."""
    return pack(kind, json.dumps(value, separators=(",", ":")).encode())


def unpack_header(header: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Length of the payload and kind; raises ValueError for a length that no honest message has."""
    length, kind = HEADER.unpack_from(header)
    if not 1 <= length <= MAX_PAYLOAD_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return length - 1, kind


def pack_look(slot: int, height_px: int, width_px: int, threshold: float) -> bytes:
    """A request to look at the picture in a slot."""
    return _FULL_LOOK.pack(_LOOK.size + 1, LOOK, slot, height_px, width_px, threshold)


def unpack_look(payload: bytes) -> tuple[int, int, int, float]:
    """Slot, height, width and threshold of a request to look."""
    slot, height_px, width_px, threshold = _LOOK.unpack(payload)
    return slot, height_px, width_px, threshold


def pack_found(found: Detections, invoke_ms: float) -> bytes:
    """A message with detections."""
    length = 1 + _FOUND.size + len(found) * _BOX.size
    boxes, scores, ids = found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist()
    parts = [_BOX.pack(*box, score, number) for box, score, number in zip(boxes, scores, ids, strict=True)]
    return _FULL_FOUND.pack(length, FOUND, invoke_ms, len(found)) + b"".join(parts)


def unpack_found(payload: bytes) -> tuple[list[SsdBox], float]:
    """The boxes and the time of the invoke in ms; raises ValueError for bytes that are not what `pack_found` made."""
    if len(payload) < _FOUND.size:
        raise ValueError("detections cut short")
    invoke_ms, count = _FOUND.unpack_from(payload)
    if len(payload) != _FOUND.size + count * _BOX.size:
        raise ValueError("detections of another length than they say")
    return list(_BOX.iter_unpack(payload[_FOUND.size :])), invoke_ms


def pack_numbers(numbers: bytes, invoke_ms: float) -> bytes:
    """A message with the numbers of an SSD's head, as `TfliteModel.run_plain` gives them."""
    rows = (len(numbers) - _NUMBER_BYTES) // (6 * _NUMBER_BYTES)
    return _FULL_FOUND.pack(1 + _FOUND.size + len(numbers), NUMBERS, invoke_ms, rows) + numbers


def unpack_numbers(payload: bytes) -> tuple[SsdNumbers, float]:
    """The numbers, whatever they are, and the time of the invoke in ms; raises ValueError for bytes of another length."""
    if len(payload) < _FOUND.size:
        raise ValueError("an answer cut short")
    invoke_ms, rows = _FOUND.unpack_from(payload)
    if len(payload) != _FOUND.size + (6 * rows + 1) * _NUMBER_BYTES:
        raise ValueError("an answer of another length than it says")
    numbers = struct.unpack_from(f"<{6 * rows + 1}f", payload, _FOUND.size)
    return SsdNumbers(numbers[: 4 * rows], numbers[4 * rows : 5 * rows], numbers[5 * rows : 6 * rows], numbers[-1]), invoke_ms


def as_single(boxes: Sequence[SsdBox]) -> list[SsdBox]:
    """Boxes rounded as they are when they travel: an answer is the same wherever it was decoded."""
    return [_BOX.unpack(_BOX.pack(*box)) for box in boxes]


def pack_refused(error: ModelError) -> bytes:
    """A message with why a model could not be loaded or run."""
    return pack_json(REFUSED, {"reason": error.reason, "message": error.message})


def unpack_refused(payload: bytes) -> ModelError:
    """The error in a refusal."""
    value = json.loads(payload)
    reason = value.get("reason")
    return ModelError(reason if reason in REASONS else "failed", str(value.get("message", "")))


def pack_ready(ready: Ready) -> bytes:
    """A message that a model was loaded."""
    return pack_json(READY, {"runtime": ready.runtime, "accelerator": ready.accelerator, "first_ms": ready.first_ms})


def unpack_ready(payload: bytes) -> Ready:
    """What a loaded model is; raises ValueError for other bytes."""
    try:
        value = json.loads(payload)
        return Ready(str(value["runtime"]), str(value["accelerator"]), float(value["first_ms"]))
    except (KeyError, TypeError) as error:
        raise ValueError("not the answer to a load request") from error


class Inbox:
    """Turns bytes as they arrive into whole messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        """Some bytes arrived."""
        self._bytes += data

    def whole(self, data: bytes) -> tuple[int, bytes] | None:
        """Kind and payload of the message that these bytes are, nothing more or less, as nearly always; else they are kept."""
        if not self._bytes and len(data) >= HEADER.size:
            length, kind = unpack_header(data)
            if len(data) == HEADER.size + length:
                return kind, data[HEADER.size :]
        self.add(data)
        return self.take()

    def take(self) -> tuple[int, bytes] | None:
        """Kind and payload of the next message, None while it is not whole; raises ValueError for a dishonest length."""
        if len(self._bytes) < HEADER.size:
            return None
        length, kind = unpack_header(self._bytes)
        end = HEADER.size + length
        if len(self._bytes) < end:
            return None
        payload = bytes(self._bytes[HEADER.size : end])
        del self._bytes[:end]
        return kind, payload
