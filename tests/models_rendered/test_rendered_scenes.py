"""The drawn yard keeps to SCENES.md: same seed, same picture; truth inside the picture; sizes and occlusion as specified."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.coco_set_disk import read_coco_set
from models.rendered import films, scenes
from models.rendered.dataset_disk import DatasetError, light_of, seed_range, write_dataset
from models.rendered.film_disk import FilmError, main, write_film


@pytest.fixture(scope="module")
def drawn() -> list[scenes.Rendered]:
    return [scenes.sample(seed, light=light_of(seed)) for seed in range(910_000, 910_200)]


def test_same_seed_same_picture():
    """A figure published for a seed must be measurable again by whoever draws that seed."""
    first, again, other = scenes.sample(42), scenes.sample(42), scenes.sample(43)
    assert np.array_equal(first.picture_bgr, again.picture_bgr)
    assert first.truth == again.truth
    assert not np.array_equal(first.picture_bgr, other.picture_bgr)


def test_frames_do_not_depend_on_what_was_asked_before():
    """A camera that joins late, or skips frames, sees the same film."""
    straight = scenes.Scene(5, light="cycle")
    for index in range(30):
        last = straight.frame(index / 10)
    fresh = scenes.Scene(5, light="cycle").frame(2.9)
    assert np.array_equal(last.picture_bgr, fresh.picture_bgr)
    assert last.truth == fresh.truth


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), t_s=st.floats(0, 100), light=st.sampled_from(["day", "dusk", "night", "cycle"]))
def test_truth_lies_inside_the_picture(seed: int, t_s: float, light: scenes.LightChoice):
    """A box that leaves the picture would teach a detector to invent what nobody can see."""
    rendered = scenes.Scene(seed, light=light).frame(t_s)
    assert rendered.picture_bgr.shape == (240, 320, 3)
    assert rendered.picture_bgr.dtype == np.uint8
    for item in rendered.truth:
        x1, y1, x2, y2 = item.box_px
        assert 0 <= x1 < x2 <= 320
        assert 0 <= y1 < y2 <= 240
        assert 0 <= item.occlusion <= scenes.HIDDEN_FROM
        assert item.label in scenes.LABELS


def test_sizes_and_occlusion_are_as_specified(drawn: list[scenes.Rendered]):
    """The figures only mean something while the scenes are as hard as SCENES.md says."""
    truth = [item for rendered in drawn for item in rendered.truth]
    side = [max(item.box_px[2] - item.box_px[0], item.box_px[3] - item.box_px[1]) for item in truth]
    assert 24 <= np.median(side) <= 64
    assert 0.20 <= np.mean([item.occlusion >= scenes.OCCLUDED_FROM for item in truth]) <= 0.32
    assert sum(not rendered.truth for rendered in drawn) >= 4
    assert all(sum(item.label == label for item in truth) > 60 for label in scenes.LABELS)


def test_night_is_darker_than_dusk_than_day(drawn: list[scenes.Rendered]):
    """What a model that is blind on dark frames is told apart by."""
    mean = {light: np.mean([r.picture_bgr.mean() for r in drawn if r.light == light]) for light in ("day", "dusk", "night")}
    assert mean["night"] < 0.75 * mean["dusk"] < 0.75 * mean["day"]


def test_every_seed_of_a_cycling_film_has_visits_by_day_and_by_night():
    """The demo counts visits and judges a release by day and by night within one film of 20 s."""
    for seed in range(12):
        stays = {0: 0.0, 1: 0.0}
        scene = scenes.Scene(seed, light="cycle")
        for act in (0, 1):
            for part in films.act_parts(seed, act):
                if part.stay_s > 0 and films.ZONE_X_PX[0] <= part.x_px[1] <= films.ZONE_X_PX[1]:
                    stays[act] = max(stays[act], part.stay_s)
            assert all(part.gone_s < films.ACT_S for part in films.act_parts(seed, act))
        assert min(stays.values()) >= 1.5
        assert (scene.darkness(5.0), scene.darkness(15.0), scene.darkness(25.0)) == (0.0, 1.0, 0.0)
        assert films.on_stage(seed, 0.2) == []
        assert films.on_stage(seed, 9.9) == []


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_film_can_be_written_and_read_back(tmp_path: Path, suffix: str):
    """The demo draws its film when it is needed, with nothing but the locked packages."""
    out = tmp_path / f"yard{suffix}"
    truth = json.loads(write_film(out, 3, 6.0, light="day").read_text())
    reader = cv2.VideoCapture(str(out))
    count = 0
    while True:
        more, picture = reader.read()
        if not more:
            break
        if count == 40:
            drawn = scenes.Scene(3, light="day").frame(4.0).picture_bgr
            assert np.abs(picture.astype(int) - drawn).mean() < 12
        count += 1
    assert count == len(truth["frames"]) == 60
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert any(visit["label"] == "person" and visit["end_s"] - visit["start_s"] >= 1 for visit in truth["visits"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, f"{out.name}.truth.json"]


def test_a_film_that_cannot_be_written_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A wrong ending, an impossible length, a folder that is a file: one sentence each, and no half film."""
    with pytest.raises(FilmError, match=r"\.mp4 or \.avi"):
        write_film(tmp_path / "yard.mkv", 1, 1)
    with pytest.raises(FilmError, match="lasts"):
        write_film(tmp_path / "yard.mp4", 1, -1)
    (tmp_path / "file").write_text("in the way")
    assert main(["--out", str(tmp_path / "file" / "yard.mp4"), "--seconds", "1"]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_set_is_whole_or_not_there(tmp_path: Path):
    """A set with half of its pictures would be scored as if it were whole."""
    write_dataset(tmp_path / "set", range(910_000, 910_006))
    read = read_coco_set(tmp_path / "set")
    assert [picture.split for picture in read.pictures] == ["day", "dusk", "night"] * 2
    assert set(read.categories) == set(scenes.LABELS)
    with pytest.raises(DatasetError, match="not an empty folder"):
        write_dataset(tmp_path / "set", range(3))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("text", ["", "5", "9:3", "a:b", "-1:4"])
def test_seeds_that_are_no_range_are_refused(text: str):
    """A set of the wrong seeds could be one that a model was trained on."""
    with pytest.raises(Exception, match="FIRST:END"):
        seed_range(text)
