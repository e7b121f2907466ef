"""The trial's judge: blind by night, good by day, too little seen, the link gone; and that it seldom wrongs an honest model."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.update.health import (
    ALPHA,
    BRIGHTNESS,
    Before,
    HealthWindow,
    Seen,
    Trial,
    TrialLimits,
    add_window,
    evidence_of_loss,
    judge,
    lower_bound,
)
from device_agent.update.history import MEMORY_FRAMES, History, remember

LIMITS = TrialLimits()
BEFORE = Before({"bright": Seen(600, 480), "dark": Seen(400, 300)}, fps=10.0, camera_fps=15.0, latency_ms=20.0)


def trial(*, seconds: float = 100.0, fps: float = 10.0, camera_fps: float = 15.0, latency_ms: float = 20.0, crashes: int = 0,
          link: bool = True, link_worse: bool = False, **light: tuple[float, float]) -> Trial:  # fmt: skip
    seen = {word: Seen(*counts) for word, counts in light.items()}
    return Trial(seconds, seen, fps, camera_fps, latency_ms, crashes, link, link_worse, rate_s=seconds)


def test_good_by_day_and_by_night_passes() -> None:
    verdict = judge(trial(bright=(60, 46), dark=(60, 44)), BEFORE, LIMITS, 100)
    assert verdict.outcome == "pass"
    assert verdict.figures["trial_gated_frames"] == 120


def test_good_by_day_alone_is_not_enough_where_nights_are_known() -> None:
    verdict = judge(trial(bright=(500, 400)), BEFORE, LIMITS, 100)
    assert (verdict.outcome, "dark" in verdict.reason) == ("unknown", True)


def test_blind_by_night_fails_however_good_it_is_by_day() -> None:
    verdict = judge(trial(bright=(5000, 4400), dark=(80, 1)), BEFORE, LIMITS, 100)
    assert (verdict.outcome, verdict.code) == ("fail", "detection_rate")


def test_a_little_worse_is_not_blind() -> None:
    assert judge(trial(bright=(300, 180), dark=(300, 160)), BEFORE, LIMITS, 100).outcome == "pass"


def test_a_class_that_the_history_hardly_knows_is_not_judged() -> None:
    before = Before({"bright": Seen(600, 480), "dark": Seen(20, 15)})
    assert judge(trial(bright=(60, 50), dark=(60, 0)), before, LIMITS, 100).outcome == "pass"


def test_a_new_board_without_history_passes_on_frames_alone() -> None:
    assert judge(trial(bright=(60, 5)), Before(), LIMITS, 100).outcome == "pass"


def test_a_rare_subject_is_not_waved_through_before_it_is_certain() -> None:
    """One gated frame in eight shows something: fifty empty ones prove nothing yet, three hundred do."""
    before = Before({"bright": Seen(2000, 250)})
    assert judge(trial(bright=(50, 0)), before, LIMITS, 100).outcome == "unknown"
    assert judge(trial(bright=(600, 0)), before, LIMITS, 100).outcome == "fail"
    assert judge(trial(bright=(250, 0)), before, LIMITS, LIMITS.deadline_s).code == "detection_rate"


def test_too_little_seen_until_the_end_is_unseen() -> None:
    assert judge(trial(bright=(3, 2)), BEFORE, LIMITS, LIMITS.deadline_s - 1).outcome == "unknown"
    assert judge(trial(bright=(3, 2)), BEFORE, LIMITS, LIMITS.deadline_s).outcome == "unseen"


def test_a_lost_link_is_waited_for_and_fails_only_if_the_network_got_worse() -> None:
    limits = TrialLimits(deadline_s=600.0)
    seen = {"bright": (60.0, 50.0), "dark": (60.0, 45.0)}
    assert judge(trial(link=False, **seen), BEFORE, limits, 7200).outcome == "unknown"
    assert judge(trial(link=False, **seen), BEFORE, limits, 86400).outcome == "unseen"
    assert judge(trial(link=False, link_worse=True, **seen), BEFORE, limits, 86400).outcome == "fail"
    assert judge(trial(link=True, **seen), BEFORE, limits, 7200).outcome == "pass"


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ({"crashes": 3}, "crashes"),
        ({"latency_ms": 90.0}, "latency"),
        ({"fps": 5.0}, "frame_rate"),
    ],
)
def test_crashes_latency_and_frame_rate_fail(seen: dict, code: str) -> None:
    verdict = judge(trial(bright=(60, 50), dark=(60, 50), **seen), BEFORE, LIMITS, 100)
    assert (verdict.outcome, verdict.code) == ("fail", code)


def test_a_slow_camera_is_not_the_models_fault() -> None:
    assert judge(trial(bright=(60, 50), dark=(60, 50), fps=5.0, camera_fps=5.0), BEFORE, LIMITS, 100).outcome == "pass"


def test_a_configuration_that_changes_the_cameras_rates_is_not_the_models_fault() -> None:
    """While a model is on trial an operator gives one camera a rate of its own and switches the other off: no roll back for that.

    With the old rates asked for again, a model that is too slow is found as ever; so is one once the history knows the new rates.
    """
    def window(fps: float, asked: tuple[float, ...] | None) -> HealthWindow:
        light = {"bright": Seen(2, 2), "dark": Seen(2, 2)}
        return HealthWindow(2.0, light, fps=fps, camera_fps=12.0, latency_ms=20.0, asked=asked)

    history, usual, other = History(), (2.0, 10.0), (-1.0, 0.0)
    for _ in range(100):
        history = remember(history, window(12.0, usual))
    state = add_window(Trial(), window(9.0, None))
    for _ in range(60):
        state = add_window(state, window(5.0, other))
    assert judge(state, history.before(), LIMITS, 120).outcome == "pass"
    back = add_window(state, window(5.0, None))
    for number in range(60):
        assert judge(back, history.before(), LIMITS, 120).outcome == "pass" or number >= 30, "a minute at the old rates first"
        back = add_window(back, window(5.0, usual))
    assert judge(back, history.before(), LIMITS, 240).code == "frame_rate"
    for _ in range(60):
        history = remember(history, window(11.0, other))
    assert history.fps == pytest.approx(11.0), "nothing of the rates before"
    assert judge(state, history.before(), LIMITS, 120).code == "frame_rate"


def test_a_larger_model_within_its_signed_budget_passes() -> None:
    limits = TrialLimits(budget_ms=120.0)
    assert judge(trial(bright=(60, 50), dark=(60, 50), latency_ms=90.0), BEFORE, limits, 100).outcome == "pass"


def test_an_honest_model_is_seldom_wronged_however_often_one_looks() -> None:
    """400 models exactly at half of the history's rate, judged after every window: at most alpha (and chance) are rolled back."""
    rng = random.Random(7)
    before = Before({"bright": Seen(20000, 12000)})
    wronged = 0
    for _ in range(400):
        state = Trial()
        for _ in range(40):
            found = sum(rng.random() < 0.3 for _ in range(20))
            state = add_window(state, HealthWindow(2.0, {"bright": Seen(20, found)}))
            if judge(state, before, LIMITS, 10).outcome == "fail":
                wronged += 1
                break
    assert wronged <= 400 * ALPHA + 6


def test_a_blind_model_is_found_within_a_few_dozen_frames() -> None:
    rng = random.Random(7)
    for _ in range(50):
        state = Trial(light={"bright": Seen(100, 80)})
        for _ in range(12):
            found = sum(rng.random() < 0.03 for _ in range(10))
            state = add_window(state, HealthWindow(2.0, {"dark": Seen(10, found)}))
        assert judge(state, BEFORE, LIMITS, 10).code == "detection_rate"


@given(st.floats(0, 5000), st.floats(0, 1), st.floats(0.001, 0.999))
def test_evidence_is_finite_and_falls_with_every_detection(gated: float, share: float, rate: float) -> None:
    less = evidence_of_loss(Seen(gated, gated * share), rate)
    assert math.isfinite(less)
    assert evidence_of_loss(Seen(gated, gated), rate) <= less + 1e-9
    assert 0.0 <= lower_bound(Seen(gated, gated * share)) <= share + 1e-9


@given(st.lists(st.tuples(st.sampled_from(BRIGHTNESS), st.integers(0, 5000), st.floats(0, 1)), max_size=60))
def test_the_history_stays_bounded_and_is_a_rate(windows: list) -> None:
    history = History()
    for word, gated, share in windows:
        history = remember(history, HealthWindow(10.0, {word: Seen(gated, gated * share)}, fps=10.0))
    for gated, found in history.light.values():
        assert 0 <= found <= gated + 1e-6
        assert gated <= MEMORY_FRAMES * 1.3
    assert history.detection_share is None or 0 <= history.detection_share <= 1 + 1e-9


@given(st.data())
def test_past_its_end_a_trial_is_always_decided(data) -> None:
    light = {word: (gated := data.draw(st.integers(0, 300)), data.draw(st.integers(0, gated))) for word in BRIGHTNESS}
    link = data.draw(st.booleans())
    verdict = judge(trial(link=link, **light), BEFORE, LIMITS, 86400.0)
    assert verdict.outcome in ("pass", "fail", "unseen")
