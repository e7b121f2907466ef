"""Runs the self-test of an agent with the interpreter of its own slot, under a deadline, as a child that can do no harm here."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from device_agent.update.agent_selftest import DEADLINE_S, AgentSelftestRequest, AgentSelftestResult
from ota.trust.refusal import Refusal

MODULE = "device_agent.agent_selftest_child_disk"
LAST_WORDS_BYTES = 2000
LOOK_EVERY_S = 0.2


def run_agent_selftest(
    python: Path, request: AgentSelftestRequest, *, deadline_s: float = DEADLINE_S,
    should_stop: Callable[[], bool] = lambda: False,
) -> AgentSelftestResult | Refusal:  # fmt: skip
    """What the child found; refused with ``start`` when it crashed, hung or was stopped."""
    with tempfile.TemporaryDirectory(prefix="rookery-agent-selftest-") as folder:
        asked, answered, words = (Path(folder) / name for name in ("request.json", "result.json", "words"))
        asked.write_bytes(msgspec.json.encode(request))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ROOKERY_"))}
        with words.open("wb") as out:
            try:
                child = subprocess.Popen(
                    [str(python), "-I", "-B", "-m", MODULE, str(asked), str(answered)], env=environment, cwd=folder,
                    stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                return Refusal("start", f"{python} cannot be started: {error.strerror}")
            code = _wait(child, time.monotonic() + deadline_s, should_stop)
        if code is None:
            return Refusal("start", f"its self-test did not finish within {deadline_s:.0f} s")
        if code != 0:
            return Refusal("start", f"its self-test ended with {code}: {_last_words(words)}")
        try:
            return msgspec.json.decode(answered.read_bytes(), type=AgentSelftestResult)
        except (OSError, msgspec.DecodeError) as error:
            return Refusal("start", f"its self-test left no result: {error}")


def _wait(child: "subprocess.Popen[bytes]", until_s: float, should_stop: Callable[[], bool]) -> int | None:
    try:
        while time.monotonic() < until_s and not should_stop():
            try:
                return child.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                continue
        return None
    finally:
        # The whole group: whatever the child started ends with it.
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdin is not None:
            child.stdin.close()


def _last_words(words: Path) -> str:
    text = words.read_bytes()[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()
    return text.splitlines()[-1][:300] if text else "it said nothing"
