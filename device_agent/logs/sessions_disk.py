"""Debug sessions over a restart: open ones go on until their end, ended ones stay ended."""

import logging
from pathlib import Path

import msgspec

from ota.durable_disk import write_whole
from ota.wire.debug import DebugSession

log = logging.getLogger(__name__)


def read_sessions(path: Path) -> list[DebugSession]:
    """What was kept; nothing when there is no file or it cannot be read (the level is then that of the settings)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[DebugSession])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("debug sessions cannot be read: %s", error)
        return []


def write_sessions(path: Path, sessions: list[DebugSession]) -> None:
    """Keep the open sessions; on a full disk they end with the process."""
    try:
        write_whole(path, msgspec.json.encode(sessions))
    except OSError as error:
        log.warning("debug sessions cannot be kept: %s", error)
