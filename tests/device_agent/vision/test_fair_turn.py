"""Several cameras on one detector: shares, staleness, and nobody who waits for the dead."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.vision.detector import Answer, DetectorError
from device_agent.vision.fair_turn import KEPT_S, FairTurn, Turns
from models.card import ModelCard
from models.inference.types import Detections

PICTURE = np.zeros((4, 4, 3), np.uint8)


def simulate(cameras, invoke_s, duration_s, weights=None):
    """Virtual time: each camera makes a frame every period and keeps the latest. Looks of each, and the longest wait."""
    turns = Turns()
    for name in cameras:
        turns.join(name, (weights or {}).get(name, 1.0))
    looked, asked_s, longest_s = dict.fromkeys(cameras, 0), {}, dict.fromkeys(cameras, 0.0)
    due_s, ready = dict.fromkeys(cameras, 0.0), set()
    now_s, free_s, serving = 0.0, 0.0, None

    def serve():
        nonlocal serving, free_s
        if serving is None and (name := turns.next(now_s)) is not None:
            serving = name
            longest_s[name] = max(longest_s[name], now_s - asked_s.pop(name))
            free_s = now_s + cost_s(name)

    def cost_s(name):
        return invoke_s[name] if isinstance(invoke_s, dict) else invoke_s

    while now_s < duration_s:
        for name, fps in cameras.items():
            while due_s[name] <= now_s:
                due_s[name] += 1.0 / fps
                if name == serving:
                    ready.add(name)
                elif name not in asked_s:
                    turns.ask(name)
                    asked_s[name] = now_s
        if serving is not None and now_s >= free_s:
            through, serving = serving, None
            turns.done(through, cost_s(through), now_s + KEPT_S if through in ready else None)
            looked[through] += 1
            serve()  # the others hear of it before this camera is back
            if through in ready:
                ready.remove(through)
                turns.ask(through)
                asked_s[through] = now_s
        serve()
        now_s = min([*due_s.values(), free_s if serving is not None else float("inf")])
    return looked, longest_s


def test_a_fast_camera_does_not_starve_a_slow_one():
    """30 frames a second beside 5, a detector that makes 12: the slow camera gets all of its 5, the fast one what is left."""
    looked, longest_s = simulate({"fast": 30.0, "slow": 5.0}, 1 / 12, 100.0)
    assert looked["slow"] == pytest.approx(500, abs=5)
    assert looked["fast"] == pytest.approx(700, abs=10)
    assert longest_s["slow"] < 2 / 12


def test_cameras_that_want_more_than_there_is_get_the_same_share():
    """Four cameras at 30, 30, 15 and 1 frames a second, 10 looks a second: the last gets its 1, the others 3 each."""
    looked, _ = simulate({"a": 30.0, "b": 30.0, "c": 15.0, "d": 1.0}, 0.1, 100.0)
    assert looked["d"] == pytest.approx(100, abs=3)
    assert [looked[name] for name in "abc"] == pytest.approx([300] * 3, abs=5)


def test_a_camera_that_costs_more_gets_fewer_looks_of_the_same_time():
    """One camera is cut into tiles and takes four times as long: shares are shares of the detector's time."""
    looked, _ = simulate({"tiled": 30.0, "plain": 30.0}, {"tiled": 0.2, "plain": 0.05}, 100.0)
    assert looked["tiled"] * 0.2 == pytest.approx(50, abs=1)
    assert looked["plain"] * 0.05 == pytest.approx(50, abs=1)


def test_weights_are_shares():
    """The door counts three times as much as the yard."""
    looked, _ = simulate({"door": 30.0, "yard": 30.0}, 0.1, 100.0, {"door": 3.0, "yard": 1.0})
    assert looked["door"] / looked["yard"] == pytest.approx(3.0, abs=0.1)


def test_who_was_away_has_no_claim_for_it():
    """A camera comes back after an hour: it shares from now on, and does not take the detector for an hour."""
    turns = Turns()
    turns.join("always")
    turns.join("back")
    for _ in range(36_000):
        turns.ask("always")
        assert turns.next(0.0) == "always"
        turns.done("always", 0.1)
    order = []
    for name in ("always", "back"):
        turns.ask(name)
    for _ in range(40):
        order.append(turns.next(0.0))
        turns.done(order[-1], 0.1)
        turns.ask(order[-1])
    assert order.count("back") == pytest.approx(20, abs=1)


def test_a_turn_is_kept_for_a_moment_and_not_for_a_dead_camera():
    """A camera dropped its stale frame: its newer one goes first; if it never comes, the others go on."""
    turns = Turns()
    for name in ("a", "b"):
        turns.join(name)
        turns.ask(name)
    assert turns.next(0.0) == "a"
    turns.keep("a", 0.1)
    assert turns.next(0.05) is None, "b waits, and the turn is kept"
    turns.ask("a")
    assert turns.next(0.06) == "a"
    turns.keep("a", 0.2)
    assert turns.next(0.2) == "b", "it never came"
    turns.done("b", 0.1)
    turns.ask("b")
    turns.ask("a")
    assert turns.next(0.3) == "a"
    turns.keep("a", 0.5)
    assert turns.give_up("a")
    assert not turns.give_up("a")
    assert turns.next(0.3) == "b"


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(weight):
    """weight = 0 would wait for ever."""
    with pytest.raises(ValueError, match="weight"):
        Turns().join("a", weight)


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.floats(0.2, 5.0), min_size=2, max_size=5),
    costs=st.lists(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=7), min_size=5, max_size=5),
    steps=st.integers(50, 200),
)
def test_whoever_always_asks_gets_a_share_by_weight(weights, costs, steps):
    """Whatever looks cost: for any two cameras that always wait, time over weight differs by no more than one look of each."""
    turns = Turns()
    names = [f"c{number}" for number in range(len(weights))]
    used = dict.fromkeys(names, 0.0)
    count = dict.fromkeys(names, 0)
    for name, weight in zip(names, weights, strict=True):
        turns.join(name, weight)
        turns.ask(name)
    for _ in range(steps):
        name = turns.next(0.0)
        mine = costs[names.index(name)]
        cost = mine[count[name] % len(mine)]
        used[name] += cost
        count[name] += 1
        turns.done(name, cost)
        turns.ask(name)
    most = [max(mine) / weight for mine, weight in zip(costs, weights, strict=False)]
    share = [used[name] / weight for name, weight in zip(names, weights, strict=True)]
    for a in range(len(names)):
        for b in range(a):
            assert abs(share[a] - share[b]) <= most[a] + most[b] + 1e-6


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", "serve"]), min_size=10, max_size=200))
def test_nobody_waits_for_more_than_two_looks_of_each_other(script):
    """Cameras that come and go as they like, looks that cost the same: whoever asks is served after at most two of each other."""
    turns, overtaken = Turns(), {}
    for name in "abcd":
        turns.join(name)
    for word in [*script, *["serve"] * 4]:
        if word != "serve":
            if word not in overtaken:
                turns.ask(word)
                overtaken[word] = dict.fromkeys("abcd", 0)
            continue
        served = turns.next(0.0)
        assert (served is None) == (not overtaken), "a detector that idles while somebody waits"
        if served is not None:
            del overtaken[served]
            turns.done(served, 0.1)
            for counts in overtaken.values():
                counts[served] += 1
                assert counts[served] <= 2
    assert not overtaken


class Slow:
    """A detector that answers when it is told to, and says whose picture it has."""

    def __init__(self):
        self.asked, self.go, self.order, self.busy = threading.Semaphore(0), threading.Semaphore(0), [], 0
        self.card = ModelCard.__new__(ModelCard)
        self.restarts, self.runtime, self.accelerator, self.accelerator_reason, self.last_error = 3, "r", "cpu", "", "e"
        self.switched, self.error = None, None

    def look(self, picture_bgr):
        self.busy += 1
        assert self.busy == 1, "one at a time"
        self.order.append(int(picture_bgr[0, 0, 0]))
        self.asked.release()
        assert self.go.acquire(timeout=60)
        self.busy -= 1
        if self.error is not None:
            raise self.error
        return Answer(Detections.__new__(Detections), self.card, 1.0)

    def switch(self, model_path, card_path, **rest):
        self.switched = (model_path, card_path, rest)

    def close(self):
        raise AssertionError("a seat does not own the detector")


def picture(number):
    return np.full((4, 4, 3), number, np.uint8)


def in_thread(call, *arguments):
    """Run it beside; returns the thread and what it gave or raised."""
    result = []

    def run():
        try:
            result.append(call(*arguments))
        except DetectorError as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result


def waits(turns, name):
    """Until this camera waits for its turn."""
    with turns._changed:
        assert turns._changed.wait_for(lambda: turns._turns._places[name].waiting is not None, 60)


def test_threads_take_turns_and_an_error_passes_the_turn_on():
    """Three cameras in their own threads: one look at a time, in order; a look that fails holds nobody up."""
    detector = Slow()
    turns = FairTurn(detector, lambda: 0.0)
    seats = [turns.seat(name) for name in "abc"]
    first, first_result = in_thread(seats[0].look, picture(0))
    assert detector.asked.acquire(timeout=60)
    others = []
    for number in (1, 2):
        others.append(in_thread(seats[number].look, picture(number)))
        waits(turns, "abc"[number])
    detector.error = DetectorError("died", "the child ended")
    detector.go.release()
    first.join(60)
    assert first_result[0].reason == "died"
    assert detector.asked.acquire(timeout=60)
    detector.error = None
    detector.go.release(2)
    for thread, result in others:
        thread.join(60)
        assert isinstance(result[0], Answer)
    assert detector.order == [0, 1, 2]


def test_a_live_camera_whose_turn_comes_late_drops_the_old_frame_and_goes_next():
    """While one camera was looked at, another's frame grew old: it is dropped, and its newer frame is before the third's."""
    detector = Slow()
    turns = FairTurn(detector, lambda: 0.0)
    busy, live, third = (turns.seat(name) for name in ("busy", "live", "third"))
    newer = [True]
    live.follow(lambda: newer[0])
    first, _ = in_thread(busy.look, picture(0))
    assert detector.asked.acquire(timeout=60)
    stale, stale_result = in_thread(live.look, picture(1))
    waits(turns, "live")
    other, _ = in_thread(third.look, picture(3))
    waits(turns, "third")
    detector.go.release()
    first.join(60)
    stale.join(60)
    assert stale_result[0].reason == "stale"
    assert detector.order == [0], "nobody is looked at while the turn is kept"
    live.passed()
    again, again_result = in_thread(live.look, picture(2))
    assert detector.asked.acquire(timeout=60)
    assert detector.order == [0, 2], "never two stale ones in a row: this one is looked at although a newer one is ready"
    detector.go.release(2)
    again.join(60)
    assert isinstance(again_result[0], Answer)
    other.join(60)
    assert detector.order == [0, 2, 3]


def test_a_kept_turn_that_nobody_takes_goes_to_the_others():
    """The newer frame has nothing to look at (`passed`), or the camera was just pulled out (the moment is over)."""
    for passed in (True, False):
        detector, now = Slow(), [0.0]
        turns = FairTurn(detector, lambda now=now: now[0])
        live, other = turns.seat("live"), turns.seat("other")
        live.follow(lambda: True)
        with pytest.raises(DetectorError) as raised:
            live.look(picture(1))
        assert raised.value.reason == "stale"
        detector.go.release()
        thread, result = in_thread(other.look, picture(2))
        if passed:
            waits(turns, "other")
            live.passed()  # the stale frame itself
            live.passed()  # the newer one, which asked for nothing
        else:
            now[0] = KEPT_S + 0.01
        thread.join(60)
        assert isinstance(result[0], Answer)
        assert detector.order == [2]


def test_a_frame_that_is_looked_at_in_tiles_is_dropped_whole_or_not_at_all():
    """Four looks make one frame: a newer one that comes after the first of them does not throw the other three away."""
    detector, newer = Slow(), [False]
    seat = FairTurn(detector, lambda: 0.0).seat("live")
    seat.follow(lambda: newer[0])
    detector.go.release(20)
    seat.look(picture(1))
    newer[0] = True
    for number in (2, 3, 4):
        seat.look(picture(number))
    seat.passed()
    with pytest.raises(DetectorError) as raised:
        seat.look(picture(5))
    assert raised.value.reason == "stale"
    seat.passed()
    for number in (6, 7, 8, 9):
        seat.look(picture(number))
    assert detector.order == [1, 2, 3, 4, 6, 7, 8, 9]


def test_a_recorded_camera_waits_and_loses_nothing():
    """A film is lossless: however late its turn is, each frame is looked at."""
    detector = Slow()
    turns = FairTurn(detector, lambda: 0.0)
    film, live = turns.seat("film"), turns.seat("live")
    detector.go.release(40)
    busy, _ = in_thread(lambda: [live.look(picture(200)) for _ in range(20)])
    answers = [film.look(picture(number)) for number in range(20)]
    busy.join(60)
    assert len(answers) == 20
    assert [number for number in detector.order if number < 200] == list(range(20))


def test_a_seat_is_a_detector():
    """Whoever holds a seat sees the shared detector; a switch goes through to it, and closing a seat closes nothing."""
    detector = Slow()
    seat = FairTurn(detector, lambda: 0.0).seat("a")
    assert seat.card is detector.card
    told = (seat.restarts, seat.runtime, seat.accelerator, seat.accelerator_reason, seat.last_error)
    assert told == (3, "r", "cpu", "", "e")
    seat.switch(Path("m"), Path("c"), threads=2)
    assert detector.switched == (Path("m"), Path("c"), {"threads": 2, "delegate_library": None, "fallback": None})
    seat.close()
    turns = FairTurn(detector, lambda: 0.0)
    turns.seat("a")
    with pytest.raises(ValueError, match="two cameras"):
        turns.seat("a")
