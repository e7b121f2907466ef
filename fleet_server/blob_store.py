"""What a blob store is: the server signs URLs, devices put the bytes, the server can look, read, list and delete."""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}){1,5}")
"""A key: slash-separated names; the first is the device. No name begins with a dot, so none can climb out of a folder."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """Where to put (with exactly these headers) or to fetch one blob, until ``expires_s``."""

    url: str
    headers: dict[str, str]
    expires_s: float


@dataclass(frozen=True, slots=True)
class BlobStat:
    """A blob that is there."""

    key: str
    length_bytes: int
    sha256: str
    content_type: str
    stored_s: float


class BlobStore(Protocol):
    """Disk or S3. A key is written once: other bytes under the same key are refused.

    Errors: StoreFullError and UnavailableError where bytes move; NotFoundError from ``read``; ValueError for a malformed key.
    """

    def presign_put(self, key: str, content_type: str, length_bytes: int, sha256: str, ttl_s: float) -> SignedUrl:
        """A URL that takes exactly these bytes once."""

    def presign_get(self, key: str, ttl_s: float) -> SignedUrl:
        """A URL that gives the bytes."""

    def stat(self, key: str) -> BlobStat | None:
        """What is stored under the key, or None."""

    def read(self, key: str, limit_bytes: int = 32 * 1024 * 1024) -> bytes:
        """The bytes; raises NotFoundError."""

    def delete(self, key: str) -> bool:
        """Forget the key; True if it was there."""

    def list(self, prefix: str, after: str = "", limit: int = 1000) -> list[BlobStat]:
        """Blobs whose key begins with ``prefix`` in order of their keys, those behind ``after``."""


def check_key(key: str) -> str:
    """The key itself; ValueError when it is not one (``..``, an absolute path, strange characters)."""
    if len(key) > 300 or not KEY.fullmatch(key):
        raise ValueError(f"{key[:80]!r} is not a blob key")
    return key


def upload_key(device_id: str, purpose: str, name: str, sha256: str) -> str:
    """The key of a device's upload: under its own prefix, grouped by event name, holding the hash of its bytes."""
    return check_key(f"{device_id}/{purpose}/{name}/{sha256}")


def sha256_of(data: bytes) -> str:
    """Lower-case hexadecimal sha256."""
    return hashlib.sha256(data).hexdigest()
