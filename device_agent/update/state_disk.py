"""What the update part remembers across a power cut: one small file, replaced whole; a torn one is set aside."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from device_agent.update.deployment import UpdateState
from ota.durable_disk import remove_leftovers, write_whole

STATE_FILE = "update.json"
AGENT_STATE_FILE = "agent-state.json"
MAX_BYTES = 4 * 1024 * 1024


class _Versioned(msgspec.Struct):
    v: int


def _read_v1(data: bytes) -> UpdateState:
    return msgspec.json.decode(data, type=UpdateState)


READERS: dict[int, Callable[[bytes], UpdateState]] = {1: _read_v1}
"""Version in the file -> its reader. Version N keeps the reader of N-1: an agent's first start after its update reads it."""


class StateFile:
    """The file ``name`` in ``folder``; each updater has its own.

    ``note`` says what was found wrong at the last load, empty when nothing was.
    """

    def __init__(self, folder: Path, name: str = STATE_FILE) -> None:
        self._path = folder / name
        self.note = ""

    def load(self) -> UpdateState:
        """What was saved; the safe default (nothing seen, floor 0, no deployment) where there is nothing or it is unreadable."""
        self.note = ""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._path.parent)
        try:
            if self._path.stat().st_size > MAX_BYTES:
                return self._set_aside(f"larger than {MAX_BYTES} bytes")
            data = self._path.read_bytes()
        except FileNotFoundError:
            return UpdateState()
        try:
            version = msgspec.json.decode(data, type=_Versioned).v
            reader = READERS.get(version)
            if reader is None:
                return self._set_aside(f"version {version} is not known here, {', '.join(map(str, READERS))} are")
            return reader(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._set_aside(str(error))

    def save(self, state: UpdateState) -> None:
        """Durable when it returns; raises OSError and leaves the old file then."""
        write_whole(self._path, msgspec.json.encode(state), 0o600)

    def _set_aside(self, problem: str) -> UpdateState:
        aside = self._path.with_name(f"{self._path.name}.unreadable")
        with contextlib.suppress(OSError):
            self._path.replace(aside)
        self.note = f"{self._path} could not be read ({problem}): kept as {aside.name}, started from nothing seen"
        return UpdateState()
