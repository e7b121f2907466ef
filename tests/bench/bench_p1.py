"""P1: what the pipeline costs besides the invoke: CPU per answered frame, all processes, against the bare invoke.

Frames decoded in memory, gate forced open, the inference child on. The bare side invokes the same model on the same frames,
already resized: nothing but ``set_tensor`` and ``invoke``. Both run in turn, in rounds.
"""

import statistics
import time

import cv2
import numpy as np

from device_agent.vision.detector import ModelSpec
from device_agent.vision.detector_process import ProcessDetector
from device_agent.vision.motion import GateSettings
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.types import Frame, Picture
from tests.bench.cpu_linux import cpu_s, family
from tests.bench.film import Material, material
from tests.bench.result import Result

FRAMES, ROUNDS, FPS = 120, 9, 10.0
BAR = 1.10


class Bare:
    """The interpreter alone."""

    def __init__(self, given: Material) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(given.model), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._inputs: list[np.ndarray] = []
        height, width = self._input["shape"][1:3]
        for picture in given.frames(FRAMES):
            small = cv2.resize(picture, (int(width), int(height)))[:, :, ::-1]
            self._inputs.append(np.ascontiguousarray(small[None], self._input["dtype"]))

    def cpu_ms(self) -> float:
        """CPU milliseconds per frame of one pass."""
        begin = time.process_time()
        for tensor in self._inputs:
            self._interpreter.set_tensor(self._input["index"], tensor)
            self._interpreter.invoke()
        return (time.process_time() - begin) * 1e3 / len(self._inputs)


class Ours:
    """The whole pipeline, its detector in a child."""

    def __init__(self, given: Material) -> None:
        self._pictures = given.frames(FRAMES)
        self.detector = ProcessDetector(ModelSpec(given.model, given.card, 1))
        settings = PipelineSettings("bench", gate=GateSettings(enabled=False))
        ids = iter(range(10**9))
        self._pipeline = Pipeline(settings, self.detector, lambda: f"e{next(ids)}")
        self._index = 0

    def cpu_ms(self) -> float:
        """CPU milliseconds per answered frame of one pass, agent and child."""
        pids = family()
        before, begin = self._pipeline.counts().looked, cpu_s(pids)
        for picture in self._pictures:
            self._pipeline.step(self._frame(picture))
        spent = cpu_s(pids) - begin
        return spent * 1e3 / (self._pipeline.counts().looked - before)

    def _frame(self, picture: Picture) -> Frame:
        self._index += 1
        return Frame("bench", self._index, self._index / FPS, 1.8e9 + self._index / FPS, picture)


def run() -> Result:
    """Measure in turn."""
    cv2.setNumThreads(1)
    given = material()
    bare, ours = Bare(given), Ours(given)
    try:
        pairs = [(ours.cpu_ms(), bare.cpu_ms()) for _ in range(ROUNDS + 1)][1:]
    finally:
        ours.detector.close()
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    return Result(
        id="P1",
        ratio=[statistics.median(ratios)],
        spread=[(ratios[0], ratios[-1])],
        bar=[BAR],
        figures={
            "pipeline_cpu_ms": statistics.median(mine for mine, _ in pairs),
            "bare_invoke_cpu_ms": statistics.median(theirs for _, theirs in pairs),
            "real_material": float(given.real),
        },
    )
