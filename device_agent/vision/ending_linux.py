"""Ctrl-C and SIGTERM for a run that a person started: the frame in work is finished and told, then the source counts as ended."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Ending:
    """Whether somebody asked for the end. `asked` is the signal's number, 0 as long as nobody did.

    While the source is waited for, a signal ends that at once (KeyboardInterrupt); while a frame is worked on it waits for its
    end, so that no event is lost. A second signal waits for nothing.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._busy = False

    def ask(self, number: int, _frame: object = None) -> None:
        """A signal came: in the main thread, between any two instructions."""
        again, self.asked = self.asked != 0, self.asked or number
        if again or not self._busy:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def busy(self, *, last: bool = False) -> Iterator[None]:
        """A piece of work that is to be finished; raises KeyboardInterrupt after it where the end was asked for, but not after
        the `last` one."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self.asked and not last:
            raise KeyboardInterrupt


@contextlib.contextmanager
def ending_on_signals() -> Iterator[Ending]:
    """SIGTERM and SIGINT ask for the end; afterwards they are what they were. In a thread that gets no signals: nothing asks."""
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {number: signal.signal(number, ending.ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
