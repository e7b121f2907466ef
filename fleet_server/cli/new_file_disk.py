"""A new file for what is shown once: its name is held before anything is made, so that nothing is made in vain."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fleet_server.cli.errors import FAILURE, CliError
from ota.durable_disk import write_whole


@contextlib.contextmanager
def new_file(out: Path, *, nothing: str, made: str) -> Iterator[Callable[[bytes], None]]:
    """Hold the name of a new file (0600) until its content is known; nothing stays where it never comes.

    ``nothing`` and ``made`` are the hints of the CliError where the file cannot be, and where its content cannot be kept.
    """
    try:
        os.close(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise CliError(FAILURE, f"cannot write {out}: {error.strerror}", nothing) from None
    kept: list[bool] = []

    def keep(data: bytes) -> None:
        try:
            write_whole(out, data, 0o600)
        except OSError as error:
            raise CliError(FAILURE, f"cannot write {out}: {error.strerror}", made) from None
        kept.append(True)

    try:
        yield keep
    finally:
        if not kept:
            with contextlib.suppress(OSError):
                out.unlink()
