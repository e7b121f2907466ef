"""SIGKILL of the inference child at any moment, under load from several cameras: no answer lost, nothing left behind."""

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from device_agent.vision.camera_disk import FilmCamera
from device_agent.vision.detector import DetectorError
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from models.inference.errors import ModelError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fakes"))

CAMERAS = 4
LOSSES = {"died", "waiting", "failed"}
"""Reasons for which a frame may stay without an answer while children are being killed."""


def our_children():
    """Process ids of this process's children, dead ones that nobody waited for too."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def inference_children():
    found = []
    for pid in our_children():
        with contextlib.suppress(OSError):
            if b"inference_main_linux" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def descriptors():
    """What is open, by kind."""
    kinds = Counter()
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            kinds[str(handle.readlink()).split(":")[0]] += 1
    return kinds


def frame_memory():
    """Mappings of shared frames in this process."""
    return sum("rookery-frame" in line for line in Path("/proc/self/maps").read_text().splitlines())


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Cameras:
    """Threads that each show the detector a picture of their own and note what came back."""

    def __init__(self, detector, draw):
        self.detector, self.stop = detector, threading.Event()
        self.answered, self.lost, self.wrong = Counter(), Counter(), []
        self._threads = [threading.Thread(target=self._watch, args=(draw, number)) for number in range(CAMERAS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, draw, number):
        left = 20 + 70 * number
        picture = draw.picture((left, 50, left + 40, 110))
        picture[150:200, left + 10 : left + 40] = (220, 20, 20)
        allowed = ([[left, 50, left + 40, 110]], [[left + 10, 150, left + 40, 200]])  # the red model's, the blue model's
        while not self.stop.is_set():
            try:
                boxes = self.detector.look(picture).detections.xyxy.tolist()
            except DetectorError as error:
                self.lost[error.reason] += 1
                continue
            self.answered[number] += 1
            if boxes not in allowed:
                self.wrong.append((number, boxes))


def kill_again_and_again(blob, draw, tmp_path, kills, seed):
    """The story: so many kills at random moments, a change of model after every tenth; returns the cameras and the refusals."""
    draw_lot = random.Random(seed)
    blue = tmp_path / "blue.blob"
    blue.write_text("BLOB blue")
    # The clock runs fast, so that the waits between two starts cost no time here.
    settings = ProcessSettings(opener="blob_model:open_model", reply_deadline_s=60.0, monotonic_s=lambda: time.monotonic() * 1000)
    detector = ProcessDetector(read_spec(*blob, 1, None), settings=settings)
    refused = []
    try:
        with Cameras(detector, draw) as cameras:
            done = 0
            while done < kills:
                cameras.stop.wait(draw_lot.random() * 0.25)  # any moment: while it starts, loads, looks or rests
                for pid in inference_children():
                    os.kill(pid, signal.SIGKILL)
                    done += 1
                if done % 10 == 0:
                    try:
                        detector.switch(blue if draw_lot.random() < 0.5 else blob[0], blob[1])
                    except ModelError as error:
                        refused.append(error.reason)
            before = sum(cameras.answered.values())
            end_s = time.monotonic() + 120.0
            while sum(cameras.answered.values()) < before + 20 * CAMERAS:  # after the last kill all is well again
                assert time.monotonic() < end_s, f"no more answers; lost {cameras.lost}"
                cameras.stop.wait(0.02)
    finally:
        detector.close()
    return cameras, refused


def check_what_is_left(before, memory_before, children_before):
    assert set(our_children()) <= set(children_before), "neither a child nor a zombie"
    assert frame_memory() == 0
    assert descriptors() == before
    assert not any("rookery-frame" in path.name for path in Path("/dev/shm").iterdir())
    assert resident_bytes() - memory_before < 48 * 1024 * 1024


def warm_up(blob, draw):
    """One detector before counting, so that what a first one leaves for good (buffers of libraries) is not taken for a leak."""
    detector = ProcessDetector(read_spec(*blob, 1, None), settings=ProcessSettings(opener="blob_model:open_model"))
    detector.look(draw.picture())
    detector.close()


def test_fifty_kills_at_random_moments_lose_no_answer_and_leak_nothing(blob, draw, tmp_path):
    """Fifty times the child is killed while four cameras ask and models are changed: every answer is that camera's own, all
    reasons are known, detections come back, and neither memory, descriptors, shared frames nor zombies are left.
    """
    warm_up(blob, draw)
    before, memory, children = descriptors(), resident_bytes(), our_children()
    cameras, refused = kill_again_and_again(blob, draw, tmp_path, 50, 7)
    assert cameras.wrong == []
    assert set(cameras.answered) == set(range(CAMERAS)), "every camera got its turn"
    assert set(cameras.lost) <= LOSSES
    assert set(refused) <= {"failed"}
    check_what_is_left(before, memory, children)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_a_thousand_kills_at_random_moments(blob, draw, tmp_path, part):
    """The same a thousand times, in twenty parts with other seeds."""
    warm_up(blob, draw)
    before, memory, children = descriptors(), resident_bytes(), our_children()
    cameras, refused = kill_again_and_again(blob, draw, tmp_path, 50, 1000 + part)
    assert cameras.wrong == []
    assert set(cameras.answered) == set(range(CAMERAS))
    assert set(cameras.lost) <= LOSSES
    assert set(refused) <= {"failed"}
    check_what_is_left(before, memory, children)


def test_the_visits_of_a_film_survive_the_kills(blob, draw, tmp_path, new_id):
    """Two people pass; the child dies eight times meanwhile. The frames that were answered carry both visits to their end."""
    film = draw.two_visits(tmp_path / "visits.avi")
    settings = ProcessSettings(opener="blob_model:open_model", monotonic_s=lambda: time.monotonic() * 1e6)
    detector = ProcessDetector(read_spec(*blob, 1, None), settings=settings)
    started, answered, lost = [], 0, 0
    try:
        pipeline = Pipeline(PipelineSettings("door"), detector, new_id)
        for frame in FilmCamera("door", film).frames():
            if frame.index in (5, 20, 25, 40, 90, 105, 110, 125) and detector.pid is not None:
                os.kill(detector.pid, signal.SIGKILL)
            step = pipeline.step(frame)
            lost += step.dropped is not None
            answered += step.detections is not None
            started += [update.event for update in step.events if update.kind == "start"]
        started += [update.event for update in pipeline.finish() if update.kind == "start"]
    finally:
        detector.close()
    assert len(started) == 2
    assert answered > 30
    assert lost <= 8, "at most the frame at hand, each time"
    assert np.isfinite([event.score for event in started]).all()
