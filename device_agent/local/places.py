"""What is where just now: how many are in each zone, how often each line was crossed. Pure.

Kept beside the events, and not made from what was delivered: an event that could not be told must not leave a lamp on for ever.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from device_agent.vision.types import EventUpdate

MAX_OPEN = 500
"""Events that may be open in one place at once; beyond it the oldest counts as gone."""
MAX_DIRECTIONS = 8


@dataclass(frozen=True, slots=True)
class PlaceState:
    """One zone, line or trigger of one camera. ``occupancy``: open events, ``count``: events begun since the agent started.

    ``directions``: of a line, crossings by the word of the side that was entered. ``zone``: whether something can be *in* it.
    """

    camera: str
    name: str
    zone: bool
    occupancy: int = 0
    count: int = 0
    directions: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class _Place:
    zone: bool
    count: int = 0
    open: OrderedDict[str, None] = field(default_factory=OrderedDict)
    directions: dict[str, int] = field(default_factory=dict)


class Places:
    """All places of a board. Not for two threads at once."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], _Place] = {}

    def configure(self, camera: str, zones: Sequence[str], lines: Sequence[str]) -> tuple[list[PlaceState], list[PlaceState]]:
        """The places that a camera has from now on: (all of them as they are, those that are gone)."""
        wanted = dict.fromkeys(zones, True) | dict.fromkeys(lines, False)
        gone = [key for key, place in self._places.items() if key[0] == camera and wanted.get(key[1]) != place.zone]
        left = [self._state(key) for key in gone]
        for key in gone:
            del self._places[key]
        for name, zone in wanted.items():
            self._places.setdefault((camera, name), _Place(zone))
        return [self._state((camera, name)) for name in wanted], left

    def all(self) -> list[PlaceState]:
        """Every place as it is."""
        return [self._state(key) for key in self._places]

    def told(self, update: EventUpdate) -> tuple[PlaceState, bool]:
        """Take in what happened: the place as it is now, and whether an event began there."""
        event = update.event
        key = (event.camera, event.rule)
        place = self._places.setdefault(key, _Place(event.rule_kind in ("zone", "dwell")))
        began = event.id not in place.open and (update.kind == "start" or event.revision == 0)
        if began:
            place.count += 1
            if event.direction is not None and (event.direction in place.directions or len(place.directions) < MAX_DIRECTIONS):
                place.directions[event.direction] = place.directions.get(event.direction, 0) + 1
        if update.kind == "end":
            place.open.pop(event.id, None)
        elif began:
            place.open[event.id] = None
            if len(place.open) > MAX_OPEN:
                place.open.popitem(last=False)
        return self._state(key), began

    def _state(self, key: tuple[str, str]) -> PlaceState:
        place = self._places[key]
        directions = tuple(sorted(place.directions.items()))
        return PlaceState(key[0], key[1], place.zone, len(place.open), place.count, directions)
