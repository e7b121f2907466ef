"""A release: wheel and bill of materials, the same bytes each time, and the bill is one by the standard's own schema."""

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import pytest

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "tests" / "fixtures" / "cyclonedx"
PARTS = ("device_agent", "fleet_server", "ota", "models", "provisioning", "hardware")


@pytest.fixture(scope="module")
def sbom() -> Iterator[ModuleType]:
    """The release's own module."""
    sys.path.insert(0, str(ROOT / "deploy" / "release"))
    try:
        yield importlib.import_module("sbom")
    finally:
        sys.path.remove(str(ROOT / "deploy" / "release"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as it is now, apart from whoever works in it at the same time."""
    folder = tmp_path_factory.mktemp("tree") / "first"
    for part in (*PARTS, "deploy/release"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "requirements").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements/test.txt", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def released(tree: Path) -> Path:
    return release(tree, umask=0o022)


def release(tree: Path, umask: int) -> Path:
    out = tree.parent / f"{tree.name}-out"
    done = subprocess.run(
        [sys.executable, "deploy/release", str(out)], cwd=tree, capture_output=True, text=True, check=False, timeout=170,
        umask=umask, env={**os.environ, "SOURCE_DATE_EPOCH": "1790000000", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def validator() -> Any:
    read = {
        name: json.loads((SCHEMAS / name).read_text())
        for name in ("bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schema.json")
    }
    registry = jsonschema_rs.Registry([(schema["$id"], schema) for schema in read.values()])
    return jsonschema_rs.validator_for(read["bom-1.6.schema.json"], registry=registry)


def test_the_same_tree_gives_the_same_bytes(tree: Path, released: Path) -> None:
    """Somebody else builds the release on another day, in another folder, with other habits, and compares."""
    second = tree.parent / "elsewhere"
    shutil.copytree(tree, second)
    for path in sorted(second.rglob("*")):
        os.utime(path, (1, 1))
    again = release(second, umask=0o077)
    names = sorted(path.name for path in released.iterdir())
    assert [name.rpartition(".")[2] for name in names] == ["SHA256SUMS", "whl", "json"]
    for name in names:
        assert (released / name).read_bytes() == (again / name).read_bytes(), name
    for line in (released / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((released / name).read_bytes()).hexdigest() == digest


def test_the_wheel_holds_the_packages_and_nothing_else(released: Path) -> None:
    names = zipfile.ZipFile(next(released.glob("*.whl"))).namelist()
    assert {name.partition("/")[0] for name in names} == {*PARTS, "rookery-0.1.0.dist-info"}
    assert "fleet_server/app.py" in names
    assert "device_agent/launcher.py" in names
    assert [name for name in names if name.endswith((".pyc", ".pem", ".key", ".sqlite3")) or "__pycache__" in name] == []


def test_the_bill_is_valid_and_names_all_that_is_installed(released: Path) -> None:
    """By the schema of CycloneDX 1.6; every package that the project asks for is in it, with the hashes of the lock."""
    path = next(released.glob("*.cdx.json"))
    bill = json.loads(path.read_text())
    assert [str(error) for error in validator().iter_errors(bill)] == []
    about = bill["metadata"]["component"]
    assert about["hashes"][0]["content"] == hashlib.sha256(next(released.glob("*.whl")).read_bytes()).hexdigest()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert about["version"] == project["version"]
    there = {one["name"]: one for one in bill["components"]}
    for name in ("flask", "cryptography", "tuf", "paho-mqtt", "authlib", "gunicorn", "htmx.org", "urllib3"):
        assert name in there, name
    assert there["tuf"]["scope"] == "required"
    assert there["flask"]["scope"] == "optional"
    for name in ("pytest", "ruff", "moto", "schemathesis", "tensorflow", "playwright"):
        assert name not in there, name
    lock = (ROOT / "requirements" / "test.txt").read_text()
    for one in bill["components"]:
        if one["purl"].startswith("pkg:pypi/"):
            assert f"{one['name']}=={one['version']}" in lock
            hashes = [each["content"] for each in one["externalReferences"][0]["hashes"]]
            assert hashes
            assert all(f"sha256:{each}" in lock for each in hashes)
    refs = {about["bom-ref"], *(one["bom-ref"] for one in bill["components"])}
    assert len(refs) == len(bill["components"]) + 1
    reached, todo = set(), {about["bom-ref"]}
    graph = {one["ref"]: set(one["dependsOn"]) for one in bill["dependencies"]}
    while todo:
        reached |= todo
        todo = {each for one in todo for each in graph.get(one, set())} - reached
    assert reached == refs


def test_the_schema_can_say_no(released: Path) -> None:
    bill = json.loads(next(released.glob("*.cdx.json")).read_text())
    for spoil in ({"bomFormat": "SPDX"}, {"serialNumber": "urn:uuid:1"}, {"components": [{"name": "x"}]}, {"version": 0}):
        assert list(validator().iter_errors({**bill, **spoil})), spoil


@pytest.mark.parametrize(("line", "why"), [
    ("flask==3.1.3\n    # via rookery", "without a hash"), ("flask>=3\n", "cannot be read"), ("-e .\n", "cannot be read"),
    ("https://example.org/x.whl\n", "cannot be read"),
])  # fmt: skip
def test_a_lock_that_pins_less_than_everything_makes_no_bill(sbom: ModuleType, line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        sbom.read_lock(line)


def test_every_lock_is_whole(sbom: ModuleType) -> None:
    """All locks that anything is installed from: each package by version and hash, none twice without a marker for each."""
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        pins = sbom.read_lock(lock.read_text())
        assert pins, lock.name
        seen: dict[str, list[str]] = {}
        for one in pins:
            seen.setdefault(one.name, []).append(one.marker)
        assert [name for name, markers in seen.items() if len(markers) > 1 and not all(markers)] == [], lock.name
