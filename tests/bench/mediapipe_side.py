"""The peer of P2, run by the peers' own environment: MediaPipe Tasks' ObjectDetector from a decoded frame to boxes.

Arguments: model, folder of frames (.npy, BGR). Prints one line of JSON for each line that it reads: CPU ms per frame of one pass,
memory, and how many boxes there were.
"""

import json
import sys
import time
from pathlib import Path

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ObjectDetector, ObjectDetectorOptions, RunningMode


def main() -> None:
    model, folder = sys.argv[1:3]
    frames = [np.load(path) for path in sorted(Path(folder).glob("*.npy"))]
    options = ObjectDetectorOptions(
        base_options=BaseOptions(model_asset_path=model), running_mode=RunningMode.VIDEO, score_threshold=0.3
    )
    stamp_ms = 0
    with ObjectDetector.create_from_options(options) as detector:
        for _ in sys.stdin:
            begin, boxes = time.process_time(), 0
            for bgr in frames:
                stamp_ms += 100
                image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(bgr[:, :, ::-1]))
                boxes += len(detector.detect_for_video(image, stamp_ms).detections)
            spent_ms = (time.process_time() - begin) * 1e3 / len(frames)
            text = Path("/proc/self/smaps_rollup").read_text()
            pss = sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
            print(json.dumps({"cpu_ms": spent_ms, "pss_bytes": pss, "boxes": boxes}), flush=True)


if __name__ == "__main__":
    main()
