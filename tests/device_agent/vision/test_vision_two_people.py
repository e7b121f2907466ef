"""Two people close after each other are two visits; one who was lost on his way is one."""

import itertools

import pytest

from device_agent.vision.rules import Moment, RuleSettings
from device_agent.vision.types import Track
from device_agent.vision.zone_rules import ZoneRules

FPS = 10.0
BODY = (60.0, 140.0)
"""Width and height, px: body size 100."""


def visits(*walks):
    """Starts (s) of the visits of tracks on walks (from_s, until_s, x px at from_s, px a second), feet at 400 of 640x480 px."""
    numbers = itertools.count(1)
    rules = ZoneRules((), lambda: f"v{next(numbers)}", RuleSettings())
    found = []
    for index in range(120):
        at_s, tracks = index / FPS, []
        for number, (from_s, until_s, x, pace) in enumerate(walks, start=1):
            centre = x + pace * (at_s - from_s)
            if from_s <= at_s < until_s:
                box = (max(0.0, centre - BODY[0] / 2), 260.0, min(640.0, centre + BODY[0] / 2), 260.0 + BODY[1])
                sure = at_s - from_s >= 0.2
                tracks.append(Track(number, box, 0.9, 0, "person", sure, True, 5, round(from_s * FPS), from_s, index, at_s))
        found += [visit.entered.at_s for visit in rules.step(tracks, Moment(index, at_s, at_s, 640, 480)).started]
    return found


def test_one_leaves_over_the_rim_and_another_comes_out_of_the_door_beside_it():
    """0.8 s later and a body and a half away from where the first went out: nobody turns round unseen so fast."""
    assert visits((1.0, 3.7, 350.0, 100.0), (4.5, 8.0, 480.0, -100.0)) == [1.0, 4.5]


def test_one_walks_off_to_the_right_and_another_appears_behind_him():
    """Behind where he was last seen, a body away: whoever goes right is not found further left."""
    assert visits((1.0, 3.0, 200.0, 100.0), (4.0, 8.0, 290.0, 100.0)) == [1.0, 4.0]


@pytest.mark.parametrize("gap_s", [0.3, 1.0, 1.5])
def test_who_passes_behind_a_pillar_is_one(gap_s):
    """Lost on his way and found further along it: one visit."""
    assert visits((1.0, 3.0, 200.0, 100.0), (3.0 + gap_s, 8.0, 400 + 100 * gap_s, 50.0)) == [1.0]


@pytest.mark.parametrize("shift_px", [-40.0, 0.0, 40.0])
def test_who_stood_there_and_is_found_again_beside_his_place_is_one(shift_px):
    """He stood, no way of his is known: near is near on every side."""
    assert visits((1.0, 5.0, 300.0, 0.0), (6.0, 9.0, 300.0 + shift_px, 0.0)) == [1.0]


def test_who_leans_over_the_rim_and_back_is_one():
    """Out at the right rim and in again at the same place."""
    assert visits((1.0, 4.0, 340.0, 100.0), (4.8, 8.0, 635.0, -100.0)) == [1.0]
