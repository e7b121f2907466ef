"""P6: the agent's memory: PSS of all its processes, one camera and four cameras on one detector, and whether it grows.

The whole agent (enrolled, spooling, sending) on frames of the film as JPEG files in a loop, as a camera would deliver them,
against a bare process that loads the runtime, OpenCV and the same model and invokes it once. ROOKERY_BENCH_P6_S sets the seconds
of each run (default 60; the performance page says 300).

Judged is the PSS that each of the two has where nothing else runs (`alone_bytes`): the kernel's figure depends on what others on
this machine have loaded (OpenCV in this benchmark, for one), and for one and the same agent the ratio was 1.8 on one run and 2.9
on the next. The kernel's own PSS and its ratio stand among the figures.
"""

import os
import statistics
import subprocess
import sys
import time

import numpy as np

from tests.bench.agent_process import agent
from tests.bench.cpu_linux import alone_bytes, family, pss_bytes
from tests.bench.film import Material, material
from tests.bench.result import Result

SECONDS = float(os.environ.get("ROOKERY_BENCH_P6_S", "60"))
WARM_S, EVERY_S, STILLS = 45.0, 1.0, 150
BARS = [2.0, 3.0, 1.0]
GROWTH_SHARE_PER_MIN = 0.01
"""Growth that counts as none: a hundredth of the memory a minute, the noise of page accounting over a minute."""

BARE = """
import sys
import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
spec = interpreter.get_input_details()[0]
picture = cv2.resize(np.zeros((432, 768, 3), np.uint8), (int(spec["shape"][2]), int(spec["shape"][1])))
interpreter.set_tensor(spec["index"], picture[None].astype(spec["dtype"]))
interpreter.invoke()
print("ready", flush=True)
sys.stdin.read()
"""


def bare_bytes(given: Material) -> tuple[float, float]:
    """The bare process: alone, and the kernel's PSS."""
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, str(given.model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = alone_bytes([process.pid]), pss_bytes([process.pid])
    process.communicate()
    return float(found[0]), float(found[1])


def agent_bytes(given: Material, cameras: int) -> tuple[float, float, float]:
    """Medians after warming up (alone, the kernel's PSS), and growth in bytes a minute (least squares over the run, alone)."""
    with agent(given, cameras, stills=STILLS) as running:
        time.sleep(WARM_S)
        times, sizes, shared, end = [], [], [], time.monotonic() + SECONDS
        while time.monotonic() < end:
            running.check()
            times.append(time.monotonic())
            pids = family(running.process.pid)
            sizes.append(alone_bytes(pids))
            shared.append(pss_bytes(pids))
            time.sleep(EVERY_S)
    slope = float(np.polyfit(np.array(times) - times[0], np.array(sizes, float), 1)[0]) * 60
    return statistics.median(sizes), statistics.median(shared), slope


def run() -> Result:
    """Bare, one camera, four cameras."""
    given = material()
    bare, bare_pss = bare_bytes(given)
    one, one_pss, slope_one = agent_bytes(given, 1)
    four, four_pss, slope_four = agent_bytes(given, 4)
    growth = max(slope_one / one, slope_four / four) / GROWTH_SHARE_PER_MIN
    ratios = [one / bare, four / bare, growth]
    return Result(
        id="P6", ratio=ratios, spread=[(value, value) for value in ratios], bar=BARS,
        figures={
            "bare_mb": bare / 1e6, "one_camera_mb": one / 1e6, "four_cameras_mb": four / 1e6,
            "one_camera_kernel_pss_ratio": one_pss / bare_pss, "four_cameras_kernel_pss_ratio": four_pss / bare_pss,
            "growth_one_mb_per_min": slope_one / 1e6, "growth_four_mb_per_min": slope_four / 1e6,
            "seconds_each": SECONDS, "real_material": float(given.real),
        },
    )  # fmt: skip
