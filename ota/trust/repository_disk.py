"""The server's TUF repository: what was signed offline is checked and published; snapshot and timestamp are signed here.

Everything is a static file. New files are written first, under names that nothing refers to yet; the one replacement of
``timestamp.json`` makes them visible. A crash before it leaves the state before, after it the state after, to every client.
"""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ota.bundle.offline import ChainError, check_signed
from ota.bundle.tuf_types import Metadata, Root, Targets
from ota.durable_disk import make_folder, write_whole
from ota.trust.content_disk import Content, ContentStore, Readable
from ota.trust.key_types import Key, Signer
from ota.trust.online_keys_disk import OnlineKeys
from ota.trust.online_signing_disk import SNAPSHOT_LIFE_S, TIMESTAMP_LIFE_S, AssignmentSigner, OnlineSigning
from ota.trust.publishing import (
    NewTarget,
    Published,
    check_channel,
    check_root,
    check_targets,
    hashed_path,
    new_targets_of,
)
from ota.trust.refusal import Refusal
from ota.trust.store_disk import MetadataStore, RepositoryStatus, StoredState, left_s, same_text, status_of

_NO_BRIDGE = (
    "targets: sign the new targets with the old targets keys too, or keep enough old keys in the new root, so that devices "
    "can follow from the one to the other"
)


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read at ``mark`` (the times of the folder and of its timestamp)."""

    mark: tuple[int, int] | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    expires_s: dict[str, float] = field(default_factory=dict)


class Repository:
    """``directory`` holds ``metadata/`` and ``targets/`` (both served as they are); ``keys_directory`` the online keys."""

    def __init__(self, directory: Path, keys_directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._targets = directory / "targets"
        self._store = MetadataStore(directory / "metadata")
        self._content = ContentStore(self._targets / "files")
        self._keys = OnlineKeys(keys_directory)
        self._online = OnlineSigning(self._keys, self._store)
        self._clock = clock
        self._known = _Known()

    def online_keys(self) -> dict[str, Key]:
        """Public keys of snapshot, timestamp and assignment; made on first use. One that was lost since is not in it."""
        with self._locked():
            return self._keys.public(make=not self._store.initialised())

    def next_online_keys(self, make: Sequence[str] = ()) -> dict[str, Key]:
        """The keys that wait for a root (for assignments: targets) that names them; those of the roles in ``make`` are made.

        Raises KeyFileError for a role that is no online role.
        """
        with self._locked():
            for role in make:
                self._keys.prepare(role)
            return self._keys.prepared()

    def assignment_signer(self) -> Signer:
        """Signs what devices should run, by the key that the offline-signed targets name, also after they name another."""
        with self._locked():
            return AssignmentSigner(self._keys, self._store, self._directory / "metadata" / "timestamp.json")

    def initialise(
        self, root: bytes | None, targets: bytes | None, channels: Mapping[str, bytes] | None = None
    ) -> Refusal | None:
        """Take root and targets. The first time any root signed by its own threshold; later by the chain rules.

        Sending what is there already changes nothing, so a lost answer costs nothing.
        """
        with self._locked():
            try:
                if not self._store.initialised():
                    self._first(root, targets)
                else:
                    self._update(root, targets)
            except ChainError as error:
                return error.refusal
        for name, data in (channels or {}).items():
            outcome = self.publish_channel(name, data, [])
            if isinstance(outcome, Refusal):
                return outcome
        return None

    def publish_channel(
        self, name: str, metadata: bytes, manifests: Sequence[bytes], *, seen: int = 0
    ) -> list[Published] | Refusal:
        """Publish signed channel metadata; the list names what is new.

        ``manifests`` are the bytes of the targets that it adds (manifests and acceptance sets). Refused unless signatures,
        version, paths, expiry and all content are right. ``seen``: see ``check_channel``.
        """
        with self._locked():
            try:
                state = self._store.load()
                previous = state.channels.get(name)
                now_s = self._clock()
                before = (state.channel_versions.get(name), previous)
                channel = check_channel(name, metadata, state.targets.signed, before, now_s, seen)
                added = new_targets_of(channel, previous, name, manifests, self._stored_target)
                self._demand_content(added)
                for target in added:
                    path = self._targets / hashed_path(target.published.path, target.published.sha256)
                    write_whole(path, target.data)
                self._store.write(name, channel.signed.version, metadata)
                self._online.bump(state, {name: channel.signed.version}, now_s)
            except ChainError as error:
                return error.refusal
            return [target.published for target in added]

    def refresh_timestamp(self, now_s: float | None = None, *, force: bool = False) -> bool | Refusal:
        """Sign timestamp (and snapshot) anew once half of their life is over; True when it was done.

        Refused when our own store is damaged: the server must not put a fresh signature on what it cannot vouch for.
        """
        at_s = self._clock() if now_s is None else now_s
        with self._locked():
            try:
                state = self._store.load()
                snapshot_due = state.resign or left_s(state.snapshot, at_s) < SNAPSHOT_LIFE_S / 2
                if not (force or snapshot_due or left_s(state.timestamp, at_s) < TIMESTAMP_LIFE_S / 2):
                    return False
                if snapshot_due:
                    self._online.bump(state, {}, at_s)
                else:
                    self._online.renew_timestamp(state, at_s)
            except ChainError as error:
                return error.refusal
            return True

    def sign_above(self, seen: Mapping[str, int]) -> Refusal | None:
        """Sign the next snapshot and timestamp with versions above those in ``seen``: after a restore devices know newer ones.

        The caller bounds the numbers. What people sign offline keeps its version.
        """
        with self._locked():
            try:
                state = self._store.load()
                for role, metadata in (("snapshot", state.snapshot), ("timestamp", state.timestamp)):
                    metadata.signed.version = max(metadata.signed.version, seen.get(role, 0))
                self._online.bump(state, {}, self._clock())
            except ChainError as error:
                return error.refusal
        return None

    def versions(self) -> dict[str, int]:
        """Role (channels too) -> published version; empty before the first upload. Kept until a file changes (polls ask)."""
        return self._kept().numbers

    def expires_s(self) -> dict[str, float]:
        """Role (channels too) -> when it ends, seconds since 1970; kept like ``versions``."""
        return self._kept().expires_s

    def _kept(self) -> "_Known":
        metadata = self._directory / "metadata"
        try:
            # A root alone replaces no timestamp, but is a new name in the folder.
            mark = (metadata.stat().st_mtime_ns, (metadata / "timestamp.json").stat().st_mtime_ns)
        except OSError:
            return _Known()
        if self._known.mark != mark:
            status = self.status()
            self._known = _Known(mark, {**status.versions, **status.channels}, status.expires_s)
        return self._known

    def put_content(self, sha256: str, stream: Readable) -> Content | Refusal:
        """Store one content file under its hash; ``new`` in the answer is False when it was there."""
        return self._content.put(sha256, stream)

    def content_path(self, sha256: str) -> Path:
        """Where a content file lies."""
        return self._content.path(sha256)

    def content_problem(self, sha256: str, length_bytes: int | None = None) -> str | None:
        """Why this content cannot be served, or None; reads the whole file."""
        return self._content.problem(sha256, length_bytes)

    def channel_metadata(self, name: str) -> bytes | None:
        """The published metadata of a channel, for the offline signer; None when nothing was published on it."""
        return self.metadata_bytes(name)

    def metadata_bytes(self, role: str) -> bytes | None:
        """The published bytes of root, targets, policy or a channel; None when there are none."""
        status = self.status()
        version = status.versions.get(role) or status.channels.get(role)
        try:
            return self._store.read(role, version) if version else None
        except ChainError:
            return None

    def status(self) -> RepositoryStatus:
        """Versions, expiries and problems, as the store is now."""
        if not self._store.initialised():
            return RepositoryStatus(False, problems=["no root was uploaded yet"])
        try:
            state = self._store.load()
        except ChainError as error:
            return RepositoryStatus(True, problems=[f"the metadata store is damaged: {error.refusal.detail}"])
        return status_of(state, self._online.problems(state), self._clock())

    def _first(self, root: bytes | None, targets: bytes | None) -> None:
        if root is None or targets is None:
            raise ChainError(Refusal("format", "the first upload needs both root and targets"))
        now_s = self._clock()
        checked = check_root(root, None, self._online.held(), now_s)
        top = check_targets(targets, checked.signed, None, now_s)
        self._online.check_assignment_key(top.signed)
        self._store.forget_unpublished_roots()
        self._store.write("root", checked.signed.version, root)
        self._store.write("targets", top.signed.version, targets)
        self._online.begin(checked.signed, top.signed.version, now_s)

    def _update(self, root: bytes | None, targets: bytes | None) -> None:
        state, now_s = self._store.load(), self._clock()
        new_root: Metadata[Root] | None = None
        if root is not None and not same_text(root, state.root):
            new_root = check_root(root, state.root, self._online.held(), now_s)
        new_top: Metadata[Targets] | None = None
        if targets is not None and not same_text(targets, state.targets):
            new_top = check_targets(targets, (new_root or state.root).signed, state.targets, now_s)
            self._online.check_assignment_key(new_top.signed)
        root_first = new_root is None or _holds(new_root.signed, state.targets)
        if new_root is not None and not root_first and (new_top is None or not _holds(state.root.signed, new_top)):
            # Between the two files a device would find targets that its root does not know.
            raise ChainError(Refusal("signature", _NO_BRIDGE))
        if new_top is not None and targets is not None:
            self._store.write("targets", new_top.signed.version, targets)  # nothing refers to it yet
        versions = {} if new_top is None else {"targets": new_top.signed.version}
        if new_root is not None and root is not None:
            self._take_root(state, (root, new_root), versions, now_s, root_first=root_first)
        elif versions or state.resign:
            self._online.bump(state, versions, now_s)
        self._online.settle((new_root or state.root).signed, (new_top or state.targets).signed)

    def _take_root(
        self, state: StoredState, root: tuple[bytes, Metadata[Root]], versions: Mapping[str, int], now_s: float, *,
        root_first: bool,
    ) -> None:
        # A board reads root, then timestamp. While the keys of both change it finds one timestamp signed by old and new, so that
        # it can follow whenever it asks. Only where the old key is lost is there a moment in which it must ask again.
        both = (state.root.signed, root[1].signed)
        bridged = self._online.holds_keys_of(both[0])
        changes = any(both[0].roles[role].keyids != both[1].roles[role].keyids for role in ("snapshot", "timestamp"))
        if bridged and not root_first:
            self._online.bump(state, versions, now_s, both)
        elif bridged and changes:
            self._online.bump(state, {}, now_s, both)
        self._store.write("root", root[1].signed.version, root[0])
        if not bridged or (root_first and versions):
            self._online.bump(state, versions, now_s, both[1:])

    def _stored_target(self, path: str, sha256: str) -> bytes | None:
        try:
            return (self._targets / hashed_path(path, sha256)).read_bytes()
        except OSError:
            return None

    def _demand_content(self, added: Sequence[NewTarget]) -> None:
        for target in added:
            for sha256, length_bytes in target.content.items():
                problem = self._content.problem(sha256, length_bytes)
                if problem is not None:
                    raise ChainError(Refusal("hash", f"{target.published.path}: content {sha256[:12]}… {problem}"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Two writers (an upload and the worker's refresh) would otherwise sign the same version twice.
        make_folder(self._directory)
        with (self._directory / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _holds(root: Root, targets: Metadata[Targets]) -> bool:
    try:
        check_signed(root, "targets", targets)
    except ChainError:
        return False
    return True
