"""One picture that CPU and accelerator must see alike: choosing it, and comparing what two models saw. Pure numpy and OpenCV."""

from collections.abc import Sequence

import cv2
import numpy as np

from device_agent.vision.types import Picture
from models.card import ModelCard
from models.inference.nms import pairwise_iou
from models.inference.types import Detections, FloatArray

LONGEST_PX = 640
MIN_IOU = 0.5
MAX_SCORE_GAP = 0.25
"""Two variants of one model differ by their quantisation: real pairs of SSD models by 0.17 at most (assets-and-runtime.md §4)."""


def kept(picture_bgr: Picture) -> Picture:
    """A copy of a picture to keep, at most 640 px wide or high."""
    height, width = picture_bgr.shape[:2]
    share = LONGEST_PX / max(height, width)
    if share >= 1:
        return np.array(picture_bgr)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    small = np.empty((size[1], size[0], 3), np.uint8)
    cv2.resize(picture_bgr, size, dst=small, interpolation=cv2.INTER_AREA)
    return small


def drawn() -> Picture:
    """A picture for a board that has not seen anything yet: edges, colours and textures, always the same."""
    rows, columns = np.mgrid[0:240, 0:320]
    picture = np.empty((240, 320, 3), np.uint8)
    picture[..., 0] = (columns * 3 + rows) % 256
    picture[..., 1] = (rows * 5) % 256
    picture[..., 2] = np.where((rows // 24 + columns // 32) % 2, 220, 30)
    return picture


def something_on_it(found: Detections, card: ModelCard) -> bool:
    """Whether something was seen that would be reported."""
    return bool(len(found)) and float(found.confidence.max()) >= card.thresholds.lowest


def difference(cpu: tuple[Detections, ModelCard], other: tuple[Detections, ModelCard]) -> str:
    """Why two answers about one picture are not the same sight; empty where they are.

    The best box of each that would be reported must be among the other's: same label, IoU of 0.5, scores 0.25 apart at most.
    """
    both = ((cpu, other, "the CPU alone"), (other, cpu, "the accelerator alone"))
    for (found, card), (among, names), who in both:
        if not something_on_it(found, card):
            continue
        best = int(np.argmax(found.confidence))
        label, score = card.labels[int(found.class_id[best])], float(found.confidence[best])
        if not _contains(among, names.labels, found.xyxy[best], label, score):
            x, y = found.xyxy[best][:2].round().tolist()
            return f"{who} sees {label} {score:.2f} at ({x:.0f}, {y:.0f})"
    return ""


def _contains(among: Detections, labels: Sequence[str], box: FloatArray, label: str, score: float) -> bool:
    if len(among) == 0:
        return False
    alike = np.array([labels[int(number)] == label for number in among.class_id])
    near = pairwise_iou(box[None], among.xyxy)[0] >= MIN_IOU
    return bool((alike & near & (np.abs(among.confidence - score) <= MAX_SCORE_GAP)).any())
