"""The files between launcher and agent: pointer, list of a slot's files, what the launcher did. Standard library only.

Both sides use it: the launcher in its own environment, the agent in its slot. So the formats here are read as they were in every
version before, and a field that is new is optional.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

POINTER = "agent-slot.json"
ALIVE = "agent-alive"
DONE = "launcher.json"
LIST = "files.sha256"
LOCK = "launcher.lock"
LINK = "bin/python"
"""The one symbolic link of a slot: to the interpreter of the operating system."""
VERSION = 1
MAX_BYTES = 64 * 1024
MAX_LIST_BYTES = 16 * 1024 * 1024
MAX_STARTS = 10
"""Whatever the pointer says, no trial is started more often."""
KEPT_DONE = 8
ALIVE_S, SHORTEST_ALIVE_S, LONGEST_ALIVE_S = 300.0, 1.0, 3600.0
_SLOT = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_LINK_LINE = re.compile(r"-> (.+)  " + re.escape(LINK))


@dataclass(frozen=True, slots=True)
class Trial:
    """An agent on trial: its slot, how often it was started, how often it may be, and whose trial it is (``token``)."""

    slot: str
    starts: int = 0
    limit: int = 3
    token: str = ""
    alive_s: float = ALIVE_S

    def started(self) -> "Trial":
        """The same after one more start."""
        return replace(self, starts=self.starts + 1)


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which agent runs. None: the factory agent (``current``), or none (``previous``, ``trial``).

    ``python`` and ``python_before`` are set only by a pointer of the first agents, which named interpreters.
    """

    current: str | None = None
    previous: str | None = None
    trial: Trial | None = None
    python: str | None = None
    python_before: str | None = None


def agents_folder(data: Path) -> Path:
    """Where the slots are."""
    return data / "agents"


def read_pointer(data: Path) -> Pointer:
    """The pointer; one that says "factory agent" where there is none, or where it makes no sense."""
    found = _json(data / POINTER)
    if "v" not in found:
        if agents_folder(data).exists():
            return Pointer()  # agents that install slots write another form: nobody is led back to any path on the disk
        chosen, before = found.get("python"), found.get("previous")
        if isinstance(chosen, str) and chosen:
            return Pointer(python=chosen, python_before=before if isinstance(before, str) and before else None)
        return Pointer()
    if found["v"] != VERSION:
        return Pointer()
    return Pointer(current=_slot(found.get("current")), previous=_slot(found.get("previous")), trial=_trial(found.get("trial")))


def write_pointer(data: Path, pointer: Pointer) -> None:
    """Durable when it returns; raises OSError and leaves the old one then."""
    trial = pointer.trial
    said = None
    if trial is not None:
        said = {"slot": trial.slot, "starts": trial.starts, "limit": trial.limit, "token": trial.token, "alive_s": trial.alive_s}
    whole = {"v": VERSION, "current": pointer.current, "previous": pointer.previous, "trial": said}
    write_durably(data / POINTER, json.dumps(whole, sort_keys=True).encode())


def alive_nonce(data: Path) -> str:
    """The start (ROOKERY_START) whose agent said last that it works; empty where none did."""
    try:
        return (data / ALIVE).read_bytes()[:100].decode("ascii", "replace").strip()
    except OSError:
        return ""


def read_done(data: Path) -> list[dict[str, Any]]:
    """What the launcher did, oldest first: {"slot", "token", "reason", "detail", "at_s", "to"} each."""
    done = _json(data / DONE).get("fallen")
    return [one for one in done if isinstance(one, dict)] if isinstance(done, list) else []


def write_done(data: Path, one: dict[str, Any]) -> None:
    """Add what was done; the same trial is told once. Durable when it returns; raises OSError."""
    others = [each for each in read_done(data) if not one["token"] or each.get("token") != one["token"]]
    write_durably(data / DONE, json.dumps({"v": VERSION, "fallen": [*others, one][-KEPT_DONE:]}).encode())


def slot_fault(slot: Path) -> str:
    """What is wrong with an installed agent, in words; empty when every file is what its list says, and no other is there."""
    try:
        listed, link = _listed(slot)
        unseen = set(listed)
        if slot.lstat().st_mode & 0o002:
            return "anybody may write into its folder"
        for folder, names, files in os.walk(slot, onerror=_raise):
            for name in (*names, *files):
                found = Path(folder, name)
                path = found.relative_to(slot).as_posix()
                mode = found.lstat().st_mode
                if not stat.S_ISLNK(mode) and mode & 0o002:
                    return f"{path}: anybody may write it"
                if stat.S_ISLNK(mode):
                    if path != LINK or str(found.readlink()) != link:
                        return f"{path} is a link that nobody installed"
                elif name in files and path != LIST:
                    if path not in listed:
                        return f"{path} is there, and nobody installed it"
                    if not stat.S_ISREG(mode):
                        return f"{path} is no file any more"
                    if _sha256(found) != listed[path]:
                        return f"{path} is not what was installed"
                    unseen.discard(path)
        if unseen:
            return f"{min(unseen)} is gone"
        return "" if os.access(slot / LINK, os.X_OK) else f"{LINK} leads to no interpreter"
    except OSError as error:
        return f"{error.filename or slot}: {error.strerror}"
    except ValueError as error:
        return f"{LIST}: {error}"


@contextlib.contextmanager
def alone(data: Path | None) -> Iterator[bool]:
    """Whether this is the one launcher over the data folder, for as long as this lasts: two would count each other's starts.

    The kernel gives the lock back with the process, however it ends. Where no lock can be made (no folder yet, a full disk) the
    agent is started all the same: a camera that sees is worth more.
    """
    handle = None
    try:
        if data is not None:
            handle = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if handle is not None:
            os.close(handle)
        yield False
        return
    except OSError:
        pass
    try:
        yield True
    finally:
        if handle is not None:
            os.close(handle)


def list_of(files: dict[str, str], link: str) -> bytes:
    """The list of a slot: path -> sha256, and where ``bin/python`` leads. ``sha256sum -c`` reads it, too."""
    lines = [f"{digest}  {path}" for path, digest in sorted(files.items())]
    return "\n".join([*lines, f"-> {link}  {LINK}", ""]).encode()


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``, whole or not at all; raises OSError and leaves nothing behind then."""
    fresh = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.fchmod(handle, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _listed(slot: Path) -> tuple[dict[str, str], str]:
    path = slot / LIST
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_uid not in (0, os.geteuid()) or (os.geteuid() == 0 and facts.st_uid != 0) or facts.st_mode & 0o022:
            raise ValueError("somebody else than its owner may write it, or owns it")
        data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise ValueError(f"larger than {MAX_LIST_BYTES} bytes")
    listed, link = {}, ""
    for line in data.decode().split("\n")[:-1]:
        if (found := _LINE.fullmatch(line)) is not None:
            listed[found[2]] = found[1]
        elif (found := _LINK_LINE.fullmatch(line)) is not None and not link:
            link = found[1]
        else:
            raise ValueError(f"{line[:80]!r} is no line of it")
    if not listed or not link:
        raise ValueError("it is not whole")
    return listed, link


def _sha256(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _raise(error: OSError) -> None:
    raise error


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _slot(found: object) -> str | None:
    return found if isinstance(found, str) and _SLOT.fullmatch(found) else None


def _trial(found: object) -> Trial | None:
    if not isinstance(found, dict) or (slot := _slot(found.get("slot"))) is None:
        return None
    starts, limit, alive_s, token = found.get("starts"), found.get("limit"), found.get("alive_s", ALIVE_S), found.get("token", "")
    if not isinstance(starts, int) or not isinstance(limit, int) or not isinstance(token, str):
        return None
    if not isinstance(alive_s, int | float) or not SHORTEST_ALIVE_S <= alive_s <= LONGEST_ALIVE_S:
        alive_s = ALIVE_S
    return Trial(slot, max(0, starts), max(1, limit), token[:200], float(alive_s))
