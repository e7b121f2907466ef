"""The inference child killed, hung, cut in half and replaced: the agent goes on, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from device_agent.vision.detector import DetectorError, ModelSpec
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.types import Frame
from models.inference.errors import ModelError

OPENER = "blob_model:open_model"


def settings(**changes):
    return ProcessSettings(**({"opener": OPENER, "reply_deadline_s": 5.0} | changes))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, patience_s=10.0):
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@pytest.fixture
def start(blob):
    """Starts detectors that are closed, with their child gone, when the test ends."""
    made = []

    def starter(model=None, *, fallback=None, delegate=None, **changes):
        spec = read_spec(model or blob[0], blob[1], 1, delegate)
        detector = ProcessDetector(spec, fallback=fallback, settings=settings(**changes))
        made.append((detector, detector.pid))
        return detector

    yield starter
    for detector, pid in made:
        detector.close()
        assert not alive(pid)


def frame(draw, *boxes, index=0):
    return Frame("door", index, index / 10, 0.0, draw.picture(*boxes))


def test_boxes_come_back_from_the_child_for_frames_of_any_size(start, draw):
    """The first camera is small, the second large: the child sees both at the model's size; boxes are those of the picture."""
    detector = start()
    found = detector.detect(frame(draw, (100, 50, 140, 120), (200, 60, 230, 110)))
    assert sorted(found.xyxy.tolist()) == [[100, 50, 140, 120], [200, 60, 230, 110]]
    large = draw.picture((900, 500, 950, 620), size=(720, 1280))
    np.testing.assert_allclose(detector.look(large).detections.xyxy, [[900, 500, 950, 620]], atol=4.0)
    assert len(detector.detect(frame(draw))) == 0
    strided = np.ascontiguousarray(large)[::2, ::2]
    assert len(detector.look(strided).detections) == 1, "a view with gaps is copied as what it shows"
    assert (detector.runtime, detector.accelerator, detector.restarts) == ("blob 1", "cpu", 0)
    with pytest.raises(DetectorError, match="not a BGR picture"):
        detector.look(large[:, :, 0])


def test_a_child_killed_while_it_works_is_replaced_and_the_frame_is_answered(start, draw):
    """kill -9 again and again under load: every frame gets its answer or a reason, and detections come back."""
    detector = start()
    answers, reasons = 0, []
    for index in range(60):
        if index in (10, 30):
            os.kill(detector.pid, signal.SIGKILL)
        try:
            answers += len(detector.detect(frame(draw, (100, 50, 140, 120), index=index)))
        except DetectorError as error:
            reasons.append(error.reason)
    assert answers + len(reasons) == 60
    assert answers >= 59, "the first death costs no frame at all"
    assert detector.restarts == 2
    assert set(reasons) <= {"died", "waiting"}


def test_a_child_that_keeps_dying_is_not_started_without_end(start, draw):
    """A broken board kills each child at once: the waits between two starts grow, and the reason says so."""
    now = [100.0]
    detector = start(monotonic_s=lambda: now[0])
    starts_before = detector.restarts
    reasons = []
    for _ in range(8):
        if detector.pid:
            os.kill(detector.pid, signal.SIGKILL)
        try:
            detector.detect(frame(draw))
        except DetectorError as error:
            reasons.append(error.reason)
    assert "waiting" in reasons
    assert detector.restarts - starts_before <= 2
    now[0] += 60.0
    assert len(detector.detect(frame(draw, (100, 50, 140, 120)))) == 1


def test_a_hung_child_is_killed_at_the_deadline(start, draw):
    """A delegate hangs for ever (SIGSTOP): that frame is lost with its reason, the child is killed, the next is answered."""
    detector = start(reply_deadline_s=0.3)
    stopped = detector.pid
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(DetectorError) as lost:
        detector.detect(frame(draw))
    assert lost.value.reason == "hung"
    assert not alive(stopped)
    assert len(detector.detect(frame(draw, (100, 50, 140, 120)))) == 1
    assert detector.restarts == 1


def test_a_model_cut_in_half_is_refused_with_its_reason(start, blob, tmp_path):
    """Half a file at the first start: the detector is not made, the reason is the model's, no process stays behind."""
    half = tmp_path / "half.blob"
    half.write_text("BLOB")
    with pytest.raises(ModelError) as refused:
        start(half)
    assert refused.value.reason == "corrupt"
    with pytest.raises(ModelError) as missing:
        ProcessDetector(ModelSpec(tmp_path / "none", read_spec(*blob, 1, None).card), settings=settings())
    assert missing.value.reason == "missing"


def test_a_switch_happens_between_two_frames(start, blob, draw, tmp_path):
    """A new release finds blue things: after the switch blue is found and red is not; the same child serves both."""
    detector = start()
    blue = tmp_path / "blue.blob"
    blue.write_text("BLOB blue")
    pid = detector.pid
    picture = draw.picture((100, 50, 140, 120))
    assert len(detector.look(picture).detections) == 1
    detector.switch(blue, blob[1])
    assert detector.pid == pid
    assert len(detector.look(picture).detections) == 0
    assert len(detector.look(draw.picture((10, 10, 60, 60), colour=(220, 20, 20))).detections) == 1


@pytest.mark.parametrize(("content", "reason"), [("BLOB", "corrupt"), (None, "missing"), ("BLOB red dies", "failed")])
def test_a_failed_switch_keeps_the_old_model(start, blob, draw, tmp_path, content, reason):
    """The new model is cut, gone, or takes the process down while loading: refused with a reason, the old one answers on."""
    detector = start()
    new = tmp_path / "new.blob"
    if content:
        new.write_text(content)
    with pytest.raises(ModelError) as refused:
        detector.switch(new, blob[1])
    assert refused.value.reason == reason
    assert len(detector.look(draw.picture((100, 50, 140, 120))).detections) == 1
    assert detector.restarts == (1 if reason == "failed" else 0)


def test_a_broken_card_is_refused_before_anything_is_loaded(start, blob, tmp_path):
    """The card of a new release is not TOML, or missing."""
    detector = start()
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(ModelError, match="not TOML"):
        detector.switch(blob[0], bad)
    with pytest.raises(ModelError, match="cannot be read"):
        detector.switch(blob[0], tmp_path / "none.toml")


def test_a_runtime_that_kills_its_process_is_replaced_by_the_next_that_builds(start, draw):
    """LiteRT built for another processor ends the child by a signal: each is tried in a child, and the next one serves."""

    def tried(code):
        return ("false",) if "ai_edge_litert" in code else ("true",)

    detector = start(opener="blob_model:open_with_another_runtime", probe_command=tried)
    assert detector.runtime == "tflite-runtime 1"
    assert len(detector.look(draw.picture((100, 50, 140, 120))).detections) == 1
    os.kill(detector.pid, signal.SIGKILL)
    assert len(detector.look(draw.picture((100, 50, 140, 120))).detections) == 1, "it is remembered"
    with pytest.raises(ModelError, match="SIGABRT"):
        start(opener="blob_model:open_with_another_runtime", probe_command=lambda code: ("false",))


def test_without_the_accelerators_library_the_cpu_model_runs_and_says_why(start, blob):
    """A Coral whose library was never installed: the CPU variant runs, and the heartbeat can say why."""
    detector = start(delegate="libedgetpu.so.1", fallback=read_spec(*blob, 1, None))
    assert detector.accelerator == "cpu"
    assert "libedgetpu.so.1 is not installed" in detector.accelerator_reason
    with pytest.raises(ModelError) as refused:
        start(delegate="libedgetpu.so.1")
    assert refused.value.reason == "delegate_missing"


def test_two_cameras_share_one_child(start, draw):
    """Two camera threads ask at the same time: each gets the boxes of its own picture."""
    detector = start()
    wrong = []

    def camera(left):
        picture = draw.picture((left, 50, left + 30, 110))
        for _ in range(40):
            found = detector.look(picture).detections
            if found.xyxy[:, 0].tolist() != [left]:
                wrong.append(found)

    threads = [threading.Thread(target=camera, args=(left,)) for left in (20, 120, 220)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


PARENT = """
import sys, threading
from pathlib import Path
import numpy as np
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings
settings = ProcessSettings(opener="blob_model:open_model")
detector = ProcessDetector(read_spec(Path(sys.argv[1]), Path(sys.argv[2]), 1, None), settings=settings)
print(detector.pid, flush=True)
if sys.argv[3] == "busy":
    while True:
        detector.look(np.zeros((240, 320, 3), np.uint8))
threading.Event().wait()
"""


@pytest.mark.parametrize("state", ["idle", "busy", "stopped"])
def test_the_child_dies_with_its_agent(blob, tmp_path, state):
    """The agent is killed −9 while the child waits, works, or hangs: no orphan is left with the accelerator in its hands."""
    if state == "busy":
        blob[0].write_text("BLOB red slow")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    arguments = [sys.executable, "-c", PARENT, str(blob[0]), str(blob[1]), state]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, cwd=tmp_path) as agent:
        child = int(agent.stdout.readline())
        assert alive(child)
        if state == "stopped":
            os.kill(child, signal.SIGSTOP)
        agent.kill()
    until(lambda: not alive(child))


def test_a_closed_detector_leaves_no_memory_and_no_descriptor(start, draw, blob):
    """Ten starts and ends, one of them by murder: as many open files as before, nothing of ours in /dev/shm."""

    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    shared = set(Path("/dev/shm").iterdir())
    before = descriptors()
    for number in range(4):
        detector = ProcessDetector(read_spec(*blob, 1, None), settings=settings())
        detector.look(draw.picture())
        if number == 1:
            os.kill(detector.pid, signal.SIGKILL)
        detector.close()
        detector.close()
        with pytest.raises(DetectorError, match="closed"):
            detector.look(draw.picture())
        with pytest.raises(ModelError, match="closed"):
            detector.switch(*blob)
    assert descriptors() == before
    assert not any("rookery" in path.name for path in set(Path("/dev/shm").iterdir()) - shared)


def test_what_the_child_says_before_it_dies_is_told(start, blob, draw, tmp_path):
    """The driver's last words on stderr are in the reason; a full pipe never blocks the child."""
    lines = []
    detector = start(on_line=lines.append)
    (tmp_path / "dies.blob").write_text("BLOB red dies")
    with pytest.raises(ModelError, match="exit status 11"):
        detector.switch(tmp_path / "dies.blob", blob[1])


def test_the_detector_in_process_behaves_alike(blob, draw, tmp_path):
    """A board too small for a second process: the same answers, switches and refusals."""
    from blob_model import open_model

    detector = InProcessDetector(read_spec(*blob, 1, None), open_model)
    assert len(detector.look(draw.picture((100, 50, 140, 120))).detections) == 1
    (tmp_path / "half.blob").write_text("BLOB")
    with pytest.raises(ModelError):
        detector.switch(tmp_path / "half.blob", blob[1])
    assert len(detector.look(draw.picture((100, 50, 140, 120))).detections) == 1
    detector.close()
    with pytest.raises(DetectorError, match="closed"):
        detector.look(draw.picture())
