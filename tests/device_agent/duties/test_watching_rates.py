"""The windows that the model is judged by say at which rates the cameras were asked to run."""

from device_agent.duties.turn import Stop
from device_agent.duties.updating import Watching
from device_agent.update.health import HealthWindow


class Ticks(Stop):
    """So many windows, at once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._left = count

    def wait(self, timeout_s: float) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_window_in_which_the_configuration_changed_a_rate_is_of_no_rate() -> None:
    """A camera is given another rate between two looks: the frames of that window are partly of the one, partly of the other."""
    heard: list[HealthWindow] = []

    class Machine:
        """What listens."""

        def tick(self) -> None:
            raise AssertionError("only windows are looked at here")

        def on_window(self, window: HealthWindow) -> None:
            heard.append(window)

    asked = iter([(10.0, -1.0), (10.0, -1.0), (2.0, -1.0), (2.0, -1.0), (2.0, 0.0)])
    now = iter(range(0, 100, 2))
    watching = Watching(
        Machine(), list, dropped=lambda: 0, crashes=lambda: 0, link=lambda: True, link_worse=lambda: False,
        steady_s=lambda: float(next(now)), asked=lambda: next(asked),
    )  # fmt: skip
    watching.run(Ticks(4), lambda: None)
    assert [window.asked for window in heard] == [(10.0, -1.0), None, (2.0, -1.0), None]
