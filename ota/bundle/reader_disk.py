"""Reads bundles as a stranger's: names, sizes, hashes and signatures are checked before anything is believed."""

import hashlib
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ota.bundle.archive import (
    CHUNK_BYTES,
    FILES,
    MANIFEST,
    MAX_ENTRIES,
    MAX_METADATA_BYTES,
    METADATA,
    is_content,
    is_metadata,
)
from ota.bundle.errors import BundleError, Refusal
from ota.bundle.manifest import LIMIT_BYTES, FileEntry, Manifest, parse_manifest, target_path
from ota.bundle.offline import verify_offline


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its table of contents is checked, its content is checked as it is read."""

    path: Path
    manifest_bytes: bytes
    manifest: Manifest

    @property
    def manifest_sha256(self) -> str:
        """The digest by which the release is known."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    def files(self) -> dict[str, FileEntry]:
        """All files of the release by path."""
        return dict(self.manifest.files)

    def read(self, path: str) -> bytes:
        """One file of the release; raises BundleError when it is not listed or not what the manifest says."""
        return b"".join(self.chunks(path))

    def chunks(self, path: str) -> Iterator[bytes]:
        """One file of the release in pieces. BundleError comes at the END when the content was wrong: use nothing before."""
        entry = self.manifest.files.get(path)
        if entry is None:
            raise BundleError(f"$.files[{path!r}]", "not in this bundle")
        yield from self.content(entry.sha256, entry.length_bytes)

    def content(self, sha256: str, length_bytes: int) -> Iterator[bytes]:
        """One content file in pieces, by digest; BundleError at the end when it was wrong."""
        digest, seen_bytes = hashlib.sha256(), 0
        with _opened(self.path) as archive, _entry(archive, FILES + sha256) as source:
            while chunk := _read(source, CHUNK_BYTES, FILES + sha256):
                digest.update(chunk)
                seen_bytes += len(chunk)
                yield chunk
        if digest.hexdigest() != sha256 or seen_bytes != length_bytes:
            raise BundleError(FILES + sha256, "the content is not what the manifest says")

    def metadata(self) -> dict[str, bytes]:
        """The signed metadata by file name without its folder; empty before signing."""
        with _opened(self.path) as archive:
            names = [name for name in archive.namelist() if is_metadata(name)]
            return {name.removeprefix(METADATA): _bytes(archive, name, MAX_METADATA_BYTES) for name in names}


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
    with _opened(path) as archive:
        names = _checked_names(archive)
        if MANIFEST not in names:
            raise BundleError(MANIFEST, "missing")
        manifest_bytes = _bytes(archive, MANIFEST, LIMIT_BYTES)
    manifest = parse_manifest(manifest_bytes)
    wanted = {FILES + entry.sha256: entry for entry in manifest.files.values()}
    for name, size_bytes in names.items():
        if is_content(name) and name not in wanted:
            raise BundleError(name, "in the bundle but not listed in the manifest")
        if name in wanted and size_bytes != wanted[name].length_bytes:
            raise BundleError(name, f"{size_bytes} bytes, the manifest says {wanted[name].length_bytes}")
    for name in wanted:
        if name not in names:
            raise BundleError(name, "listed in the manifest but not in the bundle")
    return Bundle(path, manifest_bytes, manifest)


def verify_bundle(path: Path, root: bytes, now_s: float) -> Verified | Refusal:
    """Check everything about a bundle without a network: layout, every byte of content, and the chain from the trusted root.

    ``root`` is the metadata that this side trusts already; ``now_s`` is seconds since 1970.
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
    if isinstance(versions, Refusal):
        return versions
    lengths = {entry.sha256: entry.length_bytes for entry in manifest.files.values()}
    for sha256, length_bytes in lengths.items():
        try:
            for _ in bundle.content(sha256, length_bytes):
                pass
        except BundleError as error:
            return Refusal("hash", str(error))
    return Verified(manifest, bundle.manifest_sha256, target, versions)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise BundleError("$", f"{path} is not there") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise BundleError("$", f"{path.name} is not a bundle: {error}") from None


def _checked_names(archive: zipfile.ZipFile) -> dict[str, int]:
    # The central directory is all that the reader goes by; what it names must be ours, plain, stored and there once.
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise BundleError("$", f"{len(infos)} entries, the limit is {MAX_ENTRIES}")
    names: dict[str, int] = {}
    for info in infos:
        name = info.orig_filename
        if name != MANIFEST and not is_content(name) and not is_metadata(name):
            raise BundleError(name[:120], "this name does not belong in a bundle")
        if name in names:
            raise BundleError(name, "there twice")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise BundleError(name, "not a plain file")
        if info.flag_bits & 0x1:
            raise BundleError(name, "encrypted")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BundleError(name, "compressed; entries of a bundle are stored as they are")
        names[name] = info.file_size
    return names


@contextmanager
def _entry(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    try:
        with archive.open(name) as source:
            yield source
    except KeyError:
        raise BundleError(name, "missing") from None


def _read(source: IO[bytes], amount_bytes: int, name: str) -> bytes:
    # zipfile checks its own CRC at the end of an entry: a flipped byte may end here before our hash sees it.
    try:
        return source.read(amount_bytes)
    except (zipfile.BadZipFile, EOFError) as error:
        raise BundleError(name, f"the content is damaged: {error}") from None


def _bytes(archive: zipfile.ZipFile, name: str, limit_bytes: int) -> bytes:
    if archive.getinfo(name).file_size > limit_bytes:
        raise BundleError(name, f"{archive.getinfo(name).file_size} bytes, the limit is {limit_bytes}")
    with _entry(archive, name) as source:
        return _read(source, limit_bytes, name)
