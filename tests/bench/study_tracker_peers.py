"""The peers' settings for each rate of frames, and how they were found: ``python -m tests.bench.study_tracker_peers [FPS …]``.

Combinations of settings that the peers' documentation names were played on tuning seeds (never on those of the study), at 40 s a
film, and the one with the greatest sum of mean MOTA and mean IDF1 was taken. ByteTrack: its constructor's thresholds, the rate
told, buffers of one and two seconds (at 15 fps activation at 0.25 and 0.4 only). norfair: overlap with the threshold of its demos
and others, inertia of one and two seconds, shown where matched or where estimated (at 15 fps overlap 0.7 only). Run anew, this
program also tries norfair's distance of corners and looser matching of ByteTrack.
"""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.bench.study_crowds import crowd
from tests.bench.study_films import follow_theirs, truth_of
from tests.bench.study_mot import score

TUNING_SEEDS = (1001, 1002, 1003)
def _bytetrack(fps: int, activation: float, matching: float, buffer: int, consecutive: int) -> dict[str, Any]:
    return {"track_activation_threshold": activation, "minimum_matching_threshold": matching, "lost_track_buffer": buffer,
            "minimum_consecutive_frames": consecutive, "frame_rate": fps}  # fmt: skip


def _norfair(inertia: int, delay: int, distance: str, threshold: float, least: float) -> dict[str, Any]:
    return {"least_score": least, "shown": "matched", "distance_function": distance, "distance_threshold": threshold,
            "hit_counter_max": inertia, "initialization_delay": delay}  # fmt: skip


PEER_SETTINGS: dict[int, dict[str, dict[str, Any]]] = {
    15: {"bytetrack": _bytetrack(15, 0.25, 0.8, 60, 2), "norfair": _norfair(30, 1, "iou", 0.7, 0.3)},
    5: {"bytetrack": _bytetrack(5, 0.25, 0.9, 60, 1), "norfair": _norfair(10, 1, "iou", 0.9, 0.3)},
    2: {"bytetrack": _bytetrack(2, 0.4, 0.9, 30, 1), "norfair": _norfair(4, 1, "iou", 0.9, 0.3)},
}


def bytetrack_settings(fps: int) -> Iterator[dict[str, Any]]:
    """Activation from the documented 0.25 up to what a card reports from; matching at the documented 0.8 and looser."""
    for activation, matching, buffer, consecutive in itertools.product((0.25, 0.4, 0.5), (0.8, 0.9, 0.97), (30, 60), (1, 2)):
        yield _bytetrack(fps, activation, matching, buffer, consecutive)


def norfair_settings(fps: int) -> Iterator[dict[str, Any]]:
    """Overlap, and distance of corners in pixels (bodies here are 50 to 240 px tall)."""
    distances = (("iou", 0.7), ("iou", 0.9), ("mean_euclidean", 50.0), ("mean_euclidean", 100.0))
    for least, (distance, threshold), inertia_s, delay in itertools.product((0.3, 0.5), distances, (1, 2), (1, 2)):
        yield _norfair(max(3, fps * inertia_s), delay, distance, threshold, least)


def main(arguments: list[str]) -> int:
    """Print every combination with its means, best last."""
    for fps in [int(word) for word in arguments] or [15, 5, 2]:
        films = {str(seed): crowd(seed, fps) for seed in TUNING_SEEDS}
        for peer, choices in (("bytetrack", bytetrack_settings(fps)), ("norfair", norfair_settings(fps))):
            found = []
            for settings in choices:
                answers = follow_theirs(peer, settings, films)
                scores = [score(truth_of(films[name]), answers[name].frames) for name in films]
                mota, idf1 = (float(np.mean([getattr(one, measure) for one in scores])) for measure in ("mota", "idf1"))
                found.append((mota + idf1, mota, idf1, settings))
            for total, mota, idf1, settings in sorted(found, key=lambda row: row[0]):
                print(f"{fps:3d} {peer:10s} {total:.4f} mota {mota:.4f} idf1 {idf1:.4f} {settings}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
