"""Events on wires: output lines of the board's GPIO chips, through libgpiod (the ``gpiod`` package, version 2)."""

import contextlib
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from device_agent.duties.turn import Stop
from device_agent.errors import BoardError
from device_agent.local.mailbox import Mailbox
from device_agent.local.places import PlaceState
from device_agent.local.wires import Wire, WireStates
from device_agent.vision.types import EventUpdate

log = logging.getLogger(__name__)
MAILBOX = 500
PULSE_FRESH_S = 10.0
"""An event that began longer ago makes no pulse any more: a door must not open for a visitor of a while ago."""
LOOK_S = 2.0
INSTALL = "install python3-libgpiod (version 2) or the gpiod package, or take [[local.gpio]] out of agent.toml"


class Lines(Protocol):
    """The requested output lines of one chip."""

    def set(self, line: int, on: bool) -> None:
        """Switch one; raises OSError."""
        ...

    def close(self) -> None:
        """Let go of them."""
        ...


OpenLines = Callable[[str, Mapping[int, bool]], Lines]
"""Chip, and line -> whether low means on; all begin off. Raises BoardError."""


class GpiodLines:
    """Lines through libgpiod 2. They belong to this process until it closes them or ends."""

    def __init__(self, chip: str, lines: Mapping[int, bool], gpiod: Any) -> None:
        self._values = gpiod.line.Value
        settings = {
            line: gpiod.LineSettings(
                direction=gpiod.line.Direction.OUTPUT, active_low=active_low, output_value=gpiod.line.Value.INACTIVE
            )
            for line, active_low in lines.items()
        }
        self._request = gpiod.request_lines(chip, consumer="rookery", config=settings)

    def set(self, line: int, on: bool) -> None:
        """Switch one; raises OSError."""
        self._request.set_value(line, self._values.ACTIVE if on else self._values.INACTIVE)

    def close(self) -> None:
        """Let go of them."""
        self._request.release()


def open_gpiod(chip: str, lines: Mapping[int, bool]) -> Lines:
    """Request lines; raises BoardError where the library, the chip or a line cannot be had, with what to do."""
    try:
        gpiod = importlib.import_module("gpiod")
        importlib.import_module("gpiod.line")
    except ImportError:
        raise BoardError("the gpiod package is not installed: no wire can be switched", INSTALL) from None
    if not hasattr(gpiod, "request_lines"):
        raise BoardError("the gpiod package is older than version 2: no wire can be switched", INSTALL)
    try:
        return GpiodLines(chip, lines, gpiod)
    except (OSError, ValueError) as error:
        numbers = ", ".join(map(str, sorted(lines)))
        hint = "gpioinfo shows who holds a line; the user of the agent must be in the group gpio"
        raise BoardError(f"lines {numbers} of {chip} cannot be had: {error}", hint) from None


class WireTelling:
    """A duty: switches wires as places change; all are off when it ends, however it ends."""

    kind = "gpio"

    def __init__(self, wires: Sequence[Wire], steady_s: Callable[[], float], open_lines: OpenLines = open_gpiod) -> None:
        self.name = "local GPIO"
        self.silence_s = 120.0
        self._states = WireStates(wires)
        self._steady_s, self._open_lines = steady_s, open_lines
        self._mailbox: Mailbox[PlaceState] = Mailbox("gpio", MAILBOX, steady_s)

    def take_event(self, update: EventUpdate, place: PlaceState, began: bool) -> None:
        """A place changed. How it is holds until the next word, and no queue can lose it; only pulses wait in one."""
        self._states.is_now(place)
        if began and self._states.pulses(place):
            self._mailbox.put(place)
        else:
            self._mailbox.ring()

    def take_places(self, present: Sequence[PlaceState], gone: Sequence[PlaceState]) -> None:
        """Of a place that is gone the wire goes off."""
        for place in present:
            self._states.is_now(place)
        for place in gone:
            self._states.is_now(PlaceState(place.camera, place.name, place.zone))
        self._mailbox.ring()

    def dropped(self) -> dict[str, int]:
        """Pulses that no wire showed, by reason: gpio_full, gpio_stale."""
        return self._mailbox.dropped()

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Switch until told to stop. Raises BoardError where the wires cannot be had."""
        with contextlib.ExitStack() as stack:
            chips = self._open(stack)
            stop.on_set(self._mailbox.ring)
            stack.callback(stop.forget, self._mailbox.ring)
            shown: dict[Wire, bool] = {}
            while not stop.is_set():
                self._switch(chips, shown)
                progress()
                now_s = self._steady_s()
                ends_s = self._states.next_change_s(now_s)
                self._mailbox.wait(LOOK_S if ends_s is None else min(LOOK_S, ends_s - now_s))
                while (place := self._mailbox.take(PULSE_FRESH_S)) is not None:
                    self._states.began(place, self._steady_s())

    def _open(self, stack: contextlib.ExitStack) -> dict[str, Lines]:
        chips: dict[str, Lines] = {}
        for chip in dict.fromkeys(wire.chip for wire in self._states.wires):
            lines = {wire.line: wire.active_low for wire in self._states.wires if wire.chip == chip}
            opened = chips[chip] = self._open_lines(chip, lines)
            stack.callback(_off, opened, list(lines))
        return chips

    def _switch(self, chips: Mapping[str, Lines], shown: dict[Wire, bool]) -> None:
        now_s = self._steady_s()
        for wire in self._states.wires:
            wanted = self._states.on(wire, now_s)
            if shown.get(wire, False) == wanted:
                continue
            try:
                chips[wire.chip].set(wire.line, wanted)
            except OSError as error:
                raise BoardError(f"line {wire.line} of {wire.chip} cannot be switched: {error}") from None
            shown[wire] = wanted


def _off(lines: Lines, numbers: Sequence[int]) -> None:
    for number in numbers:
        with contextlib.suppress(OSError):
            lines.set(number, False)
    lines.close()
