"""Films of detections on their way to the trackers and back: ours in this process, the peers' in theirs."""

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agent.vision.tracker import Sighting, Tracker, TrackerSettings
from tests.bench.study_crowds import CrowdFrame
from tests.bench.study_mot import Labelled

ROOT = Path(__file__).resolve().parents[2]
PEERS_PYTHON = ROOT / ".venvs" / "peers" / "bin" / "python"
REPORTED_FROM = 0.5
"""The score that a card reports from: ours takes what lies below as weak. The peers are given all boxes and judge themselves."""


@dataclass(frozen=True)
class Followed:
    """What a tracker said of one film: its boxes and ids in each frame, and the seconds that each frame took."""

    frames: list[Labelled]
    spent_s: npt.NDArray[np.float64]


def follow_ours(film: Sequence[CrowdFrame], settings: TrackerSettings | None = None) -> Followed:
    """Our tracker over one film; told are confirmed tracks that were measured in the frame, as the rules are told them."""
    tracker, frames, spent_s = Tracker(settings), [], []
    for index, look in enumerate(film):
        kinds, strong = np.zeros(len(look.scores), np.int32), look.scores >= REPORTED_FROM
        seen = Sighting(look.boxes.astype(np.float32), look.scores.astype(np.float32), kinds, strong)
        begin = time.perf_counter()
        tracks = tracker.step(seen, index, look.at_s, ("person",)).tracks
        spent_s.append(time.perf_counter() - begin)
        told = [track for track in tracks if track.confirmed and track.seen]
        frames.append(Labelled(np.array([track.id for track in told], np.int64),
                               np.array([track.xyxy for track in told], np.float64).reshape(-1, 4)))  # fmt: skip
    return Followed(frames, np.array(spent_s))


def follow_theirs(peer: str, settings: Mapping[str, Any], films: Mapping[str, Sequence[CrowdFrame]]) -> dict[str, Followed]:
    """A peer over several films, in its own environment and process."""
    with tempfile.TemporaryDirectory(prefix="rookery-peers-") as folder:
        source, target = Path(folder) / "films.npz", Path(folder) / "answers.npz"
        arrays = {}
        for name, film in films.items():
            arrays[f"{name}/boxes"] = np.concatenate([look.boxes for look in film]).reshape(-1, 4)
            arrays[f"{name}/scores"] = np.concatenate([look.scores for look in film])
            arrays[f"{name}/ends"] = np.cumsum([len(look.scores) for look in film])
        np.savez(source, **arrays)
        script = Path(__file__).with_name("study_peers.py")
        subprocess.run([PEERS_PYTHON, "-W", "ignore", str(script), peer, json.dumps(settings), str(source), str(target)],
                       check=True, stdout=subprocess.DEVNULL, cwd=folder)  # fmt: skip
        answers = np.load(target)
        return {name: _followed(answers, name) for name in films}


def _followed(answers: Mapping[str, npt.NDArray[Any]], name: str) -> Followed:
    ids, boxes, begin, frames = answers[f"{name}/ids"], answers[f"{name}/boxes"], 0, []
    for end in answers[f"{name}/ends"]:
        frames.append(Labelled(ids[begin:end], boxes[begin:end]))
        begin = end
    return Followed(frames, answers[f"{name}/spent_s"])


def truth_of(film: Sequence[CrowdFrame]) -> list[Labelled]:
    """The true boxes of a film."""
    return [Labelled(look.ids, look.truth, look.counts) for look in film]
