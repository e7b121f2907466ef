"""How a release travels: each file packed where that saves enough, and patches from files that boards may have already."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import msgspec

from ota.bundle.errors import BundleError
from ota.bundle.manifest import PLAIN_VERSION, Delta, FileEntry, Manifest, Packed, travelling
from ota.bundle.manifest_types import MAX_DELTAS_PER_FILE
from ota.bundle.reader_disk import Bundle
from ota.bundle.writer_disk import Source
from ota.zstd_frames import MAX_WINDOW_BYTES, PACKER, make_patch, pack

LEAST_PACK_SAVING = 0.03
LEAST_DELTA_SAVING = 0.20
"""Most retrained models share nothing with the one before (research/trust-anchors.md §4): a patch must earn its place."""
PACKER_KEY = "packed_by"


@dataclass(frozen=True, slots=True)
class PackedRelease:
    """A manifest that says how its files travel, and the bytes that do, by digest."""

    manifest: Manifest
    contents: dict[str, Source]


def pack_release(
    manifest: Manifest, files: Mapping[str, Path | bytes], work: Path, bases: Sequence[Bundle] = ()
) -> PackedRelease:
    """Pack the files of a manifest that lists them plain; ``work`` is an empty folder that outlives the writing.

    ``bases`` are releases that boards may run: patches are made from their files. The same inputs and the same zstd library
    give the same result; the library is named in the provenance. A manifest of version 1 comes back as it is.
    """
    plain: dict[str, Source] = {entry.sha256: files[path] for path, entry in manifest.files.items()}
    if manifest.v == PLAIN_VERSION:
        return PackedRelease(manifest, plain)
    made: dict[str, FileEntry] = {}
    contents: dict[str, Source] = {}
    for path, entry in sorted(manifest.files.items()):
        if entry.sha256 not in made:
            packed = None if path == manifest.model_signature else _pack(files[path], entry, work)
            whole = msgspec.structs.replace(entry, packed=packed)
            deltas = _deltas(path, whole, files[path], manifest, bases)
            made[entry.sha256] = msgspec.structs.replace(whole, deltas=[delta for delta, _ in deltas])
            contents[travelling(whole)[0]] = files[path] if packed is None else work / packed.sha256
            contents |= {delta.sha256: patch for delta, patch in deltas}
    provenance = {**manifest.provenance, PACKER_KEY: PACKER} if set(contents) - set(plain) else manifest.provenance
    listed = {path: made[entry.sha256] for path, entry in manifest.files.items()}
    return PackedRelease(msgspec.structs.replace(manifest, files=listed, provenance=provenance), contents)


def _pack(source: Path | bytes, entry: FileEntry, work: Path) -> Packed | None:
    temporary = work / f"{entry.sha256}.part"
    digest, length_bytes = hashlib.sha256(), 0
    with _opened(source) as file, temporary.open("wb") as into:
        for chunk in pack(file, entry.length_bytes):
            digest.update(chunk)
            length_bytes += len(chunk)
            into.write(chunk)
    if length_bytes > entry.length_bytes * (1 - LEAST_PACK_SAVING):
        temporary.unlink()
        return None
    temporary.rename(work / digest.hexdigest())
    return Packed(sha256=digest.hexdigest(), length_bytes=length_bytes)


def _deltas(
    path: str, entry: FileEntry, source: Path | bytes, manifest: Manifest, bases: Sequence[Bundle]
) -> list[tuple[Delta, bytes]]:
    if entry.length_bytes > MAX_WINDOW_BYTES:
        return []
    most_bytes = travelling(entry)[1] * (1 - LEAST_DELTA_SAVING)
    found: dict[str, tuple[Delta, bytes]] = {}
    for bundle in bases:
        for base_path in _likely_bases(path, manifest, bundle.manifest):
            base = bundle.manifest.files[base_path]
            if base.sha256 == entry.sha256 or base.sha256 in found or base.length_bytes > MAX_WINDOW_BYTES:
                continue
            patch = make_patch(bundle.read(base_path), source if isinstance(source, bytes) else source.read_bytes())
            if patch is not None and len(patch) <= most_bytes:
                sha256 = hashlib.sha256(patch).hexdigest()
                found[base.sha256] = Delta(base_sha256=base.sha256, sha256=sha256, length_bytes=len(patch)), patch
    smallest = sorted(found.values(), key=lambda one: (one[0].length_bytes, one[0].base_sha256))
    return sorted(smallest[:MAX_DELTAS_PER_FILE], key=lambda one: one[0].base_sha256)


def _likely_bases(path: str, manifest: Manifest, base: Manifest) -> Iterable[str]:
    # The same path, and what the variant of the same name had for a model: names change between releases.
    if (manifest.name, manifest.kind) != (base.name, base.kind):
        return []
    ids = {variant.id for variant in manifest.variants if variant.model == path}
    likely = [path, *(variant.model for variant in base.variants if variant.id in ids)]
    return dict.fromkeys(one for one in likely if one in base.files)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield BytesIO(source)
        return
    try:
        with source.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise BundleError("$.files", f"{source} is not there") from None
