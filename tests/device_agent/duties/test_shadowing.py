"""The shadow beside the pipeline: a thread of its own, a real model where it matters, a board with nothing to spare."""

import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fakes"))
from blob_model import open_model

from device_agent.duties.shadowing import Shadowing, ShadowSettings
from device_agent.duties.turn import Stop
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Answer, DetectorError
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.motion import GateSettings
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.privacy import Privacy
from device_agent.vision.shadow_candidate import Candidate
from device_agent.vision.types import Frame
from models.card import load_card
from models.inference.errors import ModelError
from models.inference.types import Detections
from ota.wire.codec import decode, encode
from ota.wire.heartbeat import Heartbeat, HostHealth

DEADLINE_S = 60.0
CARD = """
name = "blob"
task = "detect"
licence = "Apache-2.0"
labels = ["person"]
[input]
width_px = 64
height_px = 64
[output]
decoder = "ssd_postprocess"
"""


class Clock:
    """Steady seconds that a test moves."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class Scripted:
    """A candidate that answers from a list of boxes, waits where it is told to, and remembers what it was shown."""

    def __init__(self, boxes=(), fails=None):
        self.card = load_card(CARD)
        self.boxes, self.fails = boxes, fails
        self.shown, self.closed = [], False
        self.gate = threading.Event()
        self.gate.set()

    def look(self, picture_bgr):
        self.shown.append(picture_bgr)
        assert self.gate.wait(DEADLINE_S)
        if self.fails:
            raise DetectorError(self.fails, "as told")
        count = len(self.boxes)
        return Answer(Detections.of(list(self.boxes), [0.9] * count, [0] * count), self.card, 12.0)

    def close(self):
        self.closed = True


class Rig:
    """A shadowing duty in its own thread, with everything around it in the test's hand."""

    def __init__(self, detector, **settings):
        self.clock, self.host = Clock(), HostHealth()
        self.detector, self.stop = detector, Stop()
        self.wanted = Candidate("c1", "yard@3", lambda: self.detector)
        asked = ShadowSettings(**({"every_n": 1, "wait_s": 0.02} | settings))
        self.duty = Shadowing(lambda: self.wanted, asked, lambda: self.host, self.clock)
        self.progress = 0
        self.thread = threading.Thread(target=self.duty.run, args=(self.stop, self._moved), daemon=True)
        self.thread.start()

    def _moved(self):
        self.progress += 1

    def until(self, what):
        end_s = time.monotonic() + DEADLINE_S
        while not what():
            assert time.monotonic() < end_s, "it did not come to pass"
            time.sleep(0.005)

    def round(self):
        """Two whole rounds of the loop: whatever was to be noticed is noticed."""
        before = self.progress
        self.until(lambda: self.progress >= before + 2)

    def health(self):
        return self.duty.health()

    def end(self):
        self.stop.set()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()


@pytest.fixture
def rigs():
    made = []

    def make(detector, **settings):
        made.append(Rig(detector, **settings))
        made[-1].until(lambda: made[-1].health() is not None)
        return made[-1]

    yield make
    for rig in made:
        rig.end()


class Seeing:
    """The current model: finds the red walker's box as it is told."""

    def __init__(self, *boxes):
        self.card, self.boxes = load_card(CARD), boxes

    def look(self, picture_bgr):
        count = len(self.boxes)
        return Answer(Detections.of(list(self.boxes), [0.8] * count, [0] * count), self.card, 1.0)


def pipeline(rig, current, disagreed=None, cutter=None):
    watcher = rig.duty.watcher("gate", cutter or Cutter(), disagreed)
    return Pipeline(PipelineSettings("gate", gate=GateSettings(enabled=False)), current, lambda: "id", watchers=[watcher])


def frame(number, size=(240, 320)):
    return Frame("gate", number, number / 10, 1e9, np.full((*size, 3), 90, np.uint8))


def test_disagreements_are_counted_told_and_fit_the_wire(rigs):
    """The candidate finds a person that the current model misses: counted by size, told to the trigger, sent in the heartbeat."""
    rig = rigs(Scripted([(10, 10, 50, 200), (250, 100, 270, 120)]))
    told = []
    running = pipeline(rig, Seeing((12, 11, 51, 201)), told.append)
    for number in range(3):
        running.step(frame(number))
        rig.until(lambda number=number: rig.health().frames == number + 1)
        rig.clock.now_s += 1.0
    running.step(frame(9))
    health = rig.health()
    assert (health.release, health.state, health.reason, health.invoke_ms) == ("yard@3", "running", "", 12.0)
    assert [(p.label, p.size, p.both, p.only_current, p.only_candidate) for p in health.pairs] == [
        ("person", "large", 3, 0, 0), ("person", "small", 0, 0, 3),
    ]  # fmt: skip
    assert [(one.detail, one.label, one.box) for one in told] == [("missed", "person", (250.0, 100.0, 270.0, 120.0))] * 3
    beat = Heartbeat(sequence=1, boot_id="b", at_s=1, uptime_s=1, window_s=1, state="idle", shadow=health)
    assert decode(Heartbeat, encode(beat)).shadow == health


def test_a_real_candidate_runs_on_a_film_without_changing_what_is_seen(tmp_path, rigs):
    """The same walk with and without a shadow: the same events; the shadow finds blue things and disagrees."""
    (tmp_path / "card.toml").write_text(CARD)
    for colour in ("red", "blue"):
        (tmp_path / f"{colour}.blob").write_text(f"BLOB {colour}")
    specs = [read_spec(tmp_path / f"{colour}.blob", tmp_path / "card.toml", 1, None) for colour in ("red", "blue")]
    red, blue = (InProcessDetector(spec, open_model) for spec in specs)
    rig = rigs(blue)

    def walk(running, wait):
        updates = []
        for number in range(20):
            picture = np.full((240, 320, 3), 100, np.uint8)
            cv2.rectangle(picture, (20 + 5 * number, 80), (60 + 5 * number, 200), (20, 20, 220), -1)
            updates += running.step(Frame("gate", number, number / 10, 1e9, picture)).events
            if wait:
                rig.clock.now_s += 1.0
                rig.until(lambda number=number: rig.health().frames == number + 1)
        return [(u.kind, u.event.start_frame, u.event.end_frame, u.event.best_frame) for u in updates + running.finish()]

    plain = Pipeline(PipelineSettings("gate", gate=GateSettings(enabled=False)), red, lambda: "id")
    assert walk(pipeline(rig, red), True) == walk(plain, False)
    (pair,) = rig.health().pairs
    assert (pair.both, pair.only_current >= 18, pair.only_candidate) == (0, True, 0)
    red.close()


def test_a_slow_candidate_holds_nobody_up(rigs):
    """The candidate hangs in its look: the camera goes on at once, what had a turn meanwhile is counted as skipped."""
    slow = Scripted()
    slow.gate.clear()
    rig = rigs(slow)
    running = pipeline(rig, Seeing())
    running.step(frame(0))
    rig.until(lambda: slow.shown)
    for number in range(1, 30):
        running.step(frame(number))
    assert rig.health().skipped["busy"] >= 28
    slow.gate.set()
    rig.until(lambda: rig.health().frames >= 1)
    assert running.counts().dropped == {}


def test_every_nth_frame_and_never_more_than_its_share(rigs):
    """Every fifth frame has a turn; each look costs a second at 10 % of a core: then nothing for ten seconds."""
    costly = Scripted()
    rig = rigs(costly, every_n=5, max_core_share=0.1)
    look = costly.look

    def second(picture):
        rig.clock.now_s += 1.0
        return look(picture)

    costly.look = second
    running = pipeline(rig, Seeing())
    for number in range(4):
        running.step(frame(number))
    assert not costly.shown
    running.step(frame(4))
    rig.until(lambda: rig.health().frames == 1)
    for number in range(5, 45):
        running.step(frame(number))
    assert rig.health().skipped == {"cost": 8}
    rig.clock.now_s += 20.0
    for number in range(45, 50):
        running.step(frame(number))
    rig.until(lambda: rig.health().frames == 2)
    assert rig.health().core_share <= 0.1


def test_the_frame_is_copied_before_the_camera_takes_its_buffer_back(rigs):
    """The camera writes the next frame into the same memory while the candidate waits: it sees what it was given."""
    slow = Scripted()
    slow.gate.clear()
    rig = rigs(slow)
    running = pipeline(rig, Seeing())
    shown = frame(0)
    running.step(shown)
    rig.until(lambda: slow.shown)
    shown.picture_bgr[:] = 255
    slow.gate.set()
    assert (slow.shown[0] == 90).all()


def test_a_hot_board_pauses_it_and_short_memory_unloads_it(rigs):
    """80 °C: no look, the model stays. 60 MiB free: the model goes. Cool and roomy again: it comes back, its counts go on."""
    rig = rigs(Scripted())
    running = pipeline(rig, Seeing())
    running.step(frame(0))
    rig.until(lambda: rig.health().frames == 1)
    first = rig.detector
    rig.host = HostHealth(cpu_temp_c=80.0)
    rig.clock.now_s += 10.0
    rig.until(lambda: rig.health().state == "paused")
    running.step(frame(1))
    assert rig.health().skipped == {"hot": 1}
    assert rig.health().reason.startswith("hot: 80 °C")
    assert not first.closed
    rig.host = HostHealth(cpu_temp_c=50.0, memory_available_bytes=60 * 2**20)
    rig.clock.now_s += 10.0
    rig.until(lambda: first.closed)
    assert rig.health().reason.startswith("memory: 60 MiB")
    rig.detector = Scripted()
    rig.host = HostHealth(cpu_temp_c=50.0, memory_available_bytes=600 * 2**20)
    rig.clock.now_s += 200.0
    rig.until(lambda: rig.health().state == "running")
    running.step(frame(2))
    rig.until(lambda: rig.health().frames == 2)
    assert len(rig.detector.shown) == 1


def test_a_candidate_that_dies_costs_its_own_frames_alone(rigs):
    """Every look of the candidate fails: counted by reason, the current model's frames are all answered."""
    rig = rigs(Scripted(fails="died"))
    running = pipeline(rig, Seeing((10, 10, 50, 200)))
    results = []
    for number in range(4):
        results.append(running.step(frame(number)))
        rig.clock.now_s += 5.0
        rig.until(lambda number=number: rig.health().skipped.get("died", 0) == number + 1)
    assert all(result.dropped is None and len(result.detections) == 1 for result in results)
    assert rig.health().frames == 0


def test_another_candidate_begins_anew_and_none_ends_it(rigs):
    """The assignment names another shadow: the old model is closed, the counts begin at 0. Then none: nothing is said of one."""
    rig = rigs(Scripted())
    running = pipeline(rig, Seeing())
    running.step(frame(0))
    rig.until(lambda: rig.health().frames == 1)
    old, new = rig.detector, Scripted()
    rig.wanted = Candidate("c2", "yard@4", lambda: new)
    rig.until(lambda: rig.health() is not None and rig.health().release == "yard@4")
    assert old.closed
    assert rig.health().frames == 0
    rig.wanted = None
    rig.until(lambda: new.closed and rig.health() is None)
    running.step(frame(1))


def test_a_candidate_that_does_not_load_says_why_and_is_tried_again_later(rigs):
    """A file that is no model: failed, with the reason; ten minutes later it is tried again."""
    tries = []

    def refuse():
        tries.append(1)
        raise ModelError("not_a_model", "not a TFLite model")

    rig = rigs(Scripted())
    rig.wanted = Candidate("bad", "yard@9", refuse)
    rig.until(lambda: rig.health() is not None and rig.health().state == "failed")
    assert rig.health().reason == "not_a_model: not a TFLite model"
    rig.round()
    assert len(tries) == 1
    pipeline(rig, Seeing()).step(frame(0))
    assert rig.health().skipped == {}
    rig.clock.now_s += 700.0
    rig.until(lambda: len(tries) == 2)


def test_what_lies_in_a_mask_is_nobodys_disagreement(rigs):
    """The candidate finds somebody behind the black mask, where the current model may not look: that is not told."""
    rig = rigs(Scripted([(10, 10, 50, 200)]))
    told = []
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    running = pipeline(rig, Seeing(), told.append, Cutter(Privacy(masks=(left,))))
    running.step(frame(0))
    rig.until(lambda: rig.health().frames == 1)
    running.step(frame(1))
    assert told == []
    assert rig.health().pairs == []


def test_it_ends_with_the_agent(rigs):
    """Stopped in the middle: the thread ends and the model is closed."""
    rig = rigs(Scripted())
    rig.until(lambda: rig.duty._detector is not None)
    rig.end()
    assert rig.detector.closed


def test_the_server_may_lower_its_share_and_not_raise_it(rigs):
    """The board spares 10 %. The server asks for 50 %: still 10. For 0: no further look, from now on. Takes it back: on again."""
    rig = rigs(Scripted(), max_core_share=0.1)
    running = pipeline(rig, Seeing())
    rig.duty.use(0.5)
    assert rig.duty._duty.share == 0.1
    rig.duty.use(0.0)
    running.step(frame(0))
    assert rig.health().skipped == {"cost": 1}
    rig.duty.use(None)
    running.step(frame(1))
    rig.until(lambda: rig.health().frames == 1)
