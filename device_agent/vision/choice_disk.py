"""A model as a person names it on a command line, and the small files beside it."""

from dataclasses import dataclass
from pathlib import Path

from device_agent.vision.events_file_disk import check_writable
from device_agent.vision.tiles import TileSettings
from device_agent.vision.types import CameraError
from models.card import CardError, ModelCard, load_card, parse_labels, with_labels
from models.inference.runtime_tflite import infer_card_for
from ota.durable_disk import write_whole

MAX_TEXT_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model as a person names it. Without a card one is inferred; `labels` replaces the card's own names.

    `child` False runs it in this process. `delegate_library` names an Edge TPU library. `tiles`: look at pictures in parts.
    """

    model: Path
    labels: Path | None = None
    card: Path | None = None
    threads: int = 1
    child: bool = True
    delegate_library: str | None = None
    tiles: TileSettings | None = None


def card_of(choice: ModelChoice) -> ModelCard:
    """The card of a chosen model; raises CardError or ModelError with what is wrong and what to do.

    The model's file is read and not opened. Labels that do not fit the model's classes show when it is loaded, before it runs.
    """
    labels = parse_labels(read_text(choice.labels, "label file")) if choice.labels is not None else None
    if choice.card is None:
        return infer_card_for(choice.model, labels)
    card = load_card(read_text(choice.card, "model card"))
    return card if labels is None else with_labels(card, labels)


def write_result(path: Path, content: bytes) -> None:
    """The whole file or none of it; raises CameraError `missing` where it cannot be written, with the reason."""
    check_writable(path)
    try:
        write_whole(path, content)
    except OSError as error:
        raise CameraError("missing", f"{path} cannot be written: {error.strerror}") from error


def read_text(path: Path, what: str) -> str:
    """A small text file that a person named; raises CardError with what is wrong."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise CardError([f"the {what} {path} is larger than {MAX_TEXT_BYTES} bytes"])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CardError([f"the {what} {path} cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise CardError([f"the {what} {path} is not text"]) from error
