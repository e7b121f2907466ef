"""Packing and unpacking as streams: one zstd frame, caps on output, window and time. Pure: bytes in, bytes out.

The same bytes and the same zstd library give the same frame: one thread, a fixed level, content size and checksum written, no
dictionary id, no time. ``PACKER`` names the library, and goes into the manifest's provenance.
"""

import io
from collections.abc import Callable, Iterator
from typing import IO, Protocol, cast

import zstandard

LEVEL = 19
"""Best of the levels that need no more than 8 MiB to decode; measured in research/trust-anchors.md §4."""
PATCH_LEVEL = 19
"""With a raw-content dictionary the binding's levels 3 to 9 silently find nothing of it; 12 and above do (measured there)."""
MAX_WINDOW_BYTES = 64 * 1024 * 1024
"""Memory that a decoder may be made to take; also the largest base and result of a patch."""
PACKED_WINDOW_LOG = 23
"""8 MiB: what a board needs to unpack, however large the file."""
CHUNK_BYTES = 256 * 1024
PACKER = f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} level {LEVEL}"
_MAX_HEADER_BYTES = 18
"""Magic, descriptor, window, dictionary id and content size at their longest (RFC 8878, 3.1.1)."""


class FrameError(ValueError):
    """Packed bytes or a patch cannot be decoded, or would break a cap; the message says which."""


class Stopped(Exception):  # noqa: N818  # not a fault of the bytes: the caller's deadline or wish
    """``should_stop`` said yes in the middle of a stream."""


class Readable(Protocol):
    """A stream of bytes: an opened file, say."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""
        ...


def never() -> bool:
    """``should_stop`` of those who wait as long as it takes."""
    return False


def pack(source: Readable, length_bytes: int) -> Iterator[bytes]:
    """The packed form of a stream of ``length_bytes`` in pieces; raises FrameError when it is not as long as that."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL,
        source_size=length_bytes,
        window_log=_window_log(min(length_bytes, 1 << PACKED_WINDOW_LOG)),
        **_FRAME,
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=length_bytes)
    seen_bytes = 0
    try:
        while chunk := source.read(CHUNK_BYTES):
            seen_bytes += len(chunk)
            if packed := packer.compress(chunk):
                yield packed
        yield packer.flush()
    except zstandard.ZstdError as error:
        raise FrameError(f"cannot pack: {error}") from None
    if seen_bytes != length_bytes:
        raise FrameError(f"{seen_bytes} bytes where {length_bytes} were announced")


def unpack(source: Readable, length_bytes: int, should_stop: Callable[[], bool] = never) -> Iterator[bytes]:
    """The file of ``length_bytes`` from its packed form, in pieces; raises FrameError, at the latest at the end.

    Never yields more than ``length_bytes``; never takes more memory than the frame's window, and refuses a window above
    ``MAX_WINDOW_BYTES``. ``should_stop`` is asked between pieces and ends the work with Stopped.
    """
    yield from _decoded(source, length_bytes, None, should_stop)


def make_patch(base: bytes, new: bytes) -> bytes | None:
    """The patch from ``base`` to ``new`` as ``zstd --patch-from`` writes it; None where one of them is too large or empty."""
    if not base or not new or max(len(base), len(new)) > MAX_WINDOW_BYTES:
        return None
    parameters = zstandard.ZstdCompressionParameters.from_level(
        PATCH_LEVEL,
        source_size=len(new),
        dict_size=len(base),
        window_log=_window_log(len(new)),
        enable_ldm=True,
        **_FRAME,
    )
    return zstandard.ZstdCompressor(dict_data=_dictionary(base), compression_params=parameters).compress(new)


def apply_patch(
    base: bytes, patch: Readable, length_bytes: int, should_stop: Callable[[], bool] = never
) -> Iterator[bytes]:
    """The file of ``length_bytes`` that a patch makes of ``base``, in pieces; raises FrameError as ``unpack`` does.

    Memory: the base, once, and a window of at most the result's size.
    """
    if not base or len(base) > MAX_WINDOW_BYTES:
        raise FrameError(f"a base of {len(base)} bytes; patches need 1 to {MAX_WINDOW_BYTES}")
    yield from _decoded(patch, length_bytes, base, should_stop)


_FRAME = {"write_content_size": True, "write_checksum": True, "write_dict_id": False, "threads": 0}


def _window_log(length_bytes: int) -> int:
    return max(int(zstandard.WINDOWLOG_MIN), (max(length_bytes, 1) - 1).bit_length())


def _dictionary(base: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _decoded(source: Readable, length_bytes: int, base: bytes | None, should_stop: Callable[[], bool]) -> Iterator[bytes]:
    head = source.read(_MAX_HEADER_BYTES)
    _check_header(head, length_bytes)
    unpacker = (
        zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        if base is None
        else zstandard.ZstdDecompressor(dict_data=_dictionary(base), max_window_size=MAX_WINDOW_BYTES)
    )
    rest = cast(IO[bytes], _Watched(head, source))
    done_bytes = 0
    try:
        # One frame, read in pieces of a fixed size: a few bytes that say "two gigabytes of zeros" cost one piece at a time.
        with unpacker.stream_reader(rest, read_size=CHUNK_BYTES, read_across_frames=False) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                if should_stop():
                    raise Stopped
                done_bytes += len(chunk)
                if done_bytes > length_bytes:
                    raise FrameError(f"unpacks to more than the {length_bytes} bytes that are signed")
                yield chunk
    except (zstandard.ZstdError, MemoryError) as error:
        raise FrameError(f"cannot be unpacked: {error or 'not enough memory'}") from None
    if done_bytes != length_bytes:
        raise FrameError(f"unpacks to {done_bytes} bytes, {length_bytes} are signed")


def _check_header(head: bytes, length_bytes: int) -> None:
    try:
        frame = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        raise FrameError(f"not a zstd frame: {error}") from None
    if frame.content_size != length_bytes:
        raise FrameError(f"announces {frame.content_size} bytes, {length_bytes} are signed")
    if frame.window_size > MAX_WINDOW_BYTES:
        raise FrameError(f"needs a window of {frame.window_size} bytes, the limit is {MAX_WINDOW_BYTES}")
    if frame.dict_id:
        raise FrameError(f"names the dictionary {frame.dict_id}; there are none")


class _Watched(io.RawIOBase):
    """The header that was looked at, then the rest of the stream."""

    def __init__(self, head: bytes, source: Readable) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._source.read(size)
