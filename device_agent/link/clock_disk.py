"""The clock's floor on disk."""

import logging
from pathlib import Path

from ota.durable_disk import write_whole

log = logging.getLogger(__name__)


def read_floor(path: Path, build_s: float) -> float:
    """The later of build time and what was kept, seconds since 1970; an unreadable file counts as nothing kept."""
    try:
        return max(build_s, float(path.read_text()))
    except FileNotFoundError:
        return build_s
    except (OSError, ValueError) as error:
        log.warning("clock: %s cannot be read (%s); the floor is the build time", path, error)
        return build_s


def write_floor(path: Path, floor_s: float) -> None:
    """Keep the floor; a full disk is no reason to stop, the clock is only further behind after a power cut."""
    try:
        write_whole(path, f"{floor_s:.0f}\n".encode())
    except OSError as error:
        log.warning("clock: the floor cannot be kept: %s", error)
