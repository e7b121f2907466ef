"""The detector in a process of its own: whatever a runtime or an accelerator does there, the agent goes on.

A Coral's transport error ends the process with SIGABRT (libedgetpu's USB driver), a cut file ended tflite-runtime 2.14 with
SIGSEGV, a lost delegate may hang for ever: none of that can be caught, so it is kept apart, timed, killed and started again.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_agent.vision import detector_wire as wire
from device_agent.vision.backoff import Backoff
from device_agent.vision.detector import Answer, DetectorError, ModelSpec, weak_threshold
from device_agent.vision.inference_child_linux import ChildDiedError, ChildHungError, FrameSlot, InferenceChild
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.types import Frame, Picture
from models.card import ModelCard, dump_card
from models.inference.errors import ModelError
from models.inference.types import Detections

TFLITE_OPENER = "device_agent.vision.open_model_tflite:open_model"
DELEGATE_REASONS = frozenset({"needs_edgetpu", "delegate_missing", "delegate_failed"})


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """`reply_deadline_s` for one frame, `load_deadline_s` for loading a model and its first answer."""

    reply_deadline_s: float = 2.0
    load_deadline_s: float = 30.0
    opener: str = TFLITE_OPENER
    monotonic_s: Callable[[], float] = time.monotonic
    on_line: Callable[[str], None] | None = None


class ProcessDetector:
    """A detector whose model lives in a child. The constructor raises ModelError when neither `spec` nor `fallback` loads.

    Shared by several cameras: while the child works on one frame, the next is copied into the other of two slots.
    `fallback` is the model for the CPU that stands in where the accelerator or its library is missing.
    """

    def __init__(self, spec: ModelSpec, *, fallback: ModelSpec | None = None, settings: ProcessSettings | None = None) -> None:
        self._settings = settings or ProcessSettings()
        self._spec, self._fallback, self._running = spec, fallback, spec
        self._backoff = Backoff()
        self._turn = threading.Lock()
        # The kernel's death signal follows the thread that started the child: it must be one that lives as long as the detector.
        self._starter = ThreadPoolExecutor(1, "detector-starter")
        self._slots = [FrameSlot(number) for number in range(2)]
        self._free: queue.SimpleQueue[FrameSlot] = queue.SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._child: InferenceChild | None = None
        self._closed = False
        self.restarts = 0
        self.runtime = ""
        self.accelerator = "cpu"
        self.accelerator_reason = ""
        try:
            self._child = self._start()
        except BaseException:
            self.close()
            raise

    @property
    def card(self) -> ModelCard:
        """The card of the model that answers now."""
        return self._running.card

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return self._child.pid if self._child is not None else None

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture; raises DetectorError. A child that died is replaced and asked once more."""
        if picture_bgr.ndim != 3 or picture_bgr.shape[2] != 3 or picture_bgr.dtype != np.uint8 or picture_bgr.size == 0:
            raise DetectorError("bad_picture", f"not a BGR picture: {picture_bgr.shape} {picture_bgr.dtype}")
        slot = self._free.get()
        try:
            if self._closed:
                raise DetectorError("closed", "the detector was closed")
            slot.write(picture_bgr)
            with self._turn:
                return self._look(slot.number, picture_bgr.shape[0], picture_bgr.shape[1])
        finally:
            self._free.put(slot)

    def detect(self, frame: Frame) -> Detections:
        """The detections of a frame alone; raises DetectorError."""
        return self.look(frame.picture_bgr).detections

    def switch(self, model_path: Path, card_path: Path, *, threads: int = 1, delegate_library: str | None = None) -> None:
        """Change to another model between two frames; raises ModelError, and then the old model goes on."""
        spec = read_spec(model_path, card_path, threads, delegate_library)
        with self._turn:
            if self._closed:
                raise ModelError("closed", "the detector was closed")
            try:
                child = self._ready()
            except DetectorError as error:
                raise ModelError("failed", f"no inference process to load it: {error.message}") from error
            try:
                self._load(child, spec)
            except (ChildHungError, ChildDiedError) as error:
                self._lost()
                raise ModelError("failed", f"{model_path} took the inference process down: {error}") from error
            self._spec = self._running = spec
            self._fallback, self.accelerator_reason = None, ""

    def close(self) -> None:
        """End the child and give the shared memory back."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            if self._child is not None:
                self._child.close()
                self._child = None
        self._starter.shutdown()
        for _ in self._slots:  # whoever still writes into one gets to end first
            self._free.get().close()
        for slot in self._slots:
            self._free.put(slot)

    def _look(self, slot: int, height_px: int, width_px: int) -> Answer:
        for attempt in (1, 2):
            child = self._ready()
            card = self._running.card
            request = {"slot": slot, "height": height_px, "width": width_px, "threshold": weak_threshold(card)}
            try:
                kind, payload = child.ask(wire.pack_json(wire.LOOK, request), self._settings.reply_deadline_s)
                if kind == wire.REFUSED:
                    refused = wire.unpack_refused(payload)
                    raise DetectorError(refused.reason, refused.message)
                found, invoke_ms = wire.unpack_found(payload)
            except ChildHungError as error:
                self._lost()
                deadline_ms = self._settings.reply_deadline_s * 1e3
                raise DetectorError("hung", f"no answer within {deadline_ms:.0f} ms: the inference process was killed") from error
            except (ChildDiedError, ValueError) as error:
                self._lost()
                if attempt == 2 or self._backoff.wait_s(self._settings.monotonic_s()) > 0:
                    raise DetectorError("died", str(error)) from error
                continue
            self._backoff.worked()
            return Answer(found, card, invoke_ms)
        raise AssertionError("the second attempt returns or raises")

    def _ready(self) -> InferenceChild:
        """The child, started again if need be; raises DetectorError while that has to wait or fails."""
        if self._closed:
            raise DetectorError("closed", "the detector was closed")
        if self._child is not None:
            return self._child
        wait_s = self._backoff.wait_s(self._settings.monotonic_s())
        if wait_s > 0:
            raise DetectorError("waiting", f"the inference process failed repeatedly; next start in {wait_s:.1f} s")
        self.restarts += 1
        try:
            self._child = self._start()
        except ModelError as error:
            self._backoff.failed(self._settings.monotonic_s())
            raise DetectorError(error.reason, error.message) from error
        return self._child

    def _start(self) -> InferenceChild:
        """A child with a loaded model: the wanted one, or the fallback where there is no accelerator; raises ModelError."""
        try:
            child = self._start_with(self._spec)
            self.accelerator_reason = ""
            return child
        except ModelError as error:
            died_with_delegate = error.reason == "failed" and self._spec.delegate_library is not None
            accelerator_lost = error.reason in DELEGATE_REASONS or died_with_delegate
            if self._fallback is None or not accelerator_lost:
                raise
            child = self._start_with(self._fallback)
            self.accelerator_reason = error.message
            return child

    def _start_with(self, spec: ModelSpec) -> InferenceChild:
        settings = self._settings
        try:
            child = self._starter.submit(InferenceChild, settings.opener, self._slots, settings.on_line).result()
        except ChildDiedError as error:
            raise ModelError("failed", str(error)) from error
        try:
            self._load(child, spec)
        except (ChildHungError, ChildDiedError) as error:
            child.kill()
            raise ModelError("failed", f"{spec.model_path} took the inference process down: {error}") from error
        except BaseException:
            child.kill()
            raise
        self._running = spec
        return child

    def _load(self, child: InferenceChild, spec: ModelSpec) -> None:
        """Have a child load a model; raises ModelError when it refuses, ChildHungError or ChildDiedError when it goes under."""
        request = {
            "model": str(spec.model_path.absolute()), "card": dump_card(spec.card), "threads": spec.threads,
            "delegate": spec.delegate_library,
        }
        kind, payload = child.ask(wire.pack_json(wire.LOAD, request), self._settings.load_deadline_s)
        if kind == wire.REFUSED:
            raise wire.unpack_refused(payload)
        ready = wire.unpack_ready(payload)
        self.runtime, self.accelerator = ready.runtime, ready.accelerator

    def _lost(self) -> None:
        """The child hangs or is dead: make sure that it is gone."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
        self._backoff.failed(self._settings.monotonic_s())
