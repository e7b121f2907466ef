"""The motion gate that bytes are compared with (contracts, section 9): fixed, never tuned, nobody's product."""

import cv2
import numpy as np
import numpy.typing as npt

WIDTH_PX, HEIGHT_PX = 178, 100
DIFFERENCE, ALPHA, OPEN_SHARE = 25.0, 0.02, 0.005


class ReferenceGate:
    """Luma at 178 x 100, |difference| > 25 against a running mean (alpha 0.02), open if more than 0.5 % of the pixels changed."""

    def __init__(self) -> None:
        self._mean: npt.NDArray[np.float32] | None = None

    def step(self, picture_bgr: npt.NDArray[np.uint8]) -> bool:
        """Whether a frame (H, W, 3, BGR) passes; the first one does not."""
        grey = cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2GRAY)
        plane = np.asarray(cv2.resize(grey, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA), np.float32)
        if self._mean is None:
            self._mean = plane
            return False
        changed = np.count_nonzero(np.abs(plane - self._mean) > DIFFERENCE) / plane.size
        self._mean += ALPHA * (plane - self._mean)
        return changed > OPEN_SHARE
