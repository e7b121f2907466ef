"""Install places, named by the digest of the manifest they hold, and one small file that says which one runs.

    <directory>/pointers.json              {"v": 1, "current": …, "previous": …, "factory": …}, replaced atomically
    <directory>/<manifest sha256>/         manifest.json and the files of (at least) one variant under their own paths
    <directory>/.staging-…, .trash-…       being built, being removed; nothing refers to them

A place appears under its name only when it is whole and on the disk; it is switched to by one rename. A cut at any step leaves
the state before or the state after.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ota.bundle.errors import BundleError
from ota.bundle.manifest import FileEntry, Manifest, parse_manifest
from ota.slots.errors import SlotError
from ota.slots.files_disk import Files
from ota.slots.hashed_disk import Hashed
from ota.slots.sources_disk import Sources, folders, read_or_none

VERSION = 1
MANIFEST = "manifest.json"
POINTERS = "pointers.json"
NAMES = ("current", "previous", "factory")
_PLACE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """One install place: the manifest's digest, where it is, and the parsed manifest."""

    sha256: str
    path: Path
    manifest: Manifest

    def files(self) -> dict[str, Path]:
        """Manifest path -> file, of what is installed here (one variant's files, not the whole release)."""
        return {path: self.path / path for path in self.manifest.files if (self.path / path).is_file()}


class Slots:
    """The install places of one board. One writer at a time: the agent. ``hashed`` is what this process has hashed already."""

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        self._directory = directory
        self.hashed = Hashed()
        self._files = files or Files()

    def stage(self, manifest_bytes: bytes, files: Mapping[str, Path], packed: Collection[str] = ()) -> Path:
        """Install a release without switching to it; returns its folder. Whole or not at all.

        ``files`` maps paths of the manifest to verified downloads and holds all files of at least one variant; those whose path
        is in ``packed`` lie there as they travelled and are unpacked into the place. Staging what is there repairs it and adds
        what another variant needs. Raises SlotError: format, hash or disk.
        """
        try:
            manifest = parse_manifest(manifest_bytes)
        except BundleError as error:
            raise SlotError("format", str(error)) from None
        if not any(set(variant.files) <= set(files) for variant in manifest.variants):
            raise SlotError("format", f"{manifest.release}: the files given are not all of any variant")
        for path in files:
            if path not in manifest.files:
                raise SlotError("format", f"{path} is not listed in the manifest of {manifest.release}")
        place = self._directory / hashlib.sha256(manifest_bytes).hexdigest()
        sources = Sources(manifest, files, frozenset(packed))
        try:
            if place.is_dir():
                self._repair(place, manifest_bytes, sources)
            else:
                self._build(place, manifest_bytes, sources)
        except OSError as error:
            raise SlotError("disk", f"{place.name[:12]}: {error.strerror or error}") from None
        return place

    def current(self) -> SlotInfo | None:
        """What runs, or None before the first switch (and when its place was damaged beyond reading)."""
        return self._info(self.pointers()["current"])

    def previous(self) -> SlotInfo | None:
        """What ran before; ``roll_back`` goes there."""
        return self._info(self.pointers()["previous"])

    def factory(self) -> SlotInfo | None:
        """What the board came with; never removed."""
        return self._info(self.pointers()["factory"])

    def slot(self, sha256: str) -> SlotInfo | None:
        """An installed place by digest, whether anything points to it or not."""
        return self._info(sha256)

    def places(self) -> list[str]:
        """Digests of all install places, in order, whatever state they are in."""
        if not self._directory.is_dir():
            return []
        return sorted(path.name for path in self._directory.iterdir() if _PLACE.fullmatch(path.name))

    def find_file(self, sha256: str) -> Path | None:
        """A file of any install place by its digest as the manifest there states it (hash it before it is believed)."""
        for place in self.places():
            info = self._info(place)
            for path, file in info.files().items() if info is not None else ():
                if info is not None and info.manifest.files[path].sha256 == sha256:
                    return file
        return None

    def switch(self, sha256: str) -> None:
        """Make a staged release the current one; what ran becomes the previous. Switching to what runs changes nothing."""
        self._demand(sha256)
        pointers = self.pointers()
        if pointers["current"] == sha256:
            return
        self.point({**pointers, "current": sha256, "previous": pointers["current"]})

    def set_factory(self, sha256: str) -> None:
        """Declare a staged release the factory one; it becomes current where nothing is."""
        self._demand(sha256)
        pointers = self.pointers()
        self.point({**pointers, "factory": sha256, "current": pointers["current"] or sha256})

    def roll_back(self, from_sha256: str | None = None) -> SlotInfo:
        """Go back to the previous place, or to the factory's where there is none or it is damaged; returns what is current then.

        With ``from_sha256`` it only acts while that is the current one: repeating it after a power cut goes back once.
        Raises SlotError('model') when there is nothing to go back to.
        """
        pointers = self.pointers()
        now = self._info(pointers["current"])
        if from_sha256 is not None and pointers["current"] != from_sha256 and now is not None:
            return now
        for name in ("previous", "factory"):
            back = self._info(pointers[name])
            if back is not None and back.sha256 != pointers["current"]:
                self.point({**pointers, "current": back.sha256, "previous": None})
                return back
        raise SlotError("model", "there is no other release on this board to go back to")

    def give_up_previous(self) -> bool:
        """Forget what ran before, so that it can be removed; False when there was none. The factory's place stays in any case."""
        pointers = self.pointers()
        if pointers["previous"] is None or pointers["previous"] in (pointers["current"], pointers["factory"]):
            return False
        self.point({**pointers, "previous": None})
        return True

    def verify(self, sha256: str) -> list[str]:
        """Faults of an installed place, as sentences: damaged files, or no whole variant. Empty when it is good."""
        info = self._info(sha256)
        if info is None:
            return [f"{sha256[:12]} is not installed or its manifest is damaged"]
        present = info.files()
        good = {path for path, file in present.items() if self._is_whole(file, info.manifest.files[path])}
        faults = [f"{path} is damaged" for path in sorted(set(present) - good)]
        if not any(set(variant.files) <= good for variant in info.manifest.variants):
            faults.append("no variant is whole")
        return faults

    def collect_garbage(self, keep: Collection[str] = ()) -> list[str]:
        """Remove places that nothing points to and that are not in ``keep``, and leftovers of cuts; returns what was removed.

        Where the pointers are lost or damaged no place is removed: one of them is the factory's.
        """
        if not self._directory.is_dir():
            return []
        pointers = self.pointers()
        wanted = {sha256 for sha256 in pointers.values() if sha256} | set(keep)
        removed = []
        try:
            for path in sorted(self._directory.iterdir()):
                if path.name.startswith((".staging-", ".trash-")):
                    self._files.remove_tree(path)
                elif any(pointers.values()) and _PLACE.fullmatch(path.name) and path.name not in wanted:
                    trash = self._directory / f".trash-{path.name}"  # half-removed, it must not look like a place
                    self._files.remove_tree(trash)
                    self._files.rename_folder(path, trash)
                    self._files.fsync_folder(self._directory)
                    self._files.remove_tree(trash)
                    removed.append(path.name)
            self._files.fsync_folder(self._directory)  # else a cut brings back what was removed, and nobody looks
        except OSError as error:
            raise SlotError("disk", f"clearing old releases: {error.strerror or error}") from None
        return removed

    def _build(self, place: Path, manifest_bytes: bytes, sources: Sources) -> None:
        staging = self._directory / f".staging-{place.name}"
        self._files.remove_tree(staging)
        self._files.make_folder(staging)
        for path in sorted(sources.files):
            self._files.make_folder((staging / path).parent)
            try:
                sources.bring(path, staging / path, self._files, self.hashed)
                self.hashed.record(staging / path, sources.manifest.files[path].sha256)
            except SlotError:
                self._files.remove_tree(staging)
                raise
        self._files.write_new(staging / MANIFEST, manifest_bytes)
        for folder in folders(staging, sources.files):
            self._files.fsync_folder(folder)
        self._files.rename_folder(staging, place)
        self._files.fsync_folder(self._directory)

    def _repair(self, place: Path, manifest_bytes: bytes, sources: Sources) -> None:
        # The place may be the one that runs, so it never disappears: each file is replaced by itself.
        for path in sorted(sources.files):
            target = place / path
            if self._is_whole(target, sources.manifest.files[path]):
                continue
            fresh = target.with_name(f".new-{target.name}")
            self._files.make_folder(target.parent)
            try:
                sources.bring(path, fresh, self._files, self.hashed)
            except SlotError:
                fresh.unlink(missing_ok=True)
                raise
            self._files.replace(fresh, target)
            self.hashed.record(target, sources.manifest.files[path].sha256)
        if read_or_none(place / MANIFEST) != manifest_bytes:
            self._files.write_new(place / f".new-{MANIFEST}", manifest_bytes)
            self._files.replace(place / f".new-{MANIFEST}", place / MANIFEST)
        for folder in folders(place, sources.files):
            self._files.fsync_folder(folder)

    def _is_whole(self, path: Path, entry: FileEntry) -> bool:
        return self.hashed.is_whole(path, entry.sha256, entry.length_bytes)

    def _demand(self, sha256: str) -> None:
        faults = self.verify(sha256)
        if faults:
            raise SlotError("hash", f"{sha256[:12]}: {'; '.join(faults)}")

    def _info(self, sha256: str | None) -> SlotInfo | None:
        data = read_or_none(self._directory / sha256 / MANIFEST) if sha256 else None
        if sha256 is None or data is None or hashlib.sha256(data).hexdigest() != sha256:
            return None
        try:
            return SlotInfo(sha256, self._directory / sha256, parse_manifest(data))
        except BundleError:
            return None

    def pointers(self) -> dict[str, str | None]:
        """current, previous, factory -> digest of the place; all None where the file that says it is lost or damaged."""
        data = read_or_none(self._directory / POINTERS)
        try:
            found = json.loads(data) if data is not None else {}
        except (ValueError, RecursionError):
            found = {}  # cannot come from a cut (it is replaced whole); a damaged card leaves the board to its factory bundle
        if not isinstance(found, dict) or found.get("v", VERSION) != VERSION:
            found = {}
        return {name: value if isinstance(value := found.get(name), str) and len(value) == 64 else None for name in NAMES}

    def point(self, pointers: Mapping[str, str | None]) -> None:
        """Write all three pointers anew, durable when it returns; raises SlotError('disk'). From outside for ``repair`` alone."""
        fresh = self._directory / f".new-{POINTERS}"
        try:
            self._files.make_folder(self._directory)
            self._files.write_new(fresh, json.dumps({"v": VERSION, **pointers}, sort_keys=True).encode())
            self._files.replace(fresh, self._directory / POINTERS)
            self._files.fsync_folder(self._directory)
        except OSError as error:
            raise SlotError("disk", f"the pointer cannot be written: {error.strerror or error}") from None
