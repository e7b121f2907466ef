"""What the demo shows is drawn when it is needed, and kept."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo"


@pytest.fixture
def material() -> Iterator[Any]:
    sys.path.insert(0, str(DEMO))
    try:
        yield importlib.import_module("material")
    finally:
        sys.path.remove(str(DEMO))


def test_a_film_is_drawn_once(material: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first demo draws its film, the second takes the one that is there; no film lies in the repository."""
    monkeypatch.setattr(material, "FILM_S", 2)
    film = tmp_path / "films" / "yard.mp4"
    material.draw_film(film, seed=1)
    capture = cv2.VideoCapture(str(film))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 2 * material.FILM_FPS
    capture.release()
    before = film.stat().st_mtime_ns
    material.draw_film(film, seed=1)
    assert film.stat().st_mtime_ns == before
    assert list(DEMO.rglob("*.mp4")) == []


def test_every_release_folder_is_complete(material: Any, tmp_path: Path) -> None:
    """Each release of the story has its models, its card, its golden pictures and the channel's acceptance set."""
    for release in material.STORY:
        folder = material.release_folder(release, tmp_path / release.version)
        assert (folder / "bundle.toml").is_file()
        assert len(list((folder / "golden").glob("*.jpg"))) == material.GOLDEN_PICTURES
        assert (folder / "acceptance" / "acceptance.json").is_file()
