"""What was fetched for one deployment, until it is staged: ``files/<sha256>`` (content), ``<sha256>.json`` (signed documents).

Only what this board's variant needs is fetched (for an accelerator the CPU's variant too: it answers while that fails), and
nothing that is there already. Everything read back is hashed again.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from device_agent.update.deployment import Deployment
from device_agent.update.ports import Content
from models.golden import GoldenError, parse_acceptance
from ota.bundle.manifest import Manifest, Variant, parse_manifest
from ota.bundle.variants import files_for
from ota.durable_disk import write_whole
from ota.trust.refusal import Refusal
from ota.wire.enrolment import BoardFacts

SPARE_BYTES = 16 * 1024 * 1024
"""Left free after everything was fetched and staged: the spool and the log go on."""


class Downloads:
    """The download folder of this board: one deployment at a time. ``facts`` are the board's."""

    def __init__(self, folder: Path, facts: Callable[[], BoardFacts]) -> None:
        self._folder, self._facts = folder, facts

    def keep(self, sha256: str, data: bytes) -> None:
        """Keep a verified document (manifest, acceptance set); raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.document(sha256), data)

    def document(self, sha256: str) -> Path:
        """Where a kept document lies."""
        return self._folder / f"{sha256}.json"

    def file(self, sha256: str) -> Path:
        """Where a content file lies once it was fetched."""
        return self._folder / "files" / sha256

    def clear(self) -> None:
        """Forget everything."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def fetch(self, deployment: Deployment, content: Content, should_stop: Callable[[], bool]) -> Refusal | None:
        """Fetch what is missing; None when all is there, or when it was stopped."""
        wanted = self.wanted(deployment)
        if isinstance(wanted, Refusal):
            return wanted
        for sha256, length_bytes in wanted.items():
            file = self.file(sha256)
            if deployment.refetch:
                # A hash was wrong: nothing that lies here is believed, neither whole files nor begun ones.
                file.unlink(missing_ok=True)
                file.with_name(file.name + ".part").unlink(missing_ok=True)
            if should_stop():
                return None
            refused = content.fetch(sha256, length_bytes, file, should_stop)
            if refused is not None:
                return None if should_stop() else refused
        return None

    def verify(self, deployment: Deployment) -> Refusal | None:
        """Hash every file again from the disk."""
        wanted = self.wanted(deployment)
        if isinstance(wanted, Refusal):
            return wanted
        for sha256 in wanted:
            try:
                with self.file(sha256).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                return Refusal("hash", f"a downloaded file cannot be read again: {error.strerror}")
            if found != sha256:
                return Refusal("hash", f"a file on this board's disk is {found[:12]}…, the signed manifest says {sha256[:12]}…")
        return None

    def wanted(self, deployment: Deployment) -> dict[str, int | None] | Refusal:
        """sha256 -> length of everything to fetch: what this board runs, and the pictures of the channel's acceptance set."""
        found = self.manifest(deployment)
        if isinstance(found, Refusal):
            return found
        _, manifest, variant = found
        wanted: dict[str, int | None] = {}
        for path in self.paths(manifest, variant):
            wanted[manifest.files[path].sha256] = manifest.files[path].length_bytes
        try:
            pictures = self.acceptance_pictures(manifest)
        except (OSError, GoldenError) as error:
            return Refusal("hash", f"the acceptance set kept on this board cannot be read again: {error}")
        for sha256 in pictures:
            wanted.setdefault(sha256, None)
        return wanted

    def paths(self, manifest: Manifest, variant: Variant) -> list[str]:
        """Manifest paths of all that is installed here with a variant."""
        return files_for(manifest, variant, self._facts())

    def manifest(self, deployment: Deployment) -> tuple[bytes, Manifest, Variant] | Refusal:
        """The manifest that was kept when it was verified, and its variant; hash-checked, for a disk may lie."""
        try:
            data = self.document(deployment.bundle.sha256).read_bytes()
        except OSError as error:
            return Refusal("hash", f"the manifest kept on this board cannot be read again: {error.strerror}")
        if hashlib.sha256(data).hexdigest() != deployment.bundle.sha256:
            return Refusal("hash", "the manifest kept on this board has changed since it was verified")
        manifest = parse_manifest(data)
        for variant in manifest.variants:
            if variant.id == deployment.variant:
                return data, manifest, variant
        return Refusal("variant", f"{manifest.release} has no variant {deployment.variant!r}")

    def room(self, manifest: Manifest, variant: Variant) -> Refusal | None:
        """Refused with ``disk`` when what is to be fetched, and its copy in the install place, would not fit."""
        missing = staged = 0
        for path in self.paths(manifest, variant):
            entry = manifest.files[path]
            staged += entry.length_bytes
            if not self.file(entry.sha256).exists():
                missing += entry.length_bytes
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        needed = missing + staged + SPARE_BYTES
        if free >= needed:
            return None
        return Refusal("disk", f"{_mib(needed)} MiB are needed to install {manifest.release}, {_mib(free)} MiB are free")

    def acceptance_pictures(self, manifest: Manifest) -> list[str]:
        """sha256 of every picture of the channel's acceptance set; raises OSError or GoldenError when it cannot be read again."""
        if manifest.golden.acceptance is None:
            return []
        data = self.document(manifest.golden.acceptance.sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest.golden.acceptance.sha256:
            raise OSError("it has changed since it was verified")
        return [image.sha256 for image in parse_acceptance(data).images]


def _mib(length_bytes: int) -> int:
    return -(-length_bytes // (1024 * 1024))
