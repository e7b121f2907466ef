"""What a model file says of itself beside its graph: TensorFlow's metadata, and the text that Ultralytics adds. Pure."""

import ast
import json
import struct
from dataclasses import dataclass
from typing import Any

from models.card import MAX_LABEL_CHARS, MAX_LABELS, CardError, parse_labels
from models.inference.flatbuffer import OutOfBoundsError, Tables
from models.toml_table import PerChannel

MAX_TEXT_BYTES = 1_000_000
ULTRALYTICS_FILES = ("metadata.json", "temp_meta.txt")
"""The files that Ultralytics' exporter puts into the archive behind a model, newest name first."""

# Field numbers of TensorFlow's schema.fbs and metadata_schema.fbs.
_MODEL_BUFFERS, _MODEL_METADATA, _METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 4, 6, 0, 1, 0
_SUBGRAPHS, _INPUTS, _PROCESS_UNITS, _UNIT_TYPE, _UNIT_OPTIONS, _MEAN, _STD = 3, 2, 4, 0, 1, 0, 1
_NORMALISATION = 1


@dataclass(frozen=True, slots=True)
class Metadata:
    """Labels (empty where it has none), `mean` and `std` of the input's pixels (None where it does not say), and whether
    Ultralytics exported it: then the kind of its head and of its input is known; `task` is theirs (detect, segment, pose, …).
    """

    labels: tuple[str, ...] = ()
    mean: PerChannel | None = None
    std: PerChannel | None = None
    ultralytics: bool = False
    task: str = ""


def normalisation(data: Any) -> tuple[PerChannel, PerChannel] | None:
    """Mean and std of the input's pixels that TensorFlow's metadata in a model's bytes give, None where there is none."""
    try:
        tables = Tables(data)
        root = tables.root()
        named = {tables.text(at, _METADATA_NAME): at for at in tables.each(root, _MODEL_METADATA)}
        if "TFLITE_METADATA" not in named:
            return None
        buffers = list(tables.each(root, _MODEL_BUFFERS))
        start, count = tables.vector(buffers[tables.number(named["TFLITE_METADATA"], _METADATA_BUFFER, "I")], _BUFFER_DATA, 1)
        inner = Tables(bytes(data[start : start + count]))
        for graph in inner.each(inner.root(), _SUBGRAPHS):
            for tensor in inner.each(graph, _INPUTS):
                for unit in inner.each(tensor, _PROCESS_UNITS):
                    options = inner.table(unit, _UNIT_OPTIONS)
                    if options is not None and inner.number(unit, _UNIT_TYPE, "B") == _NORMALISATION:
                        mean, std = (_channels(inner.numbers(options, field, "f")) for field in (_MEAN, _STD))
                        return None if mean is None or std is None or _lowest(std) <= 0 else (mean, std)
    except (struct.error, IndexError, OutOfBoundsError):
        pass  # metadata that is broken is metadata that is not there: the graph has been checked, this is a courtesy
    return None


def ultralytics(text: str) -> Metadata | None:
    """What Ultralytics' exporter wrote (a JSON text, or the text of a Python dict), None where it is not of that kind."""
    if len(text) > MAX_TEXT_BYTES:
        return None
    try:
        try:
            found = json.loads(text)
        except ValueError:
            found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("names"), dict | list):
        return None
    names = found["names"]
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    try:
        by_id = {int(at): str(name) for at, name in rows.items()}
    except (TypeError, ValueError):
        return None
    ids_fit = sorted(by_id) == list(range(len(by_id))) and 0 < len(by_id) <= MAX_LABELS
    if not ids_fit or any(len(name) > MAX_LABEL_CHARS for name in by_id.values()):
        return None
    return Metadata(tuple(by_id[at] for at in range(len(by_id))), ultralytics=True, task=str(found.get("task", "detect")))


def labels_in(text: str) -> tuple[str, ...]:
    """Labels of a label file inside a model, empty where it is none."""
    try:
        return parse_labels(text)
    except CardError:
        return ()


def _channels(numbers: tuple[float, ...]) -> PerChannel | None:
    """One number, or three."""
    if len(numbers) == 1 or (len(numbers) == 3 and len(set(numbers)) == 1):
        return float(numbers[0])
    return (float(numbers[0]), float(numbers[1]), float(numbers[2])) if len(numbers) == 3 else None


def _lowest(numbers: PerChannel) -> float:
    return min(numbers) if isinstance(numbers, tuple) else numbers
