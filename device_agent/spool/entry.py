"""One entry of the outbox as bytes: a line that proves the rest, a JSON header, the blobs. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from ota.wire.base import Box

MAGIC = "rookery-spool"
FORMAT = 1
LINE_LIMIT_BYTES = 200
"""The first line is shorter than this; more means that the file is not ours."""


class TornEntryError(ValueError):
    """The bytes are not one whole entry; the message says why."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A picture that belongs to an event. ``jpeg`` None: its bytes went up with an earlier revision of the same event.

    ``kind`` is first or best, ``box`` is x, y, width, height in pixels of the source picture, ``at_s`` seconds since 1970.
    """

    kind: str
    sha256: str
    length_bytes: int
    score: float
    at_s: float
    box: Box
    jpeg: bytes | None = None


class CropLine(msgspec.Struct, frozen=True, kw_only=True):
    """A crop in the header; ``inline`` crops follow as bytes in the order of the header."""

    kind: str
    sha256: str
    length_bytes: int
    score: float
    at_s: float
    box: Box
    inline: bool


def line_of(crop: Crop) -> CropLine:
    """What the header says of a crop."""
    return CropLine(
        kind=crop.kind,
        sha256=crop.sha256,
        length_bytes=crop.length_bytes,
        score=crop.score,
        at_s=crop.at_s,
        box=crop.box,
        inline=crop.jpeg is not None,
    )


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry says of itself. ``message`` is the wire message as plain values; ``created_s`` is the device's clock."""

    stream: str
    sequence: int
    created_s: float
    priority: int = 0
    score: float = 0.0
    message: dict[str, Any] = {}
    crops: list[CropLine] = []


def pack(header: Header, bodies: list[bytes]) -> bytes:
    """Header and blobs as one file."""
    head = msgspec.json.encode(header)
    body = b"".join(bodies)
    digest = hashlib.sha256(head + body).hexdigest()
    return f"{MAGIC} {FORMAT} {len(head)} {len(body)} {digest}\n".encode() + head + body


@dataclass(frozen=True, slots=True)
class Frame:
    """The first line taken apart: where header and blobs lie, and the digest over both."""

    start: int
    head_bytes: int
    body_bytes: int
    digest: str

    @property
    def total_bytes(self) -> int:
        """Size of the whole file."""
        return self.start + self.head_bytes + self.body_bytes


def frame_of(beginning: bytes) -> Frame:
    """Read the first line; raises TornEntryError."""
    line, newline, _ = beginning[:LINE_LIMIT_BYTES].partition(b"\n")
    words = line.decode("ascii", "replace").split(" ")
    if not newline or len(words) != 5 or words[0] != MAGIC:
        raise TornEntryError("the first line is not an entry's")
    if words[1] != str(FORMAT):
        raise TornEntryError(f"format {words[1]} is not read here")
    if not (words[2].isdigit() and words[3].isdigit()):
        raise TornEntryError("the lengths are not numbers")
    return Frame(len(line) + 1, int(words[2]), int(words[3]), words[4])


def header_of(data: bytes) -> Header:
    """Header of an entry of which at least the head is in ``data``; the digest is not checked here. Raises TornEntryError."""
    frame = frame_of(data)
    try:
        return msgspec.json.decode(data[frame.start : frame.start + frame.head_bytes], type=Header)
    except msgspec.DecodeError as error:
        raise TornEntryError(f"the header does not decode: {error}") from None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry that waits for the server, proved by its digest."""

    header: Header
    crops: list[Crop]


def unpack(data: bytes) -> tuple[Header, list[Crop]]:
    """A whole entry, proved by its digest. Raises TornEntryError."""
    frame = frame_of(data)
    if frame.total_bytes != len(data):
        raise TornEntryError(f"{len(data)} bytes instead of {frame.total_bytes}")
    if hashlib.sha256(data[frame.start :]).hexdigest() != frame.digest:
        raise TornEntryError("the bytes are not those that were written")
    header = header_of(data)
    crops: list[Crop] = []
    position = frame.start + frame.head_bytes
    for line in header.crops:
        jpeg: bytes | None = None
        if line.inline:
            jpeg = data[position : position + line.length_bytes]
            position += line.length_bytes
        crops.append(Crop(line.kind, line.sha256, line.length_bytes, line.score, line.at_s, line.box, jpeg))
    if position != len(data):
        raise TornEntryError("the blobs do not add up")
    return header, crops


def renumbered(entry: Waiting, number: int) -> tuple[Header, bytes]:
    """The same entry under another number, as header and as a file."""
    message = entry.header.message | {"sequence": number}
    header = msgspec.structs.replace(entry.header, sequence=number, message=message)
    return header, pack(header, [crop.jpeg for crop in entry.crops if crop.jpeg is not None])


def likeness(header: Header) -> str:
    """What an entry is but for its number: equal for an entry and its renumbered copy."""
    bare = msgspec.structs.replace(header, sequence=0, message=header.message | {"sequence": 0})
    return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()
