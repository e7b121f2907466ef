"""P2: from decoded frame to boxes beside MediaPipe Tasks' ObjectDetector: CPU, and memory of all processes.

The same SSD with its metadata on the same frames, one thread each, each side in processes of its own, passes in turn.
Memory is the PSS after the last pass, less that of the frames that both hold.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from models.card import dump_card
from tests.bench.film import ROOT, material
from tests.bench.result import Result

FRAMES, ROUNDS = 60, 9
BARS = [0.95, 0.6]
PEERS = ROOT / ".venvs" / "peers" / "bin" / "python"


class Side:
    """A process that makes one pass for each line that it is told."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )

    def pass_once(self) -> dict[str, float]:
        """CPU ms per frame and memory; raises RuntimeError when it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def has_peer() -> bool:
    """Whether the peers' environment holds MediaPipe."""
    command = [str(PEERS), "-c", "import mediapipe"]
    return PEERS.is_file() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def run() -> Result:
    """Measure in turn; without the peer only our own figures are told."""
    given = material()
    with tempfile.TemporaryDirectory() as name:
        folder, card = Path(name) / "frames", Path(name) / "card.toml"
        folder.mkdir()
        frames = given.frames(FRAMES)
        for number, frame in enumerate(frames):
            np.save(folder / f"{number:04d}.npy", frame)
        held_bytes = sum(frame.nbytes for frame in frames)
        card.write_text(dump_card(given.card))
        ours = Side([sys.executable, "-m", "tests.bench.our_side", str(given.model), str(folder), str(card)])
        theirs = Side([str(PEERS), "tests/bench/mediapipe_side.py", str(given.model), str(folder)]) if has_peer() else None
        try:
            mine, peer = [], []
            for _ in range(ROUNDS + 1):
                mine.append(ours.pass_once())
                if theirs is not None:
                    peer.append(theirs.pass_once())
        finally:
            ours.close()
            if theirs is not None:
                theirs.close()
    return _result(mine[1:], peer[1:], held_bytes, real=given.real)


def _result(mine: list[dict[str, float]], peer: list[dict[str, float]], held_bytes: int, *, real: bool) -> Result:
    figures = {
        "our_cpu_ms": statistics.median(one["cpu_ms"] for one in mine),
        "our_pss_mb": (mine[-1]["pss_bytes"] - held_bytes) / 1e6,
        "our_boxes": mine[-1]["boxes"],
        "real_material": float(real),
    }
    if not peer:
        return Result("P2", [], [], [], figures, {"mediapipe_cpu": None, "mediapipe_memory": None})
    cpu = sorted(one["cpu_ms"] / other["cpu_ms"] for one, other in zip(mine, peer, strict=True))
    sizes = [(one["pss_bytes"] - held_bytes, other["pss_bytes"] - held_bytes) for one, other in zip(mine, peer, strict=True)]
    memory = sorted(one / other for one, other in sizes)
    figures |= {
        "mediapipe_cpu_ms": statistics.median(one["cpu_ms"] for one in peer),
        "mediapipe_pss_mb": (peer[-1]["pss_bytes"] - held_bytes) / 1e6,
        "mediapipe_boxes": peer[-1]["boxes"],
    }
    ratios = [statistics.median(cpu), statistics.median(memory)]
    return Result(
        id="P2", ratio=ratios, spread=[(cpu[0], cpu[-1]), (memory[0], memory[-1])], bar=BARS, figures=figures,
        peers={"mediapipe_cpu": ratios[0], "mediapipe_memory": ratios[1]},
    )  # fmt: skip
