"""Work on a stranger's file in a process of its own, at next to no price: a fork before anything large is imported.

A TFLite file is a program: one that was made for it can crash whatever opens it. A second Python would take longer to start than
the model takes to answer; a fork of this one, while it has loaded nothing, takes a millisecond.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable


class CrashedError(Exception):
    """The work ended its process; `signal_name` says how."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name


def apart(work: Callable[[], int]) -> int:
    """The exit code of `work`, done in a child that shares stdout and stderr; raises CrashedError if it died.

    To be called by a process of one thread. Ctrl-C reaches the child by itself: it is waited for, and answers for both.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _work_and_exit(work)
    while True:
        # Ctrl-C goes to the whole group; what the child makes of it is the answer.
        with contextlib.suppress(KeyboardInterrupt):
            _, status = os.waitpid(child, 0)
            break
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise CrashedError(signal.Signals(-code).name)
    return code


def _work_and_exit(work: Callable[[], int]) -> None:
    """The child's whole life: never returns, so that no code of the parent runs twice."""
    code = 70
    try:
        code = work()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 0  # whoever read our output has gone
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)
