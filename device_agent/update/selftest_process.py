"""Runs the self-test's child under a deadline: a model that crashes, hangs or eats the memory is an answer, not an accident."""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from device_agent.update.selftest import DEADLINE_S, SelftestRequest, SelftestResult
from ota.trust.refusal import Refusal

MODULE = "device_agent.update.selftest_child_tflite"
LAST_WORDS_BYTES = 2000


def run_selftest(
    request: SelftestRequest,
    *,
    deadline_s: float = DEADLINE_S,
    command: tuple[str, ...] = (sys.executable, "-m", MODULE),
    should_stop: Callable[[], bool] = lambda: False,
) -> SelftestResult | Refusal:
    """The child's result; refused with ``model`` when it crashed, hung or was stopped."""
    with tempfile.TemporaryDirectory(prefix="rookery-selftest-") as folder:
        asked, answered, words = (Path(folder) / name for name in ("request.json", "result.json", "words"))
        asked.write_bytes(msgspec.json.encode(request))
        started_s = time.monotonic()
        with words.open("wb") as out:
            child = subprocess.Popen(
                [*command, str(asked), str(answered)], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT
            )
            try:
                code = _wait(child, started_s + deadline_s, should_stop)
            finally:
                _end(child)
        if code is None:
            return Refusal("model", f"the self-test did not finish within {deadline_s:.0f} s: the model hangs, or was stopped")
        if code != 0:
            return Refusal("model", f"the self-test ended with {_said(code)}: {_last_words(words)}")
        try:
            return msgspec.json.decode(answered.read_bytes(), type=SelftestResult)
        except (OSError, msgspec.DecodeError) as error:
            return Refusal("model", f"the self-test left no result: {error}")


def _wait(child: "subprocess.Popen[bytes]", until_s: float, should_stop: Callable[[], bool]) -> int | None:
    while (left_s := until_s - time.monotonic()) > 0 and not should_stop():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(min(left_s, 0.5))
    return None


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.kill()
    child.wait()
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()


def _said(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _last_words(words: Path) -> str:
    text = words.read_bytes()[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()
    return text.splitlines()[-1][:300] if text else "it said nothing"
