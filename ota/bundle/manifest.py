"""The manifest: the table of contents of one release, and the one thing of it that is signed.

Bytes in, a checked value out; value in, canonical bytes out (sorted keys, no blanks): the same release has the same digest.
Readers read versions 1 and 2; writers write what ``Manifest.v`` says, 2 unless asked.
"""

from typing import Any

import msgspec

from ota.bundle.errors import BundleError
from ota.bundle.manifest_rules import check_manifest, check_path
from ota.bundle.manifest_types import (
    ACCELERATORS,
    ADDED_IN_2,
    AGENT,
    DELTA_ZSTD,
    KINDS,
    LIMIT_BYTES,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_PATH_CHARS,
    MAX_TOTAL_BYTES,
    MODEL,
    OWN_NAME,
    PACKED_ZSTD,
    PLAIN_VERSION,
    RESERVED_CHANNELS,
    RESERVED_NAMES,
    VERSION,
    AcceptanceSet,
    Budget,
    Delta,
    FileEntry,
    Golden,
    Manifest,
    Packed,
    Variant,
)

__all__ = [
    "ACCELERATORS", "AGENT", "DELTA_ZSTD", "KINDS", "LIMIT_BYTES", "MAX_FILES", "MAX_FILE_BYTES", "MAX_PATH_CHARS",
    "MAX_TOTAL_BYTES", "MODEL", "OWN_NAME", "PACKED_ZSTD", "PLAIN_VERSION", "RESERVED_CHANNELS", "RESERVED_NAMES", "VERSION",
    "AcceptanceSet", "Budget", "Delta", "FileEntry", "Golden", "Manifest", "Packed", "Variant",
    "check_manifest", "check_path", "encode_manifest", "parse_manifest", "target_path", "travelling", "travelling_all",
]  # fmt: skip


class _Versioned(msgspec.Struct):
    v: int


def target_path(channel: str, name: str, version: str) -> str:
    """The TUF target of a release."""
    return f"{channel}/{name}/{version}/manifest.json"


def travelling(entry: FileEntry) -> tuple[str, int]:
    """(sha256, length in bytes) of what store, archive and URL hold of this file: its packed form, or the file itself."""
    if entry.packed is not None:
        return entry.packed.sha256, entry.packed.length_bytes
    return entry.sha256, entry.length_bytes


def travelling_all(manifest: Manifest, *, deltas: bool) -> dict[str, int]:
    """sha256 -> length in bytes of all content of a release as it travels; with or without its deltas. A store holds all."""
    contents = dict(travelling(entry) for entry in manifest.files.values())
    if deltas:
        contents |= {delta.sha256: delta.length_bytes for entry in manifest.files.values() for delta in entry.deltas}
    return contents


def parse_manifest(data: bytes) -> Manifest:
    """Bytes as a manifest; raises BundleError that names the field. Unknown fields are ignored, unknown versions refused."""
    if len(data) > LIMIT_BYTES:
        raise BundleError("$", f"{len(data)} bytes, the limit for a manifest is {LIMIT_BYTES}")
    try:
        seen = msgspec.json.decode(data, type=_Versioned)
        if seen.v not in (PLAIN_VERSION, VERSION):
            raise BundleError("$.v", f"version {seen.v} is not known here; this side reads {PLAIN_VERSION} and {VERSION}")
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at ")
        raise BundleError(where.strip("`") or "$", text) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError("$", f"not JSON: {error}") from None
    except RecursionError:
        raise BundleError("$", "nested too deep") from None
    check_manifest(manifest)
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest; raises BundleError when it breaks a rule that a reader would refuse it for."""
    checked = parse_manifest(msgspec.json.encode(manifest, order="sorted"))
    # Numbers are written as their field's type says (a whole budget becomes 50.0), so that equal manifests have equal bytes.
    if checked.v == PLAIN_VERSION:
        return msgspec.json.encode(_without_later_fields(checked), order="sorted")
    return msgspec.json.encode(checked, order="sorted")


def _without_later_fields(manifest: Manifest) -> dict[str, Any]:
    # A release that was signed as version 1 keeps its bytes, and with them its digest.
    whole: dict[str, Any] = msgspec.to_builtins(manifest)
    for part, kind in ((whole, "manifest"), *((one, "variant") for one in whole["variants"])):
        for name in ADDED_IN_2[kind]:
            part.pop(name)
    return whole
