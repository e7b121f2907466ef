"""The real film and model of the benchmarks, or drawn ones where the shared material is absent (said in the figures)."""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.vision.choice_disk import ModelChoice, card_of
from models.card import ModelCard
from models.rendered.scenes import Scene

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "models" / "rendered" / "releases" / "yard-2"


@dataclass(frozen=True, slots=True)
class Material:
    """A detector, its card, and decoded frames of a film in which somebody is. ``real``: they are not drawn."""

    model: Path
    card: ModelCard
    film: Path | None
    real: bool

    def frames(self, count: int, first: int = 65) -> list[npt.NDArray[np.uint8]]:
        """So many frames (H, W, 3) BGR from one on where a person is seen."""
        if self.film is None:
            scene = Scene(1, light="day")
            return [scene.frame(number / 10).picture_bgr for number in range(first, first + count)]
        capture = cv2.VideoCapture(str(self.film))
        frames = []
        for number in range(first + count):
            good, picture = capture.read()
            if not good:
                break
            if number >= first:
                frames.append(np.asarray(picture, np.uint8))
        capture.release()
        return frames


def material() -> Material:
    """SSD MobileNet v1 and the one-by-one film; else the delivered model and a drawn scene."""
    assets = Path(os.environ.get("ROOKERY_ASSETS") or ROOT.parent / "shared" / "assets")
    model = assets / "models" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    film = assets / "videos" / "one-by-one-person-detection.mp4"
    if model.is_file() and film.is_file():
        return Material(model, card_of(ModelChoice(model, labels=assets / "labels" / "coco_labels.txt")), film, real=True)
    model = RELEASE / "model_int8.tflite"
    return Material(model, card_of(ModelChoice(model, RELEASE / "labels.txt", RELEASE / "card.toml")), None, real=False)
