"""Writes bundles: the same manifest and files give the same bytes, on any machine, at any time, under any umask."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ota.bundle.archive import (
    CHUNK_BYTES,
    FILE_ATTRIBUTES,
    FILES,
    FIXED_TIME,
    MANIFEST,
    MAX_METADATA_BYTES,
    METADATA,
    SUFFIX,
    is_metadata,
)
from ota.bundle.errors import BundleError
from ota.bundle.manifest import FileEntry, Manifest, encode_manifest
from ota.bundle.reader_disk import open_bundle
from ota.durable_disk import fsync_folder, make_folder


def file_entry(source: Path | bytes) -> FileEntry:
    """Digest and length of a file or of bytes, as the manifest lists them."""
    if isinstance(source, bytes):
        return FileEntry(sha256=hashlib.sha256(source).hexdigest(), length_bytes=len(source))
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, length_bytes=file.tell())


def write_bundle(out: Path, manifest: Manifest, files: Mapping[str, Path | bytes]) -> str:
    """Write ``out`` (``NAME-VERSION.rookery``) and return its sha256.

    ``files`` maps each path of the manifest to its content. Raises BundleError when a file is missing, not listed, or not
    what the manifest says; ``out`` is then as it was before.
    """
    if out.suffix != SUFFIX:
        raise BundleError("$", f"{out.name} does not end in {SUFFIX}")
    missing = sorted(set(manifest.files) - set(files))
    unlisted = sorted(set(files) - set(manifest.files))
    if missing or unlisted:
        raise BundleError("$.files", f"missing: {', '.join(missing) or 'none'}; not listed: {', '.join(unlisted) or 'none'}")
    contents: dict[str, tuple[str, Path | bytes]] = {}
    for path, entry in sorted(manifest.files.items()):
        contents.setdefault(entry.sha256, (path, files[path]))
        if file_entry(files[path]) != entry:
            raise BundleError(f"$.files[{path!r}]", "the file is not what the manifest says")
    with _replacing(out) as archive:
        _add_bytes(archive, MANIFEST, encode_manifest(manifest))
        for sha256, (path, source) in sorted(contents.items()):
            _add_content(archive, path, manifest.files[path], source, f"{FILES}{sha256}")
    return file_entry(out).sha256


def add_metadata(bundle: Path, metadata: Mapping[str, bytes]) -> None:
    """Put signed metadata into a bundle, as ``metadata/<name>`` (``1.root.json``, ``targets.json``, ``<channel>.json``).

    Files of the same name are replaced, others are kept; the content is carried over unchanged. Raises BundleError for a
    damaged bundle or a name that is not allowed.
    """
    present = open_bundle(bundle)
    merged = {**present.metadata(), **metadata}
    for name, data in merged.items():
        if not is_metadata(METADATA + name):
            raise BundleError(METADATA + name, "not a name for a metadata file")
        if len(data) > MAX_METADATA_BYTES:
            raise BundleError(METADATA + name, f"{len(data)} bytes, the limit is {MAX_METADATA_BYTES}")
    lengths = {entry.sha256: entry.length_bytes for entry in present.manifest.files.values()}
    with _replacing(bundle) as archive:
        _add_bytes(archive, MANIFEST, present.manifest_bytes)
        for sha256, length_bytes in sorted(lengths.items()):
            info = _entry(FILES + sha256)
            info.file_size = length_bytes
            with archive.open(info, "w") as into:
                for chunk in present.content(sha256, length_bytes):
                    into.write(chunk)
        for name, data in sorted(merged.items()):
            _add_bytes(archive, METADATA + name, data)


@contextmanager
def _replacing(out: Path) -> Iterator[zipfile.ZipFile]:
    make_folder(out.parent)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=out.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            os.fchmod(file.fileno(), 0o644)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except BaseException:  # also Ctrl-C: nothing half-written may stay
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(out.parent)


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, FIXED_TIME)
    info.create_system = 3  # Unix, whatever machine this is
    info.external_attr = FILE_ATTRIBUTES
    info.compress_type = zipfile.ZIP_STORED
    return info


def _add_bytes(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(_entry(name), data)


def _add_content(archive: zipfile.ZipFile, path: str, entry: FileEntry, source: Path | bytes, name: str) -> None:
    if isinstance(source, bytes):
        _add_bytes(archive, name, source)
        return
    # Hashed again while copying: the file may have changed since the manifest was compared with it.
    digest, length_bytes = hashlib.sha256(), 0
    info = _entry(name)
    info.file_size = entry.length_bytes
    with source.open("rb") as file, archive.open(info, "w") as into:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            length_bytes += len(chunk)
            into.write(chunk)
    if (digest.hexdigest(), length_bytes) != (entry.sha256, entry.length_bytes):
        raise BundleError(f"$.files[{path!r}]", "the file changed while it was being packed")
