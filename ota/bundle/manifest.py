"""The manifest: the table of contents of one release, and the one thing of it that is signed.

Bytes in, a checked value out; value in, canonical bytes out (sorted keys, no blanks): the same release has the same digest.
"""

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from ota.bundle.errors import BundleError

VERSION = 1
LIMIT_BYTES = 512 * 1024
"""Largest manifest. A few hundred files fit; a device holds it in memory."""
MAX_FILES = 2000
MAX_VARIANTS = 32
MAX_FILE_BYTES = 2 * 1024**3
MAX_TOTAL_BYTES = 4 * 1024**3
MAX_PATH_CHARS = 200
OWN_NAME = "manifest.json"
ACCELERATORS = ("edgetpu", "cpu")
RESERVED_NAMES = ("acceptance",)
"""``<channel>/acceptance/…`` belongs to the channel's acceptance set, so no release may bear the name."""
RESERVED_CHANNELS = ("root", "targets", "snapshot", "timestamp", "files", "assignment")

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
ReleaseName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}\Z")]
ReleaseVersion = Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}\Z")]
ChannelName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9*][A-Za-z0-9._-]{0,59}\Z")]
FilePath = Annotated[str, Meta(min_length=1, max_length=MAX_PATH_CHARS)]
Number = Annotated[int, Meta(ge=0, lt=2**53)]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the release, by content."""

    sha256: Digest
    length_bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One build of the model for one kind of board. Empty ``machines`` or ``profiles`` means any."""

    id: Word
    accelerator: str
    """edgetpu or cpu."""
    runtimes: Annotated[list[Word], Meta(min_length=1, max_length=16)]
    """Any one of these interpreters will do."""
    machines: Annotated[list[Word], Meta(max_length=32)] = []
    """Processor architectures as the kernel names them."""
    profiles: Annotated[list[Word], Meta(max_length=64)] = []
    min_memory_bytes: Number = 0
    model: FilePath
    card: FilePath
    threads: Annotated[int, Meta(ge=1, le=64)] = 2
    files: Annotated[list[FilePath], Meta(min_length=1, max_length=MAX_FILES)]
    """All that the device fetches for this variant: model, card, golden samples, labels."""


class AcceptanceSet(msgspec.Struct, frozen=True, kw_only=True):
    """The channel's labelled pictures that the release was made for: a TUF target of its own."""

    path: FilePath
    sha256: Digest


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """Golden samples. ``parity`` is a file of the release; ``acceptance`` belongs to the channel; None says there is none."""

    parity: FilePath | None = None
    acceptance: AcceptanceSet | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What the self-test holds the model to on the board; None: not limited."""

    latency_ms: Annotated[float, Meta(gt=0)] | None = None
    memory_bytes: Number | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One release. ``counter`` orders releases; ``min_counter`` is the floor that a commit of this release sets."""

    LIMIT_BYTES: ClassVar[int] = LIMIT_BYTES

    v: int = VERSION
    kind: str = "model"
    name: ReleaseName
    version: ReleaseVersion
    channel: ChannelName
    counter: Number
    min_counter: Number = 0
    created_s: Annotated[int, Meta(ge=0, lt=2**34)]
    hardware: Annotated[list[Word], Meta(min_length=1, max_length=256)]
    """Board profile ids that may install it, or ``*``."""
    labels: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=10_000)] = []
    variants: Annotated[list[Variant], Meta(min_length=1, max_length=MAX_VARIANTS)]
    """In order of preference."""
    files: Annotated[dict[FilePath, FileEntry], Meta(min_length=1, max_length=MAX_FILES)]
    golden: Golden = Golden()
    budget: Budget = Budget()
    provenance: Annotated[dict[str, str], Meta(max_length=64)] = {}

    @property
    def release(self) -> str:
        """``name@version``, for people."""
        return f"{self.name}@{self.version}"


class _Versioned(msgspec.Struct):
    v: int


def target_path(channel: str, name: str, version: str) -> str:
    """The TUF target of a release."""
    return f"{channel}/{name}/{version}/manifest.json"


def parse_manifest(data: bytes) -> Manifest:
    """Bytes as a manifest; raises BundleError that names the field. Unknown fields are ignored, unknown versions refused."""
    if len(data) > LIMIT_BYTES:
        raise BundleError("$", f"{len(data)} bytes, the limit for a manifest is {LIMIT_BYTES}")
    try:
        seen = msgspec.json.decode(data, type=_Versioned)
        if seen.v != VERSION:
            raise BundleError("$.v", f"version {seen.v} is not known here; this side reads {VERSION}")
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
    data = msgspec.json.encode(manifest, order="sorted")
    checked = parse_manifest(data)
    # Numbers are written as their field's type says (a whole budget becomes 50.0), so that equal manifests have equal bytes.
    return msgspec.json.encode(checked, order="sorted")


def check_path(path: str, field: str) -> None:
    """Raise BundleError unless ``path`` is relative, within its folder, and means the same on every file system."""
    if len(path) > MAX_PATH_CHARS:
        raise BundleError(field, f"path is longer than {MAX_PATH_CHARS} characters")
    for segment in path.split("/"):
        if not _SEGMENT.fullmatch(segment):
            raise BundleError(field, f"{path!r} is not a safe relative path (the part {segment!r} is not allowed)")


def check_manifest(manifest: Manifest) -> None:
    """Raise BundleError for what types alone cannot say: paths, references, limits over the whole."""
    if manifest.kind != "model":
        raise BundleError("$.kind", f"{manifest.kind!r} is not 'model'")
    if manifest.name in RESERVED_NAMES:
        raise BundleError("$.name", f"{manifest.name!r} is reserved")
    if manifest.channel in RESERVED_CHANNELS:
        raise BundleError("$.channel", f"{manifest.channel!r} is reserved")
    if manifest.min_counter > manifest.counter:
        raise BundleError("$.min_counter", f"{manifest.min_counter} is above the release's own counter {manifest.counter}")
    _check_files(manifest)
    seen: set[str] = set()
    for index, variant in enumerate(manifest.variants):
        field = f"$.variants[{index}]"
        if variant.id in seen:
            raise BundleError(f"{field}.id", f"{variant.id!r} is there twice")
        seen.add(variant.id)
        _check_variant(manifest, variant, field)
    if manifest.golden.parity is not None and manifest.golden.parity not in manifest.files:
        raise BundleError("$.golden.parity", f"{manifest.golden.parity!r} is not listed in files")
    if manifest.golden.acceptance is not None:
        check_path(manifest.golden.acceptance.path, "$.golden.acceptance.path")


def _check_files(manifest: Manifest) -> None:
    for path in manifest.files:
        check_path(path, f"$.files[{path!r}]")
    total_bytes = sum(entry.length_bytes for entry in manifest.files.values())
    if total_bytes > MAX_TOTAL_BYTES:
        raise BundleError("$.files", f"{total_bytes} bytes in all, the limit is {MAX_TOTAL_BYTES}")
    lengths: dict[str, int] = {}
    for path, entry in manifest.files.items():
        if lengths.setdefault(entry.sha256, entry.length_bytes) != entry.length_bytes:
            raise BundleError(f"$.files[{path!r}].length_bytes", "another entry gives the same content another length")
    _check_collisions(manifest.files)


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


def _check_variant(manifest: Manifest, variant: Variant, field: str) -> None:
    if variant.accelerator not in ACCELERATORS:
        raise BundleError(f"{field}.accelerator", f"{variant.accelerator!r} is not one of {', '.join(ACCELERATORS)}")
    for index, path in enumerate(variant.files):
        if path not in manifest.files:
            raise BundleError(f"{field}.files[{index}]", f"{path!r} is not listed in files")
    if len(set(variant.files)) != len(variant.files):
        raise BundleError(f"{field}.files", "a path is there twice")
    for name, path in (("model", variant.model), ("card", variant.card)):
        if path not in variant.files:
            raise BundleError(f"{field}.{name}", f"{path!r} is not among the variant's files")
