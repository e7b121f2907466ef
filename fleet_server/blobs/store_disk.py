"""The blob store on the server's own disk: one file per blob, created once, with its type and hash in a first line.

A URL of ours is signed (HMAC-SHA256) over method, key, expiry, type, length and hash: a device can put exactly what it announced.
"""

import base64
import contextlib
import errno
import hashlib
import hmac
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

from fleet_server.blob_store import BlobStat, SignedUrl, check_key
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, StoreFullError
from ota.wire.topics import BLOBS

MIN_FREE_BYTES = 32 * 1024 * 1024
"""Below this much free disk nothing more is taken: the database on the same disk must still be able to commit."""
LEFTOVER_S = 86_400.0
"""A body that began to arrive longer ago than this is what a crash left behind."""
FULL_HINT = "free space on the server's disk, or keep crops for fewer days (ROOKERY_CROP_RETENTION_DAYS)"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskBlobStore:
    """Blobs under ``root``; URLs begin with ``base_url`` (the device door)."""

    def __init__(
        self,
        root: Path,
        *,
        secret: bytes,
        base_url: str,
        clock: Callable[[], float],
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._root, self._temp = root / "by-key", root / "incoming"
        self._secret, self._base_url, self._clock, self._free_bytes = secret, base_url.rstrip("/"), clock, free_bytes
        for folder in (self._root, self._temp):
            folder.mkdir(parents=True, exist_ok=True)
        for path in self._temp.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process of this server tidies at the same time
                if path.stat().st_mtime < clock() - LEFTOVER_S:
                    path.unlink()

    def presign_put(self, key: str, content_type: str, length_bytes: int, sha256: str, ttl_s: float) -> SignedUrl:
        """A URL that takes exactly these bytes once."""
        expires_s = int(self._clock() + ttl_s)
        fields = {"expires": str(expires_s), "type": content_type, "length": str(length_bytes), "sha256": sha256}
        headers = {"Content-Type": content_type, "Content-Length": str(length_bytes)}
        return SignedUrl(self._url("PUT", key, fields), headers, expires_s)

    def presign_get(self, key: str, ttl_s: float) -> SignedUrl:
        """A URL that gives the bytes."""
        expires_s = int(self._clock() + ttl_s)
        return SignedUrl(self._url("GET", key, {"expires": str(expires_s)}), {}, expires_s)

    def _url(self, method: str, key: str, fields: dict[str, str]) -> str:
        signed = {**fields, "signature": self._signature(method, check_key(key), fields)}
        return f"{self._base_url}{BLOBS}/{quote(key)}?{urlencode(signed)}"

    def _signature(self, method: str, key: str, fields: dict[str, str]) -> str:
        text = json.dumps([method, key, *(fields.get(name, "") for name in ("expires", "type", "length", "sha256"))])
        digest = hmac.new(self._secret, text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def check_signature(self, method: str, key: str, fields: dict[str, str]) -> None:
        """ForbiddenError unless the query's fields carry our signature for this method and key, and have not expired."""
        given = fields.get("signature", "").encode("utf-8", "replace")
        if not hmac.compare_digest(self._signature(method, key, fields).encode(), given):
            raise ForbiddenError("the URL's signature is not ours", "ask for a new upload slot")
        if not fields["expires"].isdigit() or int(fields["expires"]) < self._clock():
            raise ForbiddenError("the URL has expired", "ask for a new upload slot")

    def put(self, key: str, *, content_type: str, length_bytes: int, sha256: str, chunks: Iterable[bytes]) -> bool:
        """Store a body that must have this length and hash; True if it is new, False if the same bytes were there.

        InvalidError for other bytes than announced, ConflictError when others are stored, StoreFullError when the disk is full.
        """
        there = self.stat(key)
        if there is not None:
            return self._same(there, sha256)
        if self._free_bytes(self._root) < length_bytes + MIN_FREE_BYTES:
            raise StoreFullError("the blob store's disk is full", FULL_HINT)
        target = self._path(key)
        temporary = self._temp / secrets.token_hex(12)
        head = json.dumps({"type": content_type, "length": length_bytes, "sha256": sha256}).encode() + b"\n"
        try:
            _write(temporary, head, _exactly(chunks, length_bytes, sha256))
            try:
                _link(temporary, target)
            except FileExistsError:
                there = self.stat(key)
                return there is None or self._same(there, sha256)
            _sync_folders(target.parent, self._root)
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFullError("the blob store's disk is full", FULL_HINT) from None
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return True

    @staticmethod
    def _same(there: BlobStat, sha256: str) -> bool:
        if there.sha256 != sha256:
            raise ConflictError("other bytes are stored under this key")
        return False

    def stat(self, key: str) -> BlobStat | None:
        """What is stored under the key, or None."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                head = json.loads(file.readline(4096))
                stored_s = os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return BlobStat(key, int(head["length"]), str(head["sha256"]), str(head["type"]), stored_s)

    def read(self, key: str, limit_bytes: int = 32 * 1024 * 1024) -> bytes:
        """The bytes; NotFoundError when there are none."""
        try:
            with self._path(key).open("rb") as file:
                file.readline(4096)
                return file.read(limit_bytes)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError("no such blob") from None

    def delete(self, key: str) -> bool:
        """Forget the key; True if it was there."""
        path = self._path(key)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        for folder in path.parents:
            if folder == self._root:
                break
            try:
                folder.rmdir()  # one folder per event would stay behind for ever
            except OSError:
                break  # it is not empty
        return True

    def list(self, prefix: str, after: str = "", limit: int = 1000) -> list[BlobStat]:
        """Blobs whose key begins with ``prefix`` in order of their keys, those behind ``after``."""
        keys = (key for key in self._keys("", prefix, after) if key.startswith(prefix) and key > after)
        found = (self.stat(key) for key in itertools.islice(keys, limit))
        return [each for each in found if each is not None]

    def _keys(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        # A folder sorts as its name with the slash: then walking in order is the order of the keys, and a slice of a million
        # blobs opens only the folders that it needs.
        try:
            with os.scandir(self._root / folder) as entries:
                names = sorted(folder + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in entries)
        except FileNotFoundError:
            return  # emptied and removed while we looked
        for name in names:
            if not name.endswith("/"):
                yield name
            elif (name.startswith(prefix) or prefix.startswith(name)) and (name > after or after.startswith(name)):
                yield from self._keys(name, prefix, after)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)


def _link(temporary: Path, target: Path) -> None:
    # Atomic, and never over a file that is there. The folder may be removed as empty between making and using it.
    for last_try in (False, False, True):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(temporary, target)
        except FileNotFoundError:
            if last_try:
                raise
        else:
            return


def _exactly(chunks: Iterable[bytes], length_bytes: int, sha256: str) -> Iterator[bytes]:
    digest, seen = hashlib.sha256(), 0
    for chunk in chunks:
        seen += len(chunk)
        if seen > length_bytes:
            raise InvalidError(f"the body is longer than the {length_bytes} bytes that were announced")
        digest.update(chunk)
        yield chunk
    if seen != length_bytes:
        raise InvalidError(f"the body has {seen} bytes; {length_bytes} were announced")
    if digest.hexdigest() != sha256:
        raise InvalidError("the body's sha256 is not the one that was announced")


def _write(path: Path, head: bytes, chunks: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        file.write(head)
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _sync_folders(folder: Path, root: Path) -> None:
    # The new name, and the names of folders that were made for it.
    while True:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if folder == root:
            return
        folder = folder.parent
