"""The power is cut at every step of an update: before and after every write, at every action, at every report."""

import pytest

from device_agent.update.selftest import SelftestResult
from device_agent.update.states import STATES
from ota.trust.refusal import Refusal

BAD = SelftestResult(code="acceptance", detail="AP50 0.03")


class CutAt:
    """Counts the steps and cuts at one of them; None only counts."""

    def __init__(self, step: int | None) -> None:
        self.step, self.steps, self.where = step, 0, ""

    def __call__(self, what: str) -> bool:
        self.steps += 1
        if self.steps - 1 == self.step:
            self.where = what
            return True
        return False


def live(world, story: str) -> None:
    """What the world does to the board until its deployment ends; the same after a restart as before."""
    for _ in range(120):
        world.ticks(seconds=10.0)
        deployment = world.updater._ledger.state.deployment
        if deployment is not None and deployment.settled:
            return
        if world.updater.status.state == "trial":
            night = (2.0 if story == "night" else 48.0)
            world.see(5.0, dark=(60.0, night), bright=(60.0, 50.0))
    raise AssertionError(f"the deployment did not end: {world.updater.status}")


def prepare(world, story: str):
    for _ in range(10):
        world.see(bright=(50.0, 42.0), dark=(40.0, 30.0))
    world.updater.stop()
    world.restart()
    bundle = world.publish("2", min_counter=2)
    if story == "boxes":
        world.hands.selftest = BAD
    if story == "line":
        world.hands.refuse["content"] = Refusal("download", "connection refused")
    return bundle


EXPECTED = {"good": "committed", "night": "rolled_back", "boxes": "refused", "line": "refused"}


@pytest.mark.parametrize("story", sorted(EXPECTED))
def test_a_cut_at_every_step_ends_where_it_would_have_ended(world, tmp_path_factory, story: str) -> None:
    """Each step of the whole story is cut once, on a board of its own; after the restart it ends the same way."""
    another = type(world)
    counting = CutAt(None)
    prepare_and_live(world, story, counting)
    assert counting.steps > 10
    # Every step of the good story; a third of the others, whose beginning is the same.
    cuts = 0
    for step in range(0, counting.steps, 1 if story == "good" else 3):
        board = another(tmp_path_factory.mktemp("board"))
        cut = CutAt(step)
        try:
            prepare_and_live(board, story, cut)
        except BaseException as error:
            if type(error).__name__ != "PowerCut":
                raise
        else:
            continue  # the story took a shorter way this time
        cuts += 1
        board.hands.cut_at = lambda what: False
        board.restart()
        assert board.runs() in ("yard@1", "yard@2"), cut.where
        if not board.updater.seen.digest:
            board.assign(board.publish("2", min_counter=2))
        live(board, story)
        deployment = board.updater._ledger.state.deployment
        assert (deployment.state, deployment.settled) == (EXPECTED[story], True), cut.where
        assert board.runs() == ("yard@2" if story == "good" else "yard@1"), cut.where
        assert board.updater._ledger.state.floor == (2 if story == "good" else 0), cut.where
        assert board.hands.reports[-1].state == EXPECTED[story], cut.where
        assert STATES[deployment.state].ended
    assert cuts >= counting.steps // 4


def prepare_and_live(board, story: str, cut: CutAt) -> None:
    bundle = prepare(board, story)
    board.hands.cut_at = cut
    board.assign(bundle)
    live(board, story)


def test_a_disk_that_fills_up_at_any_write_never_leaves_the_board_without_a_model(world) -> None:
    """ENOSPC instead of a power cut: the loop goes on, and when there is room again the update ends."""
    bundle = prepare(world, "good")
    full = {"left": 3}

    def no_room(what: str) -> bool:
        if what.startswith("before-save-") and full["left"] and what != "before-save-none":
            full["left"] -= 1
            raise OSError(28, "No space left on device")
        return False

    world.assign(bundle)
    world.hands.cut_at = no_room
    live(world, "good")
    assert world.runs() == "yard@2"
    assert full["left"] == 0
