"""The board in a process of its own, above the recorder's library: records one update, or lets the disk fail at every change."""

import sys
from pathlib import Path

from tests.faults.board import Board, Story
from tests.faults.recording import Recorder


def record(folder: Path, log: Path) -> None:
    """One whole update of ``folder/board``, written down."""
    story, recorder = Story.read(folder / "story.json"), Recorder()
    recorder.watch(folder / "board", log)
    board = Board(folder / "board", story, recorder.mark)
    board.poll()
    board.live()
    recorder.mark("end")
    board.check_end([])


if __name__ == "__main__":
    {"record": record}[sys.argv[1]](*map(Path, sys.argv[2:]))
