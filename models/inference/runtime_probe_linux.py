"""Which TFLite runtime works on this machine, proved by building and running an interpreter in a child process that may crash.

Importing proves nothing: tflite-runtime 2.14.0 beside numpy 2 raises SystemError at the first interpreter, and a runtime built
for another processor dies by a signal. The child runs a model of one operation; whatever becomes of it is an answer.
"""

import base64
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# LiteRT first: it refuses broken files instead of crashing, and computes integer models several times faster.
RUNTIMES = (("ai-edge-litert", "ai_edge_litert.interpreter"), ("tflite-runtime", "tflite_runtime.interpreter"))
DEADLINE_S = 60.0
"""On a Zero 2 W importing a runtime takes seconds; one that hangs counts as broken."""
ONE_RELU = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA2AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAMAAgABAAMAAAAEAAAADwAAABAAAAA"
    "RAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAANAAAAAQAAADg////CAAAAAwAAAABAAAA"
    "YgAAAAIAAAABAAAABAAAAAwADAAIAAAAAAAEAAwAAAAIAAAADAAAAAEAAABhAAAAAgAAAAEAAAAEAAAAAQAAABAAAAAMAAwACwAAAAAABAAMAAAAEwAAAAAAABM="
)
"""A whole model, made by us with the schema's own writer: relu of four float32 numbers."""
_CODE = """
import sys
import numpy as np
from {module} import Interpreter
interpreter = Interpreter(model_content=sys.stdin.buffer.read())
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array([[-1, 1, 2, -3]], np.float32))
interpreter.invoke()
out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tolist()
sys.exit(0 if out == [[0.0, 1.0, 2.0, 0.0]] else f"it computes {{out}}")
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """What became of one runtime: `fault` is empty where it works."""

    package: str
    fault: str


def probe_runtimes(
    runtimes: Sequence[tuple[str, str]] = RUNTIMES,
    *,
    deadline_s: float = DEADLINE_S,
    command: Callable[[str], Sequence[str]] = lambda code: (sys.executable, "-c", code),
) -> list[Probe]:
    """Every runtime in the order of preference, up to the first that works; each tried in a child of its own."""
    probes = []
    for package, module in runtimes:
        probes.append(Probe(package, _fault(command(_CODE.format(module=module)), deadline_s)))
        if not probes[-1].fault:
            break
    return probes


def _fault(command: Sequence[str], deadline_s: float) -> str:
    import subprocess  # the inference child reads RUNTIMES here and starts nothing

    try:
        done = subprocess.run(command, input=ONE_RELU, capture_output=True, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired:
        return f"it built no interpreter within {deadline_s:.0f} s"
    except OSError as error:
        return f"it cannot be tried: {error.strerror}"
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"it ended its process ({_signal_name(-done.returncode)}) while it built an interpreter"
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return last[0][:300] if last else f"its process ended with {done.returncode}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
