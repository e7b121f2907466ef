"""Every row of the failure ladder with a real delegate in real child processes: the fake Edge TPU fails on order.

The CPU's model answers at once, the heartbeat says why, and the accelerator comes back when it gives the CPU's answers again.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from device_agent.vision.detector import DetectorError, ModelSpec
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings, TendingSettings
from device_agent.vision.ladder import RUNGS, SeenAccelerator
from models.card import load_card
from models.inference.errors import ModelError
from models.rendered.scenes import Scene

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fakes"))

import edgetpu_fake

YARD = Path(__file__).resolve().parents[3] / "models" / "rendered" / "releases" / "yard-2"
SLOW_MACHINE_S = 60.0
"""No deadline of a test is shorter where nothing is meant to hang: the machine may be very busy."""


def card():
    return load_card((YARD / "card.toml").read_text())


@pytest.fixture(scope="module")
def yard():
    """A picture of the yard with people and carts on it."""
    return Scene(1, light="day").frame(6.0).picture_bgr


class Board:
    """A board with a fake Edge TPU: what its buses show, a clock that is set, and the detector on it."""

    def __init__(self, folder: Path) -> None:
        self.tpu = edgetpu_fake.FakeEdgeTpu(folder / "tpu")
        self.on_tpu = edgetpu_fake.compile_model(YARD / "model_int8.tflite", folder / "model_edgetpu.tflite")
        self.now_s = 1000.0
        self.seen = [SeenAccelerator("usb", "/sys/usb/2-1", "/dev/bus/usb/002/002", "ready", True, True, speed_mbit_s=5000)]
        self.resets = []
        self.made = []

    def start(self, *, fallback=True, library=None, **changes):
        tending = TendingSettings(turn_s=0.0, probe_looks=3)
        settings = {
            "accelerator_deadline_s": SLOW_MACHINE_S, "accelerator_load_deadline_s": SLOW_MACHINE_S,
            "load_deadline_s": SLOW_MACHINE_S, "reply_deadline_s": SLOW_MACHINE_S, "tending": tending,
            "monotonic_s": lambda: self.now_s, "see": lambda holders: tuple(self.seen), "reset": self._reset,
        } | changes  # fmt: skip
        detector = ProcessDetector(
            ModelSpec(self.on_tpu, card(), 1, library or str(self.tpu.library)),
            fallback=ModelSpec(YARD / "model_int8.tflite", card()) if fallback else None,
            settings=ProcessSettings(**settings),
        )
        self.made.append(detector)
        return detector

    def _reset(self, seen):
        self.resets.append(seen.sysfs)
        return ""

    def pids(self, word):
        """Processes that wrote this word into the accelerator's diary."""
        return [pid for pid, said in self.tpu.diary() if said == word]


@pytest.fixture
def board(tmp_path):
    laid = Board(tmp_path)
    yield laid
    for detector in laid.made:
        pid = detector.pid
        detector.close()
        assert pid is None or not Path(f"/proc/{pid}").exists()


def until(condition, patience_s=SLOW_MACHINE_S):
    end_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.01)


def seen_by_the_cpu(detector, picture):
    """What the detector answers, said by the CPU, with the boxes that the yard has."""
    answer = detector.look(picture)
    assert detector.accelerator == "cpu"
    assert len(answer.detections) >= 3
    return answer.detections


def test_the_accelerator_answers_as_the_cpu_does(board, yard):
    """A healthy Coral: the real load_delegate path, the same boxes, nothing to report, the bare invoke timed."""
    detector = board.start()
    answer = detector.look(yard)
    assert (detector.accelerator, detector.accelerator_reason, detector.restarts, detector.last_error) == ("edgetpu", "", 0, "")
    assert board.pids("invoke")[-1] == detector.pid != os.getpid()
    alone = ProcessDetector(ModelSpec(YARD / "model_int8.tflite", card()))
    board.made.append(alone)
    cpu = alone.look(yard)
    np.testing.assert_array_equal(answer.detections.xyxy, cpu.detections.xyxy)
    np.testing.assert_array_equal(answer.detections.confidence, cpu.detections.confidence)


NO_SIGHT = []
AT_START = {
    "library_missing": ("", NO_SIGHT, "libnowhere.so.9"),
    "library_broken": ("segv-create", None, None),
    "absent": ("absent", NO_SIGHT, None),
    "permission": ("absent", [SeenAccelerator("usb", "/s", "/d", "ready", False, False)], None),
    "busy": ("absent", None, None),
    "cold": ("absent", [SeenAccelerator("usb", "/s", "/d", "cold", True, False)], None),
    "dead": ("absent", [SeenAccelerator("pci", "/s", "/d", "ready", True, False, temperature_c=-87.9)], None),
    "not_mapped": ("fail-prepare", None, None),
    "transfer": ("abort-prepare", None, None),
}


@pytest.mark.parametrize("fault", AT_START)
def test_an_accelerator_that_fails_at_the_start_leaves_the_cpu_to_answer(board, yard, fault):
    """Each way in which a Coral is not there at the start: the CPU's variant runs, the reason has its word and its help."""
    order, seen, library = AT_START[fault]
    board.tpu.order(order)
    board.seen = board.seen if seen is None else seen
    detector = board.start(library=library)
    seen_by_the_cpu(detector, yard)
    reason = detector.accelerator_reason
    assert reason.startswith(f"{fault}: {RUNGS[fault].sentence}; {RUNGS[fault].next_step} ("), reason
    assert "next try in" in reason
    assert detector.last_error


def test_an_accelerator_that_hangs_at_the_start_is_not_waited_for(board, yard):
    """The library never comes back from its first call: the child is killed at its deadline, the CPU answers."""
    board.tpu.order("hang-create")
    detector = board.start(accelerator_load_deadline_s=3.0)
    seen_by_the_cpu(detector, yard)
    assert detector.accelerator_reason.startswith("hang: ")
    assert not any(Path(f"/proc/{pid}").exists() for pid in board.pids("create")), "the child that hung is gone"


def test_a_file_that_is_not_for_the_accelerator_falls_to_the_cpu(board, yard):
    """The release's Edge TPU file is a text that stands for it: the pair is wrong, and that is said; the CPU runs."""
    board.on_tpu.write_bytes(b"This file stands where the Edge TPU build belongs")
    detector = board.start()
    seen_by_the_cpu(detector, yard)
    assert detector.accelerator_reason.startswith("wrong_file: ")


AT_WORK = {"abort-invoke": "transfer", "fail-invoke": "failed", "segv-invoke": "crashed"}


@pytest.mark.parametrize(("order", "fault"), AT_WORK.items())
def test_an_accelerator_lost_at_work_costs_no_frame(board, yard, order, fault):
    """A transfer fails in the middle of the day (SIGABRT), or the delegate gives up: the CPU answers that very frame."""
    detector = board.start()
    before = detector.look(yard).detections
    board.tpu.order(order)
    after = seen_by_the_cpu(detector, yard)
    np.testing.assert_array_equal(after.xyxy, before.xyxy)
    assert detector.accelerator_reason.startswith(f"{fault}: ")
    assert detector.restarts == 1
    if fault == "transfer":
        assert "SIGABRT" in detector.accelerator_reason, "the driver's end"
        assert "usb_driver.cc" in detector.accelerator_reason, "and its last words"


def test_an_accelerator_that_hangs_at_work_is_killed_at_its_deadline(board, yard):
    """No reply and no error (a libedgetpu deadlock): after the accelerator's own, short deadline the CPU answers that frame."""
    detector = board.start(accelerator_deadline_s=1.0)
    stuck = detector.pid
    board.tpu.order("hang-invoke")
    seen_by_the_cpu(detector, yard)
    assert detector.accelerator_reason.startswith("hang: ")
    assert not Path(f"/proc/{stuck}").exists()


def test_without_a_cpu_variant_the_loss_is_said_and_the_accelerator_is_started_again(board, yard):
    """A release that has nothing for the CPU: the accelerator's child is replaced, and it is said that nothing stands by."""
    detector = board.start(fallback=False)
    detector.look(yard)
    os.kill(detector.pid, signal.SIGABRT)
    assert len(detector.look(yard).detections) >= 3
    assert detector.accelerator == "edgetpu"
    assert "no_cpu_variant: " in detector.accelerator_reason
    board.tpu.order("absent")
    with pytest.raises(ModelError) as refused:
        board.start(fallback=False)
    assert refused.value.reason == "delegate_failed"


def test_it_is_tried_again_in_a_child_of_its_own_and_comes_back(board, yard):
    """Replugged after two failed tries: 2, 4, 8 s; each try in a process that does not serve; back after three good looks."""
    detector = board.start()
    board.tpu.order("abort-invoke")
    seen_by_the_cpu(detector, yard)
    serving = detector.pid
    for number, wait_s in enumerate((2.0, 4.0), start=1):
        tries = len(board.pids("create"))
        board.now_s += wait_s - 0.1
        detector.tend()
        assert len(board.pids("create")) == tries, "not before its time"
        board.now_s += 0.2
        detector.tend()
        assert len(board.pids("create")) == tries + 1
        assert detector.ladder.failures == number + 1
        assert detector.pid == serving, "the child that serves was never used to try"
    seen_by_the_cpu(detector, yard)
    board.tpu.order("")
    board.now_s += 8.1
    detector.tend()  # three failures that count: the port is reset first
    assert board.resets == ["/sys/usb/2-1"]
    detector.tend()
    assert detector.accelerator == "cpu", "it is given time to come back on the bus"
    board.now_s += 5.1
    looks = len(board.pids("invoke"))
    detector.tend()
    assert (detector.accelerator, detector.accelerator_reason) == ("edgetpu", "")
    assert detector.pid != serving
    assert not Path(f"/proc/{serving}").exists(), "the CPU's child ended"
    assert len(board.pids("invoke")) - looks == 1 + 3, "its first answer, and three good looks at the golden picture"
    assert len(detector.look(yard).detections) >= 3


@pytest.mark.parametrize("order", ["wrong", "silence"])
def test_an_accelerator_that_sees_something_else_does_not_come_back(board, yard, order):
    """It answers again after a brown-out, but not what the CPU sees on the stored picture: it stays out, and that is said."""
    detector = board.start()
    detector.look(yard)
    board.tpu.order("abort-invoke")
    seen_by_the_cpu(detector, yard)
    board.tpu.order(order)
    board.now_s += 3.0
    detector.tend()
    seen_by_the_cpu(detector, yard)
    assert detector.accelerator_reason.startswith("wrong_results: ")
    assert "the CPU alone sees person" in detector.accelerator_reason
    board.tpu.order("")
    board.now_s += 61.0
    detector.tend()
    assert detector.accelerator == "edgetpu"


def test_an_accelerator_that_goes_wrong_without_an_error_is_found_out(board, yard):
    """Silent corruption at work: the check of the golden picture finds it, twice in a row, and the CPU takes over."""
    detector = board.start()
    detector.look(yard)
    board.tpu.order("wrong")
    board.now_s += 21.0
    detector.tend()
    assert detector.accelerator == "edgetpu", "once may be chance"
    detector.tend()
    seen_by_the_cpu(detector, yard)
    assert detector.accelerator_reason.startswith("wrong_results: ")


def test_an_idle_accelerator_is_kept_awake_and_its_rot_is_named(board, yard):
    """Nobody passes by for hours: every 20 s it is asked something; when it dies in its rest, no frame pays for it."""
    detector = board.start()
    detector.look(yard)
    looks = len(board.pids("invoke"))
    detector.tend()
    assert len(board.pids("invoke")) == looks, "not while it works"
    board.now_s += 21.0
    detector.tend()
    assert len(board.pids("invoke")) == looks + 1
    board.tpu.order("abort-invoke")
    board.now_s += 21.0
    detector.tend()
    assert detector.accelerator_reason.startswith("idle_rot: ")
    seen_by_the_cpu(detector, yard)


def test_a_warm_accelerator_is_spared_and_a_dead_one_given_up(board, yard):
    """PCIe: above its first trip point fewer frames are looked at; a temperature that cannot be true means that it is gone."""
    warm = SeenAccelerator("pci", "/sys/apex_0", "/dev/apex_0", "ready", True, False, temperature_c=86.0, trip_c=85.0)
    board.seen = [warm]
    detector = board.start()
    detector.tend()
    assert detector.accelerator_reason.startswith("hot: ")
    board.now_s += 1.0
    detector.look(yard)
    with pytest.raises(DetectorError) as spared:
        detector.look(yard)
    assert spared.value.reason == "hot"
    board.now_s += 0.6
    assert len(detector.look(yard).detections) >= 3
    board.seen = [SeenAccelerator("pci", "/sys/apex_0", "/dev/apex_0", "ready", True, False, temperature_c=-87.9, trip_c=85.0)]
    board.now_s += 11.0
    detector.tend()
    seen_by_the_cpu(detector, yard)
    assert detector.accelerator_reason.startswith("dead: ")


def test_a_slow_port_is_said_while_the_accelerator_works(board, yard):
    """A Coral in a black port: it works, three times slower, and the heartbeat says so."""
    board.seen = [SeenAccelerator("usb", "/s", "/d", "ready", True, True, speed_mbit_s=480)]
    detector = board.start()
    detector.tend()
    assert len(detector.look(yard).detections) >= 3
    assert (detector.accelerator, detector.accelerator_reason[:11]) == ("edgetpu", "slow_port: ")


def test_a_cold_accelerator_is_tried_again_once_its_firmware_is_in(board, yard):
    """First use: the device leaves the bus as 1a6e:089a and comes back as 18d1:9302; no failure is held against it."""
    board.tpu.order("absent")
    board.seen = [SeenAccelerator("usb", "/s", "/d", "cold", True, True)]
    detector = board.start()
    seen_by_the_cpu(detector, yard)
    assert detector.ladder.failures == 0
    board.tpu.order("")
    board.seen = [SeenAccelerator("usb", "/s", "/d", "ready", True, True, speed_mbit_s=5000)]
    board.now_s += 4.1
    detector.tend()
    assert detector.accelerator == "edgetpu"


def test_a_new_release_while_the_accelerator_is_out_runs_on_the_cpu_and_is_tried_later(board, yard, tmp_path):
    """An update lands on a board whose Coral is lost: the new CPU variant runs at once, the new Edge TPU file when it is back."""
    detector = board.start()
    board.tpu.order("abort-invoke")
    seen_by_the_cpu(detector, yard)
    newer = tmp_path / "newer_edgetpu.tflite"
    newer.write_bytes(board.on_tpu.read_bytes())
    tries = len(board.pids("create"))
    fallback = ModelSpec(YARD / "model_int8.tflite", card())
    detector.switch(newer, YARD / "card.toml", delegate_library=str(board.tpu.library), fallback=fallback)
    assert len(board.pids("create")) == tries, "the child that serves is not risked"
    seen_by_the_cpu(detector, yard)
    board.tpu.order("")
    board.now_s += 3.0
    detector.tend()
    assert detector.accelerator == "edgetpu"
    detector.switch(YARD / "model_int8.tflite", YARD / "card.toml")
    assert (detector.accelerator, detector.accelerator_reason) == ("cpu", ""), "a release for the CPU alone: nothing is missing"


def test_its_own_thread_brings_it_back(board, yard):
    """As on a real board: a thread tends the accelerator, real seconds pass, and closing waits for no hung try."""
    detector = board.start(
        tending=TendingSettings(turn_s=0.05, probe_looks=1, settle_s=0.1), monotonic_s=lambda: time.monotonic() * 20.0
    )
    board.tpu.order("abort-invoke")
    detector.look(yard)
    assert detector.accelerator == "cpu"
    board.tpu.order("")
    until(lambda: detector.accelerator == "edgetpu")
    board.tpu.order("hang-create")
    os.kill(detector.pid, signal.SIGKILL)
    tries = len(board.pids("create"))
    detector.look(yard)
    until(lambda: len(board.pids("create")) > tries)
    closing = threading.Thread(target=detector.close)
    closing.start()
    closing.join(SLOW_MACHINE_S / 2)
    assert not closing.is_alive()
    for pid in set(board.pids("create")):
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
