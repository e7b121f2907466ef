"""Where the committed cards lie; the real models and pictures are those of the whole suite's ``assets``."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def cards() -> Path:
    """The committed cards of the catalogue."""
    return REPOSITORY / "models" / "cards"
