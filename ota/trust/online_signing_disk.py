"""What the server signs by itself: snapshot and timestamp, by the keys that the root in force names, also while those change."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ota.bundle.offline import ChainError
from ota.bundle.tuf_types import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from ota.trust.key_types import Key, Signature, Signer
from ota.trust.online_keys_disk import OnlineKeys
from ota.trust.refusal import Refusal
from ota.trust.roles import ASSIGNMENT_KEYS, assignment_keys, instant
from ota.trust.store_disk import MetadataStore, StoredState

SNAPSHOT_LIFE_S = 7 * 86_400.0
TIMESTAMP_LIFE_S = 86_400.0


class OnlineSigning:
    """Signs over ``store`` with ``keys``. Call it under the repository's lock."""

    def __init__(self, keys: OnlineKeys, store: MetadataStore) -> None:
        self._keys = keys
        self._store = store

    def begin(self, root: Root, targets_version: int, now_s: float) -> None:
        """The first snapshot and timestamp."""
        meta = {"targets.json": self._entry("targets", targets_version)}
        snapshot = Metadata(Snapshot(version=1, expires=instant(now_s + SNAPSHOT_LIFE_S), meta=meta))
        self._sign(snapshot, "snapshot", (root,))
        self._store.write("snapshot", 1, snapshot.to_bytes())
        self._write_timestamp(1, 1, now_s, (root,))

    def bump(self, state: StoredState, versions: Mapping[str, int], now_s: float, roots: Sequence[Root] = ()) -> None:
        """The next snapshot, with these versions in it, and the timestamp that makes it visible; ``state`` follows.

        ``roots``: sign by the keys that each of them names (the old one and the new one, so that a board finds a signature that
        it can check on either side of the change). The key of the last one must be here, those of the others need not.
        """
        by = roots or (state.root.signed,)
        snapshot = state.snapshot
        snapshot.signed.version += 1
        snapshot.signed.expires = instant(now_s + SNAPSHOT_LIFE_S)
        # Those that an older server listed without a hash get theirs, as far as what lies here was verified.
        bare = {role: number for role, number in _verified(state).items() if not snapshot.signed.meta[f"{role}.json"].hashes}
        for role, version in {**bare, **versions}.items():
            snapshot.signed.meta[f"{role}.json"] = self._entry(role, version)
        self._sign(snapshot, "snapshot", by)
        self._demand("timestamp", by[-1])  # before anything is written
        self._store.write("snapshot", snapshot.signed.version, snapshot.to_bytes())
        state.timestamp = self._write_timestamp(state.timestamp.signed.version + 1, snapshot.signed.version, now_s, by)

    def renew_timestamp(self, state: StoredState, now_s: float) -> None:
        """The next timestamp over the same snapshot."""
        version = state.timestamp.signed.version + 1
        state.timestamp = self._write_timestamp(version, state.snapshot.signed.version, now_s, (state.root.signed,))

    def holds_keys_of(self, root: Root) -> bool:
        """Whether the keys that this root names for snapshot and timestamp are here."""
        return all(self._keys.named(role, root.roles[role].keyids) is not None for role in ("snapshot", "timestamp"))

    def held(self) -> dict[str, dict[str, Key]]:
        """Role -> keys by id that this server holds: those in use and those prepared."""
        found: dict[str, dict[str, Key]] = {}
        for keys in (self._keys.public(make=not self._store.initialised()), self._keys.prepared()):
            for role, key in keys.items():
                found.setdefault(role, {})[key.keyid] = key
        return found

    def check_assignment_key(self, targets: Targets) -> None:
        """Raise ChainError unless these targets let this server sign assignments."""
        ours = self.held().get("assignment", {})
        if not ours.keys() & assignment_keys(targets).keys():
            text = f"targets: {ASSIGNMENT_KEYS} names none of this server's assignment keys; no board would take its word"
            raise ChainError(Refusal("signature", text))

    def settle(self, root: Root, targets: Targets) -> None:
        """Let prepared keys that are named now take the places of the old ones."""
        for role in ("snapshot", "timestamp"):
            self._keys.settle(role, root.roles[role].keyids)
        self._keys.settle("assignment", assignment_keys(targets).keys())

    def problems(self, state: StoredState) -> list[str]:
        """Sentences about keys that are named and not here: nothing new can be signed by them."""
        texts = [
            f"the {role} key that the root names is not on this server: make a new one with "
            f"`rookery key online --next {role} FILE` and name it with `rookery key rotate {role}`"
            for role in ("snapshot", "timestamp")
            if self._keys.named(role, state.root.signed.roles[role].keyids) is None
        ]
        if self._keys.named("assignment", assignment_keys(state.targets.signed).keys()) is None:
            texts.append(
                "none of the assignment keys that the targets name is on this server: make a new one with "
                "`rookery key online --next assignment FILE` and name it with `rookery key rotate assignment`"
            )
        return texts

    def _write_timestamp(self, version: int, snapshot_version: int, now_s: float, by: Sequence[Root]) -> Metadata[Timestamp]:
        expires = instant(now_s + TIMESTAMP_LIFE_S)
        entry = self._entry("snapshot", snapshot_version)
        metadata = Metadata(Timestamp(version=version, expires=expires, snapshot_meta=entry))
        self._sign(metadata, "timestamp", by)
        self._store.write("timestamp", None, metadata.to_bytes())
        return metadata

    def _entry(self, role: str, version: int) -> MetaFile:
        """A stored file by version, length and sha256: whoever holds its key alone cannot put another in its place."""
        data = self._store.read(role, version)
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def _sign(self, metadata: Metadata[Any], role: str, by: Sequence[Root]) -> None:
        self._demand(role, by[-1])
        metadata.signatures.clear()
        for root in by:
            signer = self._keys.named(role, root.roles[role].keyids)
            if signer is not None and signer.public_key.keyid not in metadata.signatures:
                metadata.sign(signer, append=True)

    def _demand(self, role: str, root: Root) -> None:
        if self._keys.named(role, root.roles[role].keyids) is None:
            text = f"{role}: the key that the root names is not on this server: rotate it (rookery key rotate {role})"
            raise ChainError(Refusal("signature", text))


class AssignmentSigner(Signer):
    """Signs assignments by the key that the published targets name, whichever process rotated it and when."""

    def __init__(self, keys: OnlineKeys, store: MetadataStore, published: Path) -> None:
        self._keys = keys
        self._store = store
        self._published = published
        self._mark: tuple[int, int] | None = None
        self._signer = keys.signer("assignment") if not store.initialised() else self._named()

    @property
    def public_key(self) -> Key:
        """The public half of the key that signs now."""
        return self._present().public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> "AssignmentSigner":
        """Not a key with an address of its own."""
        raise NotImplementedError(priv_key_uri)

    def sign(self, payload: bytes) -> Signature:
        """One signature."""
        return self._present().sign(payload)

    def _present(self) -> Signer:
        try:
            stat = self._published.stat()
        except OSError:
            return self._signer  # nothing is published yet
        mark = (stat.st_ino, stat.st_mtime_ns)
        if mark != self._mark:
            self._signer, self._mark = self._named(), mark
        return self._signer

    def _named(self) -> Signer:
        try:
            keyids = assignment_keys(self._store.load().targets.signed).keys()
        except ChainError:
            keyids = {}.keys()  # a damaged store: the key that was in use is the best guess, and boards judge it
        return self._keys.named("assignment", keyids) or self._keys.signer("assignment")


def _verified(state: StoredState) -> dict[str, int]:
    """Role -> version of what the published snapshot names and what was verified when the state was read."""
    return {"targets": state.targets.signed.version, **{name: one.signed.version for name, one in state.channels.items()}}
