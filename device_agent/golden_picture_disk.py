"""A picture that an accelerator and the CPU must see alike: the fullest of a release's parity samples."""

import cv2
import numpy as np

from device_agent.vision.types import Picture
from models.golden import GoldenError, parse_parity
from ota.slots.slots_disk import SlotInfo


def golden_picture(place: SlotInfo) -> Picture | None:
    """The picture of the sample with the most boxes, BGR; None where the release has none here that can be read."""
    present = place.files()
    parity = place.manifest.golden.parity
    if parity is None or parity not in present:
        return None
    by_hash = {place.manifest.files[path].sha256: file for path, file in present.items()}
    try:
        samples = parse_parity(present[parity].read_bytes()).samples
        here = [sample for sample in samples if sample.sha256 in by_hash]
        if not here:
            return None
        fullest = max(here, key=lambda sample: len(sample.expected.labels))
        data = np.frombuffer(by_hash[fullest.sha256].read_bytes(), np.uint8)
    except (OSError, GoldenError):
        return None
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    return None if picture is None else picture.astype(np.uint8, copy=False)
