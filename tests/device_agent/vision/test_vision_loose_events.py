"""The events file of a run without a server: whole lines as visits end, nothing lost at any end, and every loss told."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from blob_model import open_model

from device_agent.vision import loose_run_disk
from device_agent.vision.choice_disk import ModelChoice
from device_agent.vision.detect_disk import detect_pictures
from device_agent.vision.ending_linux import Ending
from device_agent.vision.events_file_disk import check_writable
from device_agent.vision.loose_run_disk import BrokenOffError, RunRequest, run_film
from device_agent.vision.types import CameraError, Frame
from device_agent.vision.zones import ZoneError

ROOT = Path(__file__).resolve().parents[3]
MUCH = """
import sys
from pathlib import Path
from device_agent.vision.events_file_disk import EventsFile
from device_agent.vision.types import CameraError
file = EventsFile(Path(sys.argv[1]))
try:
    while True:
        file.add('{"a": "' + "x" * 993 + '"}')
except CameraError as error:
    print(error.message)
file.close()
"""


@pytest.fixture
def run(monkeypatch, tmp_path, draw, blob):
    """Runs the film of two visits, 15 s, with a model that finds red things, in this process."""
    monkeypatch.setattr(loose_run_disk, "open_model", open_model)
    film = draw.two_visits(tmp_path / "film.avi")
    choice = ModelChoice(blob[0], card=blob[1], child=False)

    def go(*, source=str(film), rules=None, on_update=None, on_frame=None, ending=None, **more):
        if rules is not None:
            (tmp_path / "rules.json").write_text(json.dumps(rules))
            more["zone"] = tmp_path / "rules.json"
        return run_film(RunRequest(source, choice, **more), on_update, on_frame, ending)

    return go


def lines_of(path):
    text = path.read_text()
    assert text == "" or text.endswith("\n"), "whole lines only"
    return [json.loads(line) for line in text.splitlines()]


def test_a_visit_is_in_the_file_as_soon_as_it_is_over(run, tmp_path):
    """A camera that runs for weeks: whoever follows the file reads the first visit while the second one is still to come."""
    out, seen = tmp_path / "events.ndjson", []
    out.write_text("of yesterday\n" * 100)
    run(events=out, on_update=lambda update: seen.append((update.kind, len(lines_of(out)))))
    assert [count for kind, count in seen if kind == "end"] == [1, 2]
    assert [line["open"] for line in lines_of(out)] == [False, False]
    assert all(set(line) >= {"camera", "track", "category", "rule", "rule_kind", "direction", "best"} for line in lines_of(out))


@pytest.mark.parametrize("name", ["nodir/events.ndjson", ".", "film.avi", "red.blob"])
def test_a_place_that_cannot_be_written_is_refused_before_the_first_frame(run, tmp_path, name):
    """No folder, a folder, the film itself, the model itself: said at once, and nothing is harmed."""
    frames, film = [], (tmp_path / "film.avi").read_bytes()
    with pytest.raises(CameraError, match=r"cannot be written|also what is read"):
        run(events=tmp_path / name, on_frame=lambda done, total: frames.append(done))
    assert not frames
    assert (tmp_path / "film.avi").read_bytes() == film
    assert (tmp_path / "red.blob").stat().st_size > 0


def test_boxes_of_pictures_too_are_refused_before_the_work(tmp_path, blob):
    """`detect --out nodir/x`: no picture is looked at, not even looked for."""
    with pytest.raises(CameraError, match="no folder"):
        detect_pictures(tmp_path / "absent", ModelChoice(*blob), tmp_path / "nodir" / "boxes.json")
    check_writable(tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists(), "a question leaves nothing"


def test_a_full_disk_leaves_whole_lines(tmp_path):
    """No file may grow beyond 64 kB, as on a full disk, in the middle of a line: the lines of before stand, nothing half."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))

    out = tmp_path / "events.ndjson"
    done = subprocess.run(
        [sys.executable, "-c", MUCH, str(out)], capture_output=True, text=True, timeout=120, check=False, preexec_fn=limited,
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "cannot be written" in done.stdout, done.stderr
    assert len(lines_of(out)) == 65


class Breaking:
    """A camera that gives the frames of a film, loses some, and fails in the middle of the first visit."""

    def __init__(self, frames):
        self._frames = frames
        self.dropped = {"late": 7, "reconnected": 0}

    def frames(self):
        yield from self._frames
        raise CameraError("unreachable", "camera gone")

    def close(self):
        pass


def test_a_source_that_fails_costs_no_event_and_its_losses_are_told(run, tmp_path, monkeypatch, draw):
    """The camera is torn off while somebody stands before it: his visit is in the file, open, and the summary is not lost."""
    boxes = [draw.walk(t, 5) for t in range(20)]
    pictures = [draw.picture(*([box] if box and box[2] - box[0] > 4 else [])) for box in boxes]
    frames = [Frame("camera", number, number / 10, 1e9, picture) for number, picture in enumerate(pictures)]
    monkeypatch.setattr(loose_run_disk, "open_camera", lambda settings: Breaking(frames))
    out = tmp_path / "events.ndjson"
    with pytest.raises(BrokenOffError, match="camera gone") as broken:
        run(events=out)
    summary = broken.value.summary
    assert (summary.frames, summary.visits, summary.camera_dropped["late"]) == (20, {"person": 1}, 7)
    assert [line["open"] for line in lines_of(out)] == [True]


def test_visits_and_crossings_are_counted_apart(run, tmp_path):
    """Two people walk through a zone and over a line: two visits, two crossings, not four persons."""
    told = Counter()
    rules = {"zones": [{"name": "yard"}], "lines": [{"name": "door", "points": [[0.5, 1.0], [0.5, 0.0]]}]}
    summary = run(
        rules=rules, events=tmp_path / "out", on_update=lambda update: told.update([(update.event.rule_kind, update.kind)])
    )
    assert summary.visits == {"person": 2}
    assert summary.crossings == {("person", "door", "in"): 2}
    assert told["line", "start"] == told["line", "end"] == 2
    assert Counter(line["rule_kind"] for line in lines_of(tmp_path / "out")) == {"zone": 2, "line": 2}


def test_triggers_can_be_tried_without_a_fleet(run, tmp_path):
    """The zone file's `triggers` are those of the configuration: the first person of the day is an event of its own."""
    summary = run(rules={"triggers": {"first_today": {"classes": ["person"]}}}, events=tmp_path / "out")
    assert summary.triggers == {"first_today": 1}
    assert summary.visits == {"person": 2}, "without a zone the whole picture is one"
    assert [line["rule"] for line in lines_of(tmp_path / "out") if line["rule_kind"] == "trigger"] == ["first_today"]


@pytest.mark.parametrize(
    ("triggers", "words"),
    [
        ({"first_today": {"classes": ["persn"]}}, "persn"),
        ({"near_miss": {"pairs": [["person", "forklft"]]}}, "forklft"),
        ({"disagreement": {}}, "shadow"),
        ({"first_today": {"per_hour": 0}}, "per_hour"),
        ({"first_tody": {}}, "first_tody"),
    ],
)
def test_triggers_that_would_stay_silent_are_refused(run, tmp_path, triggers, words):
    """A typo, an unknown class, a comparison with nobody: said before the first frame, and no file is made."""
    with pytest.raises(ZoneError, match=words):
        run(rules={"triggers": triggers}, events=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_signal_in_the_middle_of_a_frame_waits_for_its_end(run, tmp_path):
    """SIGTERM arrives just as an event is told: that event and all that was open are in the file."""
    ending, out = Ending(), tmp_path / "events.ndjson"
    summary = run(events=out, ending=ending, on_update=lambda update: ending.asked or ending.ask(signal.SIGTERM))
    assert summary.interrupted
    assert ending.asked == signal.SIGTERM
    assert summary.frames < 60, "the second visit was not waited for"
    assert [line["open"] for line in lines_of(out)] == [True]


def test_a_second_signal_waits_for_nothing():
    """A detector that hangs: who presses Ctrl-C again is heard at once, and so is who does while nothing is worked on."""
    ending = Ending()
    with pytest.raises(KeyboardInterrupt):
        ending.ask(signal.SIGINT)
    ending, went_on = Ending(), []

    def hangs():
        with ending.busy():
            ending.ask(signal.SIGTERM)
            went_on.append(1)
            ending.ask(signal.SIGINT)
            went_on.append(2)

    with pytest.raises(KeyboardInterrupt):
        hangs()
    assert went_on == [1]
    assert ending.asked == signal.SIGTERM
