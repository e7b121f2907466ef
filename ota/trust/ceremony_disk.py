"""The folder of a ceremony, which travels between the machines of its signers.

``root.json`` and ``targets.json`` are in force; ``N.root.json`` and ``N.targets.json`` are their history; ``<role>.draft.json``
is what the next version will be; ``people.json`` says whose key is whose.
"""

import json
import re
from pathlib import Path
from typing import Any

from ota.bundle.tuf_types import Metadata, Root, Targets
from ota.durable_disk import fsync_folder, write_whole
from ota.plain_disk import read_plain
from ota.trust.ceremony import Ceremony
from ota.trust.errors import FolderError, TrustError
from ota.trust.roles import parse_metadata

MAX_METADATA_BYTES = 8 * 1024 * 1024
MAX_PEOPLE = 1000
_DRAFT = re.compile(r"([a-z0-9][a-z0-9-]{0,31})\.draft\.json")


def read_ceremony(folder: Path) -> Ceremony:
    """All that lies in the folder. Raises TrustError that says what is wrong and what to do."""
    root, targets = _read(folder, "root.json", Root), _read(folder, "targets.json", Targets)
    if root is None or targets is None:
        raise TrustError(f"{folder} holds no root.json and targets.json; rookery key create begins a ceremony")
    pushed = root.signed.version > 1 or (folder / "1.root.json").exists()
    made = Ceremony(root, targets, people=read_people(folder), in_force=pushed)
    for path in sorted(folder.glob("*.draft.json")):
        found = _DRAFT.fullmatch(path.name)
        if found is None:
            continue
        name = found[1]
        draft = _read(folder, path.name, Root if name == "root" else Targets)
        if name == "root":
            made.next_root = _following(draft, root)
        elif name == "targets":
            made.next_targets = _following(draft, targets)
        elif draft is not None:
            made.delegated[name] = draft
    return made


def write_ceremony(folder: Path, made: Ceremony) -> None:
    """Put everything in place: drafts first, so that a crash never leaves a new version without its history."""
    for name, draft in (("root", made.next_root), ("targets", made.next_targets), *made.delegated.items()):
        if draft is not None:
            _write(folder / f"{name}.draft.json", draft.to_bytes())
    write_people(folder, made.people)
    for name, present in (("root", made.root), ("targets", made.targets)):
        _write(folder / f"{name}.json", present.to_bytes())


def enforce(folder: Path, made: Ceremony) -> None:
    """What was pushed is in force now: drafts of root and targets take the places of the present ones, all stay as history."""
    made.root, made.targets = made.final_root(), made.final_targets()
    for name, present in (("root", made.root), ("targets", made.targets)):
        _write(folder / f"{present.signed.version}.{name}.json", present.to_bytes())
        _write(folder / f"{name}.json", present.to_bytes())
        forget_draft(folder, name)
    made.next_root = made.next_targets = None
    made.in_force = True


def forget_draft(folder: Path, name: str) -> bool:
    """Remove a draft; True when there was one."""
    path = folder / f"{name}.draft.json"
    there = path.exists()
    path.unlink(missing_ok=True)
    if there:
        fsync_folder(folder)
    return there


def root_chain(folder: Path) -> dict[int, bytes]:
    """Version -> bytes of every root that the folder has, the one in force among them: what lets a board follow from its own."""
    return {one.signed.version: data for one, data in _history(folder, "root", Root)}


def targets_history(folder: Path) -> list[Metadata[Targets]]:
    """Every version of the targets that the folder has, the newest first."""
    return [one for one, _ in sorted(_history(folder, "targets", Targets), key=lambda each: -each[0].signed.version)]


def read_people(folder: Path) -> dict[str, str]:
    """Key id -> name; nothing where the file is missing or is not ours: it decides nothing."""
    try:
        raw = json.loads(read_plain(folder / "people.json", MAX_METADATA_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(raw, dict) or len(raw) > MAX_PEOPLE:
        return {}
    return {str(keyid)[:64]: " ".join(str(name).split())[:80] for keyid, name in raw.items()}


def write_people(folder: Path, people: dict[str, str]) -> None:
    """Write down whose key is whose."""
    if people:
        _write(folder / "people.json", (json.dumps(people, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def _history(folder: Path, role: str, kind: type[Any]) -> list[tuple[Metadata[Any], bytes]]:
    found: dict[int, tuple[Metadata[Any], bytes]] = {}
    for path in (*sorted(folder.glob(f"*.{role}.json")), folder / f"{role}.json"):
        if path.name != f"{role}.json" and not path.name.partition(".")[0].isdigit():
            continue
        one = _read(folder, path.name, kind)
        if one is not None:
            found[one.signed.version] = (one, read_plain(path, MAX_METADATA_BYTES))
    return list(found.values())


def _read(folder: Path, name: str, kind: type[Any]) -> Metadata[Any] | None:
    path = folder / name
    try:
        data = read_plain(path, MAX_METADATA_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderError(f"cannot read {path}: {error.strerror}") from None
    metadata = parse_metadata(data, str(path))
    if not isinstance(metadata.signed, kind):
        raise TrustError(f"{path} holds {metadata.signed.type} metadata")
    return metadata


def _write(path: Path, data: bytes) -> None:
    try:
        if read_plain(path, MAX_METADATA_BYTES) == data:
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FolderError(f"cannot read {path}: {error.strerror}") from None
    try:
        write_whole(path, data)
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror}") from None


def _following(draft: Metadata[Any] | None, present: Metadata[Any]) -> Metadata[Any] | None:
    # A push whose end was cut off leaves the draft of what is in force already.
    return draft if draft is not None and draft.signed.version == present.signed.version + 1 else None
