"""The server's content store: files by their sha256, hashed while they are written."""

import errno
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ota.bundle.manifest import MAX_FILE_BYTES
from ota.durable_disk import fsync_folder, make_folder
from ota.trust.refusal import Refusal

CHUNK_BYTES = 256 * 1024


class Readable(Protocol):
    """Anything to read bytes from: a request's stream, a file."""

    def read(self, amount_bytes: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class Content:
    """A content file in the store. ``new`` is False when the same bytes were there before."""

    sha256: str
    length_bytes: int
    new: bool


class ContentStore:
    """Content files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where this content lies, or would."""
        return self._folder / sha256

    def problem(self, sha256: str, length_bytes: int | None) -> str | None:
        """Why this content cannot be served (missing, wrong), or None. Reads the whole file."""
        try:
            with self.path(sha256).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                seen_bytes = file.tell()
        except FileNotFoundError:
            return "is not on the server"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if digest != sha256:
            return "is damaged on the server"
        if length_bytes is not None and seen_bytes != length_bytes:
            return f"has {seen_bytes} bytes, the manifest says {length_bytes}"
        return None

    def put(self, sha256: str, stream: Readable, limit_bytes: int = MAX_FILE_BYTES) -> Content | Refusal:
        """Store what ``stream`` holds under its hash. Damaged content of the same name is replaced; wrong bytes are refused."""
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            return Refusal("format", "the name of a content file is 64 lower-case hexadecimal digits")
        path = self.path(sha256)
        if path.exists() and self.problem(sha256, None) is None:
            return Content(sha256, path.stat().st_size, new=False)
        try:
            return self._write(path, stream, limit_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
                return Refusal("disk", f"the content store cannot be written: {error.strerror}; make room and send it again")
            raise

    def _write(self, path: Path, stream: Readable, limit_bytes: int) -> Content | Refusal:
        make_folder(self._folder)
        handle, name = tempfile.mkstemp(prefix=".part-", dir=self._folder)
        temporary = Path(name)
        digest, length_bytes = hashlib.sha256(), 0
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
                    length_bytes += len(chunk)
                    if length_bytes > limit_bytes:
                        return Refusal("format", f"larger than the {limit_bytes} bytes that a content file may have")
                    file.write(chunk)
                if digest.hexdigest() != path.name:
                    return Refusal("hash", f"the {length_bytes} bytes sent have sha256 {digest.hexdigest()}, not {path.name}")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(self._folder)
        return Content(path.name, length_bytes, new=True)
