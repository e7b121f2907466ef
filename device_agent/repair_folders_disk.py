"""The folders of an agent, looked at by ``repair``: that each is there, and that the agent can write into it."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from device_agent.own_folder_disk import FOLDERS
from device_agent.repair import Found
from ota.durable_disk import TEMP_SUFFIX, fsync_folder

SEALED = ("slots", "agents")
"""What lies in the places in these is written once, by a rename: only the folders themselves must take something new."""
FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (
    "a card with faults is made read-only by the kernel: `dmesg` says so; save data/, check it with fsck or replace it; "
    "if it is mounted read-only on purpose, `mount -o remount,rw` it or move agent.data_dir; then run repair again"
)


def mend_folders(data: Path, *, dry_run: bool) -> list[Found]:
    """Folders that are missing are made; raises OSError."""
    found = []
    for name in FOLDERS:
        folder = data / name
        if folder.is_dir():
            continue
        if folder.exists() or folder.is_symlink():
            found.append(Found("folders", "broken", f"{folder} is not a folder", "move it away, then run repair again"))
            continue
        if not dry_run:
            folder.mkdir(mode=0o700)
            fsync_folder(data)
        found.append(Found("folders", "to_mend" if dry_run else "mended", f"{name} was missing"))
    return found or [Found("folders", "ok", f"all {len(FOLDERS)} are there")]


def put_and_remove(folder: Path) -> None:
    """Make a file there and remove it again: the one proof that a folder takes something. Raises OSError."""
    probe = folder / f".repair-{os.getpid()}{TEMP_SUFFIX}"
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    probe.unlink()


def only_ask(folder: Path) -> None:
    """The kernel's word on whether a file could be made there, for a dry run, which makes none. Raises OSError."""
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), str(folder))


def look_at_writing(data: Path, attempt: Callable[[Path], None]) -> list[Found]:
    """Folders into which the agent could not write; one line for all of a disk that is read-only.

    Root may write everywhere, the agent perhaps not: so owner and mode are looked at, too, for the owner of the data folder.
    """
    found: list[Found] = []
    owner = data.stat()
    for folder in _written(data):
        try:
            facts = folder.stat()
            attempt(folder)
        except OSError as error:
            why = error.strerror or str(error)
            if error.errno == errno.EROFS:
                return [Found("writing", "broken", f"cannot write here: {data}: {why}", READ_ONLY)]
            if error.errno in FULL:  # mending may free some, so it goes on
                return [*found, Found("disk", "broken", f"cannot write here: {folder}: {why}", "free some space")]
            advice = f"{_give_back(folder, owner)}, then run repair again"
            found.append(Found("writing", "broken", f"cannot write here: {folder}: {why}", advice))
            continue
        if facts.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            why = f"its owner may not, by its mode {stat.S_IMODE(facts.st_mode):04o}"
        elif facts.st_uid != owner.st_uid:
            why = f"it belongs to user {facts.st_uid}, {data} to user {owner.st_uid}"
        else:
            continue
        advice = f"{_give_back(folder, owner)}, then run repair again"
        found.append(Found("writing", "broken", f"cannot write here: {folder}: {why}", advice))
    return found or [Found("writing", "ok", "every folder takes what is written")]


def _give_back(folder: Path, owner: os.stat_result) -> str:
    return f"as root: chown {owner.st_uid}:{owner.st_gid} '{folder}' && chmod u+rwx '{folder}'"


def _written(data: Path) -> Iterator[Path]:
    """The data folder and all below that get something new; none through a link, none of another file system's own."""
    for where, names, _ in os.walk(data):
        folder = Path(where)
        yield folder
        parts = folder.relative_to(data).parts
        names[:] = [] if parts and parts[0] in SEALED else sorted(set(names) - {"lost+found"})
