"""The files of a shadow's release: verified like any other, kept in a folder of their own, installed nowhere.

A shadow decides nothing, so there is no self-test, no slot and no trial; but what it may be is decided by the same rule as what
may run: resolved through signed metadata, in a channel that the policy allows, for this hardware, not below the floor, hashed
before anything opens it. It always runs on the CPU: the accelerator belongs to the current model's process.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agent.update.assignment_rule import judge_manifest, judge_target
from device_agent.update.downloads_disk import SPARE_BYTES
from device_agent.update.policy import Policy
from device_agent.update.ports import Content, Trust
from ota.bundle.errors import BundleError
from ota.bundle.manifest import FileEntry, Manifest, Variant, parse_manifest, travelling
from ota.bundle.variants import resolve
from ota.delta.unpack_disk import unpack_file
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle
from ota.wire.enrolment import BoardFacts


@dataclass(frozen=True, slots=True)
class ShadowFiles:
    """A verified model and its card, ready to be opened."""

    release: str
    model: Path
    card: Path


class ShadowFetch:
    """Fetches what a shadow needs into ``folder``, which holds the files of one release at a time.

    ``floor`` gives the counter below which nothing may run on this board.
    """

    def __init__(
        self, folder: Path, *, trust: Trust, content: Content, policy: Policy, facts: BoardFacts, floor: Callable[[], int]
    ) -> None:
        self._folder, self._trust, self._content = folder, trust, content
        self._policy, self._facts, self._floor = policy, facts, floor

    def fetch(self, bundle: AssignedBundle, should_stop: Callable[[], bool]) -> ShadowFiles | Refusal:
        """Model and card of the release's CPU variant; refused with the wire's codes, ``download`` where it was stopped."""
        found = self._resolved(bundle)
        if isinstance(found, Refusal):
            return found
        manifest, variant = found
        wanted = {path: manifest.files[path] for path in (variant.model, variant.card)}
        try:
            self._forget_all_but({entry.sha256 for entry in wanted.values()}, {travelling(entry)[0] for entry in wanted.values()})
            lacking = [entry for entry in wanted.values() if not self._whole(entry.sha256)]
            # What travels lies beside what becomes of it until it is unpacked.
            needed = sum(entry.length_bytes + (travelling(entry)[1] if entry.packed else 0) for entry in lacking)
            free = shutil.disk_usage(self._folder).free
            if lacking and free < needed + SPARE_BYTES:
                return Refusal("disk", f"{needed} bytes are needed for the shadow {manifest.release}, {free} are free")
            for entry in lacking:
                refused = self._bring(entry, should_stop)
                if refused is not None:
                    return refused
                if not self._whole(entry.sha256):
                    return Refusal("hash", f"a file of {manifest.release} is not what the signed manifest says")
        except OSError as error:
            return Refusal("disk", f"the shadow's files cannot be kept: {error.strerror}")
        files = {path: self._folder / entry.sha256 for path, entry in wanted.items()}
        return ShadowFiles(manifest.release, files[variant.model], files[variant.card])

    def _bring(self, entry: FileEntry, should_stop: Callable[[], bool]) -> Refusal | None:
        """Fetch one file as it travels, and unpack it where it travels packed; refused with the wire's codes. Raises OSError."""
        sha256, length_bytes = travelling(entry)
        refused = self._content.fetch(sha256, length_bytes, self._folder / sha256, should_stop)
        if refused is None and should_stop():
            refused = Refusal("download", "stopped")
        if refused is not None or entry.packed is None:
            return refused
        refused = unpack_file(self._folder / sha256, entry, self._folder / entry.sha256, should_stop=should_stop)
        (self._folder / sha256).unlink(missing_ok=True)
        return refused

    def _resolved(self, bundle: AssignedBundle) -> tuple[Manifest, Variant] | Refusal:
        refused = self._trust.refresh()
        refused = refused or judge_target(bundle, self._trust.find(bundle.path), self._policy)
        if refused is not None:
            return refused
        data = self._trust.manifest(bundle.path, bundle.sha256, bundle.length_bytes)
        if isinstance(data, Refusal):
            return data
        try:
            manifest = parse_manifest(data)
        except BundleError as error:
            return Refusal("format", f"manifest: {error}")
        refused = judge_manifest(bundle, manifest, self._facts, self._floor())
        if refused is not None:
            return refused
        resolution = resolve(manifest, msgspec.structs.replace(self._facts, accelerators=[]))
        if resolution.variant is None:
            return Refusal("variant", f"a shadow runs on the CPU: {resolution.reason}")
        return manifest, resolution.variant

    def _whole(self, sha256: str) -> bool:
        """Whether a file lies here whole: hashed from the disk each time, for a disk may lie."""
        try:
            with (self._folder / sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except FileNotFoundError:
            return False

    def _forget_all_but(self, kept: set[str], begun: set[str]) -> None:
        """Files of the shadow before, and damaged ones: nothing is kept but what is wanted now, and begun downloads of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.iterdir():
            part = file.name.endswith(".part") and file.name.removesuffix(".part") in begun
            if not part and (file.name not in kept or not self._whole(file.name)):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
