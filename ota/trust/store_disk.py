"""The server's metadata files: what refers to what, read back and verified before anything is signed on top of it."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError

from ota.bundle.offline import ChainError, check_signed, load_role, trust_root
from ota.bundle.tuf_types import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from ota.durable_disk import fsync_folder, write_whole
from ota.trust.refusal import Refusal
from ota.trust.roles import POLICY

_ROOT = re.compile(r"(\d+)\.root\.json")


@dataclass(slots=True)
class StoredState:
    """The published state: what ``timestamp.json`` leads to. ``problems`` name channels that no longer verify."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    channels: dict[str, Metadata[Targets]] = field(default_factory=dict)
    """Those whose signatures hold; see ``channel_versions`` for all."""
    channel_versions: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    resign: bool = False
    """Snapshot or timestamp bear only the signature of a key that the root in force no longer names: a change of keys was cut off
    between its two files. They must be signed anew before anything else."""


@dataclass(frozen=True, slots=True)
class RepositoryStatus:
    """What is published now. ``problems`` are sentences for the operator; empty when all is well."""

    initialised: bool
    root_version: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    """Also those whose file no longer verifies; without ``policy``, on which nothing is released."""
    expires_s: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def status_of(state: StoredState, problems: list[str], now_s: float) -> RepositoryStatus:
    """A stored state in numbers and sentences; ``problems``: what else is wrong."""
    pieces: dict[str, Metadata[Any]] = {"root": state.root, "targets": state.targets, "snapshot": state.snapshot}
    pieces["timestamp"] = state.timestamp
    pieces.update(state.channels)
    expired = [f"{role} expired" for role, metadata in pieces.items() if left_s(metadata, now_s) <= 0]
    return RepositoryStatus(
        initialised=True,
        root_version=state.root.signed.version,
        versions={role: metadata.signed.version for role, metadata in pieces.items()},
        channels={name: version for name, version in state.channel_versions.items() if name != POLICY},
        expires_s={role: metadata.signed.expires.timestamp() for role, metadata in pieces.items()},
        problems=[*state.problems, *problems, *expired],
    )


def left_s(metadata: Metadata[Any], now_s: float) -> float:
    """How long the metadata still counts; negative once it has expired."""
    return float(metadata.signed.expires.timestamp() - now_s)


class MetadataStore:
    """``N.<role>.json`` and ``timestamp.json`` in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def initialised(self) -> bool:
        """Whether anything was ever published."""
        return (self._folder / "timestamp.json").exists()

    def write(self, role: str, version: int | None, data: bytes) -> None:
        """Write one file durably; version None is the one name that is replaced (timestamp)."""
        write_whole(self._folder / _name(role, version), data)

    def read(self, role: str, version: int | None) -> bytes:
        """The bytes of one file; raises ChainError when it is missing or cannot be read."""
        try:
            return (self._folder / _name(role, version)).read_bytes()
        except OSError as error:
            raise ChainError(Refusal("signature", f"{_name(role, version)}: {error.strerror}")) from None

    def forget_unpublished_roots(self) -> None:
        """Remove roots of a first upload that never came to its end."""
        for version in self._roots():
            (self._folder / _name("root", version)).unlink()
        if self._folder.is_dir():
            fsync_folder(self._folder)

    def load(self) -> StoredState:
        """The published state, each piece verified by the one before; raises ChainError when something is missing or damaged."""
        roots = self._roots()
        if not roots or not self.initialised():
            raise ChainError(Refusal("signature", "no root was uploaded yet: create and upload the fleet's trust first"))
        stored = {version: self.read("root", version) for version in roots}
        root = trust_root(stored[min(roots)], stored)
        before = stored.get(root.signed.version - 1)
        older = load_role(Root, before, "root").signed if before is not None else None
        timestamp, old_timestamp = self._load_online(Timestamp, (root.signed, older), "timestamp", None)
        version = timestamp.signed.snapshot_meta.version
        snapshot, old_snapshot = self._load_online(Snapshot, (root.signed, older), "snapshot", version)
        self._same_as_named(timestamp.signed.snapshot_meta, "snapshot")
        meta = snapshot.signed.meta
        targets = self._load(Targets, root.signed, "targets", meta["targets.json"].version)
        self._same_as_named(meta["targets.json"], "targets")
        state = StoredState(root, timestamp, snapshot, targets, resign=old_timestamp or old_snapshot)
        for name in [one.removesuffix(".json") for one in meta if one != "targets.json"]:
            # A damaged channel is told, and does not keep the others from being published.
            version = state.channel_versions[name] = meta[f"{name}.json"].version
            try:
                self._same_as_named(meta[f"{name}.json"], name)
                channel: Metadata[Targets] = load_role(Targets, self.read(name, version), name)
                check_signed(targets.signed, name, channel)
                state.channels[name] = channel
            except ChainError as error:
                state.problems.append(f"channel {name} must be signed again or was damaged: {error.refusal.detail}")
        return state

    def _same_as_named(self, entry: MetaFile, role: str) -> None:
        """Raise ChainError unless the file is, to the byte, the one that the snapshot names (older ones name versions alone)."""
        try:
            entry.verify_length_and_hashes(self.read(role, entry.version))
        except RepositoryError as error:
            raise ChainError(Refusal("signature", f"{_name(role, entry.version)}: {error}")) from None

    def _load_online(
        self, kind: type[Any], roots: tuple[Root, Root | None], role: str, version: int | None
    ) -> tuple[Metadata[Any], bool]:
        # True: only the root before this one knows the key.
        try:
            return self._load(kind, roots[0], role, version), False
        except ChainError:
            if roots[1] is None:
                raise
            return self._load(kind, roots[1], role, version), True

    def _load(self, kind: type[Any], delegator: Root, role: str, version: int | None) -> Metadata[Any]:
        metadata = load_role(kind, self.read(role, version), role)
        check_signed(delegator, role, metadata)
        if version is not None and metadata.signed.version != version:
            raise ChainError(Refusal("signature", f"{_name(role, version)} holds version {metadata.signed.version}"))
        return metadata

    def _roots(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        found = (_ROOT.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match is not None)


def same_text(data: bytes, published: Metadata[Any]) -> bool:
    """Whether ``data`` says what is published already, whoever signed it besides."""
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False  # what it is instead is said by the check of it
    return metadata.signed_bytes == published.signed_bytes


def _name(role: str, version: int | None) -> str:
    return f"{role}.json" if version is None else f"{version}.{role}.json"
