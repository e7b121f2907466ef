"""Reads bundles as a stranger's: names, sizes, hashes and signatures are checked before anything is believed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ota.bundle.archive import (
    FILES,
    MANIFEST,
    MAX_ALL_METADATA_BYTES,
    MAX_METADATA_BYTES,
    MAX_METADATA_FILES,
    MAX_ROOT_BYTES,
    METADATA,
    Entry,
    is_content,
    is_metadata,
)
from ota.bundle.archive_disk import read_entries, read_entry
from ota.bundle.errors import BundleError, Refusal
from ota.bundle.manifest import LIMIT_BYTES, FileEntry, Manifest, parse_manifest, target_path, travelling, travelling_all
from ota.bundle.offline_chain import verify_offline
from ota.zstd_frames import FrameError, unpack


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its table of contents is checked, its content is checked as it is read."""

    path: Path
    manifest_bytes: bytes
    manifest: Manifest
    entries: dict[str, Entry]
    """Of the container, by name."""

    @property
    def manifest_sha256(self) -> str:
        """The digest by which the release is known."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    @property
    def has_deltas(self) -> bool:
        """Whether the patches that the manifest lists are in the bundle: then it can be pushed to a store with them."""
        every, needed = travelling_all(self.manifest, deltas=True), travelling_all(self.manifest, deltas=False)
        return any(FILES + sha256 in self.entries for sha256 in set(every) - set(needed))

    def files(self) -> dict[str, FileEntry]:
        """All files of the release by path."""
        return dict(self.manifest.files)

    def read(self, path: str) -> bytes:
        """One file of the release, unpacked; raises BundleError when it is not listed or not what the manifest says."""
        return b"".join(self.chunks(path))

    def chunks(self, path: str) -> Iterator[bytes]:
        """One file of the release, unpacked, in pieces.

        BundleError comes at the END when the content was wrong: use nothing before. What travels packed is hashed as a whole
        before its first byte is decoded.
        """
        entry = self.manifest.files.get(path)
        if entry is None:
            raise BundleError(f"$.files[{path!r}]", "not in this bundle")
        sha256, length_bytes = travelling(entry)
        if entry.packed is None:
            yield from self.content(sha256, length_bytes)
            return
        for _ in self.content(sha256, length_bytes):
            pass
        digest = hashlib.sha256()
        try:
            for chunk in unpack(_Stream(self.content(sha256, length_bytes)), entry.length_bytes):
                digest.update(chunk)
                yield chunk
        except FrameError as error:
            raise BundleError(f"$.files[{path!r}]", str(error)) from None
        if digest.hexdigest() != entry.sha256:
            raise BundleError(f"$.files[{path!r}]", "what it unpacks to is not what the manifest says")

    def content(self, sha256: str, length_bytes: int) -> Iterator[bytes]:
        """What travels, in pieces, by digest: packed as it lies there; BundleError at the end when it was wrong."""
        entry = self.entries.get(FILES + sha256)
        if entry is None:
            raise BundleError(FILES + sha256, "missing")
        digest, seen_bytes = hashlib.sha256(), 0
        for chunk in read_entry(self.path, entry):
            digest.update(chunk)
            seen_bytes += len(chunk)
            yield chunk
        if digest.hexdigest() != sha256 or seen_bytes != length_bytes:
            raise BundleError(FILES + sha256, "the content is not what the manifest says")

    def metadata(self) -> dict[str, bytes]:
        """The signed metadata by file name without its folder; empty before signing."""
        found = [entry for name, entry in self.entries.items() if is_metadata(name)]
        return {entry.name.removeprefix(METADATA): _bytes(self.path, entry, MAX_METADATA_BYTES) for entry in found}


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle whose signatures hold and whose content is what was signed."""

    manifest: Manifest
    manifest_sha256: str
    path: str
    """The TUF target."""
    versions: dict[str, int]
    """Role -> version of the metadata that authorised it."""


def open_bundle(path: Path) -> Bundle:
    """Open a bundle; raises BundleError with the reason when it is not one, or holds anything that does not belong there."""
    entries = read_entries(path)
    if MANIFEST not in entries:
        raise BundleError(MANIFEST, "missing")
    _check_metadata(entries)
    manifest_bytes = _bytes(path, entries[MANIFEST], LIMIT_BYTES)
    manifest = parse_manifest(manifest_bytes)
    needed, every = travelling_all(manifest, deltas=False), travelling_all(manifest, deltas=True)
    present = {name.removeprefix(FILES): entry for name, entry in entries.items() if is_content(name)}
    for sha256, entry in present.items():
        if sha256 not in every:
            raise BundleError(entry.name, "in the bundle but not listed in the manifest")
        if entry.length_bytes != every[sha256]:
            raise BundleError(entry.name, f"{entry.length_bytes} bytes, the manifest says {every[sha256]}")
    for sha256 in every if set(present) - set(needed) else needed:
        if sha256 not in present:
            raise BundleError(FILES + sha256, "listed in the manifest but not in the bundle")
    return Bundle(path, manifest_bytes, manifest, entries)


def _check_metadata(entries: dict[str, Entry]) -> None:
    """How much metadata there may be: nobody has signed for it yet."""
    metadata = [entry for name, entry in entries.items() if is_metadata(name)]
    if len(metadata) > MAX_METADATA_FILES:
        raise BundleError("$", f"more than {MAX_METADATA_FILES} metadata files")
    for entry in metadata:
        if entry.name.endswith("root.json") and entry.length_bytes > MAX_ROOT_BYTES:
            raise BundleError(entry.name, f"{entry.length_bytes} bytes, the limit of a root is {MAX_ROOT_BYTES}")
    whole_bytes = sum(entry.length_bytes for entry in metadata)
    if whole_bytes > MAX_ALL_METADATA_BYTES:
        raise BundleError("$", f"{whole_bytes} bytes of metadata, the limit is {MAX_ALL_METADATA_BYTES}")


def verify_bundle(path: Path, root: bytes, now_s: float) -> Verified | Refusal:
    """Check everything about a bundle without a network: every byte of the layout, the chain from the trusted root, all content.

    ``root`` is the metadata that this side trusts already; ``now_s`` is seconds since 1970. Packed files are unpacked and
    hashed in both forms. Expiry is said last: who hears ``expired`` knows that nothing else is wrong.
    """
    try:
        bundle = open_bundle(path)
        metadata = bundle.metadata()
    except BundleError as error:
        return Refusal("format", str(error))
    except OSError as error:
        return Refusal("disk", f"{path}: {error.strerror or error}")
    if not metadata:
        return Refusal("signature", f"{path.name} is not signed: it holds no metadata")
    manifest = bundle.manifest
    target = target_path(manifest.channel, manifest.name, manifest.version)
    versions = verify_offline(metadata, root, now_s, manifest.channel, target, bundle.manifest_bytes)
    if isinstance(versions, Refusal) and versions.code != "expired":
        return versions
    try:
        _read_all(bundle)
    except BundleError as error:
        return Refusal("hash", str(error))
    except OSError as error:
        return Refusal("disk", f"{path}: {error.strerror or error}")
    if isinstance(versions, Refusal):
        return versions
    return Verified(manifest, bundle.manifest_sha256, target, versions)


def _read_all(bundle: Bundle) -> None:
    done: set[str] = set()
    for path, entry in bundle.manifest.files.items():
        if entry.sha256 not in done:
            done.add(entry.sha256)
            for _ in bundle.chunks(path):
                pass
        for delta in entry.deltas if bundle.has_deltas else []:
            for _ in bundle.content(delta.sha256, delta.length_bytes):
                pass


def _bytes(path: Path, entry: Entry, limit_bytes: int) -> bytes:
    if entry.length_bytes > limit_bytes:
        raise BundleError(entry.name, f"{entry.length_bytes} bytes, the limit is {limit_bytes}")
    return b"".join(read_entry(path, entry))


class _Stream:
    """Pieces as a stream that can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes."""
        if not self._left:
            self._left = next(self._chunks, b"")
        taken = self._left if size < 0 else self._left[:size]
        self._left = self._left[len(taken) :]
        return taken
