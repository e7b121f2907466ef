"""Wheels of what is installed here, packed again from its own records: the real locked set of an agent, without any network."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tests.fakes.wheels import ROOT, make_wheel

OWN_PACKAGES = ("device_agent", "ota", "models", "hardware")
NOT_ON_A_BOARD = (".film", ".mp4", ".npz")


def device_distributions() -> list[str]:
    """Names of all distributions that the extra ``device`` needs here, without our own."""
    wanted, found = ["rookery[device]"], {}
    while wanted:
        asked = Requirement(wanted.pop())
        name = re.sub(r"[-_.]+", "-", asked.name).lower()
        key = (name, tuple(sorted(asked.extras)))
        if key in found:
            continue
        found[key] = name
        for line in metadata.requires(name) or []:
            need = Requirement(line)
            extras = asked.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(str(need).partition(";")[0])
    return sorted({name for name in found.values() if name != "rookery"})


def installed_wheel(name: str) -> tuple[str, bytes]:
    """One installed distribution as a wheel: its files with new records, and without scripts and bytecode."""
    found = metadata.distribution(name)
    files = {}
    for path in found.files or []:
        text = str(path)
        if ".." in path.parts or text.endswith(".pyc") or ".dist-info/" in text:
            continue
        files[text] = Path(str(found.locate_file(path))).read_bytes()
    said = found.read_text("WHEEL") or ""
    tags = [line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("Tag:")]
    # Several tags of one wheel stand compressed in its name; the first for Python 3 and glibc is enough here.
    tag = next(one for one in tags if "musl" not in one and not one.startswith("py2-"))
    return make_wheel(re.sub(r"[-_.]+", "-", name).lower(), found.version, files, tag=tag)


def own_wheel(version: str) -> tuple[str, bytes]:
    """This checkout's agent as a wheel of another version."""
    files = {}
    for package in OWN_PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            inside = path.relative_to(ROOT).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and not inside.endswith(NOT_ON_A_BOARD):
                files[inside] = path.read_bytes()
    return make_wheel("rookery", version, files)
