"""A model that runs: a file, its card and an interpreter. Used alike by agent, verifier and command line."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.card import ModelCard
from models.inference.decode import Decoder, make_decoder
from models.inference.decode_classifier import ClassifierDecoder
from models.inference.decode_ssd import SsdDecoder
from models.inference.errors import ModelError
from models.inference.infer_card import infer_card
from models.inference.interpreter_tflite import look_at, open_interpreter, tensor_infos
from models.inference.kinds import input_fault, labels_fault
from models.inference.metadata_disk import read_metadata
from models.inference.model_file import ModelFile
from models.inference.preprocess import Geometry, Preprocessor
from models.inference.types import AnyArray, Detections, FloatArray, OutputTensor, Picture, TensorInfo


class TfliteModel:
    """A loaded model. Not for two threads at a time; a model that does not fit its card is refused before it runs.

    `runtime` names the package of the runtime, empty the first that works. With `sha256` the file is opened only if it has it.
    Raises ModelError with a reason of `models.inference.errors`, in the constructor and in every method.
    """

    def __init__(
        self, path: str | Path, card: ModelCard, *, threads: int = 1, delegate_library: str | None = None, runtime: str = "",
        sha256: str | None = None,
    ) -> None:
        self.card = card
        self.path = Path(path)
        self.invoke_ms = 0.0
        interpreter, used, file = open_interpreter(
            self.path, threads=threads, delegate_library=delegate_library, runtime=runtime, sha256=sha256
        )
        self.runtime = str(used)
        self.accelerator: Literal["cpu", "edgetpu"] = "edgetpu" if file.for_edgetpu else "cpu"
        inputs, self.outputs = tensor_infos(interpreter, file)
        self.input = _fitting_input(card, inputs, self.outputs)
        _fitting_labels(card, file)
        self._scores = ClassifierDecoder(card, self.outputs) if card.task == "classify" else None
        self._decoder: Decoder | None = make_decoder(card, self.outputs) if card.task == "detect" else None
        self._preprocessor = Preprocessor(card.input, self.input)
        plain = self._decoder.plain_outputs(self.outputs) if isinstance(self._decoder, SsdDecoder) else None
        self._plain = [self.outputs[at].index for at in plain] if plain is not None else None
        self._interpreter: Any = interpreter

    def detect(self, picture_bgr: Picture, *, threshold: float | None = None) -> Detections:
        """What is in a picture (H, W, 3) uint8 BGR; a given threshold stands for all of the card's."""
        if self._decoder is None:
            raise ModelError("wrong_task", f"{self.card.name} is a classifier and finds no boxes")
        outputs, geometry = self._run(picture_bgr)
        return self._decoder(outputs, geometry, threshold)

    @property
    def plain(self) -> bool:
        """Whether `run_plain` gives an answer: there is an SSD's head whose numbers can be read elsewhere."""
        return self._plain is not None

    def run_plain(self, picture_bgr: Picture) -> bytes:
        """The head's numbers as they are, float32: boxes (N, 4), classes (N), scores (N), count; for `SsdReader`."""
        if self._plain is None:
            raise ModelError("wrong_task", f"{self.card.name} has a head that is decoded here")
        return b"".join([values.tobytes() for values in self._ran(picture_bgr, self._plain)[0]])

    def classify(self, picture_bgr: Picture) -> FloatArray:
        """Class scores float32 (C,) of a picture (H, W, 3) uint8 BGR, in the order of the card's labels."""
        if self._scores is None:
            raise ModelError("wrong_task", f"{self.card.name} is a detector and gives no class scores")
        outputs, _ = self._run(picture_bgr)
        return self._scores(outputs)

    def close(self) -> None:
        """Let go of the interpreter, and with it of an accelerator; closing twice does no harm."""
        self._interpreter = None

    def __enter__(self) -> "TfliteModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, picture_bgr: Picture) -> tuple[list[OutputTensor], Geometry]:
        values, geometry = self._ran(picture_bgr, [info.index for info in self.outputs])
        return [OutputTensor(info, each) for info, each in zip(self.outputs, values, strict=True)], geometry

    def _ran(self, picture_bgr: Picture, wanted: Sequence[int]) -> tuple[list[AnyArray], Geometry]:
        """The tensors of these indices after one run."""
        if self._interpreter is None:
            raise ModelError("closed", f"{self.card.name} was closed")
        tensor, geometry = self._preprocessor.prepare(picture_bgr)
        try:
            self._interpreter.set_tensor(self.input.index, tensor)
            started_s = time.perf_counter()
            self._interpreter.invoke()
            self.invoke_ms = (time.perf_counter() - started_s) * 1e3
            outputs = [self._interpreter.get_tensor(index) for index in wanted]
        except (RuntimeError, ValueError) as error:
            reason: Literal["failed", "delegate_failed"] = "delegate_failed" if self.accelerator == "edgetpu" else "failed"
            raise ModelError(reason, f"{self.card.name} failed while running: {error}") from error
        return outputs, geometry


def infer_card_for(path: str | Path, labels: Sequence[str] | None = None) -> ModelCard:
    """The card of a model file of a known kind, to be printed and kept; see `infer_card` for the kinds.

    The file is read and not opened: no interpreter sees it, so a malicious one can do nothing here. Labels that are not given are
    taken from the file's own metadata. Raises ModelError `wrong_shape` or `wrong_task` where no card can be inferred.
    """
    path = Path(path)
    file = look_at(path)
    return infer_card(path.stem, file, tuple(labels or ()), read_metadata(path))


def _fitting_input(card: ModelCard, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> TensorInfo:
    """The one input, if it is what the card says."""
    spec = card.input
    height, width = spec.height_px, spec.width_px
    wanted = (1, height, width, 3) if spec.layout == "nhwc" else (1, 3, height, width)
    fault = input_fault(inputs, outputs)
    if fault:
        raise ModelError("wrong_shape", f"{card.name} cannot be run: {fault}")
    if inputs[0].shape != wanted:
        there = f"{inputs[0].name} {inputs[0].shape}"
        raise ModelError("wrong_shape", f"{card.name} does not fit its card: the one input must be {wanted}; input: {there}")
    if inputs[0].dtype not in (np.uint8, np.int8, np.int16, np.float32):
        raise ModelError("wrong_shape", f"{card.name} takes {inputs[0].dtype}: uint8, int8, int16 and float32 are known")
    return inputs[0]


def _fitting_labels(card: ModelCard, file: ModelFile) -> None:
    """Raise ModelError where the file tells how many classes there are, and the card names more or fewer."""
    if card.output.decoder == "ssd_postprocess" and file.classes is not None:
        fault = labels_fault(card.labels, file.classes)
        if fault:
            raise ModelError("wrong_shape", f"{card.name}: {fault}")
