"""The bill of materials of one wheel as CycloneDX 1.6, made of the lock file alone: what may be installed beside it, and by which
hashes. Nothing is looked up, so the same tree gives the same bytes. Pure."""

import json
import re
import tomllib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

EXTRAS = ("vision", "device", "server", "oidc", "hsm", "kms")
"""Extras that are delivered; ``dev`` and ``training`` run on no board and no server."""
_PINNED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))? ?\\?$")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass
class Pinned:
    """One package of the lock: the sha256 of each of its files, and the packages that asked for it."""

    name: str
    version: str
    marker: str = ""
    sha256: list[str] = field(default_factory=list)
    wanted_by: list[str] = field(default_factory=list)

    @property
    def purl(self) -> str:
        """The package URL, which names it everywhere."""
        return f"pkg:pypi/{self.name}@{self.version}"


def normal(name: str) -> str:
    """A package's name as packages are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> list[Pinned]:
    """Every pin of a lock file with hashes; ValueError for a line that is none of ours."""
    found: list[Pinned] = []
    for line in text.splitlines():
        pinned = _PINNED.fullmatch(line)
        if pinned:
            found.append(Pinned(normal(pinned["name"]), pinned["version"], (pinned["marker"] or "").strip()))
        elif line.startswith("    --hash=sha256:"):
            found[-1].sha256.append(line.removeprefix("    --hash=sha256:").rstrip(" \\"))
        elif line.startswith("    #"):
            who = line.removeprefix("    #").strip().removeprefix("via").strip()
            if who and not who.startswith("-r "):
                found[-1].wanted_by.append(normal(who.split()[0]))
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"the lock file has a line that cannot be read: {line[:80]!r}")
    for one in found:
        if not one.sha256:
            raise ValueError(f"{one.name}=={one.version} is locked without a hash")
    return found


def asked_for(project: dict[str, Any]) -> tuple[set[str], set[str]]:
    """What the project asks for by itself: the base install, and the delivered extras besides."""
    extras = project["optional-dependencies"]
    names = [_NAME.match(text) for each in EXTRAS for text in extras[each]]
    optional = {normal(match[0]) for match in names if match} - {"rookery"}
    base = {normal(match[0]) for match in map(_NAME.match, project["dependencies"]) if match}
    return base, optional - base


def closure(roots: set[str], pins: list[Pinned]) -> set[str]:
    """The roots and all that they bring along."""
    reached: set[str] = set()
    waiting = set(roots)
    while waiting:
        reached |= waiting
        waiting = {one.name for one in pins if set(one.wanted_by) & waiting} - reached
    return reached


def bill(pyproject: str, lock: str, vendored: str, *, wheel_sha256: str, at_s: int) -> bytes:
    """The document. ``vendored``: VENDOR.json of the pages; ``at_s``: the release's own time, seconds since 1970."""
    project = tomllib.loads(pyproject)["project"]
    pins = read_lock(lock)
    base, optional = asked_for(project)
    required, delivered = closure(base, pins), closure(base | optional, pins)
    ours = [one for one in pins if one.name in delivered]
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    components = [_component(one, "required" if one.name in required else "optional") for one in ours]
    scripts = _vendored(json.loads(vendored))
    refs = {one.purl for one in ours}
    depends = [{"ref": own, "dependsOn": sorted({one.purl for one in ours if one.name in base | optional}
                                                | {each["bom-ref"] for each in scripts})}]  # fmt: skip
    for ref in sorted(refs):
        name = next(one.name for one in ours if one.purl == ref)
        depends.append({"ref": ref, "dependsOn": sorted({one.purl for one in ours if name in one.wanted_by})})
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "component": {
                "type": "application", "bom-ref": own, "name": project["name"], "version": project["version"],
                "description": project["description"], "purl": own, "licenses": [{"license": {"id": project["license"]}}],
                "hashes": [{"alg": "SHA-256", "content": wheel_sha256}],
            },
        },
        "components": sorted([*components, *scripts], key=lambda each: str(each["bom-ref"])),
        "dependencies": depends,
    }  # fmt: skip
    plain = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, plain)}"
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _component(one: Pinned, scope: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "library", "bom-ref": one.purl, "name": one.name, "version": one.version, "purl": one.purl, "scope": scope,
        "externalReferences": [{
            "type": "distribution", "url": one.purl, "comment": "one of these files, by its platform",
            "hashes": [{"alg": "SHA-256", "content": each} for each in sorted(one.sha256)],
        }],
    }  # fmt: skip
    if one.marker:
        made["properties"] = [{"name": "rookery:marker", "value": one.marker}]
    return made


def _vendored(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for row in rows:
        purl = f"pkg:npm/{row['package'].replace('@', '%40')}@{row['version']}"
        made.setdefault(purl, {
            "type": "library", "bom-ref": purl, "name": row["package"], "version": row["version"], "purl": purl,
            "scope": "required", "licenses": [{"license": {"id": row["licence"]}}],
        })  # fmt: skip
    return list(made.values())
