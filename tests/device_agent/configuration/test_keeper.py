"""A new configuration on a board: judged, tried, kept or taken back; and no cut of the power leaves an unproven one in force."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import ota.durable_disk
from device_agent.configuration.keeper import MAX_ATTEMPTS, RETRY_AFTER_S, Keeper
from device_agent.configuration.kept_disk import KeptFile
from device_agent.configuration.plan import BoardPlan, CameraPlan, Plan
from device_agent.configuration.translate import translated
from device_agent.configuration.trial import DEADLINE_S, Sight
from device_agent.vision.motion import GateSettings
from device_agent.vision.pipeline import PipelineSettings
from device_agent.vision.trigger_settings import make_triggers
from ota.wire.configuration import digest_of
from ota.wire.configuration_faults import ConfigurationError, parse
from ota.wire.polygons import points_of

SQUARE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
MASK = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.2))
FIVE, SIX = {"every_camera": {"fps": 5}}, {"every_camera": {"fps": 6}}
DOOR = {"cameras": {"gate": {"zones": [{"name": "door", "polygon": SQUARE, "classes": ["person"]}]}}}
FORKLIFT = {"cameras": {"gate": {"zones": [{"name": "door", "polygon": SQUARE, "classes": ["forklift"]}]}}}


class PowerCut(BaseException):
    """Nothing after it happens."""


@dataclass
class Camera:
    """What a pipeline counts; ``pending`` until it is given a frame."""

    frames: int = 0
    looked: int = 0
    failures: int = 0
    failure: str = ""
    pending: bool = False


@dataclass
class Board:
    """A board with two cameras, its disk, its clock, and the plan that its cameras have."""

    folder: Path
    cameras: dict[str, Camera] = field(default_factory=lambda: {"gate": Camera(), "yard": Camera()})
    labels: tuple[str, ...] = ("person", "car")
    now_s: float = 1000.0
    plans: list[Plan] = field(default_factory=list)
    refuses: Callable[[Plan], None] = lambda plan: None
    told: int = 0

    def __post_init__(self) -> None:
        self.keeper = self.start()

    def start(self) -> Keeper:
        basis = Plan(tuple(CameraPlan(name, PipelineSettings(name), fps=10.0, masks=(MASK,)) for name in self.cameras))

        def apply(plan: Plan) -> None:
            self.refuses(plan)
            self.plans.append(plan)
            for camera in self.cameras.values():
                camera.pending = True

        def tell() -> None:
            self.told += 1

        sights = lambda: [  # noqa: E731
            Sight(name, one.frames, one.looked, one.failures, one.failure, one.pending) for name, one in self.cameras.items()
        ]
        self.keeper = Keeper(
            KeptFile(self.folder / "kept"), basis, apply, sights, lambda: self.labels, lambda: self.now_s, told=tell
        )
        self.keeper.start()
        return self.keeper

    def see(self, *names: str, answered: bool = True, seconds: float = 1.0) -> None:
        """A second passes; these cameras (all without names) give frames."""
        for name in names or tuple(self.cameras):
            camera = self.cameras[name]
            camera.pending = False
            camera.frames += 10
            camera.looked += 10 if answered else 0
        self.now_s += seconds
        self.keeper.step()

    def settle(self, rounds: int = 6, **how: Any) -> tuple[str, str]:
        for _ in range(rounds):
            self.see(**how)
        return self.said()

    def said(self) -> tuple[str, str]:
        health = self.keeper.health
        assert health is not None
        return health.state, health.reason

    @property
    def fps(self) -> float | None:
        """What the camera ``gate`` was told last."""
        return self.plans[-1].cameras[0].fps


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_before_the_server_said_anything_agent_toml_holds_and_nothing_is_told(board: Board) -> None:
    board.see()
    assert (board.keeper.health, board.fps, board.told) == (None, 10.0, 0)


def test_a_good_one_is_tried_seen_and_kept_over_a_restart(board: Board) -> None:
    """Put in between two frames, answered by all cameras, then it is the last good one: a restart begins with it."""
    board.keeper.want(FIVE)
    board.keeper.step()
    assert (board.said()[0], board.fps) == ("trying", 5.0)
    assert board.settle() == ("applied", "")
    assert board.keeper.health.digest == board.keeper.health.running == digest_of(FIVE)
    board.start()
    assert (board.fps, board.said()) == (5.0, ("applied", ""))


def test_a_faulty_one_is_refused_as_a_whole_with_all_faults(board: Board) -> None:
    """Unknown camera, unknown class, crossed polygon, unknown key: told together; the fps beside them is not taken either."""
    board.keeper.want({
        "every_camera": {"fps": 5, "live_view": True},
        "cameras": {
            "gaet": {}, "gate": {"zones": [{"name": "a", "polygon": [[0, 0], [1, 1], [1, 0], [0, 1]], "classes": ["dog"]}]},
        },
    })  # fmt: skip
    state, reason = board.settle()
    assert state == "refused"
    for part in ("every_camera.live_view", "cameras.gaet", "zones[0].polygon: crosses", "knows no class 'dog'"):
        assert part in reason
    assert (board.fps, len(board.plans)) == (10.0, 1)
    board.keeper.want(SIX)
    assert (board.settle(), board.fps) == (("applied", ""), 6.0), "the next word is judged afresh"


def nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize("monster", [
    {"every_camera": nested(50_000)}, {"cameras": {str(number): {} for number in range(30_000)}},
    {"every_camera": {"fps": 10**300}}, {"every_camera": {"blur": ["\ud800"]}},
], ids=["deep", "huge", "number", "text"])  # fmt: skip
def test_a_captured_servers_monster_changes_nothing(board: Board, monster: dict[str, Any]) -> None:
    """Fifty thousand brackets, thirty thousand cameras: refused in words; what runs goes on, also over a restart."""
    board.keeper.want(FIVE)
    board.settle()
    board.keeper.want(monster)
    state, reason = board.settle()
    assert (state, bool(reason), len(reason) < 4000, board.fps) == ("refused", True, True, 5.0)
    board.start()
    assert (board.said(), board.fps) == (("applied", ""), 5.0)
    board.keeper.want(monster)
    board.settle()
    board.keeper.want(SIX)
    assert (board.settle(), board.fps) == (("applied", ""), 6.0)


def test_a_pipeline_that_fails_with_it_goes_back_to_the_last_good_one(board: Board) -> None:
    """The new rules raise on the third frame."""
    board.keeper.want(FIVE)
    board.settle()
    board.keeper.want(SIX)
    board.keeper.step()
    board.cameras["yard"].failures, board.cameras["yard"].failure = 1, "ZeroDivisionError: division by zero"
    state, reason = board.settle()
    assert (state, reason, board.fps) == ("rolled_back", "camera yard: ZeroDivisionError: division by zero", 5.0)
    tried = len(board.plans)
    board.start()
    assert (board.settle(40)[0], board.fps) == ("rolled_back", 5.0)
    assert len(board.plans) == tried + 1, "put back at the start, and not tried again"


def test_frames_without_answers_go_back_and_a_camera_without_frames_is_waited_for_only_so_long(board: Board) -> None:
    """No answered frame within the deadline while frames come; an unplugged camera is no reason to go back."""
    board.keeper.want(FIVE)
    board.keeper.step()
    board.see("gate", answered=False)
    assert board.said()[0] == "trying"
    board.see("gate", answered=False, seconds=DEADLINE_S + 10)
    state, reason = board.said()
    assert (state, board.fps) == ("rolled_back", 10.0)
    assert "camera gate" in reason
    assert "no answer" in reason
    board.keeper.want(SIX)
    board.keeper.step()
    board.see("gate")
    assert board.said()[0] == "trying", "yard has not given a frame yet"
    board.see("gate", seconds=DEADLINE_S + 10)
    assert (board.said(), board.fps) == (("applied", ""), 6.0)


def test_a_detector_that_answers_nobody_is_no_fault_of_the_configuration(board: Board) -> None:
    """It hangs for a minute just when the configuration comes: the last good one is not answered either. A second trial."""
    board.keeper.want(FIVE)
    board.keeper.step()
    board.settle(2, answered=False, seconds=DEADLINE_S)
    assert board.said()[0] == "rolled_back"
    board.settle(3, answered=False, seconds=DEADLINE_S)
    assert (board.settle(8), board.fps) == (("applied", ""), 5.0)


def test_what_a_room_refuses_to_take_is_taken_back(board: Board) -> None:
    def refuses(plan: Plan) -> None:
        if plan.cameras[0].fps == 5.0:
            raise ValueError("five is not possible here")

    board.refuses = refuses
    board.keeper.want(FIVE)
    assert board.settle() == ("rolled_back", "ValueError: five is not possible here")
    assert board.fps == 10.0


def test_a_class_that_the_next_model_knows_is_judged_again_and_one_it_lacks_is_said(board: Board) -> None:
    """A zone for forklifts comes before the model that knows them; later a model without them: it runs on, and says so."""
    board.keeper.want(FORKLIFT)
    assert board.settle()[0] == "refused"
    board.labels = ("person", "car", "forklift")
    assert board.settle() == ("applied", "")
    assert board.plans[-1].cameras[0].pipeline.zones[0].classes == frozenset({"forklift"})
    board.labels = ("person", "car")
    state, reason = board.settle()
    assert (state, board.keeper.health.running) == ("applied", digest_of(FORKLIFT))
    assert "cameras.gate.zones[0].classes[0]: the model knows no class 'forklift'" in reason
    board.start()
    assert board.plans[-1].cameras[0].pipeline.zones, "a restart keeps it, silent as it is"
    board.labels = ("forklift",)
    assert board.settle() == ("applied", "")


def test_a_newer_word_ends_a_trial_and_an_older_one_needs_none(board: Board) -> None:
    board.keeper.want(FIVE)
    board.settle()
    board.keeper.want(SIX)
    board.keeper.step()
    board.keeper.want(FIVE)
    board.keeper.step()
    assert (board.said(), board.fps) == (("applied", ""), 5.0), "the last good one is good"
    board.keeper.want({})
    assert (board.settle(), board.fps) == (("applied", ""), 10.0), "an empty one gives agent.toml back"


def test_an_agent_that_dies_of_it_twice_leaves_it_alone(board: Board) -> None:
    """The new settings bring the whole process down (a crash in native code): each start begins with the last good one."""
    board.keeper.want(FIVE)
    board.settle()
    board.keeper.want(SIX)
    for attempt in range(MAX_ATTEMPTS):
        board.now_s += RETRY_AFTER_S
        board.keeper.step()
        assert (board.said()[0], board.fps) == ("trying", 6.0), attempt
        board.start()
        assert board.fps == 5.0
    board.now_s += RETRY_AFTER_S
    state, reason = board.settle(40)
    assert (state, board.fps) == ("rolled_back", 5.0)
    assert "ended 2 times" in reason


def test_cameras_that_are_gone_from_agent_toml_do_not_stop_the_agent(board: Board) -> None:
    """The good configuration names a camera that somebody took out of agent.toml: agent.toml alone holds, and it is said."""
    board.keeper.want({"cameras": {"yard": {"fps": 3}}})
    assert board.settle() == ("applied", "")
    del board.cameras["yard"]
    board.start()
    assert board.fps == 10.0
    assert "no such camera" in board.settle()[1]


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"v": 9}', b'{"good": 3}', b"\xff\xfe", b"[" * 100_000, b"x" * 2_000_000])
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, data: bytes) -> None:
    """A card that rots: agent.toml holds, the file stays for whoever wants to look, and the next word of the server is kept."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "kept.json").write_bytes(data)
    board = Board(tmp_path)
    assert board.fps == 10.0
    assert (tmp_path / "kept" / "kept.json.unreadable").read_bytes() == data
    board.keeper.want(FIVE)
    assert board.settle() == ("applied", "")


@pytest.mark.parametrize("full", [False, True], ids=["power-cut", "disk-full"])
def test_a_cut_at_any_step_of_any_write_leaves_the_last_good_one(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """FIVE is good, SIX is on its way: the power goes (or the disk is full) before and after each system call of each write.

    After the restart FIVE holds until SIX was seen to run; then SIX does, whatever was cut.
    """
    cuts = 0
    for step in range(200):
        board = Board(tmp_path_factory.mktemp("board"))
        board.keeper.want(FIVE)
        board.settle()
        with monkeypatch.context() as patch:
            reached = cut_disk(patch, step, OSError(28, "No space left on device") if full else PowerCut())
            board.keeper.want(SIX)
            try:
                board.settle(3)
            except PowerCut:
                pass
        if not reached():
            break
        cuts += 1
        if not full:
            board.start()
            good = board.keeper._kept.good
            assert board.fps == good["every_camera"]["fps"], "a start has what is written down as good, and nothing else"
            assert good in (FIVE, SIX)
            assert not list((board.folder / "kept").glob("*.part"))
            board.keeper.want(SIX)  # the assignment is there still
        assert board.settle(40)[0] == "applied", step
        assert board.fps == 6.0
    assert cuts > 10


def cut_disk(patch: pytest.MonkeyPatch, step: int, error: BaseException) -> Callable[[], bool]:
    """The step-th system call of ota.durable_disk fails; after a power cut nothing is tidied up, and no other call works."""
    seen, struck = [0], [False]

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if struck[0] and isinstance(error, PowerCut):
                raise error
            now = seen[0]
            seen[0] += 1
            if now == step:
                struck[0] = True
                raise error
            return real(*arguments, **named)

        return call

    for name in ("open", "write", "fsync", "fchmod"):
        patch.setattr(ota.durable_disk.os, name, wrapped(getattr(os, name)))
    patch.setattr(Path, "replace", wrapped(Path.replace))
    patch.setattr(Path, "unlink", wrapped(Path.unlink))
    return lambda: struck[0]


def test_a_plan_is_agent_toml_with_the_configuration_over_it() -> None:
    """Masks and blur are added, never taken away; a rate only falls; the gate's three thresholds move together."""
    own = CameraPlan("gate", PipelineSettings("gate"), fps=8.0, masks=(MASK,), blur=("face",), recall_per_day=2)
    basis = Plan((own, CameraPlan("yard", PipelineSettings("yard"))))
    said = {
        "every_camera": {"masks": [], "blur": [], "gate": {"sensitivity": 1}, "sure_after_s": 7},
        "cameras": {"gate": {"fps": 20, "masks": [{"polygon": SQUARE}], "blur": ["person"], "min_score": {"car": 0.7},
                             "sureness": 0, "zones": [],
                             "lines": [{"name": "sill", "points": [[0, 0.5], [1, 0.5]]}], "enabled": False,
                             "triggers": {"near_miss": {"pairs": [["person", "car"]]}, "first_today": {}}}},
        "local_output": {"mqtt": False, "gpio": True}, "shadow_duty": 0.2, "log_level": "warning",
    }  # fmt: skip
    made = translated(parse(said), basis)
    gate, yard = made.cameras
    assert (gate.masks, gate.blur) == ((MASK, points_of(SQUARE)), ("face", "person"))
    assert (gate.fps, gate.recall_per_day, gate.enabled, yard.enabled) == (8.0, 2, False, True)
    asked = make_triggers(dict(gate.triggers), "triggers", [])
    assert asked is not None
    assert asked.on
    assert asked.near_miss is not None
    assert [(one.pipeline.rules.sure_share, one.pipeline.rules.sure_after_s) for one in (gate, yard)] == [(0, 7), (0.3, 7)]
    assert (gate.pipeline.min_score, gate.pipeline.lines[0].name) == ({"car": 0.7}, "sill")
    built_in = GateSettings()
    assert yard.pipeline.gate.difference == pytest.approx(built_in.difference / 2)
    assert yard.pipeline.gate.tolerance == pytest.approx(built_in.tolerance / 2)
    assert made.board == BoardPlan(0.2, frozenset({"mqtt"}), "warning")
    assert translated(parse({}), basis) == basis
    assert translated(parse({"every_camera": {"gate": {"sensitivity": 0.5}}}), basis) == basis


def test_a_time_zone_that_this_board_does_not_know_is_refused() -> None:
    basis = Plan((CameraPlan("gate", PipelineSettings("gate")),))
    with pytest.raises(ConfigurationError) as caught:
        translated(parse({"every_camera": {"timezone": "Mars/Olympus"}}), basis)
    assert "Mars/Olympus" in str(caught.value)


# -- what a wanted configuration hides ------------------------------------------------------------------------------------

WALL = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]
HIDDEN = {"masks": [{"polygon": WALL}], "blur": ["person"]}
ODD_ZONE = {"zones": [{"name": "door", "polygon": SQUARE, "classes": ["unicorn"]}]}


def hidden(board: Board, camera: int = 0) -> tuple[bool, tuple[str, ...]]:
    """Whether the wall is masked on a camera, and what is blurred there, by the plan that it has now."""
    plan = board.plans[-1].cameras[camera]
    assert plan.masks[0] == MASK, "the board's own mask is there whatever happens"
    return points_of(WALL) in plan.masks, plan.blur


def test_a_mask_holds_though_the_zone_beside_it_names_a_class_that_the_model_does_not_know(board: Board) -> None:
    """The neighbours asked for a mask; in the same file somebody mistyped a class. Refused as a whole, the mask with it: a whole
    night unmasked. Its masks and blur hold, over a restart too; nothing else of it does."""
    board.keeper.want(FIVE)
    board.settle()
    wanted = {"every_camera": {**HIDDEN, "fps": 7}, "cameras": {"gate": ODD_ZONE}}
    board.keeper.want(wanted)
    board.keeper.step()
    state, reason = board.said()
    assert (state, "unicorn" in reason, reason.endswith("its masks and blur hold all the same")) == ("refused", True, True)
    assert (board.fps, hidden(board), hidden(board, 1)) == (5.0, (True, ("person",)), (True, ("person",)))
    board.start()
    assert (board.fps, hidden(board)) == (5.0, (True, ("person",)))
    put = len(board.plans)
    board.settle()
    assert len(board.plans) == put, "once"
    board.keeper.want(SIX)
    board.settle()
    assert (board.fps, hidden(board)) == (6.0, (False, ())), "the next word is what counts"


def test_masks_of_one_that_is_rolled_back_hold_too(board: Board) -> None:
    """The pipeline fails with it, for another reason than its masks: the last good one comes back, masked."""
    board.keeper.want({"every_camera": {**HIDDEN, "fps": 7}})
    board.keeper.step()
    board.cameras["gate"].failures += 1
    board.see()
    assert (board.said()[0], board.fps, hidden(board)) == ("rolled_back", 10.0, (True, ("person",)))


def test_masks_hold_while_a_configuration_cannot_be_written_down(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, so that nothing is tried: what it hides is hidden."""
    def full(self: KeptFile, kept: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeptFile, "save", full)
    board.keeper.want({"every_camera": {**HIDDEN, "fps": 7}})
    board.settle()
    assert (board.fps, hidden(board)) == (10.0, (True, ("person",)))


@pytest.mark.parametrize(("wanted", "expected"), [
    ({"every_camera": {"masks": [{"polygon": "all"}, 5, None, {"polygon": WALL, "nmae": "x"}], "blur": [5, "", "person"]}},
     (True, ("person",))),
    ({"every_camera": HIDDEN, "cameras": {"gate": {"masks": [], "blur": "no", "x": 1}}}, (False, ("person",))),
    ({"every_camera": 5, "cameras": {"gate": {**HIDDEN, "fps": "fast"}}}, (True, ("person",))),
    ({"every_camera": {"masks": [{"polygon": [[0, 0], [1, 1], [1, 0], [0, 1]]}], "fps": -1}}, (False, ())),
    ({"every_camera": [], "cameras": 5}, (False, ())),
    ({"every_camera": {"masks": [{"polygon": [[0, 0], [float("nan"), 0], [1, 1]]}], "fps": -1}}, (False, ())),
])  # fmt: skip
def test_of_a_broken_one_each_mask_that_can_be_read_holds(board: Board, wanted: dict[str, Any], expected: Any) -> None:
    """Wrong types, unknown keys, a polygon that crosses itself: each mask and label for itself, and never more than words."""
    board.keeper.want(wanted)
    board.settle()
    assert board.said()[0] == "refused"
    assert hidden(board) == expected


def test_an_unfinished_trial_ends_when_the_next_one_is_refused(board: Board) -> None:
    """Before the first was seen to run the second comes and is faulty: the cameras go back to what is known to be good."""
    board.keeper.want(FIVE)
    board.keeper.step()
    board.keeper.want({"every_camera": {"fps": 7}, "cameras": {"gate": ODD_ZONE}})
    board.keeper.step()
    assert (board.said()[0], board.fps) == ("refused", 10.0)
