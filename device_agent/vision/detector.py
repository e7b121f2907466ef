"""What finds objects in a frame, whichever process it lives in.

Detectors answer with detections down to `WEAK_SHARE` of the card's thresholds: the tracker continues tracks with the weak ones.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from device_agent.vision.types import Frame, Picture
from models.card import ModelCard
from models.inference.types import Detections

WEAK_SHARE = 0.6
"""Share of a card's lowest threshold down to which boxes are wanted (ByteTrack's second stage needs what is not reported)."""


class DetectorError(Exception):
    """No answer for this frame; the next one may have one. `reason` is one word for counters.

    Reasons: hung (no reply within the deadline), died (the child ended), waiting (restarts are spaced out), failed (the
    interpreter gave up), hot (the accelerator is spared), bad_picture, closed, and those of `models.inference.errors` when a
    model cannot be loaded again.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to run: its file, its card, and how. `delegate_library` names an Edge TPU library, None runs on the CPU.

    `runtime` names the package of the TFLite runtime to use, empty the first that works. With `sha256` the file is opened only
    if it has it.
    """

    model_path: Path
    card: ModelCard
    threads: int = 1
    delegate_library: str | None = None
    runtime: str = ""
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found in one picture, by the model of `card` (class ids index its labels), and the time of the bare invoke."""

    detections: Detections
    card: ModelCard
    invoke_ms: float


class Detector(Protocol):
    """Finds objects; may be shared by the threads of several cameras."""

    @property
    def card(self) -> ModelCard:
        """The card of the model that answers now."""
        ...

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""
        ...

    @property
    def runtime(self) -> str:
        """Name and version of the TFLite runtime, empty before the model was loaded."""
        ...

    @property
    def accelerator(self) -> str:
        """What the model runs on: cpu or edgetpu."""
        ...

    @property
    def accelerator_reason(self) -> str:
        """Why it does not run on what was asked for, or what is wrong with that; empty when all is well."""
        ...

    @property
    def last_error(self) -> str:
        """How it failed last; empty before it ever did."""
        ...

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture, weak ones too; raises DetectorError."""
        ...

    def detect(self, frame: Frame) -> Detections:
        """The detections of a frame alone; raises DetectorError."""
        ...

    def switch(
        self, model_path: Path, card_path: Path, *, threads: int = 1, delegate_library: str | None = None,
        fallback: ModelSpec | None = None,
    ) -> None:
        """Change to another model between two frames; raises ModelError, and then the old model goes on as before.

        The old model stays loaded until the new one has answered once. `fallback` is the CPU's model of the same release, for
        where the accelerator that `delegate_library` drives fails.
        """
        ...

    def close(self) -> None:
        """End it; may be called twice."""
        ...


def weak_threshold(card: ModelCard) -> float:
    """The lowest score that is asked for from a model."""
    return card.thresholds.lowest * WEAK_SHARE


class Model(Protocol):
    """A loaded model, as `models.inference.runtime_tflite.TfliteModel` is one."""

    runtime: str
    accelerator: str
    invoke_ms: float

    def detect(self, picture_bgr: Picture, *, threshold: float | None = None) -> Detections:
        """Detections of a picture; raises ModelError."""
        ...

    def close(self) -> None:
        """Let go of the interpreter."""
        ...


@runtime_checkable
class PlainModel(Protocol):
    """A loaded model that can give its head's numbers away undecoded."""

    invoke_ms: float

    @property
    def plain(self) -> bool:
        """Whether it can, with the head that it has."""
        ...

    def run_plain(self, picture_bgr: Picture) -> bytes:
        """The numbers, for `models.inference.decode_ssd.SsdReader`; raises ModelError."""
        ...


class OpenModel(Protocol):
    """Loads a model; raises ModelError."""

    def __call__(self, spec: ModelSpec) -> Model:
        """The loaded model of a spec."""
        ...


def first_answer(model: Model, card: ModelCard) -> float:
    """Let a fresh model answer once on an even grey picture; returns the time in ms; raises ModelError where it cannot."""
    started_s = time.perf_counter()
    grey = np.full((card.input.height_px, card.input.width_px, 3), 114, np.uint8)
    model.detect(grey, threshold=weak_threshold(card))
    return (time.perf_counter() - started_s) * 1e3
