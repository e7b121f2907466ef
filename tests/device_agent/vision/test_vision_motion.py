"""The motion gate by day, by night, in flicker and in stillness."""

import cv2
import numpy as np
import pytest

from device_agent.vision.motion import GateSettings, MotionGate, brightness_of
from device_agent.vision.types import Frame
from models.rendered.scenes import Scene


def frame(picture, index, *, luma=None, fps=10.0):
    return Frame("yard", index, index / fps, 0.0, picture, luma)


def play(gate, pictures, *, active=False, fps=10.0):
    return [gate.step(frame(picture, index, fps=fps), active_track=active) for index, picture in enumerate(pictures)]


def noisy(draw, count, *boxes, seed=1, gain=1.0, sigma=5.0):
    noise = np.random.default_rng(seed)
    still = draw.picture(*boxes).astype(np.float32)
    return [np.clip(still * gain + noise.normal(0, sigma, still.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_a_still_yard_with_a_noisy_sensor_stays_shut_but_for_the_keep_alive(draw):
    """Ten seconds of nothing: the first frame is looked at, then one every two seconds, and the reason says why."""
    results = play(MotionGate(GateSettings(keep_alive_s=2.0)), noisy(draw, 100))
    assert results[0].reason == "startup"
    assert {result.reason for result in results[1:]} == {"still", "keep_alive"}
    assert sum(result.open for result in results) == 5
    assert not any(result.moved for result in results)


def test_a_walker_opens_it_by_day_and_by_night(draw):
    """A drawn walker by day and at a third of the light."""
    for gain in (1.0, 0.35):
        gate = MotionGate()
        play(gate, noisy(draw, 20, gain=gain))
        walk = [noisy(draw, 1, (50 + 6 * t, 90, 75 + 6 * t, 150), seed=t, gain=gain)[0] for t in range(20)]
        results = [gate.step(frame(picture, 20 + t), active_track=False) for t, picture in enumerate(walk)]
        assert all(result.moved for result in results), gain


@pytest.mark.parametrize("factor", [0.7, 1.35])
def test_a_cloud_or_a_lamp_does_not_open_it(draw, factor):
    """The light changes within one frame, for all pixels: no motion, and after it everything is as before."""
    gate = MotionGate(GateSettings(keep_alive_s=60))
    play(gate, noisy(draw, 20))
    results = [gate.step(frame(picture, 20 + t), active_track=False) for t, picture in enumerate(noisy(draw, 30, gain=factor))]
    assert not any(result.moved for result in results)


def test_a_slow_dawn_never_opens_it(draw):
    """From night to day within ten seconds."""
    gate = MotionGate(GateSettings(keep_alive_s=60))
    pictures = [noisy(draw, 1, seed=t, gain=0.4 + 0.006 * t)[0] for t in range(100)]
    assert not any(result.moved for result in play(gate, pictures))


def test_somebody_who_stands_still_is_not_starved(draw):
    """A visitor waits at the counter: motion ends, but his track keeps the gate open."""
    gate = MotionGate()
    results = play(gate, noisy(draw, 60, (50, 90, 75, 150)), active=True)
    assert all(result.open for result in results)
    assert {result.reason for result in results[1:]} == {"track"}


def test_the_luma_plane_of_a_sensor_gives_the_same_answer(draw):
    """Where the camera delivers a grey plane, colours are never touched."""
    colour, grey = MotionGate(), MotionGate()
    pictures = noisy(draw, 20) + [noisy(draw, 1, (50 + 8 * t, 90, 75 + 8 * t, 150), seed=t)[0] for t in range(10)]
    for index, picture in enumerate(pictures):
        plane = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        one = colour.step(frame(picture, index), active_track=False)
        two = grey.step(frame(np.zeros((1, 1, 3), np.uint8), index, luma=plane), active_track=False)
        assert one.moved == two.moved
        assert abs(one.brightness - two.brightness) < 12


@pytest.mark.parametrize("light", ["day", "dusk", "night"])
def test_the_drawn_yards_open_it_when_somebody_is_there(light):
    """Two yards with shake and noise: with people in the picture the gate opens."""
    there, opened = 0, 0
    for seed in (3, 11):
        scene, gate = Scene(seed, light=light), MotionGate(GateSettings(keep_alive_s=60))
        for t in range(100):
            drawn = scene.frame(t / 10)
            result = gate.step(frame(drawn.picture_bgr, t), active_track=False)
            if drawn.truth:
                there, opened = there + 1, opened + result.moved
    assert opened >= 0.8 * there, (opened, there)
    assert there > 50


def test_brightness_has_three_words():
    """What the trial of a new model asks apart."""
    assert [brightness_of(value) for value in (30, 95, 180)] == ["dark", "dim", "bright"]
