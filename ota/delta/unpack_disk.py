"""Files out of what travelled: hashed before they are decoded, hashed while they are written, whole or absent."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ota.bundle.errors import Refusal
from ota.bundle.manifest import DELTA_ZSTD, Delta, FileEntry, travelling
from ota.durable_disk import TEMP_SUFFIX, fsync_folder
from ota.zstd_frames import CHUNK_BYTES, MAX_WINDOW_BYTES, FrameError, Stopped, apply_patch, never, unpack


def unpack_file(
    source: Path, entry: FileEntry, destination: Path, *, should_stop: Callable[[], bool] = never, hashed: bool = False
) -> Refusal | None:
    """Make the file that ``entry`` lists of ``source``, the bytes that travelled for it (packed or not).

    ``source`` stays. ``hashed`` True: the caller has hashed the source while writing it, and it is not read a second time for
    that. Returns None, with ``destination`` durable and right to the byte, or a refusal (``hash``, ``format``, ``disk``,
    ``deadline`` where ``should_stop`` said so), with ``destination`` as it was before.
    """
    sha256, length_bytes = travelling(entry)
    with _refused(source) as outcome, source.open("rb") as file:
        if not hashed:
            _check_source(file, sha256, length_bytes, should_stop)
        chunks = _plain(file, should_stop) if entry.packed is None else unpack(file, entry.length_bytes, should_stop)
        _write(destination, chunks, entry)
    return outcome[0] if outcome else None


def apply_delta(
    base: Path, patch: Path, delta: Delta, entry: FileEntry, destination: Path, *, should_stop: Callable[[], bool] = never
) -> Refusal | None:
    """Make the file that ``entry`` lists of ``base``, a file that is there, and ``patch``, the bytes of ``delta``.

    Whatever the refusal: fetch the whole file instead. Memory: base and result, each at most ``MAX_WINDOW_BYTES``.
    """
    if delta.encoding != DELTA_ZSTD:
        return Refusal("format", f"a delta of the kind {delta.encoding!r} is not known here")
    if entry.length_bytes > MAX_WINDOW_BYTES:
        return Refusal("format", f"a delta for {entry.length_bytes} bytes; the limit is {MAX_WINDOW_BYTES}")
    with _refused(patch) as outcome, patch.open("rb") as file:
        _check_source(file, delta.sha256, delta.length_bytes, should_stop)
        data = _base(base, delta.base_sha256)
        _write(destination, apply_patch(data, file, entry.length_bytes, should_stop), entry)
    return outcome[0] if outcome else None


class _WrongHashError(Exception):
    """What was read or made is not what is signed."""


@contextmanager
def _refused(source: Path) -> Iterator[list[Refusal]]:
    outcome: list[Refusal] = []
    try:
        yield outcome
    except _WrongHashError as error:
        outcome.append(Refusal("hash", str(error)))
    except FrameError as error:
        outcome.append(Refusal("format", f"{source.name}: {error}"))
    except Stopped:
        outcome.append(Refusal("deadline", f"{source.name}: stopped while it was unpacked"))
    except OSError as error:
        outcome.append(Refusal("disk", f"{error.filename or source}: {error.strerror or error}"))


def _check_source(file: IO[bytes], sha256: str, length_bytes: int, should_stop: Callable[[], bool]) -> None:
    size_bytes = os.fstat(file.fileno()).st_size
    if size_bytes != length_bytes:
        raise _WrongHashError(f"{sha256[:12]}…: {size_bytes} bytes, {length_bytes} are signed")
    digest = hashlib.sha256()
    for chunk in _plain(file, should_stop):
        digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise _WrongHashError(f"{sha256[:12]}…: the bytes that travelled are not those that are signed")
    file.seek(0)


def _plain(file: IO[bytes], should_stop: Callable[[], bool]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        if should_stop():
            raise Stopped
        yield chunk


def _base(base: Path, sha256: str) -> bytes:
    # Read, not mapped: a card that fails under a mapping kills the process, under a read it is an error.
    size_bytes = base.stat().st_size
    if size_bytes > MAX_WINDOW_BYTES:
        raise FrameError(f"a base of {size_bytes} bytes; the limit is {MAX_WINDOW_BYTES}")
    data = base.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _WrongHashError(f"{base.name} is not the base {sha256[:12]}… that the delta was made from")
    return data


def _write(destination: Path, chunks: Iterable[bytes], entry: FileEntry) -> None:
    temporary = destination.with_name(f"{destination.name}.{os.urandom(4).hex()}{TEMP_SUFFIX}")
    digest, done_bytes = hashlib.sha256(), 0
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as into:
            os.fchmod(handle, 0o644)  # whatever the umask is
            for chunk in chunks:
                done_bytes += len(chunk)
                if done_bytes > entry.length_bytes:
                    raise _WrongHashError(f"{entry.sha256[:12]}…: more than the {entry.length_bytes} bytes that are signed")
                digest.update(chunk)
                into.write(chunk)
            if (digest.hexdigest(), done_bytes) != (entry.sha256, entry.length_bytes):
                raise _WrongHashError(f"{entry.sha256[:12]}…: what was unpacked is not the file that is signed")
            into.flush()
            os.fsync(into.fileno())
        temporary.replace(destination)
    except BaseException:  # also Ctrl-C: nothing half-written may stay
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(destination.parent)
