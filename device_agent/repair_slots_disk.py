"""The install places, mended: damaged files from other places or the factory bundle, pointers to places that are whole."""

import shutil
from pathlib import Path

from device_agent.errors import AgentError
from device_agent.factory_disk import install_factory
from device_agent.facts_linux import read_facts
from device_agent.own_folder_disk import read_root
from device_agent.repair import Found, State
from device_agent.settings import Settings
from device_agent.update.state_disk import STATE_FILE, peek
from ota.bundle.errors import BundleError
from ota.bundle.manifest import FileEntry
from ota.bundle.reader_disk import Bundle, open_bundle
from ota.slots.errors import SlotError
from ota.slots.slots_disk import SlotInfo, Slots
from ota.slots.sources_disk import is_whole


def mend_slots(settings: Settings, *, dry_run: bool) -> list[Found]:
    """Every place looked through by its hashes, then the pointers; raises OSError and AgentError."""
    slots = Slots(settings.agent.data_dir / "slots")
    try:
        found = _places(slots, settings, dry_run)
        found += _pointers(slots, settings, dry_run)
        found += _strays(slots, settings.agent.data_dir / "slots", dry_run)
    except SlotError as error:
        return [Found("slots", "broken", error.detail, "free some space, or check the disk")]
    return found


def _places(slots: Slots, settings: Settings, dry_run: bool) -> list[Found]:
    """Damaged files of a place that something points to, from wherever the same content lies on this board."""
    found = []
    scratch = settings.agent.data_dir / "downloads" / ".repair"
    for sha256 in sorted({one for one in slots.pointers().values() if one}):
        faults = slots.verify(sha256)
        info = slots.slot(sha256)
        if not faults:
            found.append(Found("slots", "ok", f"{info.manifest.release if info else sha256[:12]} is whole"))
            continue
        sources = {} if info is None else _sources(slots, info, _factory_bundle(settings), scratch)
        try:
            if info is not None and _becomes_whole(info, sources):
                if not dry_run:
                    slots.stage((info.path / "manifest.json").read_bytes(), _all_of(info, sources))
                told = f"{info.manifest.release}: {'; '.join(faults)}: brought back from this board"
                found.append(Found("slots", _state(dry_run), told))
            else:
                name = sha256[:12] if info is None else info.manifest.release
                found.append(Found("slots", "ok", f"{name} cannot be made whole from this board: {'; '.join(faults)}"))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return found


def _sources(slots: Slots, info: SlotInfo, bundle: Bundle | None, scratch: Path) -> dict[str, Path]:
    """Manifest path -> a whole copy elsewhere on this board, for each file of the place that is damaged or missing."""
    sources = {}
    for path, entry in info.manifest.files.items():
        if is_whole(info.path / path, entry):
            continue
        copy = _elsewhere(slots, info, entry) or _from_bundle(bundle, entry, scratch)
        if copy is not None:
            sources[path] = copy
    return sources


def _elsewhere(slots: Slots, info: SlotInfo, entry: FileEntry) -> Path | None:
    for sha256 in slots.places():
        other = slots.slot(sha256)
        for path, file in other.files().items() if other is not None else ():
            same = other is not None and other.manifest.files[path].sha256 == entry.sha256
            if same and sha256 != info.sha256 and is_whole(file, entry):
                return file
    return None


def _factory_bundle(settings: Settings) -> Bundle | None:
    try:
        return open_bundle(settings.factory.bundle)
    except (BundleError, OSError):
        return None


def _from_bundle(bundle: Bundle | None, entry: FileEntry, scratch: Path) -> Path | None:
    """A file out of the factory bundle by its content: the hash says what it is, whoever packed it."""
    for path, other in bundle.files().items() if bundle is not None else ():
        if bundle is not None and other.sha256 == entry.sha256:
            scratch.mkdir(parents=True, exist_ok=True)
            target = scratch / entry.sha256
            try:
                with target.open("wb") as file:
                    file.writelines(bundle.chunks(path))
            except BundleError:
                return None
            return target if is_whole(target, entry) else None
    return None


def _becomes_whole(info: SlotInfo, sources: dict[str, Path]) -> bool:
    """Whether all damaged files that are needed have a copy: of one variant at the least."""
    if not sources:
        return False
    good = set(_all_of(info, sources))
    return any(set(variant.files) <= good for variant in info.manifest.variants)


def _state(dry_run: bool) -> State:
    return "to_mend" if dry_run else "mended"


def _all_of(info: SlotInfo, sources: dict[str, Path]) -> dict[str, Path]:
    """What the place is staged anew from: its own whole files, and the copies of the others."""
    own = {path: info.path / path for path, entry in info.manifest.files.items() if is_whole(info.path / path, entry)}
    return {**own, **sources}


def _pointers(slots: Slots, settings: Settings, dry_run: bool) -> list[Found]:
    """Each pointer to a whole place: the factory's is rebuilt from its bundle, the current one goes where something runs."""
    before = slots.pointers()
    whole = {sha256 for sha256 in slots.places() if not slots.verify(sha256)}
    after = {name: sha256 if sha256 in whole else None for name, sha256 in before.items()}
    found: list[Found] = []
    if after["factory"] is None:
        after["factory"] = _factory(slots, settings, whole, dry_run, found)
    if after["current"] is None:
        candidates = [_last_committed(settings.agent.data_dir), after["previous"], after["factory"], *sorted(whole)]
        runnable = whole | {after["factory"]}
        after["current"] = next((one for one in candidates if one is not None and one in runnable), None)
    if after["previous"] == after["current"]:
        after["previous"] = None
    if after["current"] is None:
        advice = f"copy the factory bundle to {settings.factory.bundle} again, then run repair again"
        return [*found, Found("pointers", "broken", "no whole release is left on this board", advice)]
    if after == before:
        return [*found, Found("pointers", "ok", f"{_name(slots, after['current'])} runs")]
    if not dry_run:
        slots.point(after)
    changed = [name for name in before if before[name] != after[name]]
    told = (f"{name}: {_name(slots, before[name])} → {_name(slots, after[name])}" for name in changed)
    return [*found, Found("pointers", _state(dry_run), "; ".join(told))]


def _factory(slots: Slots, settings: Settings, whole: set[str], dry_run: bool, found: list[Found]) -> str | None:
    """The digest of the factory's place, rebuilt where its bundle still verifies; None (and said) where it does not."""
    bundle = _factory_bundle(settings)
    if dry_run:
        if bundle is None:
            found.append(_no_factory(settings, "there is no readable bundle"))
            return None
        found.append(Found("factory", "to_mend", f"{bundle.manifest.release} would be installed from its bundle"))
        return bundle.manifest_sha256
    try:
        root_file = settings.factory.root
        read_root(root_file)
        scratch = settings.agent.data_dir / "downloads"
        _without_factory(slots)
        install_factory(slots, settings.factory.bundle, root_file, read_facts(settings.agent.board_root), scratch)
    except AgentError as error:
        found.append(_no_factory(settings, error.message))
        return None
    factory = slots.factory()
    if factory is None:
        found.append(_no_factory(settings, "it cannot be read again"))
        return None
    whole.add(factory.sha256)
    found.append(Found("factory", "mended", f"{factory.manifest.release} installed anew from its bundle"))
    return factory.sha256


def _without_factory(slots: Slots) -> None:
    pointers = slots.pointers()
    if pointers["factory"] is not None:
        slots.point({**pointers, "factory": None})


def _no_factory(settings: Settings, why: str) -> Found:
    advice = f"copy it to {settings.factory.bundle} again from the provisioning kit, then run repair again"
    return Found("factory", "broken", f"the factory release is lost: {why}", advice)


def _last_committed(data: Path) -> str | None:
    """What ran last, by the update state; None where it does not say."""
    state = peek(data / "state" / STATE_FILE)
    deployment = None if isinstance(state, str) else state.deployment
    return deployment.bundle.sha256 if deployment is not None and deployment.state == "committed" else None


def _strays(slots: Slots, folder: Path, dry_run: bool) -> list[Found]:
    """Places that nothing points to, and what an interrupted install left."""
    pointed = {one for one in slots.pointers().values() if one}
    names = [path.name for path in sorted(folder.iterdir())] if folder.is_dir() else []
    torn = [name for name in names if name.startswith((".staging-", ".trash-", ".new-"))]
    strays = [sha256 for sha256 in slots.places() if sha256 not in pointed] if pointed else []
    torn += [str(path.relative_to(folder)) for sha256 in pointed for path in sorted((folder / sha256).rglob(".new-*"))]
    if not torn and not strays:
        return []
    if not dry_run:
        slots.collect_garbage()
        _unlink(folder, torn)
    return [Found("slots", _state(dry_run), f"{len(strays)} releases that nothing points to and {len(torn)} begun files removed")]


def _unlink(folder: Path, names: list[str]) -> None:
    for name in names:
        if (folder / name).is_file():  # begun places went with the garbage
            (folder / name).unlink(missing_ok=True)


def _name(slots: Slots, sha256: str | None) -> str:
    info = None if sha256 is None else slots.slot(sha256)
    return "none" if sha256 is None else sha256[:12] if info is None else info.manifest.release
