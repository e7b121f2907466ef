"""P17: how long people wait for the first word.

``rookery --help`` against ``python -c pass``; the agent's cold start to its first boxes (``rookery-agent detect`` of one picture,
which runs without the inference child) against the bare runtime loading the same model and invoking it once. Beside it, not
judged, the same with the child that guards a fleet's agent (``rookery-agent run`` of one frame).
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.result import Result

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RELEASE = ROOT / "models" / "rendered" / "releases" / "yard-2"
ROUNDS = 9
BARS = (8.0, 2.0)

BARE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
spec = interpreter.get_input_details()[0]
interpreter.set_tensor(spec["index"], np.zeros(spec["shape"], spec["dtype"]))
interpreter.invoke()
"""


def seconds(command: list[str]) -> float:
    """Wall seconds of one run; the command must succeed."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def in_turn(ours: list[str], theirs: list[str]) -> tuple[float, tuple[float, float], float, float]:
    """Median ratio of pairs run in turn, its spread, and both medians in seconds."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    ratios = sorted(a / b for a, b in pairs)
    return (statistics.median(ratios), (ratios[0], ratios[-1]),
            statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs))  # fmt: skip


def run() -> Result:
    """Measure both halves."""
    words, words_spread, help_s, pass_s = in_turn([str(BIN / "rookery"), "--help"], [sys.executable, "-c", "pass"])
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "frame.png"
        subprocess.run([sys.executable, "-c", DRAW, str(picture)], check=True, cwd=ROOT)
        model = RELEASE / "model_int8.tflite"
        described = ["--labels", str(RELEASE / "labels.txt"), "--card", str(RELEASE / "card.toml")]
        out = ["--out", str(Path(folder) / "out.json")]
        detect = [str(BIN / "rookery-agent"), "detect", str(picture), "--model", str(model), *described, *out]
        source = Path(folder) / "frames"
        source.mkdir()
        picture.rename(source / picture.name)
        detect[2] = str(source / picture.name)
        film = [str(BIN / "rookery-agent"), "run", "--source", f"pictures:{source}", "--model", str(model), *described]
        guarded_s = statistics.median(seconds(film) for _ in range(ROUNDS))
        start, start_spread, agent_s, bare_s = in_turn(detect, [sys.executable, "-c", BARE, str(model)])
    return Result(
        id="P17",
        ratio=[words, start],
        spread=[words_spread, start_spread],
        bar=list(BARS),
        figures={
            "help_s": help_s,
            "pass_s": pass_s,
            "agent_first_boxes_s": agent_s,
            "agent_with_child_s": guarded_s,
            "bare_first_invoke_s": bare_s,
        },
    )


DRAW = """
import sys
import cv2
from models.rendered.scenes import Scene
cv2.imwrite(sys.argv[1], Scene(1, light="day").frame(6.0).picture_bgr)
"""
