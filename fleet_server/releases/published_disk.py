"""What the published repository on this disk says: channels, and the manifests of their releases."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ota.bundle.errors import BundleError
from ota.bundle.manifest import Manifest, parse_manifest
from ota.trust.errors import TrustError
from ota.trust.publishing import hashed_path
from ota.trust.repository_disk import Repository
from ota.trust.roles import parse_metadata


@dataclass(frozen=True, slots=True)
class ListedRelease:
    """One manifest that signed channel metadata lists; ``manifest`` is None when our file of it is missing or damaged."""

    path: str
    sha256: str
    length_bytes: int
    manifest: Manifest | None
    text: str
    problem: str


@dataclass(frozen=True, slots=True)
class ListedChannel:
    """One channel as it is published; ``releases`` is None when our file of its metadata cannot be read."""

    channel: str
    version: int
    releases: list[ListedRelease] | None


def tuf_folder(data_dir: Path) -> Path:
    """The folder of the repository: ``metadata/`` and ``targets/``, served as they are (0002 §3)."""
    return data_dir / "tuf"


def published_channels(repository: Repository, data_dir: Path) -> list[ListedChannel]:
    """Every published channel with its releases; damage is told per release, so that one bad file hides no other."""
    found: list[ListedChannel] = []
    for channel, version in sorted(repository.status().channels.items()):
        data = repository.metadata_bytes(channel)
        try:
            metadata = parse_metadata(data or b"", channel)
        except TrustError:
            found.append(ListedChannel(channel, version, None))
            continue
        releases = []
        for path, target in sorted(metadata.signed.targets.items()):
            if path.endswith("/manifest.json"):
                digest = str(target.hashes.get("sha256", ""))
                releases.append(_read(tuf_folder(data_dir) / "targets" / hashed_path(path, digest), path, digest, target.length))
        found.append(ListedChannel(channel, version, releases))
    return found


def _read(file: Path, path: str, sha256: str, length_bytes: int) -> ListedRelease:
    try:
        data = file.read_bytes()
    except OSError as error:
        return ListedRelease(path, sha256, length_bytes, None, "", f"its manifest cannot be read: {error.strerror}")
    if hashlib.sha256(data).hexdigest() != sha256:
        return ListedRelease(
            path, sha256, length_bytes, None, "", "its manifest on this server is damaged; push the release again"
        )
    try:
        return ListedRelease(path, sha256, length_bytes, parse_manifest(data), data.decode(), "")
    except BundleError as error:
        return ListedRelease(path, sha256, length_bytes, None, "", f"its manifest cannot be read: {error}")
