"""The catalogue of real models: where each lies, what it must hash to, which card runs it. Pure."""

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from models.toml_table import Table

MAX_MODEL_BYTES = 1 << 30


class CatalogError(ValueError):
    """A catalogue that cannot be used; `faults` holds one sentence for each thing that is wrong."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("this catalogue cannot be used: " + "; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class CatalogModel:
    """One model: its file name, address, sha256, size, licence, and the path of its card beside the catalogue."""

    name: str
    file: str
    url: str
    sha256: str
    size_bytes: int
    licence: str
    card: str
    note: str


def parse_catalog(text: str) -> tuple[CatalogModel, ...]:
    """The models of a catalogue; raises CatalogError with all its faults."""
    try:
        rows: Any = tomllib.loads(text).get("model", [])
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CatalogError([f"not TOML: {error}"]) from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise CatalogError(["it must hold [[model]] tables"])
    faults: list[str] = []
    found = tuple(_model(Table(row, f"model[{at}].", faults)) for at, row in enumerate(rows))
    if len({model.name for model in found}) != len(found):
        faults.append("a name stands twice")
    if faults:
        raise CatalogError(faults)
    return found


def _model(table: Table) -> CatalogModel:
    model = CatalogModel(
        name=table.text("name"),
        file=_matching(table, "file", r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "a plain file name"),
        url=_matching(table, "url", r"https://\S+", "an https address"),
        sha256=_matching(table, "sha256", r"[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
        size_bytes=table.whole("bytes", 1, MAX_MODEL_BYTES),
        licence=table.text("licence"),
        card=_matching(table, "card", r"cards/[A-Za-z0-9_][A-Za-z0-9_.-]*\.toml", "a card under cards/"),
        note=table.text("note", default=""),
    )
    table.finish()
    return model


def _matching(table: Table, key: str, pattern: str, wanted: str) -> str:
    found = table.text(key)
    return found if not found or re.fullmatch(pattern, found) else table.fault(key, wanted, "")
