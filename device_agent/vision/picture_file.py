"""What a picture file says of itself before anything decodes it: its kind, its size, and whether its end is there. Pure.

A decoder asked for a picture of 60,000 x 60,000 px takes 10 GB; one given half a JPEG paints the rest grey and says nothing.
"""

import struct
from dataclasses import dataclass

PICTURE_KINDS = "JPEG, PNG, BMP or WebP"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_SCAN, _JPEG_END = 0xDA, b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture's size in pixels as its header has it, and whether the file is whole."""

    width_px: int
    height_px: int
    whole: bool


CUT_SHORT = PictureFile(0, 0, whole=False)


def look_at_picture(content: bytes) -> PictureFile | None:
    """The header of a JPEG, PNG, BMP or WebP file, without a size where it is cut short itself; None for anything else."""
    kinds = ((b"\xff\xd8", 0, _jpeg), (b"\x89PNG\r\n\x1a\n", 0, _png), (b"BM", 0, _bmp), (b"WEBP", 8, _webp))
    for mark, at, read in kinds:
        if content[at : at + len(mark)] == mark:
            try:
                return read(content)
            except (struct.error, IndexError):
                return CUT_SHORT
    return None


def _png(content: bytes) -> PictureFile:
    width, height = struct.unpack_from(">II", content, 16)
    return PictureFile(width, height, b"IEND" in content[-4096:])


def _jpeg(content: bytes) -> PictureFile | None:
    """Segment after segment up to the pixels; the mark of the end must come behind them (a thumbnail has its own)."""
    at, size = 2, None
    while at < len(content):
        if content[at] != 0xFF:
            return None
        while content[at] == 0xFF:  # any number of them may fill up
            at += 1
        mark = content[at]
        at += 1
        if mark in _JPEG_BARE:
            continue
        if mark == _JPEG_SCAN:
            return CUT_SHORT if size is None else PictureFile(*size, content.find(_JPEG_END, at) >= 0)
        if mark in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", content, at + 3)
            size = (width, height)
        at += struct.unpack_from(">H", content, at)[0]
    return CUT_SHORT


def _bmp(content: bytes) -> PictureFile | None:
    (first_byte,) = struct.unpack_from("<I", content, 10)
    header, width, height, _, bits, packing = struct.unpack_from("<IiiHHI", content, 14)
    if header < 40:
        return None
    rows, row_bytes = abs(height), (width * bits + 31) // 32 * 4
    return PictureFile(width, rows, packing != 0 or len(content) >= first_byte + rows * row_bytes)


def _webp(content: bytes) -> PictureFile | None:
    whole = len(content) >= 8 + struct.unpack_from("<I", content, 4)[0]
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return PictureFile(width & 0x3FFF, height & 0x3FFF, whole)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", content, 21)
        return PictureFile((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, whole)
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", content, 24)
        return PictureFile((high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1, whole)
    return None
