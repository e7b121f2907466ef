"""P3: from the moment a frame was taken to an event's being told on the spot: 95th percentile, live pacing, two cores.

A camera delivers decoded frames on its own clock (15 a second in the film's size; 30 a second at 1920 x 1080), the latest wins;
the agent's pipeline with its child looks at each; an event's update is handed to the local output. Narrow zones side by side make
many events of few people. Against one frame period + 2 x the median invoke.
"""

import itertools
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import cv2
import numpy as np

from device_agent.vision.camera import LatestWins
from device_agent.vision.detector import ModelSpec
from device_agent.vision.detector_process import ProcessDetector
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.types import Frame, Picture
from device_agent.vision.zones import Zone
from tests.bench.film import Material, material
from tests.bench.result import Result

STRIPS = 16
FRAMES = 90
PARTS = ((15.0, None, 30.0), (30.0, (1920, 1080), 30.0))
"""Frames per second, size (None: the film's own), seconds."""


class Paced:
    """A sensor: hands out decoded pictures, to and fro, each at its time; ``at_s`` is when it was due."""

    name = "bench"
    newer = False

    def __init__(self, pictures: list[Picture], fps: float, seconds: float) -> None:
        self._pictures = pictures + pictures[-2:0:-1]
        self._period_s, self._count = 1.0 / fps, round(fps * seconds)
        self._stopped = threading.Event()
        self.dropped: dict[str, int] = {}

    def frames(self) -> Iterator[Frame]:
        """As many as were asked for."""
        begin_s = time.monotonic()
        for number, picture in zip(range(self._count), itertools.cycle(self._pictures), strict=False):
            due_s = begin_s + number * self._period_s
            if self._stopped.wait(max(0.0, due_s - time.monotonic())):
                return
            yield Frame(self.name, number, due_s, 1.8e9 + due_s, picture)

    def close(self) -> None:
        """End it."""
        self._stopped.set()


def strips() -> tuple[Zone, ...]:
    """Zones side by side."""
    edges = np.linspace(0.0, 1.0, STRIPS + 1).tolist()
    return tuple(
        Zone(f"strip {number}", ((left, 0.0), (right, 0.0), (right, 1.0), (left, 1.0)))
        for number, (left, right) in enumerate(itertools.pairwise(edges))
    )


def measured(given: Material, fps: float, size: tuple[int, int] | None, seconds: float) -> tuple[float, dict[str, float]]:
    """The ratio of one part, and its figures."""
    pictures = given.frames(FRAMES)
    if size is not None:
        pictures = [np.asarray(cv2.resize(picture, size), np.uint8) for picture in pictures[:60]]
    detector = ProcessDetector(ModelSpec(given.model, given.card, 1))
    ids = (f"e{number}" for number in itertools.count())
    pipeline = Pipeline(PipelineSettings("bench", zones=strips()), detector, lambda: next(ids))
    camera = LatestWins(Paced(pictures, fps, seconds))
    told_ms, stages = [], defaultdict(list)
    try:
        for frame in camera.frames():
            result = pipeline.step(frame)
            if result.events:
                told_ms.append((time.monotonic() - frame.at_s) * 1e3)
            if result.detections is not None:
                for stage, ms in result.timings_ms.items():
                    stages[stage].append(ms)
    finally:
        camera.close()
        detector.close()
    if len(told_ms) < 10:
        raise RuntimeError(f"only {len(told_ms)} frames with events: nothing can be said of a 95th percentile")
    p95_ms = float(np.percentile(told_ms, 95))
    median_ms = {stage: statistics.median(values) for stage, values in stages.items()}
    allowed_ms = 1e3 / fps + 2 * median_ms["invoke"]
    figures = {"events_p95_ms": p95_ms, "allowed_ms": allowed_ms, "events": float(len(told_ms))}
    figures |= {f"{stage}_ms": value for stage, value in median_ms.items()}
    figures["sum_ms"] = sum(value for stage, value in median_ms.items() if stage != "invoke")
    return p95_ms / allowed_ms, figures


def run() -> Result:
    """Both parts."""
    cv2.setNumThreads(1)
    given, ratios, figures = material(), [], {}
    for fps, size, seconds in PARTS:
        ratio, found = measured(given, fps, size, seconds)
        ratios.append(ratio)
        figures |= {f"fps{fps:.0f}_{name}": value for name, value in found.items()}
    figures["real_material"] = float(given.real)
    return Result("P3", ratios, [(ratio, ratio) for ratio in ratios], [1.0] * len(ratios), figures)
