"""The duties draw no chance of their own: the same numbers give the same waits."""

import pytest

from device_agent.duties.polling import Polling
from device_agent.duties.sending import Sending
from device_agent.duties.turn import Bell, Stop
from device_agent.errors import ServerUnavailableError
from device_agent.update.assignment_rule import Accepted
from ota.wire.assignments import Signed, State, StateAnswer, StateRequest


class Waits(Bell):
    """A bell that notes how long it was waited for, and ends everything after some."""

    def __init__(self, stop: Stop, count: int) -> None:
        super().__init__(stop)
        self.stop, self.count, self.waited_s = stop, count, []

    def wait(self, timeout_s: float) -> bool:
        self.waited_s.append(timeout_s)
        if len(self.waited_s) >= self.count:
            self.stop.set()
        return False


class Believing:
    seen = (0, "")

    def poll_answer(self, answer: StateAnswer, nonce: str) -> Accepted:
        return Accepted(State(device="cam-7", nonce=nonce, now_s=1.0, seq=0, digest="", poll_s=100.0))


def polling(bell: Bell, draws: list[float]) -> Polling:
    nothing = Signed(keyid="0" * 64, signature="00", payload="{}")

    def ask(request: StateRequest) -> StateAnswer:
        return StateAnswer(state=nothing)

    return Polling(
        ask, Believing(), bell, new_nonce=lambda: "n" * 32, accepted=lambda _: None, assigned=lambda _: None, poll_s=100.0,
        draw=lambda: draws.pop(0),
    )  # fmt: skip


def test_a_fleet_that_was_started_together_does_not_poll_together() -> None:
    """Polls are spread over 15 % to either side, by the numbers that are handed in."""
    stop = Stop()
    bell = Waits(stop, 3)
    polling(bell, [0.0, 0.5, 1.0]).run(stop, lambda: None)
    assert bell.waited_s == pytest.approx([85.0, 100.0, 115.0])


def test_an_outage_is_waited_out_by_the_numbers_that_are_handed_in() -> None:
    """Two boards with different numbers knock at different times."""
    waits = []
    for number in (0.0, 0.5):
        stop = Stop()

        def away(stop: Stop = stop) -> bool:
            raise ServerUnavailableError("no connection")

        def noted(timeout_s: float | None, stop: Stop = stop) -> bool:
            waits.append(timeout_s)
            stop.set()
            return True

        stop.wait = noted  # type: ignore[method-assign]
        Sending("outbox", away, Bell(stop), draw=lambda number=number: number).run(stop, lambda: None)
    assert waits == pytest.approx([0.5, 1.0])
