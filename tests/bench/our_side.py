"""Our side of P2, in a process of its own like the peer's: the detector with its child, from a decoded frame to boxes."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from device_agent.vision.detector import ModelSpec
from device_agent.vision.detector_process import ProcessDetector
from models.card import load_card
from tests.bench.cpu_linux import cpu_s, family, pss_bytes


def main() -> None:
    """One pass over all frames for each line that comes in."""
    cv2.setNumThreads(1)
    model, folder, card = sys.argv[1:4]
    frames = [np.load(path) for path in sorted(Path(folder).glob("*.npy"))]
    detector = ProcessDetector(ModelSpec(Path(model), load_card(Path(card).read_text()), 1))
    try:
        for _ in sys.stdin:
            pids = family()
            begin, boxes = cpu_s(pids), 0
            for bgr in frames:
                boxes += len(detector.look(bgr).detections)
            spent_ms = (cpu_s(pids) - begin) * 1e3 / len(frames)
            print(json.dumps({"cpu_ms": spent_ms, "pss_bytes": pss_bytes(pids), "boxes": boxes}), flush=True)
    finally:
        detector.close()


if __name__ == "__main__":
    main()
