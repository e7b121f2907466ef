"""Black, frozen, covered, out of focus: noticed; night, fog, a still room, lights out and people before the lens: not."""

import cv2
import numpy as np
import pytest

from device_agent.vision.picture_health import HealthSettings, PictureHealth
from device_agent.vision.types import Frame
from models.rendered.scenes import Scene

QUICK = HealthSettings(learn_s=15.0)
"""As the default, with a shorter history, so that films need not be long."""


def frame(picture, at_s):
    return Frame("yard", round(at_s), at_s, 0.0, picture)


def states_of(pictures, settings=QUICK, *, start_s=0.0, health=None):
    """(state, second) of each change, for one picture a second."""
    health = health or PictureHealth(settings)
    changes = []
    for second, picture in enumerate(pictures):
        state = health.saw(frame(picture, start_s + second))
        if not changes or changes[-1][0] != state:
            changes.append((state, second))
    return changes


def yard(light, seconds, seed=5):
    """A rendered yard, one picture a second, with its people, its shake and its noise."""
    scene = Scene(seed, light=light)
    return [scene.frame(float(second)).picture_bgr for second in range(seconds)]


GRAIN = np.random.default_rng(11).normal(0, 1, (340, 420, 3)).astype(np.float32)


def noisy(picture, sigma=3.0, seed=0):
    """What a sensor makes of it: a window of a field of noise, another one each time."""
    down, across = np.random.default_rng(seed).integers(0, 100, 2)
    height, width = picture.shape[:2]
    grain = GRAIN[down : down + height, across : across + width] * np.float32(sigma)
    return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def day():
    return yard("day", 50)


@pytest.fixture(scope="module")
def night():
    return yard("night", 50)


def only(state, changes):
    """Whether it was fine at first, then this and nothing else."""
    return [word for word, _ in changes] == ["ok", state]


@pytest.mark.parametrize(("light", "seed", "seconds"), [("day", 3, 40), ("dusk", 9, 40), ("night", 3, 40), ("cycle", 9, 60)])
def test_a_yard_by_day_at_dusk_and_by_night_is_not_broken(light, seed, seconds):
    """People, carts, a swaying camera, and the light that comes and goes: not one false word."""
    assert states_of(yard(light, seconds, seed)) == [("ok", 0)]


@pytest.mark.assets
@pytest.mark.parametrize("film", ["one-by-one-person-detection", "bottle-detection"])
def test_real_films_are_not_broken_until_they_are(assets, film):
    """People who fill the picture, bottles on a plain table: fine. The same film out of focus is noticed."""
    capture = cv2.VideoCapture(str(assets / "videos" / f"{film}.mp4"))
    step, pictures = round(capture.get(cv2.CAP_PROP_FPS)), []
    while len(pictures) < 39 and capture.grab():
        if int(capture.get(cv2.CAP_PROP_POS_FRAMES)) % step == 0:
            pictures.append(capture.retrieve()[1])
    capture.release()
    assert states_of(pictures) == [("ok", 0)]
    half = len(pictures) // 2
    soft = [cv2.GaussianBlur(picture, (0, 0), 6) for picture in pictures[:half]]
    assert only("blurred", states_of(pictures[:half] + soft))


def test_a_cap_on_the_lens_is_black_from_the_first_frame_and_after_hours(day):
    """Nothing but noise: black after three seconds, and fine again soon after the cap is off."""
    cap = [noisy(np.full_like(day[0], 2), 1.5, seed=second) for second in range(10)]
    assert states_of(cap) == [("ok", 0), ("black", 3)]
    changes = states_of(day[:30] + cap + day[30:50])
    assert [word for word, _ in changes] == ["ok", "black", "ok"]
    assert changes[1][1] == 33
    assert changes[2][1] <= 45
    video_black = [noisy(np.full_like(day[0], 16), 1.5, seed=second) for second in range(10)]
    assert states_of(video_black)[-1][0] == "black"


def test_the_darkest_night_with_a_lamp_in_it_is_not_black(night):
    """Six times darker than a rendered night: only the lamps are left, and that is what a night looks like."""
    dark = [noisy(picture * 0.16 + 3, 2.0, seed=second) for second, picture in enumerate(night)]
    assert float(np.mean(dark[0])) < 26
    assert states_of(dark) == [("ok", 0)]


def test_lights_out_is_not_a_fault(day):
    """The shop closes: within a second there is an eighth of the light. Texture is contrast over brightness, and stays."""
    out = [noisy(picture * 0.12 + 2, 3.0, seed=second) for second, picture in enumerate(day)]
    assert states_of(day + out + day) == [("ok", 0)]


def test_a_hand_and_a_bag_over_the_lens_are_covered(day, night):
    """All of it, by day and by night, and three quarters of it: covered, until it is taken away."""
    for pictures in (day, night):
        tone = np.linspace(0.5, 1.0, 320)[None, :, None] * np.array((60, 70, 120)) * pictures[0].mean() / 130
        hand = [noisy(np.broadcast_to(tone, pictures[0].shape), seed=second) for second in range(20)]
        changes = states_of(pictures[:40] + hand + pictures[40:50])
        assert [word for word, _ in changes] == ["ok", "covered", "ok"]
        assert 43 <= changes[1][1] <= 47
        assert changes[2][1] <= 66
    bag = [picture.copy() for picture in day[40:50]]
    for second, picture in enumerate(bag):
        picture[:, :240] = noisy(np.full_like(picture[:, :240], 100), seed=second)
    assert only("covered", states_of(day[:40] + bag))


def test_somebody_before_the_lens_for_a_moment_is_no_fault(day):
    """A person in a plain coat fills the picture for three seconds."""
    coat = [noisy(np.full_like(day[0], 70), seed=second) for second in range(4)]
    assert states_of(day[:40] + coat + day[40:50]) == [("ok", 0)]


def test_a_lens_that_was_taped_over_before_the_start_is_noticed():
    """There is no history to compare with; but there is nothing at all to be seen, and it is not dark."""
    tape = [noisy(np.full((240, 320, 3), 120, np.uint8), 0.6, seed=second) for second in range(12)]
    assert states_of(tape)[-1][0] == "covered"


def test_fog_comes_and_goes(day):
    """Within 40 s nine tenths of the contrast are gone, and come back: through fog the same yard shows, however faintly."""
    def foggy(picture, share, seed):
        return noisy(picture * (1 - share) + 190 * share, seed=seed)

    coming = [foggy(day[second], 0.9 * second / 40, second) for second in range(40)]
    thick = [foggy(picture, 0.9, second) for second, picture in enumerate(day[:30])]
    assert states_of(day[:30] + coming + thick + coming[::-1]) == [("ok", 0)]


def test_out_of_focus_is_noticed_by_day_and_by_night_and_ends(day, night):
    """Somebody bumped into the camera, and set it right later."""
    for pictures in (day, night):
        soft = [noisy(cv2.GaussianBlur(picture, (0, 0), 4), seed=second) for second, picture in enumerate(pictures[:30])]
        changes = states_of(pictures[:30] + soft + pictures[30:50])
        assert [word for word, _ in changes] == ["ok", "blurred", "ok"]
        assert 44 <= changes[1][1] <= 58


def test_a_still_room_is_neither_frozen_nor_anything_else():
    """Nothing moves for minutes; but a sensor's noise never repeats."""
    room = cv2.GaussianBlur(np.random.default_rng(4).integers(0, 255, (240, 320, 3), np.uint8), (0, 0), 3)
    settings = HealthSettings(noisy=True, learn_s=15.0)
    assert states_of([noisy(room, 1.0, seed=second) for second in range(120)], settings) == [("ok", 0)]


def test_the_same_picture_again_and_again_is_frozen_where_a_sensor_makes_it(day):
    """The camera hangs and sends its last picture for ever: frozen after a while, and at once fine with the next new one."""
    settings = HealthSettings(noisy=True, learn_s=15.0, frozen_s=20.0)
    changes = states_of(day[:20] + [day[20]] * 40 + day[21:30], settings)
    assert [word for word, _ in changes] == ["ok", "frozen", "ok"]
    assert changes[1][1] in (40, 41)
    assert changes[2][1] == 60
    assert states_of([day[0]] * 70, HealthSettings(noisy=True))[-1] == ("frozen", 61)
    assert [word for word, _ in states_of([day[0]] * 70)] == ["ok"], "a film or a drawn scene may repeat itself"


def test_an_outage_counts_for_nothing(day):
    """A camera that was away for an hour and is opened again: no seconds are added up over the gap, and the history stays."""
    settings = HealthSettings(noisy=True, learn_s=15.0)
    health = PictureHealth(settings)
    assert states_of(day[:30], settings, health=health) == [("ok", 0)]
    health.reopened()
    assert states_of([day[29]] * 5, settings, start_s=4000.0, health=health) == [("ok", 0)]
    hand = [noisy(np.full_like(day[0], 70), seed=second) for second in range(10)]
    assert states_of(hand, settings, start_s=4005.0, health=health)[-1][0] == "covered"


def test_only_one_look_a_second_is_taken_and_the_luma_plane_is_enough(day):
    """At 30 frames a second, 29 of 30 cost nothing; a luma plane of another size is looked at in place of the picture."""
    health = PictureHealth(QUICK)
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError("looked at between two looks")

    luma = cv2.cvtColor(day[0], cv2.COLOR_BGR2GRAY)
    for number in range(90):
        at_s = number / 30
        due = abs(at_s - round(at_s)) < 1e-9
        picture = Untouchable()
        health.saw(Frame("yard", number, at_s, 0.0, picture, luma if due else picture))
    assert health.state == "ok"


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (8, 400), (480, 20), (1080, 1920)])
def test_any_size_of_picture_is_judged(size):
    """A strip, a postage stamp, full HD: an answer, not an error."""
    rng = np.random.default_rng(1)
    changes = states_of([rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(5)])
    assert changes[0] == ("ok", 0)
    assert {state for state, _ in changes} <= {"ok", "black", "frozen", "covered", "blurred"}
