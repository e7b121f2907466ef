"""The verifier on this machine: a TFLite classifier over a crop's JPEG bytes."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fleet_server.verification.jpeg import jpeg_size
from fleet_server.verification.service import Verdict
from models.card import UNUSED_LABELS, CardError, load_card
from models.inference.errors import ModelError
from models.inference.runtime_tflite import TfliteModel

MAX_SIDE_PX = 4096


class VerifierDeadError(Exception):
    """The verifier itself cannot work; the crops are not to blame. The message says what to do."""


class CropError(Exception):
    """This one crop cannot be judged."""


class LocalVerifier:
    """A classifier and its card. Raises VerifierDeadError when either cannot be loaded."""

    def __init__(self, model: Path, card: Path) -> None:
        try:
            self._card = load_card(card.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, CardError) as error:
            raise VerifierDeadError(f"the verifier's card {card.name} cannot be used: {error}") from None
        if not model.is_file():
            raise VerifierDeadError(f"the verifier's model {model.name} is not there; set verifier_model to a .tflite file")
        try:
            self._model = TfliteModel(model, self._card)
        except ModelError as error:
            raise VerifierDeadError(f"the verifier's model {model.name} cannot be loaded: {error}") from None
        if self._card.task != "classify":
            raise VerifierDeadError(f"{self._card.name} is no classifier")

    @property
    def name(self) -> str:
        """The card's name, shown beside each verdict."""
        return self._card.name

    def verify(self, jpeg: bytes) -> Verdict:
        """The class of a crop. CropError for what is no picture; VerifierDeadError when the model fails."""
        picture = _decode(jpeg)
        try:
            scores = self._model.classify(picture)
        except ModelError as error:
            raise VerifierDeadError(f"{self.name} failed: {error}") from None
        used = [index for index, label in enumerate(self._card.labels) if label not in UNUSED_LABELS and index < len(scores)]
        best = max(used, key=lambda index: float(scores[index]))
        return Verdict(self._card.labels[best], float(scores[best]))


def _decode(jpeg: bytes) -> Any:
    size = jpeg_size(jpeg)
    if size is None:
        raise CropError("not a JPEG picture")
    if not (0 < size[0] <= MAX_SIDE_PX and 0 < size[1] <= MAX_SIDE_PX):
        raise CropError(f"{size[0]}×{size[1]} pixels; a crop has at most {MAX_SIDE_PX} on a side")
    try:
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise CropError(f"cannot be decoded: {error}") from None
    if picture is None:
        raise CropError("cannot be decoded")
    return picture
