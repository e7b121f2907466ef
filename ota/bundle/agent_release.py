"""A release of kind ``agent``: the lock of its wheels, and whether a wheel is built for a board. Pure.

A variant of such a release is ``lock.json`` and the wheels that it names, for one Python ABI and kind of machine. The lock is a
file of the release like any other: what the signed manifest says of it holds, so that the wheels are signed twice over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from ota.bundle.errors import BundleError
from ota.bundle.manifest import Manifest, Variant
from ota.wire.enrolment import BoardFacts

LOCK = "lock.json"
"""Path of the lock in the release. Several variants: ``<folder>/lock.json``, with the wheels in ``<folder>/wheels``."""
OWN_DISTRIBUTION = "rookery"
VERSION = 1
LIMIT_BYTES = 256 * 1024
MAX_WHEELS = 300
LEGACY_GLIBC = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
"""Old names of platforms, PEP 600."""

_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[A-Za-z0-9_.!+]+)(-(?P<build>\d[A-Za-z0-9_.]*))?"
    r"-(?P<python>[a-z0-9_.]+)-(?P<abi>[a-z0-9_.]+)-(?P<platform>[a-z0-9_.]+)\.whl"
)
_PLATFORM = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
_OLD_PLATFORM = re.compile(r"(manylinux1|manylinux2010|manylinux2014)_(\w+)")
_ABI = re.compile(r"cp(\d)(\d+)t?")


class LockedWheel(msgspec.Struct, frozen=True, kw_only=True):
    """One wheel: its file's name, what it installs, and its digest."""

    file: Annotated[str, Meta(min_length=5, max_length=190)]
    name: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", max_length=100)]
    """As PyPI would write it: lower case, dashes."""
    version: Annotated[str, Meta(min_length=1, max_length=60)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class AgentLock(msgspec.Struct, frozen=True, kw_only=True):
    """All wheels of one variant."""

    v: int = VERSION
    abi: Annotated[str, Meta(pattern=r"^cp\d{2,4}t?\Z")]
    wheels: Annotated[list[LockedWheel], Meta(min_length=1, max_length=MAX_WHEELS)]


@dataclass(frozen=True, slots=True)
class WheelName:
    """What the name of a wheel says: PEP 427."""

    name: str
    version: str
    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]


def parse_wheel_name(file: str) -> WheelName:
    """The parts of a wheel's file name; raises BundleError."""
    found = _WHEEL.fullmatch(file)
    if found is None:
        raise BundleError(file[:100], "this is no name of a wheel (name-version-python-abi-platform.whl)")
    name = re.sub(r"[-_.]+", "-", found["name"]).lower()
    parts = (tuple(found[one].split(".")) for one in ("python", "abi", "platform"))
    return WheelName(name, found["version"], *parts)


def build_lock(wheels: Mapping[str, str], abi: str) -> bytes:
    """The lock of these wheels (file name -> sha256), as canonical bytes; raises BundleError where it cannot be installed."""
    locked = []
    for file, sha256 in sorted(wheels.items()):
        said = parse_wheel_name(file)
        locked.append(LockedWheel(file=file, name=said.name, version=said.version, sha256=sha256))
    try:
        data = msgspec.json.encode(AgentLock(abi=abi, wheels=locked), order="sorted")
    except msgspec.ValidationError as error:
        raise BundleError(LOCK, str(error)) from None
    parse_lock(data)
    return data


def parse_lock(data: bytes) -> AgentLock:
    """Bytes as a lock; raises BundleError that names what is wrong."""
    if len(data) > LIMIT_BYTES:
        raise BundleError(LOCK, f"{len(data)} bytes, the limit is {LIMIT_BYTES}")
    try:
        lock = msgspec.json.decode(data, type=AgentLock)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(LOCK, str(error)) from None
    if lock.v != VERSION:
        raise BundleError(LOCK, f"version {lock.v} is not known here")
    seen: set[str] = set()
    for wheel in lock.wheels:
        said = parse_wheel_name(wheel.file)
        if (said.name, said.version) != (wheel.name, wheel.version):
            raise BundleError(LOCK, f"{wheel.file} is locked as {wheel.name} {wheel.version}")
        if wheel.name in seen:
            raise BundleError(LOCK, f"{wheel.name} is there twice")
        seen.add(wheel.name)
        if not any(_python_fits(python, abi, lock.abi) for python in said.pythons for abi in said.abis):
            raise BundleError(LOCK, f"{wheel.file} is not for {lock.abi}")
    if OWN_DISTRIBUTION not in seen:
        raise BundleError(LOCK, f"the wheel of {OWN_DISTRIBUTION} itself is missing")
    return lock


def lock_path(variant: Variant) -> str:
    """Where the lock of a variant is; raises BundleError where it has none, or two."""
    found = [path for path in variant.files if path.rpartition("/")[2] == LOCK]
    if len(found) != 1:
        raise BundleError(LOCK, f"variant {variant.id} holds {len(found)} files of this name, it must be one")
    return found[0]


def wheels_of(manifest: Manifest, variant: Variant, lock: AgentLock) -> dict[str, str]:
    """File name of each wheel -> its path in the release; raises BundleError unless lock and signed manifest agree."""
    paths = {path.rpartition("/")[2]: path for path in variant.files if path.endswith(".whl")}
    for wheel in lock.wheels:
        path = paths.get(wheel.file)
        if path is None or manifest.files[path].sha256 != wheel.sha256:
            raise BundleError(LOCK, f"{wheel.file} is not the file that the manifest names, or is not there")
    if len(paths) != len(lock.wheels):
        raise BundleError(LOCK, "the variant holds wheels that the lock does not name")
    return paths


def board_problem(lock: AgentLock, facts: BoardFacts) -> str:
    """Why these wheels are not for this board, in words; empty when they are."""
    if lock.abi != facts.abi:
        return f"the wheels are for {lock.abi}, this board's Python is {facts.abi or 'unknown'}"
    for wheel in lock.wheels:
        said = parse_wheel_name(wheel.file)
        if not any(_platform_fits(platform, facts) for platform in said.platforms):
            return f"{wheel.file} is not for {_machines(facts)[0]} with {facts.libc or 'an unknown C library'}"
    return ""


def _python_fits(python: str, abi: str, own: str) -> bool:
    if python in ("py3", f"py3{own[3:]}"):
        return abi == "none"
    if python == own:
        return abi in ("none", "abi3", own)
    built, here = _ABI.fullmatch(python), _ABI.fullmatch(own)
    if built is None or here is None or built[1] != here[1]:
        return False
    return abi == "abi3" and int(built[2]) <= int(here[2])


def _platform_fits(platform: str, facts: BoardFacts) -> bool:
    machines = _machines(facts)
    if platform == "any" or platform in {f"linux_{machine}" for machine in machines}:
        return True
    if (found := _PLATFORM.fullmatch(platform)) is not None:
        needed, machine = (int(found[1]), int(found[2])), found[3]
    elif (found := _OLD_PLATFORM.fullmatch(platform)) is not None:
        needed, machine = LEGACY_GLIBC[found[1]], found[2]
    else:
        return False
    here = re.fullmatch(r"glibc (\d+)\.(\d+).*", facts.libc)
    return machine in machines and here is not None and (int(here[1]), int(here[2])) >= needed


def _machines(facts: BoardFacts) -> tuple[str, ...]:
    """Names of this board's userland in wheels: a 64-bit kernel may run a 32-bit system."""
    if facts.word_bits == 32 and facts.machine in ("aarch64", "armv8l", "armv7l"):
        return ("armv7l", "armv6l")
    if facts.word_bits == 32 and facts.machine in ("x86_64", "i686"):
        return ("i686",)
    return (facts.machine,)
