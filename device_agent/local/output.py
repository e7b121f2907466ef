"""Every event update, at once, to all who are told on the spot. Called by the cameras' threads: it waits for nobody."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from device_agent.duties.turn import Duty
from device_agent.local.places import Places, PlaceState
from device_agent.vision.types import EventUpdate


class Teller(Duty, Protocol):
    """One way to tell: a duty with a mailbox of its own. None of its ``take_*`` may wait. ``kind``: mqtt, webhook or gpio."""

    kind: str

    def take_event(self, update: EventUpdate, place: PlaceState, began: bool) -> None:
        """An event update without its pictures, the place that it is about as it is now, and whether the event began just now."""
        ...

    def take_places(self, present: Sequence[PlaceState], gone: Sequence[PlaceState]) -> None:
        """A camera's places from now on, and those that it has no more."""
        ...

    def dropped(self) -> dict[str, int]:
        """What could not be told, by reason."""
        ...


class LocalOutput:
    """Hands events to all tellers. Without any it does nothing."""

    def __init__(self, tellers: Sequence[Teller] = ()) -> None:
        self._tellers = tuple(tellers)
        self._places = Places()
        self._silenced: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    @property
    def duties(self) -> list[Duty]:
        """The loops that do the telling."""
        return list(self._tellers)

    def tell(self, update: EventUpdate) -> None:
        """An event began, got better or ended. A recall sample is no event that anybody on the spot waits for."""
        if not self._tellers or update.event.rule_kind == "sample":
            return
        bare = replace(update, event=replace(update.event, crops=()))
        with self._lock:
            place, began = self._places.told(bare)
            for teller in self._speaking():
                teller.take_event(bare, place, began)

    def places(self, camera: str, zones: Sequence[str], lines: Sequence[str] = ()) -> None:
        """The zones and lines that a camera has from now on: their states are told, those of what is gone are cleared."""
        with self._lock:
            present, gone = self._places.configure(camera, zones, lines)
            for teller in self._speaking():
                teller.take_places(present, gone)

    def silence(self, kinds: frozenset[str]) -> None:
        """Tell nothing by these (mqtt, webhook, gpio) from now on: retained states are cleared, wires go off. Others speak."""
        with self._lock:
            before, self._silenced = self._silenced, kinds
            everything = self._places.all()
            for teller in self._tellers:
                if teller.kind in kinds - before:
                    teller.take_places([], everything)
                elif teller.kind in before - kinds:
                    teller.take_places(everything, [])

    def _speaking(self) -> list[Teller]:
        return [teller for teller in self._tellers if teller.kind not in self._silenced]

    def dropped(self) -> dict[str, int]:
        """What could not be told, by reason (``mqtt_full``, ``webhook_failed``, …)."""
        found: dict[str, int] = {}
        for teller in self._tellers:
            found |= teller.dropped()
        return found
