"""Bundles that were carried to the board: an inbox of files, the offline proof of each, and its content in place of the line's.

``inbox/<manifest sha256>.rookery``: put there whole by ``rookery-agent local-install``. A file that root owns is authorised by
root; any other needs ``local_install = true`` in the board's policy. The bundle's own metadata (root chain, targets, channel)
takes the place of assignment and timestamp: threshold, expiry and channel as ever, and never older than what the board knows.
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from device_agent.update.inbox_folder_disk import put_aside
from device_agent.update.local_trust_disk import LocalTrust, LocalTrustError
from device_agent.update.policy import Policy
from device_agent.update.ports import Clock
from ota.bundle.errors import BundleError
from ota.bundle.manifest import MODEL, target_path
from ota.bundle.reader_disk import Bundle, Verified, open_bundle, verify_bundle
from ota.durable_disk import TEMP_SUFFIX, fsync_folder, make_folder
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle

SUFFIX = ".rookery"
REFUSED = ".refused"
"""Ends the name of a file that says why a bundle of the inbox was not even begun."""
NOT_BY_STICK = (
    "an agent is updated by its server (rookery bundle push FILE, then rookery rollout create RELEASE); "
    "docs/agent-updates.md says how"
)
ROOT = 0
_ROOT_NAME = re.compile(r"([1-9][0-9]{0,8})\.root\.json")
log = logging.getLogger("rookery.update")


class Inbox:
    """The folder and what proves a bundle in it. ``trust``: the newest root and metadata versions that this board knows."""

    def __init__(self, folder: Path, trust: LocalTrust, policy: Policy, clock: Clock) -> None:
        self.folder = folder
        self._trust, self._policy, self._clock = trust, policy, clock

    def file(self, sha256: str) -> Path:
        """Where the bundle with this manifest lies."""
        return self.folder / f"{sha256}{SUFFIX}"

    def next(self) -> AssignedBundle | None:
        """The first bundle that may be begun; those that may not are put aside, with the reason beside them."""
        if not self.folder.is_dir():
            return None
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            refused = self.authorised(path)
            opened = refused or opened_from(path)
            if isinstance(opened, Refusal):
                self._put_aside(path, opened)
                continue
            if path.name == opened.manifest_sha256 + SUFFIX:
                return assigned_of(opened)
            self._put_aside(path, Refusal("format", "its name is not the digest of its manifest"))
        return None

    def authorised(self, path: Path) -> Refusal | None:
        """Whether root put it there, or the board's policy lets others install."""
        try:
            found = os.lstat(path)
        except OSError as error:
            return Refusal("disk", f"{path.name}: {error.strerror}")
        if found.st_uid == ROOT or self._policy.local_install:
            return None
        return Refusal("policy", "a local install needs root, or local_install = true in policy.toml")

    def prove(self, path: Path, *, learn: bool = False) -> Bundle | Refusal:
        """Everything that can be proved without a network: signatures, thresholds, expiry, channel, versions, every byte.

        ``learn``: what it shows of roots and versions is known here from now on, before anything of it is installed.
        """
        try:
            root, known = self._trust.root(), self._trust.versions()
        except LocalTrustError as error:
            return error.refusal
        verified = verify_bundle(path, root, self._clock.now_s())
        if isinstance(verified, Refusal):
            return Refusal(verified.code, verified.detail)
        opened = opened_from(path)
        if isinstance(opened, Refusal):
            return opened
        if opened.manifest_sha256 != verified.manifest_sha256:
            return Refusal("mismatch", f"{path.name} became another bundle while it was read")
        manifest = opened.manifest
        if manifest.kind != MODEL:
            told = f"{manifest.release} is a release of kind {manifest.kind}; a local install takes models only"
            return Refusal("mismatch", f"{told}: {NOT_BY_STICK}")
        if manifest.channel not in self._policy.channels:
            allowed = ", ".join(self._policy.channels) or "none"
            return Refusal("channel", f"channel {manifest.channel} is not allowed here; this board's policy allows {allowed}")
        for role, version in sorted(verified.versions.items()):
            if version < known.get(role, 0):
                told = f"its {role} metadata is version {version}, this board has seen {known[role]}"
                return Refusal("sequence", f"{told}: a key may have been revoked since; export the bundle anew")
        refused = self._learn(opened, verified) if learn else None
        return refused or opened

    def _learn(self, opened: Bundle, verified: Verified) -> Refusal | None:
        try:
            metadata = opened.metadata()
        except BundleError as error:
            return Refusal("format", str(error))
        except OSError as error:
            return Refusal("disk", f"{opened.path}: {error.strerror or error}")
        roots = {int(found[1]): data for name, data in metadata.items() if (found := _ROOT_NAME.fullmatch(name)) is not None}
        return self._trust.learn(verified.versions, roots)

    def remove(self, sha256: str) -> None:
        """The install is over: the bundle goes. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self.file(sha256).unlink()
            fsync_folder(self.folder)

    def _put_aside(self, path: Path, refused: Refusal) -> None:
        log.warning("%s is not installed (%s): %s", path.name, refused.code, refused.detail)
        put_aside(self.folder, path.name, path.name + REFUSED, f"{refused.code}: {refused.detail}\n")


class LocalSource:
    """``resolving_disk.Source`` of a bundle in the inbox: proved anew each time, for a stick may be swapped."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def manifest(self, bundle: AssignedBundle) -> bytes | Refusal:
        """Its bytes, when the file still is the bundle that was begun and still holds all that it must."""
        path = self._inbox.file(bundle.sha256)
        refused = self._inbox.authorised(path)
        found = refused or self._inbox.prove(path, learn=True)
        if isinstance(found, Refusal):
            return found
        if found.manifest_sha256 != bundle.sha256:
            return Refusal("mismatch", f"{path.name} holds another release than the one that was begun")
        return found.manifest_bytes

    def document(self, path: str, sha256: str) -> bytes | Refusal | None:
        """None: a bundle does not bring the channel's acceptance set, so parity alone proves it (and the report says so)."""
        return None


class LocalContent:
    """``ports.Content`` out of a bundle: nothing comes over any line."""

    def __init__(self, bundle_file: Path) -> None:
        self._bundle_file = bundle_file

    def fetch(
        self, sha256: str, length_bytes: int | None, destination: Path, should_stop: Callable[[], bool]
    ) -> Refusal | None:
        """Copy one content file out of the bundle, hashed on the way; refused with hash or disk."""
        opened = opened_from(self._bundle_file)
        if isinstance(opened, Refusal):
            return opened
        partial = destination.with_name(destination.name + TEMP_SUFFIX)
        try:
            make_folder(destination.parent)
            with partial.open("wb") as file:
                for chunk in opened.content(sha256, length_bytes or 0):
                    if should_stop():
                        return Refusal("download", "stopped")
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(destination)
            fsync_folder(destination.parent)
        except BundleError as error:
            partial.unlink(missing_ok=True)
            return Refusal("hash", f"{self._bundle_file.name}: {error}")
        except OSError as error:
            partial.unlink(missing_ok=True)
            return Refusal("disk", f"{error.filename or destination}: {error.strerror}")
        return None


def opened_from(path: Path) -> Bundle | Refusal:
    """A bundle's table of contents, or why it is none."""
    try:
        return open_bundle(path)
    except BundleError as error:
        return Refusal("format", f"{path.name}: {error}")
    except OSError as error:
        return Refusal("disk", f"{path}: {error.strerror or error}")


def assigned_of(bundle: Bundle) -> AssignedBundle:
    """How an assignment would name it."""
    manifest = bundle.manifest
    return AssignedBundle(
        path=target_path(manifest.channel, manifest.name, manifest.version),
        sha256=bundle.manifest_sha256,
        length_bytes=len(bundle.manifest_bytes),
        channel=manifest.channel,
        release=manifest.release,
    )
