"""Looking in parts: what a perfect model would see in each part must come together as what there is."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from device_agent.vision.detector import DetectorError, ModelSpec
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.tiles import TiledDetector, TileSettings, find_in_tiles, merge, tile_cuts
from models.card import load_card
from models.inference.types import Detections

SIZES = st.tuples(st.integers(8, 2000), st.integers(8, 1200))
GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4), st.floats(0, 0.5), st.booleans())


@given(SIZES, GRIDS)
@settings(max_examples=150, deadline=None)
def test_parts_cover_the_picture_and_lie_in_it(size, grid):
    """Every pixel is in a part, no part leaves the picture, neighbours overlap as asked."""
    width, height = size
    columns, rows, overlap, whole = grid
    cuts = tile_cuts(width, height, TileSettings(columns, rows, overlap, whole))
    assert len(cuts) <= columns * rows + 1
    seen = np.zeros((height, width), bool)
    parts = cuts[:-1] if whole and len(cuts) > 1 else cuts
    for left, top, right, bottom in parts:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen[top:bottom, left:right] = True
    assert seen.all()
    if whole:
        assert cuts[-1] == (0, 0, width, height)
    rows_of = sorted({(left, right) for left, _, right, _ in parts})
    for (_, right), (left, end) in itertools.pairwise(rows_of):
        assert right - left >= overlap * (end - left) - 2


@given(SIZES, GRIDS, st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_smaller_than_the_overlap_is_whole_in_one_part(size, grid, data):
    width, height = size
    columns, rows, overlap, _ = grid
    cuts = tile_cuts(width, height, TileSettings(columns, rows, overlap, whole=False))
    least_wide = min(right - left for left, _, right, _ in cuts) * overlap - 2 if len({cut[0] for cut in cuts}) > 1 else width
    least_high = min(bottom - top for _, top, _, bottom in cuts) * overlap - 2 if len({cut[1] for cut in cuts}) > 1 else height
    assume(least_wide >= 1 and least_high >= 1)
    x, y = data.draw(st.floats(0, width - least_wide)), data.draw(st.floats(0, height - least_high))
    box = (x, y, x + least_wide, y + least_high)
    assert any(left <= box[0] and top <= box[1] and right >= box[2] and bottom >= box[3] for left, top, right, bottom in cuts)


@st.composite
def crowds(draw):
    """Objects well apart from each other, small and large: one in some cells of a coarse grid."""
    cell = draw(st.integers(120, 300))
    columns, rows = draw(st.integers(2, 5)), draw(st.integers(2, 4))
    found = []
    for column in range(columns):
        for row in range(rows):
            if draw(st.booleans()):
                left, top = column * cell + draw(st.integers(0, cell // 3)), row * cell + draw(st.integers(0, cell // 3))
                width, height = draw(st.integers(20, cell // 2)), draw(st.integers(20, cell // 2))
                found.append(([left, top, left + width, top + height], draw(st.integers(0, 1)), draw(st.integers(50, 99)) / 100))
    return columns * cell, rows * cell, found


def perfect(cut, truth):
    """What a model that sees everything says of a part: each object as far as it lies in it, if there is enough of it."""
    left, top, right, bottom = cut
    boxes, scores, classes = [], [], []
    for (x1, y1, x2, y2), class_id, score in truth:
        shown = [max(x1, left) - left, max(y1, top) - top, min(x2, right) - left, min(y2, bottom) - top]
        if shown[2] - shown[0] >= 6 and shown[3] - shown[1] >= 6:
            share = (shown[2] - shown[0]) * (shown[3] - shown[1]) / ((x2 - x1) * (y2 - y1))
            boxes.append(shown)
            scores.append(score * (0.5 + share / 2))
            classes.append(class_id)
    best_first = np.argsort(-np.array(scores), kind="stable").tolist()
    return Detections.of(boxes, scores, classes)[best_first] if boxes else Detections.empty()


@given(crowds(), st.integers(1, 3), st.integers(1, 3), st.booleans())
@settings(max_examples=200, deadline=None)
def test_each_object_comes_out_once_and_undivided(crowd, columns, rows, whole):
    """Whatever the seams cut, in two or in four: as many boxes as objects, each where it is."""
    width, height, truth = crowd
    tiles = TileSettings(columns, rows, 0.25, whole)
    parts = [(cut, perfect(cut, truth)) for cut in tile_cuts(width, height, tiles)]
    found = merge(parts, width, height, tiles)
    assert len(found) == len(truth)
    for box, class_id, _ in truth:
        nearest = int(np.abs(found.xyxy - box).max(axis=1).argmin())
        assert np.abs(found.xyxy[nearest] - box).max() <= 7  # a sliver below six pixels is seen by nobody
        assert found.class_id[nearest] == class_id
    assert (np.diff(found.confidence) <= 0).all()


def test_two_classes_in_one_place_stay_two():
    """A person on a bicycle: the seam must not make one thing of them."""
    tiles = TileSettings(2, 1, 0.25)
    truth = [([180, 40, 230, 120], 0, 0.9), ([175, 60, 240, 130], 1, 0.8)]
    found = merge([(cut, perfect(cut, truth)) for cut in tile_cuts(400, 200, tiles)], 400, 200, tiles)
    assert sorted(found.class_id.tolist()) == [0, 1]


def test_half_a_body_at_a_seam_is_no_second_one():
    """The part beside says only the arm that reaches into it: that lies in the body, which the other part saw whole."""
    tiles = TileSettings(2, 1, 0.25, whole=False)
    (left, right) = tile_cuts(400, 200, tiles)
    body = Detections.of([[150, 20, 210, 180]], [0.8], [0])
    arm = Detections.of([[0, 60, 211 - right[0], 100]], [0.9], [0])
    found = merge([(left, body), (right, arm)], 400, 200, tiles)
    assert found.xyxy.tolist() == [[150, 20, 210, 180]]


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"columns": 5, "rows": 4}, {"overlap": 0.6}, {"overlap": -0.1}, {"same": 0}])
def test_settings_that_would_look_for_ever_or_not_at_all_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        TileSettings(**wrong)


def test_a_tiled_detector_is_a_detector(draw, blob):
    """The blob model behind seams: a walker that two seams cut is one box, and every look is counted and timed."""
    import blob_model

    spec = ModelSpec(blob[0], load_card(blob[1].read_text()))
    picture = draw.picture((140, 90, 190, 150), (20, 20, 50, 60))
    inner = InProcessDetector(spec, blob_model.open_model)
    once = inner.look(picture)
    tiled = TiledDetector(inner, TileSettings(2, 2))
    answer = tiled.look(picture)
    assert len(answer.detections) == 2
    assert np.abs(np.sort(answer.detections.xyxy, axis=0) - np.sort(once.detections.xyxy, axis=0)).max() <= 1
    assert tiled.looks == 5
    assert answer.invoke_ms > 0
    assert answer.card is inner.card is tiled.card
    assert (tiled.restarts, tiled.runtime, tiled.accelerator, tiled.accelerator_reason) == (0, "blob 1", "cpu", "")
    assert len(find_in_tiles(lambda part: inner.look(part).detections, picture, TileSettings(3, 2))) == 2
    tiled.close()
    with pytest.raises(DetectorError):
        tiled.look(picture)
