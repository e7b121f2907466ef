"""The recorder's library: built once, loaded before libc into a child, steered from inside it; and its log, read back."""

import ctypes
import enum
import fcntl
import hashlib
import os
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "recorder" / "recorder.c"
ROOT = Path(__file__).resolve().parents[2]
_HEAD = struct.Struct("<IIQqIIIIQ")
_MAGIC = 0x524F4F4B


class Kind(enum.IntEnum):
    """What a line of the log says happened, as the library numbers it."""

    CREATE = 1
    TRUNCATE = 2
    WRITE = 3
    FSYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    LINK = 9
    SYMLINK = 10
    CHMOD = 11
    MARK = 12
    SYNC_ALL = 13
    UNKNOWN = 14


class Fault(enum.IntEnum):
    """What the library does at the nth change, and from then on (the kill apart)."""

    NOTHING = 0
    FULL = 1
    """ENOSPC at everything that takes room."""
    FULL_SHORT = 2
    """The same, after half of that write was taken."""
    READ_ONLY = 3
    """EROFS at every change."""
    KILL = 4


@dataclass(frozen=True, slots=True)
class Op:
    """One line: paths are relative to the watched folder (``other``: a rename's target, a symlink's text, the call's name)."""

    kind: Kind
    path: str
    other: str = ""
    inode: int = 0
    offset: int = 0
    mode: int = 0
    data: bytes = b""


def library() -> Path:
    """The compiled library; once per machine and source."""
    stamp = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"rookery-recorder-{os.getuid()}-{stamp}.so"
    if not built.exists():
        with Path(f"{built}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # test processes beside each other compile it once
            if not built.exists():
                part = Path(f"{built}.part")
                flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]
                subprocess.run(["cc", *flags, "-o", str(part), str(SOURCE), "-ldl", "-lpthread"], check=True)
                part.replace(built)
    return built


def run_below(module: str, *arguments: str | Path, timeout_s: float = 3000.0) -> str:
    """Run a module of the tests with the library below it; its standard output. Fails with what the child said."""
    # Without .pyc files the real code is imported in the same way everywhere, and nothing is written beside it.
    environment = {**os.environ, "LD_PRELOAD": str(library()), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{module} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


class Recorder:
    """The library, as the process that it was loaded into steers it."""

    def __init__(self) -> None:
        self._calls = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._calls.rookery_counted.restype = ctypes.c_long

    def watch(self, folder: Path, log: Path | None = None) -> None:
        """From now on changes below ``folder`` are counted, and written to ``log`` where one is given."""
        failed = self._calls.rookery_watch(os.fsencode(folder.resolve()), b"" if log is None else os.fsencode(log))
        assert not failed, f"{log} cannot be written"

    def mark(self, text: str) -> None:
        """A line of our own in the log: what was promised at this point."""
        self._calls.rookery_mark(text.encode())

    def fault(self, what: Fault, at: int) -> None:
        """Arm a fault at the ``at``-th change from now (from 1)."""
        self._calls.rookery_fault(int(what), ctypes.c_long(at))

    def fell(self) -> bool:
        """Whether the armed fault has begun."""
        return bool(self._calls.rookery_fell())

    def counted(self) -> int:
        """Changes since the fault was armed."""
        return int(self._calls.rookery_counted())


def read_log(log: Path, folder: Path) -> list[Op]:
    """The log as a list. Raises AssertionError where it is torn, or has something in it that no disk can be rebuilt from."""
    data, at, found = log.read_bytes(), 0, []
    base = str(folder.resolve())
    while at < len(data):
        magic, kind, inode, offset, mode, path_length, other_length, _, data_length = _HEAD.unpack_from(data, at)
        assert magic == _MAGIC, f"the log is torn at byte {at}"
        at += _HEAD.size
        path, other = data[at : at + path_length].decode(), data[at + path_length : at + path_length + other_length].decode()
        at += path_length + other_length
        op = Op(Kind(kind), path, other, inode, offset, mode, data[at : at + data_length])
        at += data_length
        assert op.kind is not Kind.UNKNOWN, f"{op.other} on {op.path}: no disk can be rebuilt from that"
        found.append(op if op.kind is Kind.MARK else _relative(op, base))
    return found


def _relative(op: Op, base: str) -> Op:
    other = op.other
    if op.kind in (Kind.RENAME, Kind.LINK):
        other = _below(other, base)
    return Op(op.kind, _below(op.path, base), other, op.inode, op.offset, op.mode, op.data)


def _below(path: str, base: str) -> str:
    assert path == base or path.startswith(base + "/"), f"{path} lies outside {base}: what moves between the two is not followed"
    return path[len(base) + 1 :].removesuffix(" (deleted)")
