"""The peers' side: run by the Python of `.venvs/peers`, which knows nothing of this project.

``python study_peers.py PEER SETTINGS IN.npz OUT.npz``: reads films of detections, writes the boxes and ids that the peer gave,
and the seconds that its own update took on each frame. Both peers are driven as their own documentation does it.
"""

import json
import sys
import time

import numpy as np


class ByteTrack:
    """supervision 0.26.1: one tracker a film, `update_with_detections`; settings are those of its constructor."""

    def __init__(self, settings):
        import supervision

        self._supervision = supervision
        self._tracker = supervision.ByteTrack(**settings)

    def step(self, boxes, scores):
        found = self._supervision.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(scores), int))
        begin = time.perf_counter()
        tracked = self._tracker.update_with_detections(found)
        spent_s = time.perf_counter() - begin
        return tracked.tracker_id, tracked.xyxy, spent_s


class Norfair:
    """norfair 2.1.1: `Tracker.update` with boxes as two points.

    `least_score` leaves weak detections out; `shown` says whether a track is shown where it was matched (its detection's box) or
    wherever the tracker holds it alive (its estimate).
    """

    def __init__(self, settings):
        import norfair

        self._norfair = norfair
        settings = dict(settings)
        self._least, self._shown = settings.pop("least_score"), settings.pop("shown")
        self._tracker = norfair.Tracker(**settings)

    def step(self, boxes, scores):
        found = [self._norfair.Detection(points=box.reshape(2, 2), scores=np.full(2, score))
                 for box, score in zip(boxes, scores, strict=True) if score >= self._least]
        begin = time.perf_counter()
        objects = self._tracker.update(found)
        spent_s = time.perf_counter() - begin
        now = {id(one) for one in found}
        if self._shown == "matched":
            pairs = [(one.id, one.last_detection.points.ravel()) for one in objects if id(one.last_detection) in now]
        else:
            pairs = [(one.id, one.estimate.ravel()) for one in objects]
        return np.array([one for one, _ in pairs], int), np.array([box for _, box in pairs]).reshape(-1, 4), spent_s


PEERS = {"bytetrack": ByteTrack, "norfair": Norfair}


def main(peer, settings, source, target):
    films = np.load(source)
    answers = {}
    for name in sorted({key.split("/")[0] for key in films.files}):
        tracker = PEERS[peer](json.loads(settings))
        boxes, scores, ends = films[f"{name}/boxes"], films[f"{name}/scores"], films[f"{name}/ends"]
        begin, ids, found, counts, spent_s = 0, [], [], [], []
        for end in ends:
            one, where, seconds = tracker.step(boxes[begin:end], scores[begin:end])
            ids.append(np.asarray(one, int).reshape(-1))
            found.append(np.asarray(where, float).reshape(-1, 4))
            counts.append(len(ids[-1]))
            spent_s.append(seconds)
            begin = end
        answers |= {f"{name}/ids": np.concatenate(ids), f"{name}/boxes": np.concatenate(found),
                    f"{name}/ends": np.cumsum(counts), f"{name}/spent_s": np.array(spent_s)}
    np.savez(target, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
