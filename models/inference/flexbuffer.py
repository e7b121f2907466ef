"""Whole numbers out of a FlexBuffer map, the form of custom operations' options. Pure, standard library only.

Layout: values, then their types, one byte each; before the values their count, before that the width of the keys and the way back
to them; the last byte of all is the width of the root, the one before it its type.
"""

import struct

from models.inference.flatbuffer import OutOfBoundsError

_MAP, _INT, _UINT = 9, 1, 2
_CODES = {1: ("<b", "<B"), 2: ("<h", "<H"), 4: ("<i", "<I"), 8: ("<q", "<Q")}
MAX_KEYS = 1000


def whole_number(data: bytes, key: str) -> int | None:
    """The whole number of a key in the map that is the root; None where there is none, or the bytes are broken."""
    try:
        return _search(data, key.encode() + b"\0")
    except (struct.error, IndexError, KeyError, OutOfBoundsError):
        return None


def _search(data: bytes, key: bytes) -> int | None:
    root_width, packed = data[-1], data[-2]
    if packed >> 2 != _MAP:
        return None
    width = 1 << (packed & 3)
    root = len(data) - 2 - root_width
    values = root - _read(data, root, root_width)
    count = _read(data, values - width, width)
    if count > MAX_KEYS:
        return None
    key_width = _read(data, values - 2 * width, width)
    keys = values - 3 * width - _read(data, values - 3 * width, width)
    for at in range(count):
        place = keys + at * key_width
        start = place - _read(data, place, key_width)
        if start >= 0 and data[start : start + len(key)] == key:
            kind = data[values + count * width + at] >> 2
            return _read(data, values + at * width, width, signed=kind == _INT) if kind in (_INT, _UINT) else None
    return None


def _read(data: bytes, at: int, width: int, *, signed: bool = False) -> int:
    if at < 0:
        raise OutOfBoundsError(f"byte {at}")
    return int(struct.unpack_from(_CODES[width][0 if signed else 1], data, at)[0])
