"""Kills a real process of the agent's update part, and lets a new one go on; many times, from one that has everything imported.

    python -m tests.faults.kill_process FOLDER       (set up by ``board.set_up``; plans as JSON lines on standard input)

Each plan is answered by a line: whether the process was killed, and what was wrong after the next one had come to rest.
"""

import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from device_agent.update.deployment import UpdateState
from tests.faults.agent_board import AgentBoard, AgentStory, ToldMemory
from tests.faults.board import Board, Story
from tests.faults.shop import NOW_S

PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)
ATTACH_LIMIT_S = 60.0
STORIES = {
    "new": ("committed", "new"), "waits": ("committed", "new"), "fails-its-test": ("refused", "old"),
    "newer": ("committed", "newer"), "none": ("cancelled", "old"),
}  # fmt: skip
"""Story -> how it ends, and with what running. (A blind release is another set-up: there ``new`` ends rolled back.)"""


def play(board: Board, story: str) -> None:
    """What happens to the board until it rests. After a kill the same again, from the beginning."""
    inhibit = board.folder / "inhibit"
    if story == "fails-its-test":
        (board.folder.parent / story).touch()
    if story in ("waits", "newer", "none"):
        inhibit.write_text("maintenance")
    board.poll()
    for _ in range(3 if inhibit.exists() else 0):
        board.step()
    if story in ("newer", "none"):
        board.poll(story)
        board.step()
    inhibit.unlink(missing_ok=True)
    board.live()
    board.step()  # what follows an end that another release has brought
    board.live()


def play_after(board: Board, story: str) -> None:
    """The next process: whatever the board knew already, it hears the last word again, and comes to rest."""
    (board.folder / "inhibit").unlink(missing_ok=True)
    board.check_start([])
    seen = board.updater.seen.seq
    board.poll(story if story in ("newer", "none") and seen >= 1 else "new")
    if story == "none" and board.memory.last.deployment is None:
        return
    board.live()
    if story in ("newer", "none"):
        board.poll(story)
        board.step()
        board.live()


class Kills:
    """The plans' executor."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._case = folder, folder / "case"

    @property
    def _story(self) -> Story:
        return Story.read(self._folder / "story.json")

    def agent_state(self, state: str) -> str:
        """The agent's own update (another set-up), killed right after this state was written down."""
        story = AgentStory(**json.loads((self._folder / "story.json").read_text()))

        def begin() -> None:
            ToldMemory.after_save = staticmethod(_kill_at(state))
            AgentBoard(self._case / "board", story).live()

        def again() -> None:
            board = AgentBoard(self._case / "board", story, now_s=NOW_S + 5000.0)
            board.check_start([])
            board.live()
            board.check_end([])

        self._fresh()
        assert os.WIFSIGNALED(_forked(begin)), f"{state} was never written down"
        return self._judged(again)

    def state(self, story: str, state: str) -> str:
        """Killed right after this state was written down."""
        self._fresh()
        status = _forked(lambda: self._play(story, _kill_at(state)))
        assert os.WIFSIGNALED(status), f"{state} was never written down in the story {story!r}"
        return self._go_on(story)

    def calls(self) -> list[tuple[str, int]]:
        """Every system call of an undisturbed run by name, with its number among those of that name (main thread alone)."""
        self._fresh()
        log = self._folder / "calls"
        assert os.WIFEXITED(self._traced(["-o", str(log)])), "the undisturbed run was killed"
        lines = [re.match(r"(\d+) +(\w+)\(", line) for line in log.read_text(errors="replace").splitlines()]
        found = [(match[1], match[2]) for match in lines if match is not None]
        main, counts, calls = found[0][0], Counter[str](), []
        for thread, name in found:
            if thread == main:
                counts[name] += 1
                calls.append((name, counts[name]))
        return calls

    def call(self, name: str, number: int) -> tuple[bool, str]:
        """Killed at the entry of one system call; False where it was not reached this time."""
        self._fresh()
        status = self._traced(["-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}"])
        return os.WIFSIGNALED(status), self._go_on("new")

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _fresh(self) -> None:
        shutil.rmtree(self._case, ignore_errors=True)
        self._case.mkdir()
        shutil.copytree(self._folder / "board", self._case / "board", symlinks=True)

    def _play(self, story: str, after_save: Callable[[UpdateState], None] | None = None) -> None:
        board = Board(self._case / "board", self._story)
        if after_save is not None:
            board.memory.after_save = after_save
        play(board, story)

    def _go_on(self, story: str) -> str:
        def again() -> None:
            ended, runs = ("rolled_back", "old") if self._story.blind else STORIES[story]
            board = Board(self._case / "board", self._story, now_s=NOW_S + 5000.0)
            play_after(board, story)
            board.check_rest(ended, getattr(self._story, runs), [])

        return self._judged(again)

    def _judged(self, again: Callable[[], None]) -> str:
        """What was wrong in the next process; empty when nothing was."""
        wrong = self._case / "wrong"

        def work() -> None:
            try:
                again()
            except Exception:
                wrong.write_text(traceback.format_exc())

        status = _forked(work)
        if not os.WIFEXITED(status) or os.WEXITSTATUS(status) != 0:
            return f"the next process ended with status {status}"
        return wrong.read_text() if wrong.exists() else ""

    def _traced(self, options: list[str]) -> int:
        """Run the story under strace, attached before it begins; the wait status."""
        reading, writing = os.pipe()

        def wait_and_play() -> None:
            os.close(writing)
            ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
            os.read(reading, 1)
            self._play("new")

        child = _fork(wait_and_play)
        os.close(reading)
        tracer = subprocess.Popen(["strace", "-f", "-q", *options, "-p", str(child)], stderr=subprocess.PIPE)
        until_s = time.monotonic() + ATTACH_LIMIT_S
        while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
            if tracer.poll() is not None or time.monotonic() > until_s:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise AssertionError(f"strace did not attach: {tracer.communicate()[1]!r}")
            time.sleep(0.002)
        os.write(writing, b"g")
        os.close(writing)
        _, status = os.waitpid(child, 0)
        tracer.communicate()
        return status


def _kill_at(state: str) -> Callable[[UpdateState], None]:
    def after_save(saved: UpdateState) -> None:
        if saved.deployment is not None and saved.deployment.state == state:
            os.kill(os.getpid(), signal.SIGKILL)

    return after_save


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _forked(work: Callable[[], None]) -> int:
    return os.waitpid(_fork(work), 0)[1]


def main(folder: Path, plans: list[dict[str, object]]) -> None:
    """Follow the plans, one answer a line."""
    kills = Kills(folder)
    for plan in plans:
        if "agent" in plan:
            print(json.dumps({**plan, "wrong": kills.agent_state(str(plan["agent"]))}), flush=True)
            continue
        if "state" in plan:
            wrong = kills.state(str(plan["story"]), str(plan["state"]))
            print(json.dumps({**plan, "wrong": wrong}), flush=True)
            continue
        draw, wanted = random.Random(str(plan["seed"])), int(str(plan["kills"]))
        calls, done, tries = kills.calls(), 0, 0
        while done < wanted and tries < 3 * wanted:
            tries += 1
            name, number = draw.choice(calls)
            killed, wrong = kills.call(name, number)
            done += killed
            print(json.dumps({"call": name, "number": number, "of": len(calls), "killed": killed, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [json.loads(line) for line in sys.stdin])
