"""Where the real models and pictures lie that these tests run on."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def assets() -> Path:
    """../shared/assets beside the repository, or ROOKERY_ASSETS; skips where neither is there."""
    folder = Path(os.environ.get("ROOKERY_ASSETS") or REPOSITORY.parent / "shared" / "assets")
    if not (folder / "models").is_dir():
        pytest.skip("assets absent: set ROOKERY_ASSETS to a folder with models/, images/ and annotated/")
    return folder


@pytest.fixture(scope="session")
def cards() -> Path:
    """The committed cards of the catalogue."""
    return REPOSITORY / "models" / "cards"
