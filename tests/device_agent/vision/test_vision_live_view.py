"""Live view: one picture for one request, a burst that ends, nothing unasked, nothing that the policy or privacy forbids."""

import cv2
import numpy as np
import pytest

from device_agent.duties.showing import MOST_PER_HOUR, Showing, refusal_of
from device_agent.vision.annotate import Overlay, annotate
from device_agent.vision.cutter import Cutter, whole
from device_agent.vision.detector import Answer
from device_agent.vision.live_view import BURST_S, PATIENCE_S, LiveView, Wish
from device_agent.vision.motion import GateSettings, MotionGate
from device_agent.vision.privacy import Privacy
from device_agent.vision.rules import Moment
from device_agent.vision.scene import Scene
from device_agent.vision.types import Frame, Track
from device_agent.vision.zones import Line
from models.card import InputSpec, ModelCard, OutputSpec
from models.inference.types import Detections
from ota.wire.debug import DebugSession

CARD = ModelCard("finder", "detect", InputSpec(64, 64), OutputSpec("ssd_postprocess"), ("person", "bottle"))
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def scene(at_s: float = 0.0, *, seen: bool = True, index: int | None = None, colour: int = 128) -> Scene:
    """A grey picture with a person at (100, 50, 160, 200)."""
    picture = np.full((240, 320, 3), colour, np.uint8)
    frame = Frame("yard", round(at_s * 10) if index is None else index, at_s, 1000.0 + at_s, picture)
    gate = MotionGate(GateSettings()).step(frame, active_track=False)
    found = Detections.of([[100, 50, 160, 200], [200, 100, 220, 160]], [0.9, 0.6], [0, 1])
    track = Track(7, (100.0, 50.0, 160.0, 200.0), 0.9, 0, "person", True, True, 3, 0, 0.0, 3, at_s)
    moment = Moment(frame.index, at_s, frame.wall_s, 320, 240)
    answer = Answer(found, CARD, 1.0) if seen else None
    return Scene(frame, gate, answer, found if seen else None, [track] if seen else [], moment, ())


class Viewer:
    """A live view with what it kept and answered, and a clock that the test moves."""

    def __init__(self, privacy: Privacy | None = None, *, room: bool = True) -> None:
        self.now_s, self.stills, self.answers, self.room = 0.0, [], [], room
        self.cutter = Cutter(privacy)
        self.view = LiveView("yard", self.cutter, self.keep, self.answers.append, lambda: self.now_s)

    def keep(self, still) -> bool:
        self.stills.append(still)
        return self.room

    def see(self, at_s: float, **options) -> None:
        self.now_s = at_s
        one = scene(at_s, **options)
        if one.answer is not None:
            self.cutter.answered(one.frame, one.answer)
        assert self.view.saw(one) == ()
        self.view.tick()


def wish(frames: str = "last", asked: int = 1, until_s: float = 1e9) -> Wish:
    return Wish("s1", asked, frames, until_s)


def test_nothing_is_drawn_or_kept_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A week of frames costs nothing: the Cutter is not even asked."""
    viewer = Viewer()
    monkeypatch.setattr(viewer.cutter, "picture", lambda *_: pytest.fail("nobody asked"))
    for number in range(50):
        viewer.see(number / 10)
    assert (viewer.stills, viewer.answers) == ([], [])


def test_one_request_is_one_small_picture_with_what_was_seen_drawn_in() -> None:
    viewer = Viewer()
    viewer.view.ask(wish())
    viewer.see(1.0)
    viewer.see(1.1)
    (still,) = viewer.stills
    assert (still.purpose, still.name, still.camera, still.frame) == ("debug", "s1", "yard", 10)
    assert (still.width_px, still.height_px) == (320, 240)
    picture = cv2.imdecode(np.frombuffer(still.jpeg, np.uint8), cv2.IMREAD_COLOR)
    edge = picture[51:199, 99:102].reshape(-1, 3).astype(int)
    assert np.abs(edge - 128).max(axis=0).min() > 40, "the box of the track is drawn"
    (answer,) = viewer.answers
    assert (answer.state, answer.reason, answer.asked, len(answer.pictures)) == ("done", "", 1, 1)
    assert answer.pictures[0].frame == 10


def test_a_burst_lasts_ten_seconds_at_three_a_second_and_then_ends() -> None:
    viewer = Viewer()
    viewer.view.ask(wish("burst"))
    for number in range(400):
        viewer.see(number / 15)
    assert 29 <= len(viewer.stills) <= 31
    assert viewer.stills[-1].at_s <= BURST_S
    (answer,) = viewer.answers
    assert (answer.state, len(answer.pictures)) == ("done", len(viewer.stills))


def test_a_burst_is_cut_short_by_the_end_of_the_session_or_of_the_film() -> None:
    """The operator ends the session after three seconds; or the film ends: what there is is told as partial."""
    for end, reason in (("session", "ended"), ("until", "ended"), ("film", "silent")):
        viewer = Viewer()
        viewer.view.ask(wish("burst", until_s=3.0 if end == "until" else 1e9))
        for number in range(31):
            viewer.see(number / 10)
        if end == "session":
            viewer.view.cancel({"another"})
        if end == "film":
            viewer.view.finish()
        viewer.see(3.5)
        count = len(viewer.stills)
        assert count < 12
        (answer,) = viewer.answers
        assert (answer.state, answer.reason, len(answer.pictures)) == ("partial", reason, count)


def test_a_person_who_cannot_be_blurred_is_not_shown_but_the_next_answered_frame_is() -> None:
    """The gate is closed for a while, so nobody looks: the picture waits for a frame in which persons were looked for."""
    viewer = Viewer(Privacy(blur=frozenset({"person"})))
    viewer.view.ask(wish())
    viewer.see(1.0, seen=False)
    viewer.see(1.1, seen=False)
    assert viewer.stills == []
    viewer.see(1.2)
    assert [still.frame for still in viewer.stills] == [12]
    viewer.view.ask(wish(asked=2))
    viewer.see(2.0, seen=False)
    viewer.see(2.0 + PATIENCE_S + 1, seen=False)
    assert [(one.state, one.reason) for one in viewer.answers] == [("done", ""), ("refused", "privacy")]


def test_a_camera_that_gives_nothing_and_a_full_disk_are_said() -> None:
    viewer = Viewer()
    viewer.view.ask(wish())
    viewer.view.ask(wish(asked=2))
    assert [one.reason for one in viewer.answers] == ["busy"]
    viewer.now_s = PATIENCE_S + 1
    viewer.view.tick()
    assert [(one.asked, one.reason) for one in viewer.answers] == [(2, "busy"), (1, "silent")]
    full = Viewer(room=False)
    full.view.ask(wish())
    full.see(1.0)
    assert [(one.state, one.reason) for one in full.answers] == [("refused", "spool")]


def test_what_is_masked_stays_black_under_all_that_is_drawn() -> None:
    """Two frames that differ behind the mask alone give the same annotated picture."""
    pictures = []
    for colour in (10, 250):
        one = scene(0.0)
        one.frame.picture_bgr[:, :158] = colour
        cutter = Cutter(Privacy((LEFT_HALF,)))
        overlay = Overlay((("gate", LEFT_HALF),), (Line("door", points=((0.1, 0.1), (0.9, 0.9))),))
        pictures.append(annotate(cutter.picture(one.frame, whole(one.frame), 320), one, overlay).copy())
    assert (pictures[0] == pictures[1]).all()


@pytest.mark.parametrize("size", [(2, 2), (40, 30), (1920, 1080)])
def test_drawing_works_on_any_size_and_with_any_words(size: tuple[int, int]) -> None:
    """A label of a stranger's model, a zone with a long name in another script, boxes outside of the picture."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    one = scene(0.0)
    frame = Frame("\u0434\u0432\u043e\u0440 " * 40, 1, 0.0, 0.0, picture)
    track = Track(-3, (-1e6, -5.0, 1e6, 9.0), 0.5, 0, "\x1b[31m\u20ac" * 50, True, False, 1, 0, 0.0, 0, 0.0)
    odd = Scene(frame, one.gate, one.answer, one.reported, [track], one.moment, ())
    made = Cutter().picture(frame, whole(frame), 5000)
    drawn = annotate(made, odd, Overlay((("\u95e8" * 300, LEFT_HALF),)))
    assert drawn.shape == picture.shape


class Board:
    """Showing over two cameras, with what it answered and remembered."""

    def __init__(self, refusal: str | None = None, marks: dict[str, int] | None = None) -> None:
        self.now_s, self.answers, self.asked, self.marks = 100.0, [], [], dict(marks or {})
        board = self

        class View:
            """Takes wishes, shows nothing."""

            def __init__(self, camera: str) -> None:
                self.camera = camera

            def ask(self, wish: Wish) -> None:
                board.asked.append((self.camera, wish.asked, wish.frames))

            def cancel(self, sessions: set[str]) -> None:
                board.cancelled = sessions

            def tick(self) -> None:
                """Nothing waits."""

        def keep(marks: dict[str, int]) -> None:
            self.marks = marks

        self.showing = Showing(
            {"yard": View("yard"), "shed": View("shed")}, refusal, self.answers.append, now_s=lambda: 1000.0 + self.now_s,
            steady_s=lambda: self.now_s, marks=self.marks, keep_marks=keep,
        )  # fmt: skip


def session(
    asked: int = 1, frames: str = "last", camera: str | None = None, until_s: float = 50_000.0, name: str = "s1"
) -> DebugSession:
    return DebugSession(id=name, until_s=until_s, log_level="info", frames=frames, frames_asked=asked, camera=camera)


def test_each_request_is_answered_once_also_over_a_restart() -> None:
    """The same assignment is read again and again; the board restarts; then somebody asks anew."""
    board = Board()
    for _ in range(3):
        board.showing.adopt([session()])
    assert board.asked == [("yard", 1, "last"), ("shed", 1, "last")]
    again = Board(marks=board.marks)
    again.showing.adopt([session()])
    assert again.asked == []
    again.showing.adopt([session(asked=2, frames="burst", camera="shed")])
    assert again.asked == [("shed", 2, "burst")]
    again.showing.adopt([])
    assert again.cancelled == set(), "sessions that the assignment no longer names end at once"


@pytest.mark.parametrize(
    "policy",
    [
        {"debug_sessions": True, "live_view": False, "upload_classes": ("crop", "debug")},
        {"debug_sessions": False, "live_view": True, "upload_classes": ("crop", "debug")},
        {"debug_sessions": True, "live_view": True, "upload_classes": ("crop",)},
    ],
)
def test_a_captured_server_that_asks_for_live_view_is_refused_with_the_reason_for_all_to_read(policy, caplog) -> None:
    """The server's keys are stolen: assignments with requests for pictures, validly signed. The policy allows none."""
    refusal = refusal_of(**policy)
    assert refusal is not None
    board = Board(refusal)
    board.showing.adopt([session(frames="burst", camera="yard")])
    assert board.asked == []
    (answer,) = board.answers
    assert (answer.state, answer.reason, answer.detail, answer.camera) == ("refused", "policy", refusal, "yard")
    assert "s1" in caplog.text
    assert "policy.toml" in caplog.text
    assert refusal_of(debug_sessions=True, live_view=True, upload_classes=("debug",)) is None


def test_a_captured_server_makes_no_film_out_of_single_pictures() -> None:
    """It asks every five seconds, all day, where the policy does allow live view: an hour has so many pictures and no more."""
    board = Board()
    for number in range(1, 101):
        board.now_s += 5.0
        board.showing.adopt([session(asked=number, camera="yard")])
    assert len(board.asked) == MOST_PER_HOUR
    assert {answer.reason for answer in board.answers} == {"too_often"}
    board.now_s += 3600.0
    board.showing.adopt([session(asked=101, camera="yard")])
    assert len(board.asked) == MOST_PER_HOUR + 1


def test_a_request_for_nothing_for_an_unknown_camera_or_after_the_end_shows_nothing() -> None:
    board = Board()
    board.showing.adopt([
        session(frames="none"), session(frames="film", name="s2"), session(until_s=1000.0, name="s3"),
        session(camera="attic", name="s4"),
    ])  # fmt: skip
    assert board.asked == []
    assert [(one.session, one.reason) for one in board.answers] == [("s4", "camera")]
