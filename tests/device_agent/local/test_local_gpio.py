"""Wires: switched as zones fill and empty, off when the agent ends, and words for what cannot be had."""

import sys
import types
from collections.abc import Mapping

import pytest

from device_agent.duties.turn import Stop
from device_agent.errors import BoardError
from device_agent.local.output import LocalOutput
from device_agent.local.telling_linux import WireTelling, open_gpiod
from device_agent.local.wires import Wire

CHIP = "/dev/gpiochip0"


class FakeChip:
    """Output lines in memory; ``heard`` takes (line, on) and "closed"."""

    def __init__(self, heard) -> None:
        self.heard = heard
        self.lines: Mapping[int, bool] = {}

    def open(self, chip: str, lines: Mapping[int, bool]) -> "FakeChip":
        assert chip == CHIP
        self.lines = lines
        return self

    def set(self, line: int, on: bool) -> None:
        assert line in self.lines
        self.heard((line, on))

    def close(self) -> None:
        self.heard("closed")


def test_a_wire_holds_while_somebody_is_there_and_is_off_when_the_agent_ends(running, heard, update, steady) -> None:
    """A lamp over a gate: two come, one goes, it burns still; the agent is stopped: it goes out."""
    shown = heard()
    teller = WireTelling([Wire(CHIP, 4, "yard", "gate"), Wire(CHIP, 5, "shed", "door")], steady, FakeChip(shown).open)
    local = LocalOutput([teller])
    local.places("yard", ["gate"])
    with running(teller):
        local.tell(update(1))
        shown.until(lambda items: items == [(4, True)])
        local.tell(update(2))
        local.tell(update(1, "end", revision=1))
        local.tell(update(2, "end", revision=1))
        shown.until(lambda items: items == [(4, True), (4, False)])
        local.tell(update(3))
        shown.until(lambda items: items[-1] == (4, True))
    assert shown.items[3:] == [(4, False), (5, False), "closed"]


def test_a_pulse_ends_by_itself(running, heard, update, steady) -> None:
    """A door opener: on for a moment with each that comes, whether or not they ever go."""
    shown = heard()
    teller = WireTelling([Wire(CHIP, 4, "yard", "gate", mode="pulse", pulse_s=0.05)], steady, FakeChip(shown).open)
    local = LocalOutput([teller])
    with running(teller):
        for number in (1, 2):
            local.tell(update(number))
            shown.until(lambda items, number=number: items == [(4, True), (4, False)] * number)


def test_a_zone_that_is_gone_lets_its_wire_go(running, heard, update, steady) -> None:
    shown = heard()
    teller = WireTelling([Wire(CHIP, 4, "yard", "gate")], steady, FakeChip(shown).open)
    local = LocalOutput([teller])
    local.places("yard", ["gate"])
    with running(teller):
        local.tell(update(1))
        shown.until(lambda items: items == [(4, True)])
        local.places("yard", ["lawn"])
        shown.until(lambda items: items == [(4, True), (4, False)])


def test_silenced_wires_are_off_and_speak_again_as_things_are(running, heard, update, steady) -> None:
    """The configuration silences the lamp while somebody stands under it; when it is let speak again, it burns."""
    shown = heard()
    teller = WireTelling([Wire(CHIP, 4, "yard", "gate")], steady, FakeChip(shown).open)
    local = LocalOutput([teller])
    with running(teller):
        local.tell(update(1))
        shown.until(lambda items: items == [(4, True)])
        local.silence(frozenset({"gpio", "mqtt"}))
        shown.until(lambda items: items == [(4, True), (4, False)])
        local.tell(update(2))
        local.silence(frozenset({"mqtt"}))
        shown.until(lambda items: items == [(4, True), (4, False), (4, True)])


def test_a_chip_that_breaks_ends_the_duty_with_words_and_the_wires_off(heard, update, steady) -> None:
    """The supervisor starts it again; cameras and other tellers hear nothing of it."""
    shown = heard()
    chip = FakeChip(shown)

    def fail(line: int, on: bool) -> None:
        shown((line, on))
        raise OSError(5, "Input/output error")

    chip.set = fail
    teller = WireTelling([Wire(CHIP, 4, "yard", "gate")], steady, chip.open)
    LocalOutput([teller]).tell(update(1))
    with pytest.raises(BoardError, match="line 4 of /dev/gpiochip0 cannot be switched"):
        teller.run(Stop(), lambda: None)
    assert shown.items == [(4, True), (4, False), "closed"]


def test_a_lamp_goes_out_although_its_relay_was_away_when_the_visitor_left(running, heard, update) -> None:
    """A USB relay is pulled while its lamp burns, the visitor leaves, two hours later it is plugged in again: the lamp is off."""
    now, shown, gone = [0.0], heard(), [False]

    class Relay(FakeChip):
        """A chip that can be pulled."""

        def set(self, line: int, on: bool) -> None:
            if gone[0]:
                raise OSError(19, "No such device")
            super().set(line, on)

    hold, pulse = Wire(CHIP, 4, "yard", "gate"), Wire(CHIP, 5, "yard", "gate", mode="pulse", pulse_s=3.0)
    teller = WireTelling([hold, pulse], lambda: now[0], Relay(shown).open)
    local = LocalOutput([teller])
    with running(teller):
        local.tell(update(1))
        shown.until(lambda items: {(4, True), (5, True)} <= set(items))
    gone[0] = True
    local.tell(update(2))
    local.tell(update(1, "end", revision=1))
    local.tell(update(2, "end", revision=1))
    now[0] += 7200.0
    gone[0], before = False, len(shown.items)
    with running(teller):
        local.tell(update(3))
        shown.until(lambda items: {(4, True), (5, True)} <= set(items[before:]))
        local.tell(update(3, "end", revision=1))
        shown.until(lambda items: items[-1] == (4, False))
    assert [item for item in shown.items[before:] if item[0] == 4][:2] == [(4, True), (4, False)]
    assert teller.dropped() == {"gpio_stale": 1}


def test_no_flood_of_pulses_loses_that_a_lamp_goes_out(running, update, heard) -> None:
    """The relay is away while a door is busy: pulses are lost, counted; how things are is not."""
    shown, stop = heard(), Stop()
    wires = [Wire(CHIP, 4, "yard", "gate"), Wire(CHIP, 5, "yard", "door", mode="pulse")]
    teller = WireTelling(wires, lambda: 0.0, FakeChip(shown).open)
    local = LocalOutput([teller])
    with running(teller):
        local.tell(update(1))
        shown.until(lambda items: (4, True) in items)
    before = len(shown.items)
    local.tell(update(1, "end", revision=1))
    for number in range(2, 700):
        local.tell(update(number, rule="door"))
        local.tell(update(number, "end", revision=1, rule="door"))
    rounds = iter(range(3))
    teller.run(stop, lambda: stop.set() if next(rounds, None) == 2 else teller.take_places([], []))
    assert (4, True) not in shown.items[before:]
    assert (5, True) in shown.items
    assert teller.dropped()["gpio_full"] > 100


class _Settings:
    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


def fake_gpiod(calls: list[object]) -> types.ModuleType:
    """The part of libgpiod 2's Python interface that is used, as its documentation has it."""
    line = types.ModuleType("gpiod.line")
    line.Value = types.SimpleNamespace(ACTIVE="ACTIVE", INACTIVE="INACTIVE")
    line.Direction = types.SimpleNamespace(OUTPUT="OUTPUT")
    gpiod = types.ModuleType("gpiod")
    gpiod.line, gpiod.LineSettings = line, _Settings

    class Request:
        """What request_lines gives."""

        def set_value(self, number: int, value: str) -> None:
            calls.append((number, value))

        def release(self) -> None:
            calls.append("release")

    def request_lines(chip: str, *, consumer: str, config: dict[int, _Settings]) -> Request:
        if chip != CHIP:
            raise FileNotFoundError(2, "No such file or directory")
        calls.append((chip, consumer, {number: vars(one) for number, one in config.items()}))
        return Request()

    gpiod.request_lines = request_lines
    return gpiod


def test_the_real_library_is_asked_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are requested as outputs that begin off; a chip that is not there is told with what to do."""
    calls: list[object] = []
    gpiod = fake_gpiod(calls)
    monkeypatch.setitem(sys.modules, "gpiod", gpiod)
    monkeypatch.setitem(sys.modules, "gpiod.line", gpiod.line)
    lines = open_gpiod(CHIP, {4: True})
    lines.set(4, True)
    lines.set(4, False)
    lines.close()
    settings = {"direction": "OUTPUT", "active_low": True, "output_value": "INACTIVE"}
    assert calls == [(CHIP, "rookery", {4: settings}), (4, "ACTIVE"), (4, "INACTIVE"), "release"]
    with pytest.raises(BoardError, match="cannot be had") as caught:
        open_gpiod("/dev/gpiochip9", {4: False})
    assert "gpioinfo" in caught.value.hint


def test_without_the_library_or_with_an_old_one_the_words_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(BoardError, match="not installed"):
        open_gpiod(CHIP, {4: False})
    old = types.ModuleType("gpiod")
    monkeypatch.setitem(sys.modules, "gpiod", old)
    monkeypatch.setitem(sys.modules, "gpiod.line", types.ModuleType("gpiod.line"))
    with pytest.raises(BoardError, match="older than version 2"):
        open_gpiod(CHIP, {4: False})
