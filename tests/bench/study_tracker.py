"""``./run study tracker [--json FILE] [--plot FILE]``: MOTA and IDF1 on crowds of 20 unseen seeds at 15, 5 and 2 frames a second.

Beside ours: supervision 0.26.1 ByteTrack and norfair 2.1.1, each in its own environment, each with the best settings of its
documented ones for that rate of frames (found on the tuning seeds by `study_tracker_peers`). Judged is the paired difference to
the better peer: the lower end of its 90 % bootstrap interval must be at least -0.01 everywhere, and above 0 at 2 frames a second.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.bench.study_crowds import CrowdFrame, crowd
from tests.bench.study_films import PEERS_PYTHON, ROOT, follow_ours, follow_theirs, truth_of
from tests.bench.study_mot import MotScore, score
from tests.bench.study_tracker_peers import PEER_SETTINGS
from tests.bench.study_tracker_plot import draw

FPS = (15, 5, 2)
SEEDS = tuple(range(20260, 20280))
"""Looked at by nobody before the settings stood still; tuning was done on seeds from 1001 to 1099."""
BARS = {15: -0.01, 5: -0.01, 2: 0.0}
MEASURES = ("mota", "idf1")
RESAMPLES = 10_000
JUDGED_CODE = ("device_agent/vision/tracker*.py", "device_agent/vision/stationary.py", "device_agent/vision/boxes.py",
               "tests/bench/study*.py")  # fmt: skip
Scores = dict[str, list[MotScore]]


def main(arguments: Sequence[str]) -> int:
    """Run the study; 0 when every judged row is ok, 1 when not, 2 when the peers' environment is missing."""
    parser = argparse.ArgumentParser(prog="./run study tracker", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG; beside the JSON file if that is given")
    options = parser.parse_args(arguments)
    if not PEERS_PYTHON.is_file():
        print(f"the peers are not installed: {PEERS_PYTHON} is missing; ./run study tracker makes it", file=sys.stderr)
        return 2
    scores = {fps: follow_all(SEEDS, fps, PEER_SETTINGS[fps]) for fps in FPS}
    rows = [row for fps in FPS for row in judge(fps, scores[fps])]
    print_table(rows)
    if options.json:
        write(options.json, json.dumps(document(rows, scores), indent=2).encode() + b"\n")
    plot = options.plot or (options.json.with_suffix(".png") if options.json else None)
    if plot:
        write(plot, draw(rows))
    return 0 if all(row["ok"] for row in rows) else 1


def follow_all(seeds: Sequence[int], fps: int, peers: Mapping[str, Mapping[str, Any]]) -> Scores:
    """Scores of ours and of each peer, a list over the seeds."""
    films: dict[str, list[CrowdFrame]] = {str(seed): crowd(seed, fps) for seed in seeds}
    truths = {name: truth_of(film) for name, film in films.items()}
    found = {"rookery": {name: follow_ours(film) for name, film in films.items()}}
    for peer, settings in peers.items():
        found[peer] = follow_theirs(peer, settings, films)
    return {who: [score(truths[name], followed[name].frames) for name in films] for who, followed in found.items()}


def judge(fps: int, scores: Scores) -> list[dict[str, Any]]:
    """One row for each measure: ours against the peer that is better on average, paired by seed."""
    rows = []
    for measure in MEASURES:
        values = {who: np.array([getattr(one, measure) for one in found]) for who, found in scores.items()}
        better = max((who for who in values if who != "rookery"), key=lambda who: float(values[who].mean()))
        difference = values["rookery"] - values[better]
        low, high = bootstrap(difference, fps)
        rows.append({
            "name": f"{measure} at {fps} fps: difference to {better}",
            "value": round(float(difference.mean()), 4),
            "ci90": [round(low, 4), round(high, 4)],
            "bar": BARS[fps],
            "ok": bool(low >= BARS[fps]) if BARS[fps] < 0 else bool(low > BARS[fps]),
            "measure": measure,
            "fps": fps,
            "means": {who: round(float(found.mean()), 4) for who, found in values.items()},
        })  # fmt: skip
    return rows


def bootstrap(difference: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The middle 90 % of the means of resamples of paired differences."""
    rng = np.random.default_rng((seed, 90))
    means = difference[rng.integers(0, len(difference), (RESAMPLES, len(difference)))].mean(axis=1)
    return float(np.quantile(means, 0.05)), float(np.quantile(means, 0.95))


def document(rows: list[dict[str, Any]], scores: dict[int, Scores]) -> dict[str, Any]:
    """The study as a file: rows, every film's counts, settings, commit and seeds."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--", *JUDGED_CODE], cwd=ROOT,
                             capture_output=True, text=True, check=False).stdout  # fmt: skip
    films = {
        str(fps): {who: {seed: _counts(one) for seed, one in zip(SEEDS, found, strict=True)} for who, found in each.items()}
        for fps, each in scores.items()
    }
    return {
        "study": "tracker",
        "seed": list(SEEDS),
        "commit": commit,
        "uncommitted": sorted(line[3:] for line in changed.splitlines()),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {"platform": platform.platform(), "processor": platform.machine()},
        "peers": {"bytetrack": "supervision 0.26.1", "norfair": "norfair 2.1.1"},
        "peer_settings": {str(fps): settings for fps, settings in PEER_SETTINGS.items()},
        "results": rows,
        "films": films,
    }


def _counts(one: MotScore) -> dict[str, Any]:
    return {"mota": round(one.mota, 4), "idf1": round(one.idf1, 4), "objects": one.objects, "misses": one.misses,
            "false_positives": one.false_positives, "switches": one.switches}  # fmt: skip


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as Markdown."""
    people = list(rows[0]["means"])
    print(f"| measure | fps | {' | '.join(people)} | difference to the better peer (90 %) | bar | ok |")
    print("|---" * (len(people) + 5) + "|")
    for row in rows:
        means = " | ".join(f"{row['means'][who]:.3f}" for who in people)
        low, high = row["ci90"]
        print(f"| {row['measure'].upper()} | {row['fps']} | {means} | {row['value']:+.3f} ({low:+.3f} … {high:+.3f}) | "
              f"{row['bar']:g} | {'yes' if row['ok'] else 'NO'} |")  # fmt: skip


def write(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
