"""`--show`: a film of what was seen, whole or absent; and the line that says how far a run has come."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from blob_model import open_model

from device_agent.vision.annotate import Overlay
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.motion import GateSettings
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.privacy import Privacy
from device_agent.vision.progress import Progress
from device_agent.vision.show_disk import ShowFilm
from device_agent.vision.types import CameraError, Frame

ROOT = Path(__file__).resolve().parents[3]
FILM_OF_NOISE = """
import sys
from pathlib import Path
import numpy as np
from device_agent.vision.cutter import Cutter
from device_agent.vision.motion import GateResult
from device_agent.vision.rules import Moment
from device_agent.vision.scene import Scene
from device_agent.vision.show_disk import ShowFilm
from device_agent.vision.types import CameraError, Frame
show = ShowFilm(Path(sys.argv[1]), Cutter())
for number in range(40):
    picture = np.random.default_rng(number).integers(0, 255, (240, 320, 3), np.uint8)
    gate = GateResult(True, "motion", True, 0.1, 90.0)
    frame = Frame("door", number, number / 10, 0.0, picture)
    show.saw(Scene(frame, gate, None, None, [], Moment(number, number / 10, 0.0, 320, 240), ()))
try:
    show.close()
except CameraError as error:
    print(error.message)
"""


def opened(path):
    """Frames, frame rate and size of a film, and its frames."""
    film = cv2.VideoCapture(str(path))
    assert film.isOpened()
    pictures = []
    while True:
        read, picture = film.read()
        if not read:
            break
        pictures.append(picture)
    fps = film.get(cv2.CAP_PROP_FPS)
    film.release()
    return pictures, fps


def run(show, draw, blob, moments, size=(240, 320)):
    """Somebody red walks through frames at these times."""
    detector = InProcessDetector(read_spec(*blob, 1, None), open_model)
    pipeline = Pipeline(PipelineSettings("door", gate=GateSettings(enabled=False)), detector, lambda: "id", watchers=[show])
    for number, at_s in enumerate(moments):
        pipeline.step(Frame("door", number, at_s, 1e9, draw.picture((20 + 5 * number, 80, 60 + 5 * number, 200), size=size)))
    pipeline.finish()
    detector.close()
    return pipeline.counts()


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_a_film_of_what_was_seen(tmp_path, draw, blob, ending):
    """Twenty frames at ten a second: a film of two seconds with boxes and zone drawn, nothing else there."""
    path = tmp_path / "shown" / f"out{ending}"
    path.parent.mkdir()
    zone = ("yard", ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
    show = ShowFilm(path, Cutter(), Overlay(zones=(zone,)))
    counts = run(show, draw, blob, [number / 10 for number in range(20)])
    assert not path.exists(), "nothing under its name before it is whole"
    show.close()
    assert counts.dropped == {}
    pictures, fps = opened(path)
    assert (len(pictures), fps) == (20, 10.0)
    assert pictures[0].shape == (240, 320, 3)
    plain = draw.picture((70, 80, 110, 200))
    assert (np.abs(pictures[10].astype(int) - plain).max(axis=2) > 80).mean() > 0.005, "something was drawn into it"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_frames_that_were_left_out_stand_still_and_hours_do_not(tmp_path, draw, blob):
    """Ten a second, then a gap of two seconds, then one of an hour, then time begins anew: the film follows, within reason."""
    path = tmp_path / "out.mp4"
    show = ShowFilm(path, Cutter())
    run(show, draw, blob, [0.0, 0.1, 0.2, 2.2, 3602.2, 3602.3, 0.0, 0.1])
    show.close()
    pictures, fps = opened(path)
    assert fps == 10.0
    assert 120 <= len(pictures) <= 130


def test_an_odd_size_and_a_single_frame(tmp_path, draw, blob):
    """A picture of 321x241 px, and a film of one frame: both are films."""
    show = ShowFilm(tmp_path / "odd.mp4", Cutter())
    run(show, draw, blob, [0.0, 0.5], size=(241, 321))
    show.close()
    pictures, fps = opened(tmp_path / "odd.mp4")
    assert (len(pictures), fps, pictures[0].shape) == (2, 2.0, (240, 320, 3))
    show = ShowFilm(tmp_path / "one.mp4", Cutter())
    run(show, draw, blob, [7.0])
    show.close()
    assert len(opened(tmp_path / "one.mp4")[0]) == 1


def test_a_mask_is_black_in_the_film_too(tmp_path, draw, blob):
    """The left half is masked: nothing of it is in the film."""
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    show = ShowFilm(tmp_path / "out.mp4", Cutter(Privacy(masks=(left,))))
    run(show, draw, blob, [0.0, 0.1, 0.2])
    show.close()
    for picture in opened(tmp_path / "out.mp4")[0]:
        assert picture[20:200, 20:140].mean() < 8
        assert picture[20:60, 200:300].mean() > 60


def test_a_run_that_fails_leaves_nothing(tmp_path, draw, blob):
    """The camera breaks in the middle: no film, no half of one; a film from before is still there."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the film of yesterday")
    show = ShowFilm(path, Cutter())
    run(show, draw, blob, [0.0, 0.1, 0.2])
    assert len(list(tmp_path.glob(".out*"))) == 1
    show.abort()
    assert path.read_bytes() == b"the film of yesterday"
    assert not list(tmp_path.glob(".out*"))


def test_no_frame_no_film(tmp_path):
    """A source without a frame: said so, and no file."""
    show = ShowFilm(tmp_path / "out.mp4", Cutter())
    with pytest.raises(CameraError, match="no frame was seen"):
        show.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "words"), [("out.gif", "ends in"), ("out", "ends in"), ("no/such/out.mp4", "no folder")])
def test_a_name_that_cannot_be_a_film_is_refused_before_the_run(tmp_path, name, words):
    """Not after an hour of work."""
    with pytest.raises(CameraError, match=words):
        ShowFilm(tmp_path / name, Cutter())


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path):
    """No file may grow beyond 64 kB, as on a full disk: OpenCV says nothing of it, we do, and nothing half-written stays."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))

    done = subprocess.run(
        [sys.executable, "-c", FILM_OF_NOISE, str(tmp_path / "out.avi")], capture_output=True, text=True, timeout=120,
        check=False, preexec_fn=limited, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_is_left_is_told_once_it_was_measured():
    """No guess from the first frames: a bar at once, rate and rest after two seconds; without a length there is no rest."""
    progress = Progress(1000, 100.0)
    assert progress.line(0, 100.0) == f"[{'.' * 24}]   0% frame 0 of 1000"
    assert "left" not in progress.line(10, 101.0)
    assert progress.line(250, 110.0) == f"[{'#' * 6}{'.' * 18}]  25% frame 250 of 1000, 25.0 a second, 0:30 left"
    assert progress.line(1000, 140.0).endswith("100% frame 1000 of 1000, 25.0 a second")
    assert progress.line(2000, 140.0).startswith(f"[{'#' * 24}] 100%"), "a film longer than its header says"
    assert Progress(None, 0.0).line(50, 10.0) == "frame 50, 5.0 a second"
    assert Progress(100_000, 0.0).line(10, 10.0).endswith("27:46:30 left")
