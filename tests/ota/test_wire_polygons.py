"""Shapes that people draw: which are refused, and that the verdict does not depend on how the same shape is written down."""

import math
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ota.wire.polygons import MAX_POINTS, area, line_faults, points_of, polygon_faults, self_crossing, without_repeats

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""

SQUARE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
BOW_TIE = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]


def ring(count, at=(0.5, 0.5), radius=0.4, wobble=0.0, seed=0):
    """A shape of `count` corners around a middle, each as far out as chance says: it cannot cross itself."""
    chance = random.Random(seed)
    corners = []
    for number in range(count):
        out = radius * (1 - wobble * chance.random())
        turn = 2 * math.pi * number / count
        corners.append([at[0] + out * math.cos(turn), at[1] + out * math.sin(turn)])
    return corners


@pytest.mark.parametrize(
    "points",
    [
        SQUARE,
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[0, 0], [1, 0], [1, 0.5], [0.5, 0.5], [0.5, 1], [0, 1]],
        [*SQUARE, SQUARE[0]],
        [SQUARE[0], SQUARE[0], *SQUARE[1:]],
        [[0, 0], [0.5, 0], [1, 0], [1, 1]],
        tuple((x, y) for x, y in SQUARE),
    ],
    ids=["square", "whole picture", "L", "closed", "double click", "corner on a side", "typed"],
)
def test_a_shape_that_people_draw_is_taken(points):
    """Also the ones that tools write: the first point once more at the end, a point clicked twice, a point along a side."""
    assert polygon_faults(points, "zone") == []


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (BOW_TIE, "crosses or touches itself"),
        ([[0.1, 0.1], [0.9, 0.1], [0.5, 0.1], [0.5, 0.9]], "crosses or touches itself"),
        ([[0, 0], [1, 0], [1, 1], [0.5, 0], [0, 1]], "crosses or touches itself"),
        ([[0, 0], [0.5, 0.5], [1, 1]], "crosses or touches itself|encloses nothing"),
        ([[0.5, 0.5], [0.5, 0.5], [0.6, 0.5]], "needs 3 points that differ"),
        ([[0.5, 0.5], [0.5004, 0.5], [0.5, 0.5004]], "encloses nothing"),
        ([[0, 0], [640, 0], [640, 480]], r"zone\[1\] must be a point \[x, y\] as fractions 0 to 1"),
        ([[0, 0], [-0.1, 0], [0.5, 0.5]], "fractions"),
        ([[0, 0], [float("nan"), 0], [0.5, 0.5]], "fractions"),
        ([[0, 0], [True, 0], [0.5, 0.5]], "fractions"),
        ([[0, 0], [0.5], [0.5, 0.5]], "fractions"),
        ([[0, 0], "ab", [0.5, 0.5]], "fractions"),
        ([[0, 0], [1, 1]], "3 to 200 points, not 2"),
        ([[0.5, 0.5]] * (MAX_POINTS + 1), "3 to 200 points, not 201"),
        ("square", "must be a list"),
        (None, "must be a list"),
        ({"x": 1}, "must be a list"),
    ],
)
def test_a_shape_that_cannot_be_a_zone_is_refused_in_words(points, says):
    """A bow tie, a spike, a corner on another side, no area, pixels, nonsense."""
    faults = polygon_faults(points, "zone")
    assert faults
    assert re.search(says, faults[0]), faults
    assert all(fault.startswith("zone") and len(fault) < 300 for fault in faults)


def test_two_hundred_points_in_pixels_give_a_handful_of_sentences():
    """A whole polygon in pixels is one mistake, not two hundred."""
    assert 1 < len(polygon_faults([[n, n] for n in range(2, 190)], "zone")) <= 5


@settings(BUSY)
@given(st.integers(3, 40), st.floats(0, 0.8), st.integers(0, 1000), st.integers(0, 39), st.booleans())
def test_a_shape_around_a_middle_never_crosses_and_may_be_written_in_any_way(count, wobble, seed, start, back):
    """The same corners from another one on, or the other way round: the same verdict, the same area."""
    corners = ring(count, wobble=wobble, seed=seed)
    turned = corners[start % count :] + corners[: start % count]
    if back:
        turned = turned[::-1]
    assert polygon_faults(corners, "z") == polygon_faults(turned, "z") == []
    assert abs(area(points_of(turned))) == pytest.approx(abs(area(points_of(corners))))


@settings(BUSY)
@given(st.integers(4, 30), st.integers(0, 1000), st.data())
def test_two_neighbours_swapped_in_a_ring_make_a_crossing(count, seed, data):
    """A person who clicks two corners of a round zone in the wrong order; wherever the list begins, it is seen."""
    corners = ring(count, seed=seed)
    at = data.draw(st.integers(0, count - 1))
    corners[at], corners[(at + 1) % count] = corners[(at + 1) % count], corners[at]
    start = data.draw(st.integers(0, count - 1))
    turned = corners[start:] + corners[:start]
    assert self_crossing(without_repeats(points_of(turned))) is not None


@settings(BUSY)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12), st.integers(0, 11))
def test_any_points_get_the_same_verdict_from_any_start(points, start):
    """No made-up shape raises an error, and where its list begins does not decide whether it crosses itself."""
    start %= len(points)
    one, other = without_repeats(points), without_repeats(points[start:] + points[:start])
    if len(one) == len(other) >= 3 and set(one) == set(other):
        assert (self_crossing(one) is None) == (self_crossing(other) is None)
    polygon_faults(points, "z")


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([[0.5, 0.5], [0.5, 0.5]], "no length"),
        ([[0.5, 0.5]], "exactly 2 points, not 1"),
        ([[0, 0], [0.5, 0.5], [1, 1]], "exactly 2 points, not 3"),
        ([[0, 0], [2, 0]], "fractions"),
        (7, "exactly 2 points"),
    ],
)
def test_a_line_needs_two_points_that_differ(points, says):
    """One click, three clicks, pixels."""
    (fault,) = line_faults(points, "line")
    assert says in fault
    assert line_faults([[0, 0.5], [1, 0.5]], "line") == []


def test_points_without_faults_become_floats():
    """What the judge let pass is what the rules get; what it did not is an error, never half a shape."""
    assert points_of([[0, 1], [1, 0.5]]) == ((0.0, 1.0), (1.0, 0.5))
    with pytest.raises(ValueError, match="fractions"):
        points_of([[0, 1], [1, 5]])
