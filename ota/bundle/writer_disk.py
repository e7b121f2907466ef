"""Writes bundles: the same manifest and files give the same bytes, on any machine, at any time, under any umask."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from ota.bundle.archive import CHUNK_BYTES, FILES, MANIFEST, MAX_METADATA_BYTES, METADATA, SUFFIX, is_metadata
from ota.bundle.archive_disk import write_entries
from ota.bundle.errors import BundleError
from ota.bundle.manifest import FileEntry, Manifest, encode_manifest, travelling_all
from ota.bundle.reader_disk import Bundle, open_bundle

Source = Path | bytes | Callable[[], Iterable[bytes]]
"""Where content comes from: a file, bytes, or pieces (of another bundle, say)."""


def file_entry(source: Path | bytes) -> FileEntry:
    """Digest and length of a file or of bytes, as the manifest lists them."""
    if isinstance(source, bytes):
        return FileEntry(sha256=hashlib.sha256(source).hexdigest(), length_bytes=len(source))
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, length_bytes=file.tell())


def write_bundle(out: Path, manifest: Manifest, files: Mapping[str, Path | bytes]) -> str:
    """Write ``out`` (``NAME-VERSION.rookery``) of files that travel as they are, and return its sha256.

    ``files`` maps each path of the manifest to its content. Raises BundleError when a file is missing, not listed, or not
    what the manifest says; ``out`` is then as it was before. Releases with packed files: ``packing_disk.pack_release`` and
    ``write_contents``.
    """
    missing = sorted(set(manifest.files) - set(files))
    unlisted = sorted(set(files) - set(manifest.files))
    if missing or unlisted:
        raise BundleError("$.files", f"missing: {', '.join(missing) or 'none'}; not listed: {', '.join(unlisted) or 'none'}")
    for path, entry in sorted(manifest.files.items()):
        if entry.packed is not None:
            raise BundleError(f"$.files[{path!r}].packed", "this file travels packed; its packed form is needed")
        found = file_entry(files[path])
        if (found.sha256, found.length_bytes) != (entry.sha256, entry.length_bytes):
            raise BundleError(f"$.files[{path!r}]", "the file is not what the manifest says")
    return write_contents(out, manifest, {manifest.files[path].sha256: source for path, source in files.items()})


def write_contents(out: Path, manifest: Manifest, contents: Mapping[str, Source]) -> str:
    """Write ``out`` of what travels, by digest, and return its sha256.

    The manifest's deltas are all in ``contents``, or none is. Raises BundleError as ``write_bundle`` does.
    """
    if out.suffix != SUFFIX:
        raise BundleError("$", f"{out.name} does not end in {SUFFIX}")
    wanted = travelling_all(manifest, deltas=bool(set(contents) - set(travelling_all(manifest, deltas=False))))
    missing = sorted(set(wanted) - set(contents))
    unlisted = sorted(set(contents) - set(wanted))
    if missing or unlisted:
        raise BundleError("$.files", f"missing: {', '.join(missing) or 'none'}; not listed: {', '.join(unlisted) or 'none'}")
    entries: list[tuple[str, Iterable[bytes]]] = [(MANIFEST, [encode_manifest(manifest)])]
    entries += [(FILES + sha256, _checked(contents[sha256], sha256, length_bytes)) for sha256, length_bytes in wanted.items()]
    write_entries(out, entries)
    return file_entry(out).sha256


def add_metadata(bundle: Path, metadata: Mapping[str, bytes]) -> None:
    """Put signed metadata into a bundle, as ``metadata/<name>`` (``1.root.json``, ``targets.json``, ``<channel>.json``).

    Files of the same name are replaced, others are kept; the content is carried over unchanged. Raises BundleError for a
    damaged bundle or a name that is not allowed.
    """
    present = open_bundle(bundle)
    copy_bundle(bundle, bundle, {**present.metadata(), **metadata}, deltas=present.has_deltas)


def contents_of(bundle: Bundle, *, deltas: bool = True) -> dict[str, Source]:
    """All that travels in a bundle, by digest, for writing it again."""
    wanted = travelling_all(bundle.manifest, deltas=deltas and bundle.has_deltas)
    return {sha256: partial(bundle.content, sha256, length_bytes) for sha256, length_bytes in wanted.items()}


def copy_bundle(bundle: Path, out: Path, metadata: Mapping[str, bytes], *, deltas: bool) -> None:
    """Write ``out``: manifest and content of ``bundle`` unchanged, with this metadata and no other; without deltas on request."""
    present = open_bundle(bundle)
    for name, data in metadata.items():
        if not is_metadata(METADATA + name):
            raise BundleError(METADATA + name, "not a name for a metadata file")
        if len(data) > MAX_METADATA_BYTES:
            raise BundleError(METADATA + name, f"{len(data)} bytes, the limit is {MAX_METADATA_BYTES}")
    entries: list[tuple[str, Iterable[bytes]]] = [(MANIFEST, [present.manifest_bytes])]
    entries += [(FILES + sha256, _chunks(source)) for sha256, source in contents_of(present, deltas=deltas).items()]
    entries += [(METADATA + name, [data]) for name, data in metadata.items()]
    write_entries(out, entries)


def _checked(source: Source, sha256: str, length_bytes: int) -> Iterator[bytes]:
    # Hashed while copying: the file may have changed since the manifest was compared with it.
    digest, seen_bytes = hashlib.sha256(), 0
    for chunk in _chunks(source):
        digest.update(chunk)
        seen_bytes += len(chunk)
        yield chunk
    if (digest.hexdigest(), seen_bytes) != (sha256, length_bytes):
        raise BundleError(FILES + sha256, "the content is not what the manifest says, or changed while it was being packed")


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    if not isinstance(source, Path):
        yield from source()
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
