"""The board in a process of its own, above the recorder's library: records one update, or lets the disk fail at every change."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

from tests.faults.board import Board, Story
from tests.faults.recording import Fault, Recorder

ROUNDS_WITHOUT_ROOM = 8


def record(folder: Path, log: Path) -> None:
    """One whole update of ``folder/board``, written down."""
    story, recorder = Story.read(folder / "story.json"), Recorder()
    recorder.watch(folder / "board", log)
    board = Board(folder / "board", story, recorder.mark)
    assert board.poll() is None
    board.live()
    recorder.mark("end")
    board.check_end([])


def fail(folder: Path, faults: dict[str, int], first: int = 1) -> None:
    """The disk fails at each change in turn (by fault, at every nth), for some rounds; then it works again."""
    story, recorder = Story.read(folder / "story.json"), Recorder()
    changes = _count(folder, story, recorder)
    seen: Counter[str] = Counter()
    failures: list[str] = []
    for name, every in faults.items():
        for at in range(first, changes + 1, every):
            try:
                seen[f"{name} {_one(folder, story, recorder, Fault[name], at)}"] += 1
            except Exception as error:
                failures.append(f"{name} at change {at} of {changes}: {type(error).__name__}: {error}")
            finally:
                recorder.fault(Fault.NOTHING, 0)
    print(json.dumps({"changes": changes, "seen": seen, "failures": failures}))


def _count(folder: Path, story: Story, recorder: Recorder) -> int:
    board = _fresh(folder, recorder)
    recorder.fault(Fault.NOTHING, 0)
    _whole_story(Board(board, story))
    return recorder.counted()


def _fresh(folder: Path, recorder: Recorder) -> Path:
    board = folder / "case" / "board"
    shutil.rmtree(board, ignore_errors=True)
    shutil.copytree(folder / "board", board, symlinks=True)
    recorder.watch(board)
    return board


def _whole_story(board: Board) -> None:
    board.poll()
    board.live()


def _one(folder: Path, story: Story, recorder: Recorder, fault: Fault, at: int) -> str:
    """One failing disk. What the board said of it while it failed, in a word."""
    where, promises = _fresh(folder, recorder), list[str]()
    recorder.fault(fault, at)
    board = Board(where, story, promises.append)
    word = ""
    for _ in range(ROUNDS_WITHOUT_ROOM):
        refused = board.poll() if board.updater.seen.seq == 0 else None
        ended = board.step()
        board.check_runnable()
        word = "disk" if refused is not None and refused.code == "disk" else board.updater.status.reason
        if ended:
            break
    fell, said = recorder.fell(), f"{board.updater.status.state}({word})"
    settled = board.memory.last.deployment is not None and board.memory.last.deployment.settled
    recorder.fault(Fault.NOTHING, 0)
    assert settled or word == "disk", f"nobody is told of the disk: {said}"
    if fault is Fault.READ_ONLY:  # nothing but a restart gets a card written again that has become read-only
        board = Board(where, story, promises.append, board.clock_s)
    # There is room again. What had used up its attempts is assigned anew, as the server does for a board that asks for it.
    for _ in range(2):
        board.poll()
        board.live()
        if board.updater.status.state == "committed":
            break
        assert board.updater.status.reason == "disk", board.updater.status
        board.poll("again")
    board.check_end(promises)
    return said if fell else "had nothing more to write"


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        fail(Path(sys.argv[2]), json.loads(sys.argv[3]))
