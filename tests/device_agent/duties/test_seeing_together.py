"""Cameras of several kinds on one detector, and a sensor's winners cut from its large picture: the real parts together."""

import threading
import time
from itertools import count

import cv2
import numpy as np
import picamera2_fake
import pytest
from blob_model import open_model

from device_agent.duties.seeing import Seeing, Sinks
from device_agent.duties.turn import Stop
from device_agent.errors import BoardError
from device_agent.supervise import Supervisor
from device_agent.vision.camera_disk import FilmCamera
from device_agent.vision.camera_picamera2 import SensorCamera, SensorSettings
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.fair_turn import FairTurn
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.pipeline import Pipeline, PipelineSettings

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


@pytest.fixture
def detector(tmp_path):
    """Finds red things; counts who is looked at, and that nobody is looked at beside another."""
    (tmp_path / "red.blob").write_text("BLOB red")
    (tmp_path / "card.toml").write_text(CARD)
    found = InProcessDetector(read_spec(tmp_path / "red.blob", tmp_path / "card.toml", 1, None), open_model)
    yield found
    found.close()


def walker(number, size):
    """A grey yard, and from the tenth to the fortieth picture somebody in red who walks through it."""
    width, height = size
    picture = np.full((height, width, 3), 120, np.uint8)
    picture[::8] = 100
    if 10 <= number < 40:
        x = round((number - 10) / 30 * width * 0.8)
        cv2.rectangle(picture, (x, height // 3), (x + width // 8, height * 2 // 3), (20, 20, 230), -1)
    return picture


def test_a_sensors_event_is_cut_from_the_large_picture_and_from_nothing_else(detector):
    """Somebody walks past a Pi's camera: the detector sees 200x112 px, the crop comes out of 640x360, read where he stood."""
    world = picamera2_fake.World()
    world.scene, world.frames_per_camera = walker, 60
    chosen = SensorSettings(main_px=(640, 360), lores_px=(200, 112), load=lambda: world, load_colour=lambda: None,
                            monotonic_s=lambda: world.now_s, boottime_s=lambda: world.now_s + world.boot_ahead_s)
    numbers, updates = count(1), []
    pipeline = Pipeline(PipelineSettings("gate"), detector, lambda: f"v{next(numbers)}")
    duty = Seeing("gate", lambda: SensorCamera("gate", chosen), pipeline, Sinks(updates.append, lambda timings: None))
    with pytest.raises(BoardError, match="no frame"):
        duty.run(Stop(), lambda: None)
    started = [update.event for update in updates if update.kind == "start"]
    assert [event.label for event in started] == ["person"]
    assert (started[0].frame_width_px, started[0].frame_height_px) == (640, 360)
    left, top, right, bottom = started[0].box
    assert (bottom - top) == pytest.approx(120, abs=8)
    assert (right - left) == pytest.approx(80, abs=8)
    crops = [crop for update in updates for crop in update.event.crops]
    assert crops
    for crop in crops:
        picture = cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR)
        middle = picture[picture.shape[0] // 2, picture.shape[1] // 2].astype(int)
        assert middle[2] > 180, "he is in the middle of it"
        assert middle[0] < 90
    library = world.made[0]
    assert library.copies["main"] == 0
    assert 0 < library.mapped["main"] <= 31, "only while he was there"
    assert library.mapped["lores"] == 60
    assert duty.totals().state == "no_frames"


def test_a_film_a_live_yard_and_a_dead_camera_share_one_detector(tmp_path, detector):
    """Nobody is starved: the film loses no frame, the live yard keeps up with its newest one, the dead camera holds nobody up."""
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for number in range(60):
        writer.write(walker(number, (320, 240)))
    writer.release()
    turns, stop, looks = FairTurn(detector, time.monotonic), Stop(), threading.Semaphore(0)
    dead = threading.Event()

    class Dead:
        name, noisy, process_bound, newer, dropped = "dead", True, False, False, {}

        def frames(self):
            dead.wait(300)
            yield from ()

        def close(self):
            dead.set()

    def camera(name, open_source, sink=lambda update: None):
        seat = turns.seat(name)
        ids = count(1)
        pipeline = Pipeline(PipelineSettings(name), seat, lambda: f"{name}-{next(ids)}")

        def timed(timings):
            if name == "live" and "detect" in timings:
                looks.release()

        return Seeing(name, open_source, pipeline, Sinks(sink, timed), seat=seat)

    events = []
    film = camera("film", lambda: FilmCamera("film", tmp_path / "film.avi"), events.append)
    live = camera("live", lambda: open_camera(CameraSettings("live", "rendered:5", "live", fps=30.0)))
    supervisor = threading.Thread(target=Supervisor([film, live, camera("dead", Dead)], stop).run, daemon=True)
    supervisor.start()
    try:
        for _ in range(20):
            assert looks.acquire(timeout=120)
        for _ in range(1200):
            if film.totals().state == "ended":
                break
            time.sleep(0.1)
    finally:
        stop.set()
        supervisor.join(60)
    assert film.totals().state == "ended"
    assert film.totals().frames == 60
    assert film.totals().dropped == {}
    assert [update.event.label for update in events if update.kind == "start"] == ["person"]
    assert set(live.totals().dropped) <= {"late", "stale"}
    assert live.totals().frames >= 20
