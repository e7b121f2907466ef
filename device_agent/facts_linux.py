"""The board's facts for the wire: hardware as found below a root, runtimes as proved by building an interpreter in a child."""

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from hardware.detect_linux import Board, detect
from ota.wire.enrolment import Accelerator, BoardFacts

PROBE_DEADLINE_S = 60.0
"""On a Zero 2 W importing a runtime takes seconds; one that hangs counts as absent."""
WIRE_NAMES = {"ai-edge-litert": "litert", "tflite-runtime": "tflite-runtime"}
_PROBE = """
import json
from models.inference.errors import ModelError
from models.inference.interpreter_tflite import find_runtime
try:
    found = find_runtime()
    print(json.dumps({found.package: found.version}))
except ModelError as error:
    print(json.dumps({"": str(error)}))
"""


def read_facts(root: Path) -> BoardFacts:
    """What the board is. Takes about a second: a runtime is imported in a child, because a broken one may kill its process."""
    return facts_of(detect(root), probe_runtimes()[0])


def facts_of(board: Board, runtimes: dict[str, str]) -> BoardFacts:
    """Hardware's words as the wire's."""
    return BoardFacts(
        profile=board.profile,
        board_model=board.board_model,
        serial=board.serial,
        machine=board.machine,
        word_bits=board.word_bits,
        cores=board.cores,
        memory_bytes=board.memory_bytes,
        accelerators=[
            Accelerator(kind=found.kind, present=found.present, usable=found.usable, reason=found.reason)
            for found in board.accelerators
        ],
        runtimes=runtimes,
        python=platform.python_version(),
        agent_version=agent_version(),
        os=board.os or "unknown",
    )


def probe_runtimes() -> tuple[dict[str, str], str]:
    """Runtimes that built an interpreter (wire name -> version), and why there is none where there is none."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_DEADLINE_S, check=False
        )
        found: dict[str, str] = json.loads(done.stdout or "{}")
    except (subprocess.TimeoutExpired, ValueError) as error:
        return {}, f"the probe of the runtimes failed: {error}"
    if "" in found or not found:
        return {}, found.get("", f"the probe of the runtimes ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return {WIRE_NAMES.get(package, package): version for package, version in found.items()}, ""


def agent_version() -> str:
    """Version of the installed distribution."""
    try:
        return metadata.version("rookery")
    except metadata.PackageNotFoundError:
        return "0+source"
