"""Looks after an accelerator: kept busy and checked while it serves, tried again beside the CPU's model while it does not."""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from device_agent.vision.detector import DetectorError, ModelSpec
from device_agent.vision.detector_children import ChildLostError, Children, LoadedChild, LoadFailedError, put
from device_agent.vision.detector_settings_process import ProcessSettings
from device_agent.vision.golden_frame import difference, drawn
from device_agent.vision.inference_child_linux import InferenceChild
from device_agent.vision.ladder import Fault, Ladder, SeenAccelerator, explain, warnings
from device_agent.vision.types import Picture
from models.inference.types import Detections

log = logging.getLogger(__name__)
WRONG_IN_A_ROW = 2
"""So many different sights of the golden picture, one after the other, are no chance."""


class Patient(Protocol):
    """The detector, as far as its doctor touches it. Every method takes the detector's own turn."""

    ladder: Ladder

    @property
    def generation(self) -> int:
        """Grows with each change of the model."""
        ...

    @property
    def golden(self) -> Picture | None:
        """A picture with something on it."""
        ...

    @property
    def answered_s(self) -> float:
        """When it last answered."""
        ...

    @property
    def pair(self) -> tuple[ModelSpec, ModelSpec] | None:
        """The accelerator's model and the CPU's; None where there is no such pair."""
        ...

    def ask_golden(self, picture_bgr: Picture) -> Detections:
        """What the model that serves sees on the golden picture; raises DetectorError."""
        ...

    def give_up(self, fault: Fault, detail: str) -> None:
        """Take the accelerator out of use."""
        ...

    def failed_again(self, fault: Fault, detail: str, generation: int) -> None:
        """A try of the accelerator failed."""
        ...

    def take_over(self, child: LoadedChild, generation: int) -> bool:
        """The accelerator's child serves from now on; False where the model has changed meanwhile."""
        ...

    def warn(self, faults: Sequence[Fault]) -> None:
        """What is wrong with the accelerator although it works."""
        ...


class Recovery:
    """One turn of care after the other (`tend`): a thread of its own does it (`begin`), or whoever calls it, but not both."""

    def __init__(self, patient: Patient, children: Children, settings: ProcessSettings) -> None:
        self._patient, self._children, self._settings = patient, children, settings
        self._expected: Detections | None = None
        self._expected_for: tuple[int, int] = (-1, 0)
        self._trying: InferenceChild | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        now_s = settings.monotonic_s()
        self._watched_s, self._checked_s, self._wrong = float("-inf"), now_s, 0

    def tend(self) -> None:
        """Do what is due now."""
        if self._patient.pair is None:
            return
        now_s = self._settings.monotonic_s()
        if self._patient.ladder.fallen:
            self._bring_back(now_s)
        else:
            self._keep_well(now_s)

    def begin(self) -> None:
        """Have a thread do it from now on, where there is an accelerator and something to fall back to."""
        turn_s = self._settings.tending.turn_s
        if self._patient.pair is None or turn_s <= 0 or self._thread is not None:
            return

        def turns() -> None:
            while not self._ended.wait(turn_s):
                try:
                    self.tend()
                except Exception:
                    log.exception("looking after the accelerator failed; it goes on")

        self._thread = threading.Thread(target=turns, name="detector-tending", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The detector closes: no more turns; a child that is being tried dies now."""
        self._ended.set()
        trying = self._trying
        if trying is not None:
            trying.end()
        if self._thread is not None:
            self._thread.join()

    def _keep_well(self, now_s: float) -> None:
        tending = self._settings.tending
        if now_s - self._watched_s >= tending.watch_every_s:
            self._watched_s = now_s
            faults = warnings(self._settings.see(False))
            self._patient.warn(faults)
            if "dead" in faults:
                self._patient.give_up("dead", "its temperature is out of the world")
                return
        rested = now_s - max(self._patient.answered_s, self._checked_s) >= tending.idle_s
        if rested or now_s - self._checked_s >= tending.check_every_s:
            self._checked_s = now_s
            self._check()

    def _check(self) -> None:
        """Ask the accelerator about the golden picture: it is kept awake, and shows whether it sees what the CPU sees."""
        pair = self._patient.pair
        if pair is None:
            return
        generation, picture = self._patient.generation, self._golden()
        try:
            found = self._patient.ask_golden(picture)
        except DetectorError:
            return  # the patient has fallen, and says why
        expected = self._cpu_alone(picture, pair[1], generation)
        if expected is None or self._patient.ladder.fallen or self._patient.generation != generation:
            return
        why = difference((expected, pair[1].card), (found, pair[0].card))
        self._wrong = self._wrong + 1 if why else 0
        if self._wrong >= WRONG_IN_A_ROW:
            self._wrong = 0
            self._patient.give_up("wrong_results", why)
        elif why:
            self._checked_s = float("-inf")  # once more, at the next turn

    def _cpu_alone(self, picture: Picture, spec: ModelSpec, generation: int) -> Detections | None:
        """What the CPU's model sees there, learnt once from a child that lives for that long; shows that it loads at all."""
        if self._expected is not None and self._expected_for == (generation, id(picture)):
            return self._expected
        try:
            child = self._children.start(spec, born=self._born)
        except LoadFailedError:
            self._trying = None
            self._patient.warn(["no_cpu_variant"])
            return None
        try:
            self._expected, _ = child.look(self._children.golden, put(picture, spec, self._children.golden))
            self._expected_for = (generation, id(picture))
        except ChildLostError:
            self._expected = None
        finally:
            self._trying = None
            child.kill()
        return self._expected

    def _bring_back(self, now_s: float) -> None:
        ladder, settings = self._patient.ladder, self._settings
        resettable = [one for one in settings.see(False) if one.kind == "usb" and one.may_reset] if settings.reset else []
        due = ladder.due(now_s, may_reset=bool(resettable))
        if due == "reset":
            self._reset(resettable, now_s)
        elif due == "probe":
            self._try()

    def _reset(self, resettable: Sequence[SeenAccelerator], now_s: float) -> None:
        assert self._settings.reset is not None
        faults = [fault for fault in (self._settings.reset(one) for one in resettable) if fault]
        if faults and self._settings.on_line is not None:
            self._settings.on_line(f"the accelerator's port was not reset: {'; '.join(faults)}")
        self._patient.ladder.was_reset(now_s, self._settings.tending.settle_s)

    def _try(self) -> None:
        """Start the accelerator in a child of its own and compare it with the CPU's model, which serves on."""
        pair = self._patient.pair
        if pair is None:
            return
        generation, picture = self._patient.generation, self._golden()
        try:
            child = self._children.start(pair[0], born=self._born)
        except LoadFailedError as error:
            self._trying = None
            if not self._ended.is_set():
                self._patient.failed_again(*self._explained(error), generation)
            return
        try:
            fault = self._compare(child, picture, pair)
        except ChildLostError as error:
            fault = self._explained(error)
        except DetectorError as error:  # the CPU's model did not answer: nothing to compare with, and nothing is known
            fault = ("crashed", f"not tried: {error.message}")
        self._trying = None
        if fault is None and not self._ended.is_set() and self._patient.take_over(child, generation):
            return
        child.kill()
        if fault is not None and not self._ended.is_set():
            self._patient.failed_again(*fault, generation)

    def _compare(self, child: LoadedChild, picture: Picture, pair: tuple[ModelSpec, ModelSpec]) -> tuple[Fault, str] | None:
        """None after so many good looks, else what is wrong."""
        expected = self._patient.ask_golden(picture)
        for _ in range(self._settings.tending.probe_looks):
            found, _ = child.look(self._children.golden, put(picture, pair[0], self._children.golden))
            why = difference((expected, pair[1].card), (found, pair[0].card))
            if why:
                return "wrong_results", why
        self._checked_s = self._settings.monotonic_s()
        return None

    def _explained(self, error: ChildLostError) -> tuple[Fault, str]:
        return explain(error.failure, self._settings.see(True))

    def _born(self, child: InferenceChild) -> None:
        self._trying = child
        if self._ended.is_set():
            child.end()

    def _golden(self) -> Picture:
        given = self._patient.golden
        return given if given is not None else _DRAWN


_DRAWN = drawn()
