"""Which requests for pictures were answered, over a restart."""

import logging
from pathlib import Path

import msgspec

from ota.durable_disk import write_whole

log = logging.getLogger(__name__)


def read_marks(path: Path) -> dict[str, int]:
    """Session -> highest request that was taken; nothing when there is no file or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("requests for pictures cannot be read: %s", error)
        return {}


def write_marks(path: Path, marks: dict[str, int]) -> None:
    """Keep them; on a full disk a restart may answer the last request once more."""
    try:
        write_whole(path, msgspec.json.encode(marks))
    except OSError as error:
        log.warning("requests for pictures cannot be kept: %s", error)
