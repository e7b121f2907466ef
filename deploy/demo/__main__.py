"""``./run demo``: a fleet on this machine, told as a story.

Without options it goes on until Ctrl-C; with ``--once`` it ends by itself and exits 0 only if every step was true.
"""

import os
import signal
import sys
from types import FrameType


class StopDemoError(BaseException):
    """Ctrl-C, a closed terminal, or somebody asked this process to end."""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an exception once; further ones do not interrupt the cleaning up."""
    deaf()
    raise StopDemoError


def deaf() -> None:
    """From here on nothing interrupts: the ending of all processes must be whole."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    """Listen for signals before anything else, then run; the rest is imported late so that no moment is without words."""
    try:
        for number in SIGNALS:
            signal.signal(number, interrupt)
        from command import run

        return run(os.environ, deaf)
    except StopDemoError:
        print("\ninterrupted: all processes are ended", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"demo: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
