"""The inference children of one detector: started, given a model, asked; and what their end means, as a value."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2

from device_agent.vision import detector_wire as wire
from device_agent.vision.detector import ModelSpec, weak_threshold
from device_agent.vision.detector_settings_process import ProcessSettings
from device_agent.vision.inference_child_linux import ChildDiedError, ChildHungError, FrameSlot, InferenceChild
from device_agent.vision.ladder import Failure
from device_agent.vision.types import Picture
from models.card import ModelCard, dump_card
from models.inference.decode_ssd import SsdBox, SsdNumbers, SsdReader, placed
from models.inference.errors import ModelError
from models.inference.preprocess import Geometry, fit
from models.inference.runtime_probe_linux import probe_runtimes
from models.inference.types import Detections


class ChildLostError(Exception):
    """A child that gave no answer, or no useful one: it must be killed. `failure` says how it failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class LoadFailedError(ChildLostError):
    """A model that was not loaded; `error` is what to tell whoever wanted it."""

    def __init__(self, failure: Failure, error: ModelError) -> None:
        super().__init__(failure)
        self.error = error


class Children:
    """Makes children that share this detector's frame slots; the last slot is the golden picture's, used by one thread alone."""

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        # The kernel's death signal follows the thread that started the child: it must be one that lives as long as the detector.
        self._starter = ThreadPoolExecutor(1, "detector-starter")
        self.frames = [FrameSlot(number) for number in range(settings.slots)]
        self.golden = FrameSlot(settings.slots)
        self._runtime = ""

    def start(self, spec: ModelSpec, *, born: Callable[[InferenceChild], None] = lambda child: None) -> "LoadedChild":
        """A child with a loaded model; raises LoadFailedError, and then no child is left. `born` hears of it before it loads.

        The child is the build probe of its runtime. If it goes under with a model of the CPU, each runtime is tried in a child of
        its own, and the first that works is taken from then on, if it is another.
        """
        try:
            return self._start(replace(spec, runtime=spec.runtime or self._runtime), born)
        except LoadFailedError as error:
            if spec.delegate_library is not None or error.failure.reason not in ("died", "hung") or self._runtime:
                raise
            probes = probe_runtimes(command=self._settings.probe_command)
            if len(probes) < 2 or probes[-1].fault:
                raise
            self._runtime = probes[-1].package
            return self._start(replace(spec, runtime=self._runtime), born)

    def close(self) -> None:
        """Give the shared memory back; nobody may use a slot any more."""
        self._starter.shutdown()
        for slot in (*self.frames, self.golden):
            slot.close()

    def _start(self, spec: ModelSpec, born: Callable[[InferenceChild], None]) -> "LoadedChild":
        settings = self._settings
        slots = (*self.frames, self.golden)
        try:
            child = self._starter.submit(InferenceChild, settings.opener, slots, settings.on_line).result()
        except ChildDiedError as error:
            failure = Failure("died", str(error), loading=True)
            raise LoadFailedError(failure, ModelError("failed", str(error))) from error
        born(child)
        loaded = LoadedChild(child, spec, settings)
        try:
            loaded.load(spec)
        except BaseException:
            child.kill()
            raise
        return loaded


class LoadedChild:
    """A child and the model in it. Not for two threads at a time, but for `end`."""

    def __init__(self, child: InferenceChild, spec: ModelSpec, settings: ProcessSettings) -> None:
        self._child, self._settings = child, settings
        self.spec = spec
        self.ready = wire.Ready("", "cpu", 0.0)
        self._reader: tuple[ModelSpec, SsdReader, Geometry] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def on_accelerator(self) -> bool:
        """Whether its model runs on an accelerator."""
        return self.ready.accelerator != "cpu"

    @property
    def deadline_s(self) -> float:
        """How long one look may take."""
        return self._settings.accelerator_deadline_s if self.on_accelerator else self._settings.reply_deadline_s

    def load(self, spec: ModelSpec) -> None:
        """Have it load a model beside its present one and change to it; raises LoadFailedError.

        Where `failure.reason` is hung or died the child is of no use any more, else the old model goes on.
        """
        settings = self._settings
        deadline_s = settings.load_deadline_s
        if spec.delegate_library is not None:
            deadline_s = min(deadline_s, settings.accelerator_load_deadline_s)
        request = {
            "model": str(spec.model_path.absolute()), "card": dump_card(_as_it_comes(spec.card)), "threads": spec.threads,
            "delegate": spec.delegate_library, "runtime": spec.runtime,
            "sha256": spec.sha256,
        }  # fmt: skip
        try:
            kind, payload = self._child.ask(wire.pack_json(wire.LOAD, request), deadline_s)
            if kind == wire.REFUSED:
                error = wire.unpack_refused(payload)
                raise LoadFailedError(Failure(error.reason, error.message, loading=True), error)
            self.ready = wire.unpack_ready(payload)
        except ChildHungError as hung:
            message = f"{spec.model_path} took the inference process down: it was not loaded within {deadline_s:.0f} s"
            raise LoadFailedError(Failure("hung", message, loading=True), ModelError("failed", message)) from hung
        except (ChildDiedError, ValueError) as died:
            message = f"{spec.model_path} took the inference process down: {died}"
            number = died.signal_number if isinstance(died, ChildDiedError) else 0
            raise LoadFailedError(Failure("died", message, True, number), ModelError("failed", message)) from died
        self.spec = spec

    def look(self, slot: FrameSlot, geometry: Geometry) -> tuple[Detections, float]:
        """Detections (in px of the picture that was fitted into the slot) and the time of the invoke; raises ChildLostError.

        Where `failure.reason` is neither hung nor died the child lives on, and the interpreter alone gave up.
        """
        spec = self.spec
        size = spec.card.input
        deadline_s = self.deadline_s
        try:
            message = wire.pack_look(slot.number, size.height_px, size.width_px, weak_threshold(spec.card))
            kind, payload = self._child.ask(message, deadline_s)
            if kind == wire.REFUSED:
                refused = wire.unpack_refused(payload)
                raise ChildLostError(Failure(refused.reason, refused.message, loading=False))
            if kind == wire.NUMBERS:
                numbers, invoke_ms = wire.unpack_numbers(payload)
                found = self._read(numbers)
            else:
                found, invoke_ms = wire.unpack_found(payload)
        except ChildHungError as error:
            text = f"no answer within {deadline_s * 1e3:.0f} ms: the inference process was killed"
            raise ChildLostError(Failure("hung", text, loading=False)) from error
        except (ChildDiedError, ValueError) as error:
            number = error.signal_number if isinstance(error, ChildDiedError) else 0
            raise ChildLostError(Failure("died", str(error), False, number)) from error
        return placed(found, geometry), invoke_ms

    def _read(self, numbers: SsdNumbers) -> list[SsdBox]:
        """The boxes in an SSD's numbers, as a decoding child would send them; raises ValueError for a card of another head."""
        spec = self.spec
        if self._reader is None or self._reader[0] is not spec:
            if spec.card.output.decoder != "ssd_postprocess":
                raise ValueError("the numbers of a head that the model does not have")
            size = spec.card.input
            self._reader = spec, SsdReader(spec.card), Geometry(size.width_px, size.height_px, 1.0, 1.0)
        _, reader, input_itself = self._reader
        boxes: list[SsdBox] = []
        for left, top, right, bottom, score, class_id in reader.boxes(numbers, weak_threshold(spec.card)):
            inside = input_itself.box_to_source(left, top, right, bottom)
            if inside is not None:
                boxes.append((*inside, score, class_id))
        return wire.as_single(boxes)

    def end(self) -> None:
        """Have it die; from any thread."""
        self._child.end()

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def close(self) -> None:
        """Let it end by itself, or else kill it."""
        self._child.close()


def put(picture_bgr: Picture, spec: ModelSpec, slot: FrameSlot) -> Geometry:
    """Fit a picture to a model's input and colours, straight into a slot: what is copied is as large as the input."""
    size = spec.card.input
    target = slot.room(size.height_px, size.width_px)
    geometry = fit(picture_bgr, size, target)
    if size.colour == "rgb":
        cv2.cvtColor(target, cv2.COLOR_BGR2RGB, dst=target)
    return geometry


def _as_it_comes(card: ModelCard) -> ModelCard:
    """The card for the child: its pictures come in the model's colours, so nothing is left to swap there."""
    return replace(card, input=replace(card.input, colour="bgr"))
