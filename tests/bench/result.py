"""One row of the table of benchmarks."""

from dataclasses import dataclass, field
from typing import Any

Spread = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Result:
    """Ratios of pairs run in turn, with their spread and bars; figures are absolutes that nobody judges."""

    id: str
    ratio: list[float]
    spread: list[Spread]
    bar: list[float]
    figures: dict[str, float] = field(default_factory=dict)
    peers: dict[str, float | None] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Every ratio is within its bar."""
        return all(ratio <= bar for ratio, bar in zip(self.ratio, self.bar, strict=True))

    def as_json(self) -> dict[str, Any]:
        """The row as the performance page describes it: lists only where the row has several."""
        single = len(self.ratio) == 1
        return {
            "id": self.id,
            "ratio": self.ratio[0] if single else self.ratio,
            "spread": self.spread[0] if single else self.spread,
            "bar": self.bar[0] if single else self.bar,
            "ok": self.ok,
            "figures": self.figures,
            "peers": self.peers,
        }
