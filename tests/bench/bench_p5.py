"""P5: how long the eye is shut when the detector dies.

Three deaths, in turn with the reference in each round: the child killed (-9), the child hung (SIGSTOP: it answers nothing and
reports nothing), and the accelerator lost (the fake Edge TPU's transfer hangs for good, and the CPU's model takes over). Measured
from the blow to the next detections. Reference: the reply deadline that holds for that model, and a bare process that starts
Python, imports the runtime, loads the same model and invokes it once. A death that is noticed before the deadline needs less.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_agent.vision.detector import DetectorError, ModelSpec
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings
from tests.bench.bench_p17 import BARE
from tests.bench.film import Material, material
from tests.bench.result import Result

ROUNDS = 7
BAR = 1.5
FAKES = Path(__file__).resolve().parents[1] / "fakes"
PATIENCE_S = 120.0
Frames = list[npt.NDArray[np.uint8]]


def bare_s(model: Path) -> float:
    """Wall seconds of a bare process from its start to its first result."""
    begin_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE, str(model)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin_s


def shut_s(detector: ProcessDetector, frames: Frames) -> float:
    """Wall seconds until the detector answers again, frame after frame, as a camera would ask it."""
    begin_s = time.perf_counter()
    number = 0
    while True:
        try:
            detector.look(frames[number % len(frames)])
            return time.perf_counter() - begin_s
        except DetectorError:
            number += 1
            if time.perf_counter() - begin_s > PATIENCE_S:
                raise


def blow(spec: ModelSpec, frames: Frames, number: int) -> float:
    """One death by a signal in the middle of work, with a fresh detector."""
    detector = ProcessDetector(spec)
    try:
        for frame in frames:
            detector.look(frame)
        assert detector.pid is not None
        os.kill(detector.pid, number)
        return shut_s(detector, frames)
    finally:
        detector.close()


def delegate_lost(spec: ModelSpec, frames: Frames, folder: Path) -> float:
    """An accelerator that answers well, and then nothing any more."""
    sys.path.insert(0, str(FAKES))
    try:
        from edgetpu_fake import FakeEdgeTpu, compile_model
    finally:
        sys.path.pop(0)
    tpu = FakeEdgeTpu(folder)
    tpu.order("")
    on_tpu = ModelSpec(compile_model(spec.model_path, folder / "model_edgetpu.tflite"), spec.card, 1, str(tpu.library))
    detector = ProcessDetector(on_tpu, fallback=spec)
    try:
        for frame in frames:
            detector.look(frame)
        assert detector.accelerator == "edgetpu"
        tpu.order("hang-invoke")
        seconds = shut_s(detector, frames)
        assert detector.accelerator == "cpu"
        return seconds
    finally:
        detector.close()


def run() -> Result:
    """All three deaths, in turn with the bare process."""
    settings, found = ProcessSettings(), material()
    frames = found.frames(10)
    spec = ModelSpec(found.model, found.card)
    with tempfile.TemporaryDirectory() as folder:
        deaths = {
            "killed": (settings.reply_deadline_s, lambda: blow(spec, frames, signal.SIGKILL)),
            "hung": (settings.reply_deadline_s, lambda: blow(spec, frames, signal.SIGSTOP)),
            "delegate_lost": (settings.accelerator_deadline_s, lambda: delegate_lost(spec, frames, Path(folder))),
        }
        seconds: dict[str, list[float]] = {name: [] for name in deaths}
        ratios: dict[str, list[float]] = {name: [] for name in deaths}
        bare = []
        for _ in range(ROUNDS):
            for name, (deadline_s, die) in deaths.items():
                bare.append(bare_s(found.model))
                seconds[name].append(die())
                ratios[name].append(seconds[name][-1] / (deadline_s + bare[-1]))
    return _result(found, seconds, ratios, bare, settings)


def _result(
    found: Material, seconds: dict[str, list[float]], ratios: dict[str, list[float]], bare: list[float], settings: ProcessSettings
) -> Result:
    figures = {f"{name}_s": statistics.median(values) for name, values in seconds.items()}
    figures["killed_against_bare"] = figures["killed_s"] / statistics.median(bare)
    figures |= {
        "bare_first_invoke_s": statistics.median(bare),
        "reply_deadline_s": settings.reply_deadline_s,
        "accelerator_deadline_s": settings.accelerator_deadline_s,
        "real_material": float(found.real),
    }
    return Result(
        id="P5",
        ratio=[statistics.median(values) for values in ratios.values()],
        spread=[(min(values), max(values)) for values in ratios.values()],
        bar=[BAR] * len(ratios),
        figures=figures,
    )
