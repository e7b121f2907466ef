"""What was fetched for one deployment, until it is staged: ``files/<sha256>`` (content), ``<sha256>.json`` (signed documents).

Only what this board's variant needs is fetched (for an accelerator the CPU's variant too: it answers while that fails), and
nothing that is there already. A file lies here in the form in which it travelled (packed, it is unpacked where it is staged), or,
made of a delta and a file of an install place, as it is used. Everything read back is hashed again, unless this very process
hashed it and nobody has touched it since.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from device_agent.update.deployment import Deployment
from device_agent.update.ports import Content
from models.golden import GoldenError, parse_acceptance
from ota.bundle.manifest import DELTA_ZSTD, Delta, FileEntry, Manifest, Variant, parse_manifest, travelling
from ota.bundle.variants import files_for
from ota.delta.unpack_disk import apply_delta
from ota.durable_disk import TEMP_SUFFIX, fsync_folder, make_folder, write_whole
from ota.slots.hashed_disk import Hashed
from ota.trust.refusal import Refusal
from ota.wire.enrolment import BoardFacts

SPARE_BYTES = 16 * 1024 * 1024
"""Left free after everything was fetched and staged: the spool and the log go on."""
ABSENT = ".absent"
"""Ends the name of the mark of a document that a carried bundle does not bring."""
FAILED = ".failed"
"""Ends the name of the mark of a delta that did not work: it is not tried again for this deployment."""


class Installs(Protocol):
    """Where bases of deltas are looked for; ``ota.slots.slots_disk.Slots`` fits."""

    def find_file(self, sha256: str) -> Path | None:
        """A file of any install place by its digest, as its manifest states it."""
        ...


@dataclass(slots=True)
class Fetched:
    """What was fetched for one deployment, for the report: bytes, deltas used, deltas failed (and why: ``notes``)."""

    fetched_bytes: int = 0
    delta_used: int = 0
    delta_failed: int = 0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def after(cls, figures: Mapping[str, float]) -> "Fetched":
        """Goes on counting where an earlier attempt of the same deployment ended."""
        fetched, used, wrong = (int(figures.get(name, 0)) for name in ("fetched_bytes", "delta_used", "delta_failed"))
        return cls(fetched, used, wrong)

    def figures(self) -> dict[str, float]:
        """For the report; deltas only where one was tried."""
        deltas = {"delta_used": float(self.delta_used), "delta_failed": float(self.delta_failed)}
        return {"fetched_bytes": float(self.fetched_bytes), **(deltas if any(deltas.values()) else {})}


class Downloads:
    """The download folder of this board: one deployment at a time. ``facts`` are the board's, ``installs`` its install places."""

    def __init__(self, folder: Path, facts: Callable[[], BoardFacts], installs: Installs, hashed: Hashed | None = None) -> None:
        self._folder, self._facts, self._installs, self.hashed = folder, facts, installs, hashed or Hashed()

    def keep(self, sha256: str, data: bytes) -> None:
        """Keep a verified document (manifest, acceptance set); raises OSError."""
        write_whole(self.document(sha256), data)

    def keep_or_miss(self, sha256: str, data: bytes | None) -> None:
        """Keep a document, or the word that it is not at hand for this deployment; raises OSError."""
        absent = self.document(sha256).with_suffix(ABSENT)
        if data is not None:
            absent.unlink(missing_ok=True)
            self.keep(sha256, data)
        else:
            self.document(sha256).unlink(missing_ok=True)
            write_whole(absent, b"")

    def acceptance(self, manifest: Manifest) -> Path | None:
        """Where the channel's acceptance set lies; None where the release has none, or where it was not at hand."""
        named = manifest.golden.acceptance
        if named is None or self.document(named.sha256).with_suffix(ABSENT).exists():
            return None
        return self.document(named.sha256)

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
        with contextlib.suppress(FileNotFoundError):
            fsync_folder(self._folder.parent)  # else a cut brings it back when the deployment is over, and nobody looks

    def clear_others(self, manifest: Manifest, variant: Variant, keep: frozenset[str]) -> None:
        """Forget what another deployment left: all but what this one fetches, its begun files, and ``keep``'s documents."""
        wanted = set(keep)
        for path in self.paths(manifest, variant):
            entry = manifest.files[path]
            wanted |= {entry.sha256, travelling(entry)[0], *(delta.sha256 for delta in entry.deltas)}
        for folder in (self._folder, self._folder / "files"):
            for file in folder.iterdir() if folder.is_dir() else ():
                name = file.name.removesuffix(".json").removesuffix(ABSENT).removesuffix(TEMP_SUFFIX).removesuffix(FAILED)
                if file.is_file() and name not in wanted:
                    file.unlink(missing_ok=True)

    def fetch(self, deployment: Deployment, content: Content, should_stop: Callable[[], bool], done: Fetched) -> Refusal | None:
        """Fetch what is missing, counted in ``done``; None when all is there, or when it was stopped. Raises OSError."""
        found = self.manifest(deployment)
        if isinstance(found, Refusal):
            return found
        _, manifest, variant = found
        pictures = self._pictures(manifest)
        if isinstance(pictures, Refusal):
            return pictures
        line = _Line(self, content, should_stop, done)
        for path in self.paths(manifest, variant):
            entry = manifest.files[path]
            if deployment.refetch:
                self._forget(entry)
            if should_stop():
                return None
            refused = None if self._made(entry) or self._from_delta(entry, line) else line.fetch(*travelling(entry))
            if refused is not None:
                return None if should_stop() else refused
        for sha256 in pictures:
            if deployment.refetch:
                self._remove(sha256)
            refused = None if should_stop() else line.fetch(sha256, None)
            if refused is not None:
                return None if should_stop() else refused
        return None

    def verify(self, deployment: Deployment) -> Refusal | None:
        """Hash every file again from the disk."""
        found = self.manifest(deployment)
        if isinstance(found, Refusal):
            return found
        _, manifest, variant = found
        pictures = self._pictures(manifest)
        if isinstance(pictures, Refusal):
            return pictures
        for sha256 in [self._lying(manifest.files[path]) for path in self.paths(manifest, variant)] + pictures:
            try:
                seen = self.hashed.sha256(self.file(sha256))
            except OSError as error:
                return Refusal("hash", f"a downloaded file cannot be read again: {error.strerror}")
            if seen != sha256:
                return Refusal("hash", f"a file on this board's disk is {seen[:12]}…, the signed manifest says {sha256[:12]}…")
        return None

    def sources(self, manifest: Manifest, variant: Variant) -> tuple[dict[str, Path], frozenset[str]]:
        """Manifest path -> file for all that is installed, and those paths whose file is still packed."""
        paths = self.paths(manifest, variant)
        sources = {path: self.file(self._lying(manifest.files[path])) for path in paths}
        return sources, frozenset(path for path in paths if sources[path].name != manifest.files[path].sha256)

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

    def missing_bytes(self, manifest: Manifest, variant: Variant) -> int:
        """The most that is still to be fetched, deltas not reckoned: one may fail."""
        entries = (manifest.files[path] for path in self.paths(manifest, variant))
        return sum(travelling(entry)[1] for entry in entries if not self.file(self._lying(entry)).exists())

    def room(self, manifest: Manifest, variant: Variant) -> Refusal | None:
        """Refused with ``disk`` when what travels, and what becomes of it in the install place, would not fit."""
        staged = sum(manifest.files[path].length_bytes for path in self.paths(manifest, variant))
        make_folder(self._folder)
        free = shutil.disk_usage(self._folder).free
        needed = self.missing_bytes(manifest, variant) + staged + SPARE_BYTES
        if free >= needed:
            return None
        return Refusal("disk", f"{_mib(needed)} MiB are needed to install {manifest.release}, {_mib(free)} MiB are free")

    def acceptance_pictures(self, manifest: Manifest) -> list[str]:
        """sha256 of every picture of the channel's acceptance set; raises OSError or GoldenError when it cannot be read again."""
        document = self.acceptance(manifest)
        if document is None or manifest.golden.acceptance is None:
            return []
        data = document.read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest.golden.acceptance.sha256:
            raise OSError("it has changed since it was verified")
        return [image.sha256 for image in parse_acceptance(data).images]

    def _pictures(self, manifest: Manifest) -> list[str] | Refusal:
        try:
            return list(dict.fromkeys(self.acceptance_pictures(manifest)))
        except (OSError, GoldenError) as error:
            return Refusal("hash", f"the acceptance set kept on this board cannot be read again: {error}")

    def _lying(self, entry: FileEntry) -> str:
        """The name under which a file lies here: made of a delta (as it is used), or as it travelled."""
        return entry.sha256 if self._made(entry) else travelling(entry)[0]

    def _made(self, entry: FileEntry) -> bool:
        return entry.sha256 != travelling(entry)[0] and self.file(entry.sha256).exists()

    def _from_delta(self, entry: FileEntry, line: "_Line") -> bool:
        """Whether a delta brought the file. One that fails, for whatever reason, is not tried again: the whole file comes."""
        if entry.deltas and self.file(travelling(entry)[0]).exists():
            return False
        for delta in entry.deltas:
            mark = self.file(delta.sha256 + FAILED)
            base = self._installs.find_file(delta.base_sha256) if delta.encoding == DELTA_ZSTD else None
            if base is None or mark.exists():
                continue
            refused = self._apply(base, delta, entry, line)
            if line.should_stop():
                return False
            if refused is None:
                line.done.delta_used += 1
                return True
            line.done.delta_failed += 1
            line.done.notes.append(f"delta of {entry.sha256[:12]}…: {refused}")
            self._remove(delta.sha256)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            return False
        return False

    def _apply(self, base: Path, delta: Delta, entry: FileEntry, line: "_Line") -> Refusal | None:
        patch = self.file(delta.sha256)
        refused = line.fetch(delta.sha256, delta.length_bytes)
        if refused is None and not line.should_stop():
            target = self.file(entry.sha256)
            refused = apply_delta(base, patch, delta, entry, target, should_stop=line.should_stop)
            if refused is None:
                self.hashed.record(target, entry.sha256)
                patch.unlink(missing_ok=True)
        return refused

    def _forget(self, entry: FileEntry) -> None:
        # A hash was wrong: nothing that lies here is believed, whole or begun, and no delta is tried again.
        for sha256 in (entry.sha256, travelling(entry)[0], *(delta.sha256 for delta in entry.deltas)):
            self._remove(sha256)
        for delta in entry.deltas:
            self.file(delta.sha256 + FAILED).parent.mkdir(parents=True, exist_ok=True)
            self.file(delta.sha256 + FAILED).touch()

    def _remove(self, sha256: str) -> None:
        self.file(sha256).unlink(missing_ok=True)
        self.file(sha256 + TEMP_SUFFIX).unlink(missing_ok=True)


class _Line:
    """Fetches into the folder and counts what came over the line."""

    def __init__(self, downloads: Downloads, content: Content, should_stop: Callable[[], bool], done: Fetched) -> None:
        self._downloads, self._content = downloads, content
        self.should_stop, self.done = should_stop, done

    def fetch(self, sha256: str, length_bytes: int | None) -> Refusal | None:
        """One file; what an earlier attempt brought does not count again."""
        file = self._downloads.file(sha256)
        before = _size(file)
        refused = self._content.fetch(sha256, length_bytes, file, self.should_stop)
        self.done.fetched_bytes += max(0, _size(file) - before)
        if refused is None and file.exists():
            self._downloads.hashed.record(file, sha256)  # whole under its name: every byte was hashed on the way
        return refused


def _size(file: Path) -> int:
    """Bytes of a file, whole or begun."""
    for path in (file, file.with_name(file.name + TEMP_SUFFIX)):
        with contextlib.suppress(OSError):
            return path.stat().st_size
    return 0


def _mib(length_bytes: int) -> int:
    return -(-length_bytes // (1024 * 1024))
