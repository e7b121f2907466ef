"""P4: what the tracker costs per frame with 10 and with 50 objects, against the faster of supervision's ByteTrack and norfair.

The same detections for all: people who walk in lanes of their own at 15 frames a second, some boxes missing, some weak, some
wrong. Timed is the call that takes one frame's boxes and gives its tracks, in the process of each; the three run in turn, in
rounds, and each round's median over its frames counts.
"""

import statistics

import numpy as np

from tests.bench.result import Result
from tests.bench.study_crowds import CrowdFrame
from tests.bench.study_films import PEERS_PYTHON, follow_ours, follow_theirs

COUNTS = (10, 50)
ROUNDS = 3
FRAMES = 90
FPS = 15.0
BARS = (1.0, 1.0)
PEERS = {
    "bytetrack": {"frame_rate": 15},
    "norfair": {"distance_function": "iou", "distance_threshold": 0.7, "least_score": 0.3, "shown": "matched"},
}
"""Their documented settings; what they cost hardly depends on them."""


def film(count: int, seed: int = 4) -> list[CrowdFrame]:
    """`count` people in a picture of 1920×1080 px who walk to and fro; one box in twenty is missed, one in ten is weak."""
    rng = np.random.default_rng((seed, count))
    lanes = np.array([(150 + 170 * (n % 10), 130 + 200 * (n // 10)) for n in range(count)], float)
    phase, reach = rng.uniform(0, 6.28, count), rng.uniform(30, 70, count)
    frames = []
    for index in range(FRAMES):
        at_s = index / FPS
        x = lanes[:, 0] + reach * np.sin(1.2 * at_s + phase)
        boxes = np.stack([x - 30, lanes[:, 1] - 75, x + 30, lanes[:, 1] + 75], axis=1) + rng.normal(0, 2, (count, 4))
        scores = np.where(rng.random(count) < 0.1, 0.35, 0.8)
        seen = rng.random(count) > 0.05
        stray = rng.uniform((50, 50), (1800, 950), (int(rng.poisson(0.2)), 2))
        boxes = np.concatenate([boxes[seen], np.hstack([stray, stray + np.array([60.0, 150.0])])])
        scores = np.concatenate([scores[seen], np.full(len(stray), 0.4)])
        frames.append(CrowdFrame(at_s, np.arange(count), boxes, np.ones(count, np.bool_), boxes, scores))
    return frames


def run() -> Result:
    """Ours and both peers in turn at each number of objects."""
    figures: dict[str, float] = {}
    peers: dict[str, float | None] = {}
    ratios, spreads = [], []
    for count in COUNTS:
        look = film(count)
        rounds = [_round(look) for _ in range(ROUNDS)]
        for who in rounds[0]:
            figures[f"{who}_ms_at_{count}"] = statistics.median(one[who] for one in rounds)
        known = [peer for peer in PEERS if peer in rounds[0]]
        for peer in PEERS:
            held = [one["rookery"] / one[peer] for one in rounds] if peer in known else []
            peers[f"{peer}_at_{count}"] = statistics.median(held) if held else None
        if known:
            against = sorted(one["rookery"] / min(one[peer] for peer in known) for one in rounds)
            ratios.append(statistics.median(against))
            spreads.append((against[0], against[-1]))
    return Result("P4", ratios, spreads, list(BARS[: len(ratios)]), figures, peers)


def _round(look: list[CrowdFrame]) -> dict[str, float]:
    """Milliseconds per frame of each, the first second left out."""
    spent = {"rookery": follow_ours(look).spent_s}
    if PEERS_PYTHON.is_file():
        for peer, settings in PEERS.items():
            spent[peer] = follow_theirs(peer, settings, {"film": look})["film"].spent_s
    return {who: float(np.median(seconds[round(FPS) :])) * 1e3 for who, seconds in spent.items()}
