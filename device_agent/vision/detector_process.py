"""The detector in a process of its own: whatever a runtime or an accelerator does there, the agent goes on.

A Coral's transport error ends the process with SIGABRT (libedgetpu's USB driver), a cut file ended tflite-runtime 2.14 with
SIGSEGV, a lost delegate may hang for ever: none of that can be caught, so it is kept apart, timed, killed and started again.
Where a model for the CPU stands by, an accelerator that fails is replaced by it at once, and comes back when it is well.
"""

import queue
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from device_agent.vision.backoff import Backoff
from device_agent.vision.detector import Answer, DetectorError, ModelSpec
from device_agent.vision.detector_children import ChildLostError, Children, LoadedChild, LoadFailedError, put
from device_agent.vision.detector_recovery import Recovery
from device_agent.vision.detector_settings_process import ProcessSettings, TendingSettings
from device_agent.vision.golden_frame import kept, something_on_it
from device_agent.vision.inference_child_linux import FrameSlot
from device_agent.vision.ladder import RUNGS, Failure, Fault, Ladder, explain
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.types import Frame, Picture
from models.card import ModelCard
from models.inference.errors import ModelError
from models.inference.preprocess import Geometry
from models.inference.types import Detections

__all__ = ["ProcessDetector", "ProcessSettings", "TendingSettings"]


class ProcessDetector:
    """A detector whose model lives in a child. The constructor raises ModelError when neither `spec` nor `fallback` loads.

    Shared by several cameras: while the child works on one frame, the next is fitted into the other of two slots.
    `fallback` is the model for the CPU that stands in while the accelerator, which `spec` names, is missing or fails.
    """

    def __init__(self, spec: ModelSpec, *, fallback: ModelSpec | None = None, settings: ProcessSettings | None = None) -> None:
        self._settings = settings or ProcessSettings()
        self._spec, self._fallback = spec, fallback
        self._backoff = Backoff()
        self._turn = threading.Lock()
        self._children = Children(self._settings)
        self._free: queue.SimpleQueue[FrameSlot] = queue.SimpleQueue()
        for slot in self._children.frames:
            self._free.put(slot)
        self._child: LoadedChild | None = None
        self._running = fallback or spec
        self._closed = threading.Event()
        self._warnings: tuple[Fault, ...] = ()
        self.ladder = Ladder()
        self.generation = 0
        self.golden = self._settings.golden
        self.answered_s = self._settings.monotonic_s()
        self.restarts = 0
        self.last_error = ""
        self.runtime = ""
        self.accelerator = "cpu"
        self._recovery = Recovery(self, self._children, self._settings)
        try:
            self._child = self._start()
        except BaseException as failed:
            self.close()
            if isinstance(failed, LoadFailedError):
                raise failed.error from failed
            raise
        self._recovery.begin()

    @property
    def card(self) -> ModelCard:
        """The card of the model that answers now."""
        return self._running.card

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return child.pid if (child := self._child) is not None else None

    @property
    def pair(self) -> tuple[ModelSpec, ModelSpec] | None:
        """The accelerator's model and the CPU's that stands by; None where there is no such pair."""
        if self._spec.delegate_library is None or self._fallback is None:
            return None
        return self._spec, self._fallback

    @property
    def accelerator_reason(self) -> str:
        """Why the accelerator that was asked for is not in use, or what is wrong with it; empty when all is well."""
        return self.ladder.reason(self._warnings, self._settings.monotonic_s())

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture; raises DetectorError. A child that died is replaced and asked once more."""
        if picture_bgr.ndim != 3 or picture_bgr.shape[2] != 3 or picture_bgr.dtype != np.uint8 or picture_bgr.size == 0:
            raise DetectorError("bad_picture", f"not a BGR picture: {picture_bgr.shape} {picture_bgr.dtype}")
        slot = self._free.get()
        try:
            if self._closed.is_set():
                raise DetectorError("closed", "the detector was closed")
            spec = self._running
            geometry = put(picture_bgr, spec, slot)
            with self._turn:
                return self._look(picture_bgr, slot, spec, geometry)
        finally:
            self._free.put(slot)

    def detect(self, frame: Frame) -> Detections:
        """The detections of a frame alone; raises DetectorError."""
        return self.look(frame.picture_bgr).detections

    def switch(
        self, model_path: Path, card_path: Path, *, threads: int = 1, delegate_library: str | None = None,
        fallback: ModelSpec | None = None,
    ) -> None:
        """Change to another model between two frames; raises ModelError, and then the old model goes on.

        While the accelerator is out of use the new release's CPU model is loaded; the accelerator is tried later, beside it.
        """
        spec = read_spec(model_path, card_path, threads, delegate_library)
        with self._turn:
            if self._closed.is_set():
                raise ModelError("closed", "the detector was closed")
            try:
                child = self._ready()
            except DetectorError as error:
                raise ModelError("failed", f"no inference process to load it: {error.message}") from error
            still_fallen = self.ladder.fallen and fallback is not None and delegate_library is not None
            try:
                child.load(fallback if still_fallen and fallback is not None else spec)
            except LoadFailedError as error:
                if error.failure.reason in ("hung", "died"):
                    self._lost(error.failure, switching=True)
                raise error.error from error
            self._spec, self._fallback = spec, fallback
            self.generation += 1
            if not still_fallen:
                self.ladder.anew()
            self._serve(child)
        self._recovery.begin()

    def close(self) -> None:
        """End the child and give the shared memory back."""
        with self._turn:
            if self._closed.is_set():
                return
            self._closed.set()
            if self._child is not None:
                self._child.close()
                self._child = None
        self._recovery.end()
        frames = [self._free.get() for _ in self._children.frames]  # whoever still writes into one gets to end first
        self._children.close()
        for slot in frames:
            self._free.put(slot)

    def tend(self) -> None:
        """One turn of care for the accelerator; a thread does it unless the settings say otherwise."""
        self._recovery.tend()

    def ask_golden(self, picture_bgr: Picture) -> Detections:
        """What the model that serves sees on a picture; raises DetectorError. The tending thread's alone."""
        with self._turn:
            running = self._ready().spec
            geometry = put(picture_bgr, running, self._children.golden)
            return self._look(picture_bgr, self._children.golden, running, geometry).detections

    def give_up(self, fault: Fault, detail: str) -> None:
        """Take the accelerator out of use; the CPU's model starts with the next frame."""
        with self._turn:
            child, self._child = self._child, None
            if child is not None:
                child.kill()
            self._fall(fault, detail)

    def failed_again(self, fault: Fault, detail: str, generation: int) -> None:
        """A try of the accelerator failed: the next comes later."""
        with self._turn:
            self.last_error = detail
            if generation == self.generation and self.ladder.fallen:
                self.ladder.fell(fault, detail, self._settings.monotonic_s())

    def take_over(self, child: LoadedChild, generation: int) -> bool:
        """The accelerator's child serves from now on, the CPU's ends; False where the model was changed meanwhile."""
        with self._turn:
            if self._closed.is_set() or generation != self.generation or not self.ladder.fallen:
                return False
            before, self._child = self._child, child
            self.ladder.came_back(self._settings.monotonic_s())
            self._serve(child)
        if before is not None:
            before.close()
        return True

    def warn(self, faults: Sequence[Fault]) -> None:
        """What is wrong with the accelerator although it works."""
        self._warnings = tuple(faults)

    def _look(self, picture_bgr: Picture, slot: FrameSlot, spec: ModelSpec, geometry: Geometry) -> Answer:
        for attempt in (1, 2):
            child = self._ready()
            if self._running is not spec and self._running.card.input != spec.card.input:  # another took over
                geometry = put(picture_bgr, self._running, slot)
            spec = self._running
            self._spare(child)
            try:
                found, invoke_ms = child.look(slot, geometry)
            except ChildLostError as error:
                if not self._again(error.failure, attempt):
                    raise DetectorError(error.failure.reason, error.failure.message) from error
                continue
            self._backoff.worked()
            self.answered_s = self._settings.monotonic_s()
            if self.golden is None and self.pair is not None and something_on_it(found, spec.card):
                self.golden = kept(picture_bgr)
            return Answer(found, spec.card, invoke_ms)
        raise AssertionError("the second attempt returns or raises")

    def _again(self, failure: Failure, attempt: int) -> bool:
        """A look failed: clear up, and say whether the same frame is asked about once more."""
        self.last_error = failure.message
        gave_up = failure.reason not in ("hung", "died")
        on_accelerator = self._child is not None and self._child.on_accelerator
        if gave_up and not (on_accelerator and self._fallback is not None):
            return False  # the interpreter refused one picture; the child lives on
        self._lost(failure)
        if attempt == 2 or (failure.reason == "hung" and not self.ladder.fallen):
            return False
        return self._backoff.wait_s(self._settings.monotonic_s()) <= 0

    def _spare(self, child: LoadedChild) -> None:
        """An accelerator that is too warm is asked less often."""
        if "hot" in self._warnings and child.on_accelerator:
            rested_s = self._settings.monotonic_s() - self.answered_s
            if rested_s < self._settings.tending.hot_interval_s:
                raise DetectorError("hot", "the accelerator is too warm: fewer frames are looked at")

    def _ready(self) -> LoadedChild:
        """The child, started again if need be; raises DetectorError while that has to wait or fails."""
        if self._closed.is_set():
            raise DetectorError("closed", "the detector was closed")
        if self._child is not None:
            return self._child
        wait_s = self._backoff.wait_s(self._settings.monotonic_s())
        if wait_s > 0:
            raise DetectorError("waiting", f"the inference process failed repeatedly; next start in {wait_s:.1f} s")
        self.restarts += 1
        try:
            self._child = self._start()
        except LoadFailedError as failed:
            self.last_error = failed.error.message
            self._backoff.failed(self._settings.monotonic_s())
            raise DetectorError(failed.error.reason, failed.error.message) from failed
        return self._child

    def _start(self) -> LoadedChild:
        """A child with a loaded model: the wanted one, or the CPU's while the accelerator is out of use; or LoadFailedError."""
        if not self.ladder.fallen or self._fallback is None:
            try:
                return self._serve(self._children.start(self._spec))
            except LoadFailedError as error:
                self.last_error = error.error.message
                if self._spec.delegate_library is None:
                    raise
                self._fall(*self._explained(error.failure))
                if self._fallback is None:
                    raise
        return self._serve(self._children.start(self._fallback))

    def _serve(self, child: LoadedChild) -> LoadedChild:
        self._running = child.spec
        self.runtime, self.accelerator = child.ready.runtime, child.ready.accelerator
        return child

    def _lost(self, failure: Failure, *, switching: bool = False) -> None:
        """The child hangs, is dead or of no use: make sure that it is gone; an accelerator's is replaced by the CPU's."""
        child, self._child = self._child, None
        on_accelerator = child is not None and child.on_accelerator
        if child is not None:
            child.kill()
        self.last_error = failure.message
        now_s = self._settings.monotonic_s()
        if on_accelerator and not switching:
            self._fall(*self._explained(replace(failure, rested_s=now_s - self.answered_s)))
        if not (on_accelerator and self.ladder.fallen and self._fallback is not None):
            self._backoff.failed(now_s)

    def _explained(self, failure: Failure) -> tuple[Fault, str]:
        return explain(failure, self._settings.see(True))

    def _fall(self, fault: Fault, detail: str) -> None:
        """Note why the accelerator is out of use; without a model for the CPU that is a warning beside its restarts."""
        self.last_error = detail
        if self._fallback is None:
            self._warnings = (fault, "no_cpu_variant")
        elif RUNGS[fault].falls:
            self.ladder.fell(fault, detail, self._settings.monotonic_s())
            self._warnings = ()
            self._backoff = Backoff()
