"""The greedy configuration: 2.7 KiB that ask for fifty equal zones and the largest crops must not exhaust a small board."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from device_agent.configuration.plan import CameraPlan, Plan
from device_agent.configuration.translate import judge
from device_agent.spool.spool_disk import READ_BYTES, Outbox
from device_agent.vision.best_crop import SMALL_BOARD, CropSettings
from device_agent.vision.cutter import Cutter
from device_agent.vision.pipeline import PipelineSettings
from device_agent.vision.rules import Crossing, Moment, RuleStep, Visit
from device_agent.vision.types import Frame, Track
from device_agent.vision.visit_events import VisitEvents
from device_agent.vision.zones import Line, Zone
from ota.wire.configuration_faults import ConfigurationError
from tests.fakes.facts import make_crop, make_event

ZONES = [Zone(f"z{n}") for n in range(50)]
NOISE = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8)


def crops_of(basis: CropSettings, **wanted: int) -> CropSettings:
    """What a board makes of a configuration's crops."""
    plan = Plan((CameraPlan("yard", PipelineSettings("yard", crops=basis)),))
    return judge({"every_camera": {"crops": wanted}}, plan, ["person"]).cameras[0].pipeline.crops


LARGEST = {"longest_side_px": 1920, "jpeg_quality": 95, "max_bytes": 512 * 1024}


class Counting(Cutter):
    """How often a picture is made."""

    made = 0

    def picture(self, frame, cut, longest_side_px):
        self.made += 1
        return super().picture(frame, cut, longest_side_px)


def visit(track: Track, zone: Zone) -> Visit:
    """A stay that has begun and raised nothing yet."""
    now = Moment(0, 0.0, 1e9, 1920, 1080)
    said = {
        "id": f"{track.id}-{zone.name}", "zone": zone, "track": track.id, "label": "person", "entered": now, "last": now,
        "proven": now, "box": track.xyxy, "score": 0.8, "born_s": 0.0, "first_box": track.xyxy, "rest_box": track.xyxy,
        "rest_s": 0.0, "inside_from_s": 0.0, "settled": True,
    }  # fmt: skip
    return Visit(**{field.name: said[field.name] for field in fields(Visit) if field.name in said})


class Crowd:
    """``people`` stand in all fifty zones at once; visits begin, and are told only when ``step`` is asked to."""

    def __init__(self, people: int, settings: CropSettings) -> None:
        self.cutter, self.settings = Counting(), settings
        self.events = VisitEvents("yard", settings, cutter=self.cutter)
        left = [10.0 + n * 1500.0 / people for n in range(people)]
        self.tracks = [
            Track(n, (left[n], 100.0, left[n] + 400.0, 1000.0), 0.8, 0, "person", True, True, 5, 0, 0.0, 5, 0.5)
            for n in range(people)
        ]
        self.visits = [(visit(track, zone), track) for track in self.tracks for zone in ZONES]

    def step(self, number: int, *, tell: bool = False, cross: bool = False) -> list[bytes]:
        """The pictures of this frame's events."""
        for one, _ in self.visits:
            one.raised = one.raised or tell
        moment = Moment(number, number / 5, 1e9, 1920, 1080)
        crossings = [Crossing(f"{t.id}-c", Line(), t, "in", moment, moment) for t in self.tracks] if cross else []
        step = RuleStep(present=self.visits, started=[v for v, _ in self.visits] if tell else [], crossings=crossings)
        updates = self.events.step(Frame("yard", number, number / 5, 1e9, NOISE), step, lambda label: 0.5)
        return [crop.jpeg for update in updates for crop in update.event.crops]

    def kept_bytes(self) -> int:
        """Of all visits that wait, each buffer once."""
        kept = [state.crop.best.jpeg for state in self.events._open.values() if state.crop.best is not None]
        return sum({id(jpeg): len(jpeg) for jpeg in kept}.values())


@pytest.mark.parametrize(("key", "value"), [("longest_side_px", 4096), ("max_bytes", 4 * 1024 * 1024)])
def test_crops_as_large_as_a_film_poster_are_refused(key: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=key):
        crops_of(CropSettings(), **{key: value})


def test_a_board_with_little_memory_takes_less_than_the_wire_allows() -> None:
    """The same configuration goes to a whole fleet: a Zero 2 W takes of it what it can bear and does not refuse it."""
    assert crops_of(CropSettings(), **LARGEST).max_bytes == 512 * 1024
    small = crops_of(SMALL_BOARD, **LARGEST)
    assert (small.longest_side_px, small.max_bytes) == (SMALL_BOARD.most_px, SMALL_BOARD.most_bytes)
    assert crops_of(SMALL_BOARD, max_bytes=50_000).max_bytes == 50_000


def test_fifty_zones_and_a_line_share_one_picture_of_each_person() -> None:
    """Three people in fifty zones at once, who cross a line too: three pictures are made and kept, not 153."""
    crowd = Crowd(3, crops_of(CropSettings(), **LARGEST))
    told = crowd.step(0, tell=True, cross=True)
    assert len(told) == 153
    assert len({id(jpeg) for jpeg in told}) == 3
    assert crowd.cutter.made == 3


def test_the_pictures_that_wait_to_be_told_are_bounded_all_together() -> None:
    """Thirty people, large noisy pictures that no JPEG makes small: the later ones are smaller, the last have none."""
    settings = crops_of(SMALL_BOARD, **LARGEST)
    crowd = Crowd(30, settings)
    crowd.step(0)
    assert settings.open_bytes / 2 < crowd.kept_bytes() <= settings.open_bytes
    told = crowd.step(1, tell=True)
    assert 0 < sum({id(jpeg): len(jpeg) for jpeg in told}.values()) <= settings.open_bytes
    assert crowd.kept_bytes() == 0, "what was told is the outbox's: no second copy waits for the visit's end"


def test_the_next_people_have_their_pictures_when_the_first_were_told() -> None:
    """The budget is of what waits, not of what ever was."""
    settings = crops_of(SMALL_BOARD, **LARGEST)
    crowd = Crowd(12, settings)
    crowd.step(0, tell=True)
    later = Crowd(2, settings)
    later.events = crowd.events
    for one, _ in later.visits:
        one.id = f"later-{one.id}"
    assert len({id(jpeg) for jpeg in later.step(10, tell=True)}) == 2


def test_what_waits_in_the_outbox_is_not_read_into_memory_at_once(tmp_path: Path) -> None:
    """Forty events of 1 MiB, as a greedy configuration leaves them: at most 8 MiB are in memory, all arrive in order."""
    box = Outbox(tmp_path, max_bytes=2**27, min_free_bytes=0)
    for n in range(40):
        box.add_event(make_event(n), [make_crop(n, size=2**20)])
    seen: list[str] = []
    while box.count("events"):
        waiting = box.waiting("events", 40)
        assert 1 <= sum(crop.length_bytes for entry in waiting for crop in entry.crops) <= READ_BYTES
        seen += [str(entry.header.message["id"]) for entry in waiting]
        box.stored("events", waiting[-1].header.sequence)
    assert seen == [f"ev{n}" for n in range(40)]


def test_an_entry_that_alone_is_larger_goes_alone(tmp_path: Path) -> None:
    """A bound that lets nothing through would hold up all."""
    box = Outbox(tmp_path, max_bytes=2**27, min_free_bytes=0)
    for n in range(2):
        box.add_event(make_event(n), [make_crop(n)])
    assert [entry.header.sequence for entry in box.waiting("events", 40, max_bytes=1)] == [1]
