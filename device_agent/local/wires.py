"""Which wire is on and until when: hold while something is there, or pulse when an event begins. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from device_agent.local.places import PlaceState


@dataclass(frozen=True, slots=True)
class Wire:
    """One output line of one chip. ``mode`` hold: on while the place holds something; pulse: on for ``pulse_s`` per event."""

    chip: str
    line: int
    camera: str
    rule: str
    mode: Literal["hold", "pulse"] = "hold"
    pulse_s: float = 1.0
    active_low: bool = False


class WireStates:
    """What each wire should be. ``now_s`` is monotonic. ``is_now`` may be called from another thread than the rest."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self.wires = tuple(wires)
        self._held: dict[Wire, bool] = {}
        self._until_s: dict[Wire, float] = {}

    def is_now(self, place: PlaceState) -> None:
        """How a place is: the latest word is the one that counts, however old it is when a wire can show it."""
        for wire in self._of(place, "hold"):
            self._held[wire] = place.occupancy > 0

    def pulses(self, place: PlaceState) -> bool:
        """Whether any wire pulses for events of this place."""
        return bool(self._of(place, "pulse"))

    def began(self, place: PlaceState, now_s: float) -> None:
        """An event of a place begins, as far as wires that pulse are concerned."""
        for wire in self._of(place, "pulse"):
            self._until_s[wire] = now_s + wire.pulse_s

    def _of(self, place: PlaceState, mode: str) -> list[Wire]:
        return [one for one in self.wires if (one.camera, one.rule, one.mode) == (place.camera, place.name, mode)]

    def on(self, wire: Wire, now_s: float) -> bool:
        """Whether the wire should be on now."""
        return self._held.get(wire, False) if wire.mode == "hold" else now_s < self._until_s.get(wire, float("-inf"))

    def next_change_s(self, now_s: float) -> float | None:
        """When the next pulse ends; None when none is running."""
        return min((until_s for until_s in self._until_s.values() if until_s > now_s), default=None)
