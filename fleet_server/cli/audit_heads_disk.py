"""What this machine saw last of each server's audit: one file (0600) beside the settings, by which a rewritten one is found."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fleet_server.cli.errors import FAILURE, CliError
from fleet_server.cli.settings_disk import settings_file
from ota.durable_disk import write_whole
from ota.plain_disk import read_plain


@dataclass(frozen=True, slots=True)
class SeenHead:
    """Row ``id`` had this hash at ``at_s``; ``keyid`` signed it. ``proof``: the server's signed word, to show to others."""

    id: int
    hash: str
    at_s: float
    keyid: str
    proof: dict[str, Any] = field(default_factory=dict)


def heads_file() -> Path:
    """Where the heads are kept."""
    return settings_file().with_name("audit-heads.json")


def seen_heads() -> dict[str, SeenHead]:
    """Server -> what was seen last; nothing when there is no file yet. CliError for a file that cannot be read."""
    path = heads_file()
    try:
        raw = json.loads(read_plain(path))
        return {str(server): SeenHead(**entry) for server, entry in raw["heads"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # Taken for empty it would be written over, and with it all that could find out a rewritten history.
        raise CliError(FAILURE, f"cannot read {path}: {error}", "look at it, put a copy back, or move it away") from None


def remember(server: str, head: SeenHead) -> Path:
    """Keep a head in the place of the one before; the file is replaced whole and readable by its owner alone."""
    heads = seen_heads() | {server: head}
    path = heads_file()
    body = {"heads": {name: asdict(one) for name, one in sorted(heads.items())}, "v": 1}
    try:
        write_whole(path, json.dumps(body, indent=1).encode() + b"\n", 0o600)
    except OSError as error:
        raise CliError(FAILURE, f"cannot write {path}: {error.strerror or error}") from None
    return path


def now_s() -> float:
    """Seconds since 1970."""
    return time.time()
