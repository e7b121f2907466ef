"""``rookery-agent repair``: looks through what an agent keeps on its disk and mends what can be mended without a network.

It works on the folder of an agent that does not run, holding its lock. What it cannot mend it names, with what to do.
"""

import errno
import fcntl
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from device_agent.errors import AgentError, BoardError, OwnerError
from device_agent.own_folder_disk import read_settings
from device_agent.repair import Found, exit_code, report
from device_agent.repair_agents_disk import mend_agents
from device_agent.repair_folders_disk import look_at_writing, mend_folders, only_ask, put_and_remove
from device_agent.repair_slots_disk import mend_slots
from device_agent.settings import Settings
from device_agent.spool.entry import TornEntryError, unpack
from device_agent.spool.scan_disk import SUFFIX
from device_agent.spool.spool_disk import STREAMS, Outbox
from device_agent.update.state_disk import AGENT_STATE_FILE, STATE_FILE, StateFile, peek
from ota.durable_disk import TEMP_SUFFIX, fsync_folder
from ota.slots.slots_disk import Slots

KEEPS_PARTS = ("downloads", "shadow")
"""A begun download is no leftover while a deployment is under way: it is resumed."""


def run_repair(config: Path, *, dry_run: bool, as_json: bool) -> int:
    """Look, mend and print; returns the exit code. Raises OwnerError where an agent runs or the settings are wrong."""
    settings = read_settings(config)
    with ExitStack() as stack:
        _lock(settings.agent.data_dir, stack)
        found = repair(settings, dry_run=dry_run)
    sys.stdout.write(report(found, as_json=as_json) + "\n")
    return exit_code(found)


def repair(settings: Settings, *, dry_run: bool, attempt: Callable[[Path], None] = put_and_remove) -> list[Found]:
    """All of it, in an order in which each step stands on those before. One that fails stops none of the others.

    ``attempt`` writes into a folder and raises OSError where it cannot be done; where one cannot, the rest is only looked at.
    """
    data = settings.agent.data_dir
    writing = look_at_writing(data, only_ask if dry_run else attempt)
    dry_run = dry_run or any((one.what, one.state) == ("writing", "broken") for one in writing)
    steps: list[tuple[str, Callable[[], list[Found]]]] = [
        ("folders", lambda: mend_folders(data, dry_run=dry_run)),
        ("leftovers", lambda: _leftovers(data, dry_run)),
        ("state", lambda: _states(data, dry_run)),
        ("slots", lambda: mend_slots(settings, dry_run=dry_run)),
        ("agents", lambda: mend_agents(data, dry_run=dry_run)),
        ("downloads", lambda: _downloads(data, dry_run)),
        ("spool", lambda: _spool(settings, dry_run)),
        ("disk", lambda: _room(settings)),
    ]
    found = writing
    for what, step in steps:
        try:
            found += step()
        except OSError as error:
            where = error.filename or data
            found.append(Found(what, "broken", f"{where}: {error.strerror or error}", "check the disk and who owns the folder"))
        except AgentError as error:
            found.append(Found(what, "broken", error.message, error.hint))
    return found


def _lock(data: Path, stack: ExitStack) -> None:
    lock = data / "agent.lock"
    try:
        try:
            file = stack.enter_context(lock.open("a"))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES) or not lock.is_file():
                raise
            file = stack.enter_context(lock.open())  # a read-only disk: a lock is held all the same, and all can be looked at
    except FileNotFoundError:
        raise OwnerError(f"there is no agent's folder at {data}", "check agent.data_dir, or start the agent once") from None
    except OSError as error:
        raise BoardError(f"cannot write here: {data}: {error.strerror}", "run it as the agent's user or as root") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        hint = "stop it first (systemctl stop rookery-agent): what is in use is not mended"
        raise OwnerError(f"an agent is running in {data}", hint) from None


def _done(dry_run: bool, what: str, detail: str) -> Found:
    return Found(what, "to_mend" if dry_run else "mended", detail)


def _leftovers(data: Path, dry_run: bool) -> list[Found]:
    """Files whose writing a crash interrupted: nothing refers to them."""
    torn = [
        path
        for path in sorted(data.rglob(f"*{TEMP_SUFFIX}"))
        if path.is_file() and not path.is_symlink() and path.relative_to(data).parts[0] not in KEEPS_PARTS
    ]
    for path in torn if not dry_run else ():
        path.unlink(missing_ok=True)
        fsync_folder(path.parent)
    if not torn:
        return [Found("leftovers", "ok", "no half-written files")]
    return [_done(dry_run, "leftovers", f"{len(torn)} half-written files removed, {torn[0].relative_to(data)} among them")]


def _states(data: Path, dry_run: bool) -> list[Found]:
    found = []
    for name in (STATE_FILE, AGENT_STATE_FILE):
        seen = peek(data / "state" / name)
        if not isinstance(seen, str):
            found.append(Found("state", "ok", f"{name} can be read"))
        elif dry_run:
            found.append(Found("state", "to_mend", f"{name}: {seen}: it would be set aside"))
        else:
            file = StateFile(data / "state", name)
            state = file.load()
            floor = max(state.floor, _highest_floor(data)) if name == STATE_FILE else state.floor
            file.save(msgspec.structs.replace(state, floor=floor))
            found.append(Found("state", "mended", file.note))
    return found


def _highest_floor(data: Path) -> int:
    """What the installed releases say: a floor that was forgotten must not let an older release in."""
    slots = Slots(data / "slots")
    infos = [slots.current(), slots.previous(), slots.factory()]
    return max((info.manifest.min_counter for info in infos if info is not None), default=0)


def _downloads(data: Path, dry_run: bool) -> list[Found]:
    """What was fetched for a deployment that is over."""
    folder = data / "downloads"
    state = peek(data / "state" / STATE_FILE)
    if isinstance(state, str):
        return [Found("downloads", "ok", "kept: the state cannot be read yet")]
    deployment = state.deployment
    under_way = deployment is not None and not deployment.settled
    kept = deployment is not None and deployment.reason == "download"  # resumed when it is offered again
    size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    if under_way or kept or not size_bytes:
        told = f"{size_bytes >> 10} KiB, resumed at the next start" if size_bytes else "nothing left over"
        return [Found("downloads", "ok", told)]
    if not dry_run:
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        fsync_folder(data)
    return [_done(dry_run, "downloads", f"{size_bytes >> 10} KiB of an install that is over removed")]


def _spool(settings: Settings, dry_run: bool) -> list[Found]:
    """Torn entries go into quarantine, as at every start of the agent."""
    folder = settings.agent.data_dir / "spool"
    torn = [path for stream in STREAMS for path in sorted((folder / stream).glob(f"*{SUFFIX}")) if _torn(path)]
    if not dry_run:
        spool = settings.spool
        Outbox(folder, max_bytes=spool.max_bytes, min_free_bytes=spool.min_free_bytes)
    if not torn:
        return [Found("spool", "ok", "every entry can be read")]
    return [_done(dry_run, "spool", f"{len(torn)} torn entries put into quarantine, {torn[0].name} among them")]


def _torn(path: Path) -> bool:
    try:
        unpack(path.read_bytes())
    except TornEntryError:
        return True
    return False


def _room(settings: Settings) -> list[Found]:
    free, wanted = shutil.disk_usage(settings.agent.data_dir).free, settings.spool.min_free_bytes
    told = f"{free >> 20} MiB free, {wanted >> 20} MiB are to stay free"
    if free > wanted:
        return [Found("disk", "ok", told)]
    return [Found("disk", "broken", told, "free some space, or lower spool.min_free_bytes and spool.max_bytes in agent.toml")]
