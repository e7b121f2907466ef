"""The device's side of TUF: what may exist, by metadata alone. Content comes through ``content_http``.

tuf.ngclient does the verifying. Ours is the transport (``pool_fetcher_http``), the clock (a board has none: the caller's
floored time), and durability (rollback floors must survive a power cut).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.ngclient.updater import Updater

from ota.bundle.offline import ChainError, check_fresh, check_signed, load_role, trust_root
from ota.bundle.tuf_types import Targets
from ota.durable_disk import fsync_folder, make_folder
from ota.trust.key_types import Key
from ota.trust.pool_fetcher_http import CONFIG, NotAsSignedError, PoolFetcher
from ota.trust.publishing import hashed_path
from ota.trust.refusal import Refusal
from ota.trust.roles import assignment_keys

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""Largest manifest or acceptance set that is read into memory."""

_TORN = (ValueError, KeyError, TypeError, RecursionError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """A target as the signed metadata has it. Ours bear sha256; it is empty only for who asked ``find`` for ``or_sha512``."""

    path: str
    sha256: str
    length_bytes: int
    custom: Mapping[str, Any] = field(default_factory=dict)
    served_path: str = ""
    """Below the address of targets: with the hash in its name where the root says consistent snapshots, else ``path``."""
    sha512: str = ""


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: str
    version: int
    ends_s: float


def _piece(data: bytes) -> _Piece:
    signed = json.loads(data)["signed"]
    return _Piece(str(signed["_type"]), int(signed["version"]), datetime.fromisoformat(signed["expires"]).timestamp())


class TrustClient:
    """Verified metadata in ``metadata_dir``, refreshed over HTTP. Refusals carry signature, expired, download, disk or mismatch.

    ``reference_time`` gives seconds since 1970, never below the board's trusted floor. ``bootstrap_root`` is the root that came
    with the board; what lies in ``metadata_dir`` is never an anchor. One operation at a time; ``deadline_s`` bounds each.
    """

    def __init__(
        self,
        metadata_dir: Path,
        *,
        metadata_url: str,
        targets_url: str,
        pool: urllib3.PoolManager,
        bootstrap_root: bytes,
        reference_time: Callable[[], float],
        deadline_s: float = 60.0,
        gap_s: float = 15.0,
    ) -> None:
        self._dir = metadata_dir
        self._metadata_url = metadata_url
        self._targets_url = targets_url.rstrip("/")
        self._bootstrap = bootstrap_root
        self._reference_time = reference_time
        self._deadline_s = deadline_s
        self._fetcher = PoolFetcher(pool, gap_s)
        self._updater: Updater | None = None
        self._keys: dict[str, Key] | None = None
        self._synced: dict[str, tuple[int, int]] = {}
        self._known: dict[str, tuple[tuple[int, int], _Piece]] = {}
        self._one_at_a_time = threading.RLock()

    def anchor(self) -> Refusal | None:
        """Judge the pinned root by itself and put it into ``metadata_dir``; asks no network."""
        outcome = self._guarded(self._begin)
        return outcome if isinstance(outcome, Refusal) else None

    def refresh(self) -> Refusal | None:
        """Fetch and verify root, timestamp, snapshot and targets; None when all are fresh. Call it before each new decision."""

        def work() -> None:
            self._updater = None
            updater = self._begin()
            updater.refresh()
            self._updater = updater
            # Of top-level targets alone: no delegated role may say who assigns, whatever its paths are.
            self._keys = assignment_keys(updater._trusted_set.targets)

        outcome = self._guarded(work)
        return outcome if isinstance(outcome, Refusal) else None

    def find(self, path: str, *, or_sha512: bool = False) -> TargetInfo | Refusal:
        """What the signed metadata says of a target; refused with ``mismatch`` when no channel has signed it (by sha256)."""
        refused = self.refresh() if self._updater is None else None
        if refused is not None:
            return refused
        updater = self._updater
        assert updater is not None
        entry = self._guarded(lambda: updater.get_targetinfo(path))
        if isinstance(entry, Refusal):
            return entry
        if entry is None:
            return Refusal("mismatch", f"{path} is not (or no longer) in the signed metadata")
        sha256, sha512 = entry.hashes.get("sha256", ""), entry.hashes.get("sha512", "") if or_sha512 else ""
        if not (sha256 or sha512):
            return Refusal("mismatch", f"{path} has no sha256 in the signed metadata")
        custom = entry.custom if isinstance(entry.custom, dict) else {}
        served = hashed_path(path, sha256 or sha512) if updater._trusted_set.root.consistent_snapshot else path
        return TargetInfo(path, sha256, entry.length, custom, served, sha512)

    def manifest(self, path: str, expected_sha256: str, expected_length: int | None = None) -> bytes | Refusal:
        """The bytes of a manifest (or acceptance set): path, hash and length must agree with the signed metadata."""
        target = self.find(path)
        if isinstance(target, Refusal):
            return target
        if expected_sha256 != target.sha256 or expected_length not in (None, target.length_bytes):
            return Refusal(
                "mismatch",
                f"{path}: the assignment says {expected_sha256[:12]}… ({expected_length} bytes), "
                f"the signed metadata {target.sha256[:12]}… ({target.length_bytes} bytes)",
            )
        if target.length_bytes > MAX_DOCUMENT_BYTES:
            return Refusal("format", f"{path} is {target.length_bytes} bytes, the limit is {MAX_DOCUMENT_BYTES}")
        url = f"{self._targets_url}/{target.served_path}"
        with self._one_at_a_time:
            self._fetcher.deadline_s = time.monotonic() + self._deadline_s
            try:
                data = self._fetcher.download_bytes(url, target.length_bytes)
            except DownloadLengthMismatchError:
                return Refusal("hash", f"{path} is longer on the server than the signed metadata says")
            except DownloadError as error:
                return Refusal("download", f"{url}: {error}")
        if len(data) != target.length_bytes or hashlib.sha256(data).hexdigest() != target.sha256:
            return Refusal("hash", f"{path} on the server is not what the signed metadata says")
        return data

    def assignment_keys(self) -> Mapping[str, Key]:
        """Who may sign assignments, by key id; empty until metadata was refreshed once, or when what is on disk has expired.

        A signature by a key that is not here may mean that the server's key was rotated: refresh, then ask once more.
        """
        if self._keys is None:
            try:
                self._keys = self._keys_on_disk()
            except (OSError, ChainError):
                return {}
        return self._keys

    def versions(self) -> dict[str, int]:
        """Role -> version of the metadata on disk, for polls and reports."""
        return {role: piece.version for role, piece in self._pieces().items()}

    def earliest_end_s(self) -> float:
        """When the first of the trusted root, targets and channels ends, seconds since 1970: no floor is raised beyond it."""
        pieces = self._pieces()
        with contextlib.suppress(*_TORN):  # nothing was ever refreshed: the root that came with the board
            pieces = pieces or {"root": _piece(self._bootstrap)}
        return min((piece.ends_s for piece in pieces.values() if piece.kind in ("root", "targets")), default=float("inf"))

    def _pieces(self) -> dict[str, "_Piece"]:
        found: dict[str, _Piece] = {}
        for path in sorted(self._dir.glob("*.json")):
            try:
                stat = path.stat()
                mark = (stat.st_ino, stat.st_mtime_ns)
                known = self._known.get(path.name)
                if known is None or known[0] != mark:  # asked at every poll: a file is read again only when it changed
                    known = self._known[path.name] = mark, _piece(path.read_bytes())
            except (OSError, *_TORN):
                continue  # torn by a power cut: the next refresh fetches it again
            found[unquote(path.name.removesuffix(".json"))] = known[1]
        return found

    def _begin(self) -> Updater:
        updater = Updater(
            str(self._dir), self._metadata_url, fetcher=self._fetcher, bootstrap=self._bootstrap, config=CONFIG
        )
        # ngclient offers no argument for the time; this is the one place that sets it.
        updater._trusted_set.reference_time = datetime.fromtimestamp(self._reference_time(), UTC)
        return updater

    def _keys_on_disk(self) -> dict[str, Key]:
        history = (self._dir / "root_history").glob("*.root.json")
        roots = {int(path.name.partition(".")[0]): path.read_bytes() for path in history}
        root = trust_root(self._bootstrap, roots)
        targets = load_role(Targets, (self._dir / "targets.json").read_bytes(), "targets")
        check_signed(root.signed, "targets", targets)
        check_fresh("targets", targets, self._reference_time())
        return assignment_keys(targets.signed)

    def _guarded(self, work: Callable[[], T]) -> T | Refusal:
        with self._one_at_a_time:
            self._fetcher.deadline_s = time.monotonic() + self._deadline_s
            try:
                make_folder(self._dir)
                with self._locked():
                    try:
                        return work()
                    finally:
                        self._make_durable()
            except ExpiredMetadataError as error:
                return Refusal("expired", str(error))
            except RepositoryError as error:
                return Refusal("signature", f"{type(error).__name__}: {error}")
            except NotAsSignedError as error:
                return Refusal("signature", str(error))
            except DownloadError as error:
                return Refusal("download", str(error))
            except OSError as error:
                return Refusal("disk", f"{self._dir}: {error.strerror or error}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # ngclient wants its folder for itself; a second agent on this board waits here.
        with (self._dir / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_durable(self) -> None:
        # ngclient renames without fsync; after a power cut its floors would be older than what we acted upon.
        changed = False
        for path in [*self._dir.glob("*.json"), *(self._dir / "root_history").glob("*.json")]:
            stat = path.stat()
            mark = (stat.st_ino, stat.st_mtime_ns)
            if self._synced.get(str(path)) == mark:
                continue
            with path.open("rb") as file:
                os.fsync(file.fileno())
            self._synced[str(path)] = mark
            changed = True
        for folder in (self._dir / "root_history", self._dir) if changed else ():
            if folder.is_dir():
                fsync_folder(folder)
