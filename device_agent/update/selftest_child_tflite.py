"""The child that proves a model: ``python -m device_agent.update.selftest_child_tflite REQUEST RESULT``.

It is a process of its own so that a model that crashes the interpreter or hangs takes nothing with it. It ends when its standard
input ends: an agent that died leaves no child behind.
"""

import hashlib
import math
import os
import re
import statistics
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import cv2
import msgspec
import numpy as np

from device_agent.update.selftest import SelftestRequest, SelftestResult
from models.card import load_card
from models.golden import ACCEPTANCE_THRESHOLD, LabelledBoxes, check_acceptance, check_parity, parse_acceptance, parse_parity
from models.inference.errors import ModelError
from models.inference.runtime_tflite import TfliteModel
from models.inference.types import Picture
from ota.durable_disk import write_whole

WARM_UP_RUNS = 3


class _FailureError(Exception):
    """Carries the wire's reason code and a sentence."""

    def __init__(self, code: str, detail: str, figures: Mapping[str, float] | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail, self.figures = code, detail, dict(figures or {})


class _Bench:
    """The model under test, and the times of its runs."""

    def __init__(self, request: SelftestRequest) -> None:
        self._request = request
        card = load_card(Path(request.card).read_text(encoding="utf-8"))
        self.model = TfliteModel(
            request.model, card, threads=request.threads, delegate_library=request.delegate_library, runtime=request.runtime
        )
        self.times_ms: list[float] = []

    def find(self, file: str, sha256: str, threshold: float) -> LabelledBoxes:
        """What the model finds in a golden picture at one threshold for all classes."""
        return self.look(_picture(self._request.pictures, file, sha256), threshold)

    def look(self, picture: Picture, threshold: float) -> LabelledBoxes:
        """What the model finds in a picture; the run is timed."""
        found = self.model.detect(picture, threshold=threshold)
        self.times_ms.append(self.model.invoke_ms)
        if not np.isfinite(found.confidence).all() or not np.isfinite(found.xyxy).all():
            raise _FailureError("model", "the model answers with numbers that are not finite")
        return LabelledBoxes.found(found, self.model.card.labels)


def examine(request: SelftestRequest) -> SelftestResult:
    """Load the model and run every golden sample; a failure is a value with its reason code."""
    # Measured from here: what is added is the runtime, the model and its buffers.
    base_bytes = _resident_bytes()
    figures: dict[str, float] = {}
    try:
        bench = _Bench(request)
        reference, said = _parity(bench, request, figures)
        acceptance, more = _acceptance(bench, request, figures)
        grey = np.full((240, 320, 3), 114, np.uint8)
        while len(bench.times_ms) < request.rounds + WARM_UP_RUNS:
            bench.look(grey, ACCEPTANCE_THRESHOLD)
    except _FailureError as failure:
        return SelftestResult(code=failure.code, detail=failure.detail, figures={**figures, **failure.figures})
    except ModelError as error:
        return SelftestResult(code="model", detail=f"{error.reason}: {error.message}", figures=figures)
    except ValueError as error:  # a card or golden samples that cannot be used
        return SelftestResult(code="format", detail=str(error), figures=figures)
    except OSError as error:
        return SelftestResult(code="hash", detail=f"a file of the release cannot be read: {error}", figures=figures)
    except MemoryError:
        return SelftestResult(code="budget", detail="the model needs more memory than this board has", figures=figures)
    return SelftestResult(
        figures=figures,
        detail="; ".join(part for part in (said, more) if part),
        latency_ms=statistics.median(bench.times_ms[WARM_UP_RUNS:]),
        memory_bytes=max(0, _peak_bytes() - base_bytes),
        parity_reference=reference,
        acceptance=acceptance,
        runtime=bench.model.runtime,
    )


def _parity(bench: _Bench, request: SelftestRequest, figures: dict[str, float]) -> tuple[str, str]:
    if request.parity is None:
        return "", ""
    wanted = parse_parity(Path(request.parity).read_bytes())
    got = [bench.find(sample.file, sample.sha256, wanted.threshold) for sample in wanted.samples]
    outcome = check_parity([sample.expected for sample in wanted.samples], got, wanted.tolerance, threshold=wanted.threshold)
    figures.update({f"parity_{name}": value for name, value in outcome.figures.items()})
    if not outcome.ok:
        raise _FailureError("parity", outcome.reason)
    return wanted.reference, outcome.reason


def _acceptance(bench: _Bench, request: SelftestRequest, figures: dict[str, float]) -> tuple[str, str]:
    if request.acceptance is None:
        return "", ""
    wanted = parse_acceptance(Path(request.acceptance).read_bytes())
    got = {image.file: bench.find(image.file, image.sha256, ACCEPTANCE_THRESHOLD) for image in wanted.images}
    outcome = check_acceptance(wanted, got)
    figures.update({_figure(f"acceptance_{name}"): value for name, value in outcome.figures.items() if math.isfinite(value)})
    if not outcome.ok:
        raise _FailureError("acceptance", outcome.reason)
    return wanted.name, outcome.reason


def _picture(pictures: Mapping[str, str], file: str, sha256: str) -> Picture:
    path = pictures.get(sha256)
    if path is None:
        raise _FailureError("format", f"the golden picture {file} is not among the files of this variant")
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _FailureError("hash", f"the golden picture {file} is not what it was signed as")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise _FailureError("format", f"the golden picture {file} is not a picture")
    return np.asarray(picture, np.uint8)


def _figure(name: str) -> str:
    # Class names are free text, the names of figures are codes of the wire.
    return re.sub(r"[^a-z0-9_.-]", "_", name.lower())[:60]


def _resident_bytes() -> int:
    return _status_bytes("VmRSS")


def _peak_bytes() -> int:
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    # Not getrusage: its peak is inherited from the parent across exec.
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


def main(argv: list[str]) -> int:
    """Read the request, write the result; 0 even when the model fails, for then the result says so."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    request = msgspec.json.decode(Path(argv[1]).read_bytes(), type=SelftestRequest)
    write_whole(Path(argv[2]), msgspec.json.encode(examine(request)), durable=False)
    return 0


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stdout.flush()
    os._exit(code)  # the thread that waits for the end of standard input must not hold the exit
