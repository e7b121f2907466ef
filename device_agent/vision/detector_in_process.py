"""The detector in the agent's own process."""

import threading
from dataclasses import replace
from pathlib import Path

from device_agent.vision.detector import Answer, DetectorError, Model, ModelSpec, OpenModel, first_answer, weak_threshold
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.types import Frame, Picture
from models.card import ModelCard
from models.inference.errors import ModelError
from models.inference.types import Detections


class InProcessDetector:
    """A detector in the agent's own process, for boards without memory for a second one: its crash is the agent's.

    No child, no shared memory, one model (two while it is switched). `runtime` names the package that was proved to work here.
    """

    def __init__(
        self, spec: ModelSpec, open_model: OpenModel, *, runtime: str = "", accelerator_reason: str = ""
    ) -> None:
        self._open_model = open_model
        self._runtime = runtime
        self._spec = replace(spec, runtime=spec.runtime or runtime)
        self._model: Model | None = open_model(self._spec)
        self._turn = threading.Lock()
        self.restarts = 0
        self.last_error = ""
        self.accelerator_reason = accelerator_reason

    @property
    def card(self) -> ModelCard:
        """The card of the model that answers now."""
        return self._spec.card

    @property
    def runtime(self) -> str:
        """Name and version of the TFLite runtime."""
        return self._model.runtime if self._model else ""

    @property
    def accelerator(self) -> str:
        """What the model runs on."""
        return self._model.accelerator if self._model else "cpu"

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture; raises DetectorError."""
        with self._turn:
            if self._model is None:
                raise DetectorError("closed", "the detector was closed")
            card = self._spec.card
            try:
                found = self._model.detect(picture_bgr, threshold=weak_threshold(card))
            except ModelError as error:
                self.last_error = error.message
                raise DetectorError(error.reason, error.message) from error
            return Answer(found, card, self._model.invoke_ms)

    def detect(self, frame: Frame) -> Detections:
        """The detections of a frame alone."""
        return self.look(frame.picture_bgr).detections

    def switch(
        self, model_path: Path, card_path: Path, *, threads: int = 1, delegate_library: str | None = None,
        fallback: ModelSpec | None = None,
    ) -> None:
        """Load the new model beside the old one, let it answer once, then let go of the old one.

        Only the CPU's: an accelerator that fails would take the agent with it, so `fallback` is what runs where one is given.
        """
        given = fallback or read_spec(model_path, card_path, threads, delegate_library)
        spec = replace(given, runtime=given.runtime or self._runtime)
        new = self._open_model(spec)
        try:
            first_answer(new, spec.card)
        except ModelError:
            new.close()
            raise
        with self._turn:
            old, self._model, self._spec = self._model, new, spec
        if old is not None:
            old.close()

    def close(self) -> None:
        """Let go of the model."""
        with self._turn:
            model, self._model = self._model, None
        if model is not None:
            model.close()
