"""From films to events of every kind of rule, with what each event must carry, and what becomes of them on the wire."""

import hashlib

import numpy as np
import pytest
from blob_model import open_model

from device_agent.duties.wire_events import EventTranslator, SeenBy
from device_agent.vision.camera_disk import FilmCamera
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.loose_run_disk import event_line
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.privacy import Privacy
from device_agent.vision.rule_file import load_rules
from device_agent.vision.rules import Crossing, Moment, RuleStep, Visit
from device_agent.vision.trigger_settings import TriggerLimits, TriggerSettings
from device_agent.vision.triggers import Triggers
from device_agent.vision.types import Crop, Event, EventUpdate, Frame, Track
from device_agent.vision.visit_events import VisitEvents
from device_agent.vision.zones import Line, Zone
from ota.wire.codec import to_builtins

RULES = """{
 "zones": [{"name": "right half", "polygon": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]], "classes": ["person"], "min_score": 0.55}],
 "lines": [{"name": "door", "points": [[0.5, 1], [0.5, 0]], "right": "in", "left": "out"}]
}"""
SEEN_BY = SeenBy("ab" * 32, "shop@1.0.0")


@pytest.fixture
def detector(blob):
    found = InProcessDetector(read_spec(*blob, 1, None), open_model)
    yield found
    found.close()


def play(pipeline, frames):
    return [update for frame in frames for update in pipeline.step(frame).events] + pipeline.finish()


def one_visit(draw, folder):
    """A short film: one person walks through the picture to the right."""
    boxes = [draw.walk(t, 5) for t in range(45)]
    return draw.film(folder / "film.avi", (draw.picture(*([box] if box and box[2] - box[0] > 4 else [])) for box in boxes))


def test_a_zone_and_a_line_of_a_file_tell_of_two_walkers(tmp_path, draw, detector, new_id):
    """Two people walk through the door to the right: a visit and a crossing of each; every event says all that it must say."""
    rules = load_rules(RULES)
    pipeline = Pipeline(PipelineSettings("yard", zones=rules.zones, lines=rules.lines), detector, new_id)
    updates = play(pipeline, FilmCamera("yard", draw.two_visits(tmp_path / "film.avi")).frames())
    ended = [update.event for update in updates if update.kind == "end"]
    assert sorted((event.rule, event.rule_kind, event.direction) for event in ended) == [
        ("door", "line", "in"), ("door", "line", "in"), ("right half", "zone", None), ("right half", "zone", None),
    ]  # fmt: skip
    assert pipeline.rule_counts().crossed == {"door": {"person": {"in": 2}}}
    assert pipeline.counts().events == 4
    crossings = [event for event in ended if event.rule_kind == "line"]
    assert all(event.start_frame <= event.end_frame and not event.open for event in crossings)
    assert abs(crossings[0].start_frame - 25) <= 2, "the middle of the box crosses 160 px 15 frames after the walker's start"
    line = event_line(crossings[0])
    assert (line["rule"], line["rule_kind"], line["direction"], line["open"]) == ("door", "line", "in", False)

    translator, first_of = EventTranslator(), {}
    for update in updates:
        wire, crops = translator.translate(update, SEEN_BY)
        said = to_builtins(wire)
        assert (said["camera"], said["label"]) == ("yard", "person")
        assert (said["bundle_sha256"], said["release"]) == ("ab" * 32, "shop@1.0.0")
        assert said["threshold"] == (0.55 if said["rule_kind"] == "zone" else 0.5)
        assert 0.5 <= said["score"] <= 1
        assert (said["frame_width_px"], said["frame_height_px"]) == (320, 240)
        assert said["box"][2] > 0
        assert said["box"][3] > 0
        assert said["zone"] == ("right half" if said["rule_kind"] == "zone" else None)
        assert 0 < said["started_at_s"] <= (said["ended_at_s"] or 1e12)
        assert crops, "each of these events has a picture"
        first_of.setdefault(said["id"], crops[0].sha256)
        assert crops[0].kind == "first"
        assert crops[0].sha256 == first_of[said["id"]], "a later revision names the same first picture again"
        assert [crop.jpeg is None for crop in crops if crop.kind == "first"] == [said["revision"] > 0]


def test_lines_alone_raise_no_event_for_everybody_in_the_picture(tmp_path, draw, detector, new_id):
    """Who only counts at the door gets crossings and nothing else; without any rule the whole picture is a zone."""
    film = one_visit(draw, tmp_path)
    rules = load_rules(RULES)
    counting = Pipeline(PipelineSettings("yard", lines=rules.lines), detector, new_id)
    assert {u.event.rule_kind for u in play(counting, FilmCamera("yard", film).frames())} == {"line"}
    bare = Pipeline(PipelineSettings("yard"), detector, new_id)
    told = play(bare, FilmCamera("yard", film).frames())
    assert [u.event.rule for u in told if u.kind == "start"] == ["picture"]


def test_counts_of_a_line_outlive_a_new_configuration(tmp_path, draw, detector, new_id):
    """The configuration changes at night, and the film of the next day goes on counting."""
    film = one_visit(draw, tmp_path)
    rules = load_rules(RULES)
    pipeline = Pipeline(PipelineSettings("yard", lines=rules.lines), detector, new_id)
    play(pipeline, FilmCamera("yard", film).frames())
    pipeline.reconfigure(PipelineSettings("yard", zones=rules.zones, lines=rules.lines))
    play(pipeline, FilmCamera("yard", film).frames())
    assert pipeline.rule_counts().crossed == {"door": {"person": {"in": 2}}}


def test_a_trigger_in_a_running_pipeline_sends_its_burst_over_the_wire(tmp_path, draw, detector, new_id):
    """The first person of the day walks in: beside his visit an event of the trigger, with first picture and burst, in order."""
    cutter = Cutter()
    watcher = Triggers("yard", TriggerSettings(first_today=TriggerLimits()), cutter, new_id)
    pipeline = Pipeline(PipelineSettings("yard"), detector, new_id, cutter=cutter, watchers=(watcher,))
    updates = play(pipeline, FilmCamera("yard", one_visit(draw, tmp_path)).frames())
    told = [update for update in updates if update.event.rule_kind == "trigger"]
    assert [update.kind for update in told] == ["start", "end"]
    assert pipeline.counts().dropped == {}
    translator = EventTranslator()
    (_, before), (wire, after) = (translator.translate(update, SEEN_BY) for update in told)
    assert [crop.kind for crop in after] == ["first", *["burst"] * (len(after) - 1)]
    assert 4 <= len(after) <= 12
    assert [crop.at_s for crop in after[1:]] == sorted({crop.at_s for crop in after[1:]})
    sent = [crop for crop in after if crop.jpeg is not None]
    assert {crop.sha256 for crop in before}.isdisjoint(crop.sha256 for crop in sent), "no picture is sent twice"
    assert all(crop.length_bytes == len(crop.jpeg) for crop in sent)
    assert wire.ended_at_s is not None


def test_a_crossing_without_privacy_is_told_without_a_picture():
    """Faces must be blurred and nobody can: the crossing is told and counted, no picture of it leaves."""
    refused = []
    cutter = Cutter(Privacy(blur=frozenset({"face"})))
    cutter.refused = refused.append
    events = VisitEvents("yard", cutter=cutter)
    now = Moment(5, 0.5, 1e9, 320, 240)
    frame = Frame("yard", 5, 0.5, 1e9, np.full((240, 320, 3), 90, np.uint8))
    walker = Track(1, (100.0, 60.0, 140.0, 160.0), 0.8, 0, "person", True, True, 5, 0, 0.0, 5, 0.5)
    step = RuleStep(crossings=[Crossing("c1", Line(), walker, "in", now, now)])
    told = events.step(frame, step, lambda label: 0.5)
    said = [(update.kind, update.event.direction, update.event.crops) for update in told]
    assert said == [("start", "in", ()), ("end", "in", ())]
    assert refused == ["privacy"]


def test_the_picture_of_what_stands_still_is_taken_once_and_of_what_is_hidden_never():
    """A parked car for an hour: its first picture, then not one candidate is looked at; a track that is not seen gives none."""
    asked = []

    class Watching(Cutter):
        def picture(self, frame, cut, longest_side_px):
            asked.append(frame.index)
            return super().picture(frame, cut, longest_side_px)

    events = VisitEvents("lot", cutter=Watching(), publish_after_s=1.0)
    picture = np.random.default_rng(2).integers(0, 255, (240, 320, 3), np.uint8)
    zone, told = Zone("lot"), []
    visit = None
    for number in range(200):
        now = Moment(number, number / 2, 1e9 + number / 2, 320, 240)
        size = 40.0 + number / 4
        car = Track(1, (100.0, 60.0, 100 + size, 160.0), 0.8, 0, "car", True, number % 7 != 3, 5, 0, 0.0, 5, 0.5, number > 0)
        if visit is None:
            box = car.xyxy
            visit = Visit("v1", zone, 1, "car", now, now, box, 0.8, 0.0, box, box, 0.0, 0.0, settled=True, raised=True)
        step = RuleStep(present=[(visit, car)], started=[visit] if number == 0 else [])
        told += events.step(Frame("lot", number, number / 2, 1e9, picture), step, lambda label: 0.5)
    assert asked == [0]
    assert [update.kind for update in told] == ["start"]


def test_revisions_only_grow_and_a_burst_keeps_one_place_for_each_frame():
    """The wire gets first, best, then the burst in order of its frames, whatever the order they were told in."""
    def crop(kind, frame):
        jpeg = f"{kind} {frame}".encode()
        return Crop(kind, jpeg, 9, 9, 0.5, 0.5, frame, frame / 10, 1e9 + frame / 10, (1.0, 1.0, 5.0, 5.0), (0, 0, 9, 9))

    def update(kind, revision, *crops):
        event = Event("e1", revision, "yard", 1, "person", "near_miss", "trigger", None, 1, 0.1, 1e9, 9, 0.9, 1e9 + 1,
                      kind != "end", 0.6, 0.5, (1.0, 1.0, 5.0, 5.0), 1, 9, 9, None, crops)  # fmt: skip
        return EventUpdate(kind, event)

    translator = EventTranslator()
    translator.translate(update("start", 0, crop("burst", 7), crop("first", 5), crop("burst", 3)), SEEN_BY)
    translator.translate(update("update", 1, crop("best", 9)), SEEN_BY)
    _, crops = translator.translate(update("end", 2, crop("burst", 11)), SEEN_BY)
    expected = ["first 5", "best 9", "burst 3", "burst 7", "burst 11"]
    assert [crop.sha256 for crop in crops] == [hashlib.sha256(text.encode()).hexdigest() for text in expected]
    assert [crop.jpeg is not None for crop in crops] == [False, False, False, False, True]
    _, fresh = translator.translate(update("start", 0), SEEN_BY)
    assert fresh == [], "an event that ended is forgotten"
