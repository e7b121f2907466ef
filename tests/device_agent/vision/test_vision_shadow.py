"""Two models on the same frames: what counts as the same object, what is told of the rest, and what a second look may cost."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from device_agent.vision.shadow import (
    OTHER,
    BoardLimits,
    Compared,
    DutyCycle,
    Found,
    ShadowTally,
    compare,
    hold_back,
    reported,
    scaled,
)
from models.card import load_card
from models.inference.types import Detections

CARD = load_card(
    """
name = "yard"
task = "detect"
licence = "Apache-2.0"
labels = ["person", "n/a", "cart"]
[input]
width_px = 64
height_px = 64
[output]
decoder = "ssd_postprocess"
[thresholds]
score = 0.5
[thresholds.per_class]
cart = 0.8
"""
)


def found(*boxes):
    """Boxes as (label, left, top, right, bottom)."""
    xyxy = np.array([box[1:] for box in boxes], np.float32).reshape(-1, 4)
    return Found(xyxy, tuple(box[0] for box in boxes), tuple(0.9 for _ in boxes))


def test_each_object_is_paired_once_and_the_rest_is_told():
    """A person both see, one only the current sees, a small one only the candidate sees, one seen as a cart, one moved."""
    current = found(
        ("person", 100, 100, 160, 260), ("person", 300, 0, 360, 100), ("cart", 400, 300, 500, 400), ("person", 0, 300, 60, 460)
    )
    candidate = found(
        ("person", 104, 98, 163, 262), ("person", 600, 10, 620, 60), ("person", 402, 300, 500, 402), ("person", 0, 380, 60, 480)
    )
    seen = compare(current, candidate, 640, 480)
    assert seen.both == [("person", "large")]
    assert sorted(seen.only_current) == [("cart", "medium"), ("person", "large"), ("person", "medium")]
    assert sorted(seen.only_candidate) == [("person", "medium"), ("person", "medium"), ("person", "small")]
    told = {(one.detail, one.label): one.box for one in seen.disagreements}
    assert set(told) == {("extra", "person"), ("missed", "person"), ("class", "person"), ("moved", "person")}
    assert told["missed", "person"] == (600.0, 10.0, 620.0, 60.0)
    assert told["class", "person"] == (402.0, 300.0, 500.0, 402.0)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (0, 3), (3, 0)])
def test_empty_frames(one, other):
    """Nothing on one side or on both: no pair, and no fault of shapes."""
    boxes = [("person", 10 * n, 0, 10 * n + 9, 9) for n in range(3)]
    seen = compare(found(*boxes[:one]), found(*boxes[:other]), 100, 100)
    assert (len(seen.both), len(seen.only_current), len(seen.only_candidate)) == (0, one, other)
    assert [each.detail for each in seen.disagreements] == ["extra"] * one + ["missed"] * other


boxes_of = st.lists(
    st.tuples(
        st.sampled_from(["person", "cart"]), st.integers(0, 80), st.integers(0, 80), st.integers(1, 40), st.integers(1, 40)
    ).map(lambda b: (b[0], b[1], b[2], b[1] + b[3], b[2] + b[4])),
    max_size=8,
)


@hypothesis_settings(deadline=None, max_examples=150)
@given(boxes_of, boxes_of)
def test_nothing_is_lost_and_nothing_counted_twice(one, other):
    """Whatever two models say: each box is paired or alone, once; a model compared with itself agrees with itself."""
    seen = compare(found(*one), found(*other), 120, 120)
    assert len(seen.both) + len(seen.only_current) == len(one)
    assert len(seen.both) + len(seen.only_candidate) == len(other)
    assert max(len(seen.only_current), len(seen.only_candidate)) <= len(seen.disagreements)
    assert len(seen.disagreements) <= len(seen.only_current) + len(seen.only_candidate)
    same = compare(found(*one), found(*one), 120, 120)
    assert (len(same.both), same.disagreements) == (len(one), [])


def test_only_what_a_card_reports_is_compared():
    """Weak boxes, unused labels, unknown classes, boxes without area or numbers: none of them is a disagreement."""
    boxes = [[0, 0, 10, 10]] * 5 + [[5, 5, 5, 9], [0, 0, float("nan"), 4]]
    made = Detections.of(boxes, [0.6, 0.4, 0.9, 0.7, 0.9, 0.9, 0.9], [0, 0, 1, 2, 9, 0, 0])
    seen = reported(made, CARD)
    assert (seen.labels, len(seen.xyxy)) == (("person",), 1)
    assert reported(Detections.empty(), CARD).labels == ()


def test_boxes_are_compared_in_pixels_of_the_source():
    """The candidate saw a picture a quarter as large: its boxes are four times as large in the source."""
    small = Detections.of([[10, 20, 30, 40]], [0.9], [0])
    assert scaled(small, 4.0, 4.0).xyxy.tolist() == [[40.0, 80.0, 120.0, 160.0]]
    assert scaled(small, 1.0, 1.0) is small


def test_the_tally_counts_by_label_and_size_and_stays_bounded():
    """Two frames; then a hostile model invents a label for every box: memory stays bounded, the sum stays right."""
    tally = ShadowTally()
    tally.add(Compared([("person", "small")], [("person", "small")], [], []))
    tally.add(Compared([("person", "small")], [], [("cart", "large")], []))
    assert tally.frames == 2
    first, second = tally.pairs()
    assert dataclasses.astuple(first) == ("person", "small", 2, 1, 0)
    assert dataclasses.astuple(second) == ("cart", "large", 0, 0, 1)
    for number in range(2000):
        tally.add(Compared([], [], [(f"label {number}", "small")], []))
    pairs = tally.pairs()
    assert len(pairs) <= 601
    assert sum(pair.only_candidate for pair in pairs) == 2001
    assert pairs[0].label == OTHER


@hypothesis_settings(deadline=None, max_examples=100)
@given(
    st.floats(0.01, 0.5),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 2.0)), min_size=1, max_size=60),
)
def test_the_second_model_never_costs_more_than_its_share(share, steps):
    """Any frame times, any costs: up to any moment it has cost at most its share of the time and its dearest look more."""
    duty = DutyCycle(share, 0.0)
    now_s = spent_s = 0.0
    dearest_s = 0.0
    for gap_s, cost_s in steps:
        now_s += gap_s
        if duty.due(now_s):
            now_s += cost_s
            spent_s += cost_s
            dearest_s = max(dearest_s, cost_s)
            duty.spent(cost_s, now_s)
        assert spent_s <= share * now_s + dearest_s + 1e-9
    if now_s > 0.01:
        assert duty.core_share(now_s) == pytest.approx(spent_s / now_s)


def test_the_share_is_also_reached():
    """A look of 50 ms, a share of 10 %, frames at 15 a second for a minute: about two looks a second, not one a minute."""
    duty, looks = DutyCycle(0.1, 0.0), 0
    for number in range(900):
        if duty.due(number / 15):
            looks += 1
            duty.spent(0.05, number / 15)
    assert 100 <= looks <= 121


def test_no_share_no_look():
    """0 turns it off."""
    assert not any(DutyCycle(0.0, 0.0).due(float(second)) for second in range(100))


def test_a_pause_is_not_made_up_for():
    """A night without motion, then a busy minute: no burst that would cost the current model its rate."""
    duty = DutyCycle(0.1, 0.0)
    duty.due(36_000.0)
    looks = 0
    for number in range(15):
        if duty.due(36_000.0 + number / 15):
            looks += 1
            duty.spent(0.05, 36_000.0 + number / 15)
    assert looks <= 6


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"temp_c": 80.0}, "hot"),
        ({"temp_c": 74.0}, ""),
        ({"temp_c": 74.0, "held": True}, "hot"),
        ({"temp_c": 71.0, "held": True}, ""),
        ({"memory_bytes": 100 * 2**20}, "memory"),
        ({"memory_bytes": 200 * 2**20}, ""),
        ({"throttled": 0b100}, "throttled"),
        ({"throttled": 0b1000}, "throttled"),
        ({"throttled": 0x50005 & 0xF0001}, ""),
        ({}, ""),
    ],
)
def test_when_the_board_has_nothing_to_spare(state, code):
    """Hot, short of memory, slowed by the firmware now (not: once since boot): none; what is not known is no reason."""
    known = {"temp_c": None, "memory_bytes": None, "throttled": None} | state
    found_code, sentence = hold_back(BoardLimits(), **known)
    assert found_code == code
    assert sentence.startswith(code)
