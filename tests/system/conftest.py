"""Homes for demos, and films that are drawn once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_process import processes_of


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's films, drawn once for all runs."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def demo_home(tmp_path: Path) -> Iterator[Path]:
    """A home for one demo; nothing may live in it afterwards."""
    home = tmp_path / "demo"
    yield home
    assert processes_of(home) == []


@pytest.fixture
def mosquitto() -> str:
    """The broker's program; tests that need it skip without it."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed")
    return found
