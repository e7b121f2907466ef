"""The recall sample: who is drawn, how often, with which weight, and what is never sent."""

import itertools
import random
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Answer
from device_agent.vision.motion import GateResult
from device_agent.vision.privacy import Privacy
from device_agent.vision.recall import DAY_S, RecallSampler, RecallSettings
from device_agent.vision.rules import Moment
from device_agent.vision.scene import Scene
from device_agent.vision.types import Frame
from models.card import load_card
from models.inference.types import Detections

CARD = load_card(
    """
name = "yard"
task = "detect"
licence = "Apache-2.0"
labels = ["person"]
[input]
width_px = 64
height_px = 64
[output]
decoder = "ssd_postprocess"
"""
)
NOTHING = Detections.empty()
SOMEBODY = Detections.of([[1, 1, 9, 9]], [0.9], [0])
GREY = np.full((30, 40, 3), 90, np.uint8)


def scene(index, at_s, *, moved=True, reported=NOTHING, looked=True, picture=GREY):
    frame = Frame("gate", index, at_s, 1e9 + at_s, picture)
    gate = GateResult(True, "motion" if moved else "keep_alive", moved, 0.1, 90.0)
    answer = Answer(NOTHING, CARD, 1.0) if looked else None
    moment = Moment(index, at_s, 1e9 + at_s, 40, 30)
    return Scene(frame, gate, answer, reported if looked else None, [], moment, ())


def sampler(per_day=4, *, draw=None, cutter=None, **rest):
    ids = itertools.count(1)
    settings = RecallSettings(per_day, **{key: rest.pop(key) for key in ("max_bytes_per_day", "max_bytes") if key in rest})
    return RecallSampler(
        "gate", settings, cutter or Cutter(), lambda: f"s{next(ids)}", draw=draw or random.Random(1).random, **rest
    )


def events(sampler, scenes):
    return [update for one in scenes for update in sampler.saw(one)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_frame_of_a_slice_has_the_same_chance_exactly(count):
    """All 2^n courses that chance can take in a slice of n frames, each with its probability: each frame is sent in exactly 1/n.

    And the estimate is unbiased: whatever the frames hold, the sum over courses of probability x weight x content is their total.
    """
    chance = [Fraction(0)] * count
    estimate = Fraction(0)
    content = [3, 1, 4, 1, 5, 9, 2][:count]
    for course in itertools.product((True, False), repeat=count):
        probability = Fraction(1)
        draws = []
        for number, taken in enumerate(course, start=1):
            share = Fraction(1, number)
            probability *= share if taken else 1 - share
            draws.append(float(share) * 0.999 if taken else float(share) * 1.001)
        if not probability:
            continue
        one = sampler(1, draw=iter(draws).__next__)
        scenes = [scene(number, 10.0 * number) for number in range(count)]
        (update,) = events(one, [*scenes, scene(99, DAY_S + 5.0, moved=False)])
        assert update.event.weight == count
        chance[update.event.best_frame] += probability
        estimate += probability * int(update.event.weight) * content[update.event.best_frame]
    assert chance == [Fraction(1, count)] * count
    assert estimate == sum(content)


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 7200), st.booleans(), st.booleans(), st.booleans()), max_size=80), st.integers(0, 12))
def test_every_candidate_of_a_closed_slice_is_stood_for_once(steps, per_day):
    """Any day: weights of what was sent add up to the candidates of the slices that are over; never more than one a slice."""
    one = sampler(per_day)
    at_s, since_s, waiting, closed, sent = 0, 0.0, 0, 0, []
    for index, (gap_s, moved, found, looked) in enumerate(steps):
        at_s += gap_s
        since_s += gap_s if index else 0
        sent += one.saw(scene(index, at_s, moved=moved, reported=SOMEBODY if found else NOTHING, looked=looked))
        if per_day and since_s >= DAY_S / per_day:
            since_s, closed, waiting = since_s % (DAY_S / per_day), closed + waiting, 0
        waiting += bool(per_day) and moved and looked and not found
    assert sum(update.event.weight for update in sent) == closed
    assert len(sent) <= at_s / DAY_S * per_day


def test_a_sample_is_an_event_of_its_own_kind_with_the_whole_picture():
    """A 1080p frame on which nothing was found: one event `sample`, label `none`, one crop of the whole, at most 640 px."""
    picture = np.random.default_rng(2).integers(0, 255, (1080, 1920, 3), np.uint8)
    scenes = [scene(number, number * 60.0, picture=picture) for number in range(3)]
    (update,) = events(sampler(4), [*scenes, scene(9, DAY_S / 4, moved=False)])
    event = update.event
    assert (update.kind, event.open, event.revision) == ("end", False, 0)
    assert (event.rule_kind, event.label, event.rule, event.zone, event.weight) == ("sample", "none", "recall", None, 3.0)
    assert event.box == (0.0, 0.0, 1920.0, 1080.0)
    assert event.threshold == CARD.thresholds.lowest
    (crop,) = event.crops
    assert crop.kind == "first"
    assert crop.cut == (0, 0, 1920, 1080)
    assert max(crop.width_px, crop.height_px) <= 640
    assert len(crop.jpeg) <= RecallSettings().max_bytes
    assert cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), 1).shape == (crop.height_px, crop.width_px, 3)


@pytest.mark.parametrize(
    "change", [{"moved": False}, {"reported": SOMEBODY}, {"looked": False}], ids=["still", "found", "not looked at"]
)
def test_what_is_no_candidate(change):
    """A still frame, one with a detection, one that nobody looked at: none of them is ever sent."""
    scenes = [scene(number, number * 60.0, **change) for number in range(20)]
    assert not events(sampler(24), [*scenes, scene(99, DAY_S, moved=False)])


def test_nothing_is_sent_unless_it_was_asked_for():
    """The default: no frame of nothing leaves this board, whatever moves."""
    assert RecallSettings().per_day == 0
    scenes = [scene(number, number * 600.0) for number in range(400)]
    assert not events(sampler(RecallSettings().per_day), scenes)


def test_a_camera_that_reconnects_all_day_sends_no_more_than_its_share():
    """A cable that works loose every minute, each source counting from 0 again: at most k samples for a day of frames."""
    one = sampler(6)
    sent = []
    for _ in range(1440):
        sent += events(one, [scene(number, number * 20.0) for number in range(4)])
        sent += one.finish()
    assert 5 <= len(sent) <= 6
    assert all(update.event.weight > 500 for update in sent)


def test_the_days_bytes_are_bounded():
    """Noise that does not compress, 20 samples, 200 kB a day: each is made to fit its share, the day stays within its budget."""
    picture = np.random.default_rng(4).integers(0, 255, (480, 640, 3), np.uint8)
    scenes = [scene(number, number * 1000.0, picture=picture) for number in range(90)]
    sent = events(sampler(20, max_bytes_per_day=200_000), scenes)
    assert len(sent) == 20
    assert sum(len(update.event.crops[0].jpeg) for update in sent) <= 200_000


def test_a_budget_that_nothing_fits_into_is_counted():
    """A budget of 1 kB for 20 samples a day: nothing is sent, and the reason is counted."""
    refused = []
    picture = np.random.default_rng(4).integers(0, 255, (480, 640, 3), np.uint8)
    scenes = [scene(number, number * 1000.0, picture=picture) for number in range(20)]
    assert not events(sampler(20, max_bytes_per_day=1000, refused=refused.append), scenes)
    assert set(refused) == {"recall_budget"}


def test_a_drawn_frame_that_cannot_be_shown_is_not_replaced_by_one_that_can():
    """Two candidates, the second is drawn and cannot be blurred: nothing is sent, not the first in its place."""

    class Once(Cutter):
        def cut(self, frame, cut, longest_side_px, quality):
            return super().cut(frame, cut, longest_side_px, quality) if frame.index == 0 else None

    scenes = [scene(0, 0.0), scene(1, 60.0), scene(9, DAY_S, moved=False)]
    assert not events(sampler(1, draw=lambda: 0.0, cutter=Once()), scenes)
    assert len(events(sampler(1, draw=iter([0.0, 0.9]).__next__, cutter=Once()), scenes)) == 1


def test_where_privacy_cannot_be_kept_nothing_is_sent():
    """Persons are to be blurred and the model knows no persons: no sample leaves, and no older one stands in."""
    cutter = Cutter(Privacy(blur=frozenset({"face"})))
    assert not events(sampler(4, cutter=cutter), [scene(number, number * 600.0) for number in range(100)])


def test_the_number_changes_between_two_frames():
    """The server's configuration asks for more, then for none: it holds from the next frame on."""
    one = sampler(0)
    assert not events(one, [scene(number, number * 3600.0) for number in range(30)])
    one.use(RecallSettings(24))
    assert len(events(one, [scene(number, number * 1800.0) for number in range(30, 50)])) >= 8
    one.use(RecallSettings(0))
    assert not events(one, [scene(number, number * 3600.0) for number in range(50, 80)])
