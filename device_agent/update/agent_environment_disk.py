"""Makes the environment of an agent's slot: what ``venv`` makes without pip, by the standard library alone, and durably.

    <slot>/bin/python          a link to the operating system's interpreter: nothing of it is copied
    <slot>/pyvenv.cfg          which makes Python take its packages from here
    <slot>/lib/pythonX.Y/site-packages/…
    <slot>/manifest.json       of the release; lock.json
    <slot>/files.sha256        what every file of the slot is, 0444; the launcher asks it before each start

Built beside its place and renamed to it when all is on the disk: a slot is there whole or not at all. No network, no build, and
nothing of a wheel is executed.
"""

import hashlib
import os
import platform
import py_compile
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device_agent.launcher_disk import LINK, LIST, list_of, slot_fault
from device_agent.update.agent_wheel_disk import WheelError, Where, unpack_wheel
from ota.bundle.agent_release import LOCK, AgentLock
from ota.durable_disk import fsync_folder, make_folder

MAX_TOTAL_BYTES = 2 * 1024**3
STAGING, TRASH = ".staging-", ".trash-"
_SLOT = re.compile(r"[0-9a-f]{64}")


class StoppedError(Exception):
    """The agent ends, or another release is wanted: the slot was not finished."""


@dataclass(frozen=True, slots=True)
class Base:
    """The interpreter that slots are made for: its file, ``X.Y``, its full version, whether the system's packages are seen."""

    interpreter: str
    short: str
    version: str
    system_packages: bool


def own_base() -> Base:
    """The interpreter below this agent's own environment."""
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    short = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Base(str(Path(interpreter).absolute()), short, platform.python_version(), _sees_system_packages())


def _sees_system_packages() -> bool:
    """Cameras of a Raspberry Pi come as a package of the system (picamera2): a slot sees what this agent sees."""
    if sys.prefix == sys.base_prefix:
        return True
    try:
        text = (Path(sys.prefix) / "pyvenv.cfg").read_text()
    except OSError:
        return False
    return re.search(r"^include-system-site-packages\s*=\s*true\s*$", text, re.MULTILINE | re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a slot is made from: signed bytes of manifest and lock, and each wheel's file by the name in the lock."""

    manifest: bytes
    lock_bytes: bytes
    lock: AgentLock
    wheels: Mapping[str, Path]


def build_slot(agents: Path, parts: Parts, base: Base, should_stop: Callable[[], bool] = lambda: False) -> Path:
    """Make the slot of a release; one that is there whole stays, none is left half. Raises WheelError, OSError, StoppedError."""
    slot = agents / hashlib.sha256(parts.manifest).hexdigest()
    if slot.is_dir() and not slot_fault(slot):
        return slot
    make_folder(agents, 0o700)
    staging = agents / f"{STAGING}{slot.name}"
    _remove(staging)
    try:
        _fill(staging, slot, parts, base, should_stop)
        _put_away(slot)
        staging.rename(slot)
        fsync_folder(agents)
    except BaseException:
        _remove(staging)
        raise
    return slot


def _fill(staging: Path, slot: Path, parts: Parts, base: Base, should_stop: Callable[[], bool]) -> None:
    packages, scripts = staging / "lib" / f"python{base.short}" / "site-packages", staging / "bin"
    packages.mkdir(parents=True)
    scripts.mkdir()
    (staging / LINK).symlink_to(base.interpreter)
    settings = {
        "home": str(Path(base.interpreter).parent), "include-system-site-packages": str(base.system_packages).lower(),
        "version": base.version,
    }  # fmt: skip
    files = [
        _write_new(staging / "pyvenv.cfg", "".join(f"{name} = {value}\n" for name, value in settings.items()).encode()),
        _write_new(staging / "manifest.json", parts.manifest),
        _write_new(staging / LOCK, parts.lock_bytes),
    ]
    where = Where(packages, scripts, str(slot / LINK))
    for wheel in parts.lock.wheels:
        if should_stop():
            raise StoppedError
        _check(parts.wheels[wheel.file], wheel.file, wheel.sha256)
        files += unpack_wheel(parts.wheels[wheel.file], wheel, where)
        if sum(file.stat().st_size for file in files) > MAX_TOTAL_BYTES:
            raise WheelError(f"the environment would be larger than {MAX_TOTAL_BYTES} bytes")
    files += _compiled(files, staging, slot)
    listed = {}
    for file in files:
        with file.open("rb") as reading:
            listed[file.relative_to(staging).as_posix()] = hashlib.file_digest(reading, "sha256").hexdigest()
    _write_new(staging / LIST, list_of(listed, base.interpreter), 0o444)
    for folder, _, _ in os.walk(staging, topdown=False):
        Path(folder).chmod(0o755)  # whatever the umask is
        fsync_folder(Path(folder))


def _check(file: Path, name: str, sha256: str) -> None:
    with file.open("rb") as reading:
        if hashlib.file_digest(reading, "sha256").hexdigest() != sha256:
            raise WheelError(f"{name} is not the wheel that the lock names")


def _compiled(files: Iterable[Path], staging: Path, slot: Path) -> list[Path]:
    """Bytecode for all modules, so that the slot need never be written again. Compiling runs nothing.

    "Unchecked" because the launcher checks every file before each start; a module that does not compile is left to its own fate.
    """
    made = []
    for file in files:
        if file.suffix != ".py":
            continue
        try:
            cached = py_compile.compile(
                str(file), dfile=str(slot / file.relative_to(staging)), doraise=True, quiet=2,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )  # fmt: skip
        except (py_compile.PyCompileError, ValueError, RecursionError, MemoryError):
            continue
        if cached is not None:
            _sync(Path(cached))
            made.append(Path(cached))
    return made


def remove_others(agents: Path, keep: Iterable[str]) -> list[str]:
    """Remove slots that are not in ``keep``, and what cuts left behind; returns the slots removed. Raises OSError."""
    wanted, removed = set(keep), []
    if not agents.is_dir():
        return []
    for path in sorted(agents.iterdir()):
        if path.name.startswith((STAGING, TRASH)):
            _remove(path)
        elif _SLOT.fullmatch(path.name) and path.name not in wanted:
            _put_away(path)
            removed.append(path.name)
    fsync_folder(agents)  # else a cut later brings back what was removed, and nobody looks before the next update
    return removed


def _put_away(slot: Path) -> None:
    """Remove a slot; half-removed it must not look like one."""
    if slot.exists():
        trash = slot.with_name(f"{TRASH}{slot.name}")
        _remove(trash)
        slot.rename(trash)
        fsync_folder(slot.parent)
        _remove(trash)


def _write_new(path: Path, data: bytes, mode: int = 0o644) -> Path:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
