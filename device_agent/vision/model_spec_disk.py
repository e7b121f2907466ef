"""A model with its card, from files."""

from pathlib import Path

from device_agent.vision.detector import ModelSpec
from models.card import CardError, load_card
from models.inference.errors import ModelError

MAX_CARD_BYTES = 1_000_000


def read_spec(model_path: Path, card_path: Path, threads: int, delegate_library: str | None) -> ModelSpec:
    """A model with its card read from a file; raises ModelError `missing` or `wrong_shape`."""
    try:
        if card_path.stat().st_size > MAX_CARD_BYTES:
            raise ModelError("wrong_shape", f"the card {card_path} is larger than {MAX_CARD_BYTES} bytes")
        text = card_path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError("missing", f"the card {card_path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError("wrong_shape", f"the card {card_path} is not text: {error}") from error
    try:
        return ModelSpec(model_path, load_card(text), threads, delegate_library)
    except CardError as error:
        raise ModelError("wrong_shape", f"{card_path}: {error}") from error
