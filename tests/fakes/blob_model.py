"""A model of its own kind: finds patches of one colour. A real implementation of the seam `OpenModel`.

The model file is text: `BLOB red` or `BLOB blue`; `slow` takes a second for each picture, `dies` ends its process.
"""

import os
import time

import cv2

from models.inference.errors import ModelError
from models.inference.types import Detections

COLOURS = {"red": ((0, 0, 150), (90, 90, 255)), "blue": ((150, 0, 0), (255, 90, 90))}


class BlobModel:
    runtime = "blob 1"
    accelerator = "cpu"

    def __init__(self, spec):
        try:
            words = spec.model_path.read_text().split()
        except OSError as error:
            raise ModelError("missing", f"no model {spec.model_path}") from error
        if spec.delegate_library:
            raise ModelError("delegate_missing", f"{spec.delegate_library} is not installed")
        if len(words) < 2 or words[0] != "BLOB" or words[1] not in COLOURS:
            raise ModelError("corrupt", f"{spec.model_path} is cut short or damaged: fetch it again")
        self.colour, self.mood = COLOURS[words[1]], words[2:]
        self.invoke_ms = 0.0
        if "dies" in self.mood:
            os._exit(11)

    def detect(self, picture_bgr, *, threshold=None):
        started = time.perf_counter()
        if "slow" in self.mood:
            time.sleep(1.0)
        mask = cv2.inRange(picture_bgr, *self.colour)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        boxes = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:] if area >= 60]
        self.invoke_ms = (time.perf_counter() - started) * 1e3
        return Detections.of(boxes, [0.9] * len(boxes), [0] * len(boxes)) if boxes else Detections.empty()

    def close(self):
        pass


def open_model(spec):
    """The blob model of a spec; raises ModelError."""
    return BlobModel(spec)


def open_with_another_runtime(spec):
    """A machine on which the first runtime kills its process: only one that was named works."""
    if not spec.runtime:
        os.abort()
    model = BlobModel(spec)
    model.runtime = f"{spec.runtime} 1"
    return model
