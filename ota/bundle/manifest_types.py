"""What a manifest is made of: types, units and limits. Rules beyond types: ``manifest_rules``; bytes: ``manifest``."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

VERSION = 2
PLAIN_VERSION = 1
"""Nothing packed, no deltas, models only: for boards whose agent knows only version 1."""
LIMIT_BYTES = 512 * 1024
"""Largest manifest. A few hundred files fit; a device holds it in memory."""
MAX_FILES = 2000
MAX_VARIANTS = 32
MAX_DELTAS_PER_FILE = 8
MAX_FILE_BYTES = 2 * 1024**3
MAX_TOTAL_BYTES = 4 * 1024**3
MAX_PATH_CHARS = 200
OWN_NAME = "manifest.json"
MODEL, AGENT = "model", "agent"
KINDS = (MODEL, AGENT)
ACCELERATORS = ("edgetpu", "cpu")
PACKED_ZSTD = "zstd"
DELTA_ZSTD = "zstd-patch"
RESERVED_NAMES = ("acceptance",)
"""``<channel>/acceptance/…`` belongs to the channel's acceptance set, so no release may bear the name."""
RESERVED_CHANNELS = ("root", "targets", "snapshot", "timestamp", "files", "assignment", "policy")

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
ReleaseName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}\Z")]
ReleaseVersion = Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}\Z")]
ChannelName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9*][A-Za-z0-9._-]{0,59}\Z")]
FilePath = Annotated[str, Meta(min_length=1, max_length=MAX_PATH_CHARS)]
PathOrNone = Annotated[str, Meta(max_length=MAX_PATH_CHARS)]
Number = Annotated[int, Meta(ge=0, lt=2**53)]
FileLength = Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """The form in which a file travels: its own digest and length, by which store, archive and URL know it."""

    encoding: str = PACKED_ZSTD
    """zstd: one frame with content size and checksum, without a dictionary."""
    sha256: Digest
    length_bytes: FileLength


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A patch that makes the file from one that a board may have. A reader passes over an encoding that it does not know."""

    encoding: Word = DELTA_ZSTD
    """zstd-patch: one zstd frame whose dictionary is the whole base file (``zstd --patch-from``)."""
    base_sha256: Digest
    """Of the base as it is used, unpacked: what lies in a slot."""
    sha256: Digest
    length_bytes: FileLength


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of the release, by content. ``sha256`` and ``length_bytes`` are those of the file as it is used."""

    sha256: Digest
    length_bytes: FileLength
    packed: Packed | None = None
    """None: it travels as it is."""
    deltas: Annotated[list[Delta], Meta(max_length=MAX_DELTAS_PER_FILE)] = []


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One build of the model for one kind of board. Empty ``machines`` or ``profiles`` means any.

    In a release of kind ``agent`` it is a locked set of wheels for one Python ABI: accelerator, runtimes, model and card are
    empty there, abi and machines are not.
    """

    id: Word
    accelerator: str = ""
    """edgetpu or cpu."""
    runtimes: Annotated[list[Word], Meta(max_length=16)] = []
    """Any one of these interpreters will do."""
    machines: Annotated[list[Word], Meta(max_length=32)] = []
    """Processor architectures as the kernel names them."""
    word_bits: int | None = None
    """32 or 64: the userland that it is built for (a 64-bit kernel may run a 32-bit one); None: either."""
    abi: Word | None = None
    """Python ABI of an agent release: cp311."""
    profiles: Annotated[list[Word], Meta(max_length=64)] = []
    min_memory_bytes: Number = 0
    model: PathOrNone = ""
    card: PathOrNone = ""
    threads: Annotated[int, Meta(ge=1, le=64)] = 2
    files: Annotated[list[FilePath], Meta(min_length=1, max_length=MAX_FILES)]
    """All that the device fetches for this variant: model, card, golden samples, labels; or wheels."""


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
    kind: str = MODEL
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
    """Where it came from, the packer's version and level among it; nothing is decided by it."""
    provenance_statement: FilePath | None = None
    """An in-toto statement (SLSA provenance) among the files: shown to people, not judged by boards."""
    model_signature: FilePath | None = None
    """``model.sig`` among the files (OpenSSF model signing, key method): judged by ``bundle verify``, not by boards."""

    @property
    def release(self) -> str:
        """``name@version``, for people."""
        return f"{self.name}@{self.version}"


ADDED_IN_2 = {
    "manifest": ("provenance_statement", "model_signature"),
    "variant": ("word_bits", "abi"),
    "file": ("packed", "deltas"),
}
"""Fields that a manifest of version 1 does not have."""
