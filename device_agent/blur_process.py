"""The board's own detector for what must be blurred: in a child of its own, started when the first picture needs it."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from device_agent.vision.detector import Answer, Detector, DetectorError
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.types import Picture
from models.inference.errors import ModelError

RETRY_S = 60.0
"""After a model that did not load it is tried again so much later; until then every picture is refused."""
log = logging.getLogger(__name__)


class BlurDetector:
    """Shared by all cameras. A model that cannot be run gives no answer, and without one no picture is made.

    ``open_detector`` gives the detector and raises ModelError; ``steady_s`` is a monotonic clock.
    """

    def __init__(self, open_detector: Callable[[], Detector], steady_s: Callable[[], float] = time.monotonic) -> None:
        self._open, self._steady_s = open_detector, steady_s
        self._lock = threading.Lock()
        self._detector: Detector | None = None
        self._retry_at_s = float("-inf")
        self._closed = False

    @classmethod
    def of_files(cls, model: Path, card: Path) -> "BlurDetector":
        """The model in these files, on the CPU, one thread."""

        def start() -> Detector:
            return ProcessDetector(read_spec(model, card, 1, None), settings=ProcessSettings(slots=1))

        return cls(start)

    def look(self, picture_bgr: Picture) -> Answer:
        """Boxes in px of this picture; raises DetectorError."""
        return self._opened().look(picture_bgr)

    def _opened(self) -> Detector:
        with self._lock:
            if self._closed:
                raise DetectorError("closed", "the agent ends")
            if self._detector is None:
                if self._steady_s() < self._retry_at_s:
                    raise DetectorError("waiting", "the model for blurring did not load; it is tried again later")
                try:
                    self._detector = self._open()
                except ModelError as error:
                    self._retry_at_s = self._steady_s() + RETRY_S
                    log.error("no picture leaves this board: the policy's blur_model does not load: %s", error.message)
                    raise DetectorError(error.reason, error.message) from None
            return self._detector

    def close(self) -> None:
        """End the child; may be called twice."""
        with self._lock:
            self._closed = True
            detector, self._detector = self._detector, None
        if detector is not None:
            detector.close()
