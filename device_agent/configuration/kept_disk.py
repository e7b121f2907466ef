"""The file that remembers configurations: replaced whole; one that cannot be read is set aside, and agent.toml holds."""

import contextlib
from pathlib import Path

import msgspec

from device_agent.configuration.kept import Kept
from ota.durable_disk import remove_leftovers, write_whole

MAX_BYTES = 1024 * 1024


class KeptFile:
    """The file in a ``folder`` of its own. ``note`` says what was wrong with it at the last load, empty when nothing was."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "kept.json"
        self.note = ""

    def load(self) -> Kept:
        """What was saved; nothing wanted and nothing good where there is nothing that can be read."""
        self.note = ""
        remove_leftovers(self._path.parent)
        try:
            if self._path.stat().st_size > MAX_BYTES:
                return self._set_aside(f"larger than {MAX_BYTES} bytes")
            kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except OSError as error:
            self.note = f"{self._path} cannot be read: {error.strerror}; agent.toml alone holds"
            return Kept()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._set_aside(str(error))
        return kept if kept.v == 1 else self._set_aside(f"version {kept.v} is not known here")

    def save(self, kept: Kept) -> None:
        """Durable when it returns; raises OSError and leaves the old file then."""
        write_whole(self._path, msgspec.json.encode(kept), 0o600)

    def _set_aside(self, problem: str) -> Kept:
        with contextlib.suppress(OSError):
            self._path.replace(self._path.with_name(f"{self._path.name}.unreadable"))
        self.note = f"{self._path} could not be read ({problem}); agent.toml alone holds until the server is heard"
        return Kept()
