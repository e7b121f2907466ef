"""What a manifest must hold to beyond its types: paths, references, kinds, limits over the whole. Pure."""

import re
from collections.abc import Iterable

from ota.bundle.errors import BundleError
from ota.bundle.manifest_types import (
    ACCELERATORS,
    ADDED_IN_2,
    AGENT,
    KINDS,
    MAX_PATH_CHARS,
    MAX_TOTAL_BYTES,
    OWN_NAME,
    PACKED_ZSTD,
    PLAIN_VERSION,
    RESERVED_CHANNELS,
    RESERVED_NAMES,
    Budget,
    FileEntry,
    Golden,
    Manifest,
    Variant,
)

WORD_BITS = (32, 64)
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def check_path(path: str, field: str) -> None:
    """Raise BundleError unless ``path`` is relative, within its folder, and means the same on every file system."""
    if len(path) > MAX_PATH_CHARS:
        raise BundleError(field, f"path is longer than {MAX_PATH_CHARS} characters")
    for segment in path.split("/"):
        if not _SEGMENT.fullmatch(segment):
            raise BundleError(field, f"{path!r} is not a safe relative path (the part {segment!r} is not allowed)")


def check_manifest(manifest: Manifest) -> None:
    """Raise BundleError for what types alone cannot say; it names the field."""
    if manifest.kind not in KINDS:
        raise BundleError("$.kind", f"{manifest.kind!r} is not one of {', '.join(KINDS)}")
    if manifest.name in RESERVED_NAMES:
        raise BundleError("$.name", f"{manifest.name!r} is reserved")
    if manifest.channel in RESERVED_CHANNELS:
        raise BundleError("$.channel", f"{manifest.channel!r} is reserved")
    if manifest.min_counter > manifest.counter:
        raise BundleError("$.min_counter", f"{manifest.min_counter} is above the release's own counter {manifest.counter}")
    if manifest.v == PLAIN_VERSION:
        _check_plain(manifest)
    _check_files(manifest)
    _check_variants(manifest)
    listed = {
        "golden.parity": manifest.golden.parity,
        "provenance_statement": manifest.provenance_statement,
        "model_signature": manifest.model_signature,
    }
    for name, path in listed.items():
        if path is not None and path not in manifest.files:
            raise BundleError(f"$.{name}", f"{path!r} is not listed in files")
    if manifest.golden.acceptance is not None:
        check_path(manifest.golden.acceptance.path, "$.golden.acceptance.path")
    if manifest.kind == AGENT:
        _check_agent(manifest)


def _check_plain(manifest: Manifest) -> None:
    # Boards that read version 1 only would pass over these fields and ask the server for what is not there.
    parts = [("$", "manifest", manifest), *((f"$.variants[{n}]", "variant", one) for n, one in enumerate(manifest.variants)),
             *((f"$.files[{path!r}]", "file", entry) for path, entry in manifest.files.items())]  # fmt: skip
    for where, kind, part in parts:
        for name in ADDED_IN_2[kind]:
            if getattr(part, name):
                raise BundleError(f"{where}.{name}", "a manifest of version 1 has no such field")
    if manifest.kind == AGENT:
        raise BundleError("$.kind", "a manifest of version 1 is for models only")


def _check_agent(manifest: Manifest) -> None:
    if manifest.labels:
        raise BundleError("$.labels", "an agent has no labels")
    if manifest.golden != Golden():
        raise BundleError("$.golden", "an agent has no golden samples")
    if manifest.budget != Budget():
        raise BundleError("$.budget", "an agent has no model to hold to a budget")
    if manifest.model_signature is not None:
        raise BundleError("$.model_signature", "an agent is no model")


def _check_files(manifest: Manifest) -> None:
    for path in manifest.files:
        check_path(path, f"$.files[{path!r}]")
    total_bytes = sum(entry.length_bytes for entry in manifest.files.values())
    if total_bytes > MAX_TOTAL_BYTES:
        raise BundleError("$.files", f"{total_bytes} bytes in all, the limit is {MAX_TOTAL_BYTES}")
    seen: dict[str, FileEntry] = {}
    for path, entry in manifest.files.items():
        same = seen.setdefault(entry.sha256, entry)
        if same.length_bytes != entry.length_bytes:
            raise BundleError(f"$.files[{path!r}].length_bytes", "another entry gives the same content another length")
        if same != entry:
            raise BundleError(f"$.files[{path!r}]", "another entry lets the same content travel in another form")
    _check_travel(manifest)
    _check_collisions(manifest.files)


def _check_travel(manifest: Manifest) -> None:
    # One digest, one length, whatever form it is: content that two entries disagree about could never be fetched.
    lengths = {entry.sha256: entry.length_bytes for entry in manifest.files.values()}
    for path, entry in manifest.files.items():
        field = f"$.files[{path!r}]"
        full_bytes = entry.length_bytes
        if entry.packed is not None:
            if entry.packed.encoding != PACKED_ZSTD:
                raise BundleError(f"{field}.packed.encoding", f"{entry.packed.encoding!r} is not {PACKED_ZSTD!r}")
            full_bytes = entry.packed.length_bytes
            if full_bytes >= entry.length_bytes:
                raise BundleError(f"{field}.packed.length_bytes", f"{full_bytes}, no less than the file's {entry.length_bytes}")
            _check_length(lengths, entry.packed.sha256, full_bytes, f"{field}.packed")
        bases: set[tuple[str, str]] = set()
        for index, delta in enumerate(entry.deltas):
            where = f"{field}.deltas[{index}]"
            if delta.base_sha256 == entry.sha256:
                raise BundleError(f"{where}.base_sha256", "a file is no base of itself")
            if (delta.base_sha256, delta.encoding) in bases:
                raise BundleError(f"{where}.base_sha256", "this base is there twice")
            bases.add((delta.base_sha256, delta.encoding))
            if delta.length_bytes >= full_bytes:
                raise BundleError(f"{where}.length_bytes", f"{delta.length_bytes}, no less than the whole file's {full_bytes}")
            _check_length(lengths, delta.sha256, delta.length_bytes, where)


def _check_length(lengths: dict[str, int], sha256: str, length_bytes: int, field: str) -> None:
    if lengths.setdefault(sha256, length_bytes) != length_bytes:
        raise BundleError(f"{field}.length_bytes", "another entry gives the same content another length")


def _check_collisions(paths: Iterable[str]) -> None:
    # On a FAT card or a Mac `A` and `a` are one file; and a name cannot be both a file and a folder.
    folded: dict[str, str] = {}
    for path in paths:
        other = folded.setdefault(path.casefold(), path)
        if other != path:
            raise BundleError(f"$.files[{path!r}]", f"differs from {other!r} in upper and lower case only")
    if OWN_NAME in folded:
        raise BundleError(f"$.files[{folded[OWN_NAME]!r}]", "this path is the manifest's own place on a device")
    for path in folded:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in folded:
                raise BundleError(f"$.files[{folded[path]!r}]", f"{folded[parent]!r} is a file and cannot be a folder too")
            parent = parent.rpartition("/")[0]


def _check_variants(manifest: Manifest) -> None:
    seen: set[str] = set()
    for index, variant in enumerate(manifest.variants):
        field = f"$.variants[{index}]"
        if variant.id in seen:
            raise BundleError(f"{field}.id", f"{variant.id!r} is there twice")
        seen.add(variant.id)
        if variant.word_bits is not None and variant.word_bits not in WORD_BITS:
            raise BundleError(f"{field}.word_bits", f"{variant.word_bits} is not 32 or 64")
        for at, path in enumerate(variant.files):
            if path not in manifest.files:
                raise BundleError(f"{field}.files[{at}]", f"{path!r} is not listed in files")
        if len(set(variant.files)) != len(variant.files):
            raise BundleError(f"{field}.files", "a path is there twice")
        if manifest.kind == AGENT:
            _check_agent_variant(variant, field)
        else:
            _check_model_variant(variant, field)


def _check_model_variant(variant: Variant, field: str) -> None:
    if variant.accelerator not in ACCELERATORS:
        raise BundleError(f"{field}.accelerator", f"{variant.accelerator!r} is not one of {', '.join(ACCELERATORS)}")
    if not variant.runtimes:
        raise BundleError(f"{field}.runtimes", "none: no board could run it")
    if variant.abi is not None:
        raise BundleError(f"{field}.abi", "a model is not built for a Python")
    for name, path in (("model", variant.model), ("card", variant.card)):
        if path not in variant.files:
            raise BundleError(f"{field}.{name}", f"{path!r} is not among the variant's files")


def _check_agent_variant(variant: Variant, field: str) -> None:
    if not variant.abi:
        raise BundleError(f"{field}.abi", "missing: an agent is built for one Python ABI, cp311 say")
    if not variant.machines:
        raise BundleError(f"{field}.machines", "missing: an agent is built for named machines")
    for name in ("accelerator", "runtimes", "model", "card"):
        if getattr(variant, name):
            raise BundleError(f"{field}.{name}", "must be empty in an agent release")
