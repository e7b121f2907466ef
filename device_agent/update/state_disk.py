"""What the update part remembers across a power cut: one small file, replaced whole; a torn one is set aside."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec

from device_agent.update.deployment import UpdateState
from ota.durable_disk import remove_leftovers, write_whole

STATE_FILE = "update.json"
AGENT_STATE_FILE = "agent-state.json"
MAX_BYTES = 4 * 1024 * 1024


class _Versioned(msgspec.Struct):
    v: int


class _Lasting(msgspec.Struct):
    """What every version of the file says in the same words: it must not be forgotten when the rest cannot be read."""

    floor: Annotated[int, msgspec.Meta(ge=0)] = 0
    seen_seq: Annotated[int, msgspec.Meta(ge=0)] = 0


def _read_v1(data: bytes) -> UpdateState:
    return msgspec.json.decode(data, type=UpdateState)


READERS: dict[int, Callable[[bytes], UpdateState]] = {1: _read_v1}
"""Version in the file -> its reader. Version N keeps the reader of N-1: an agent's first start after its update reads it."""


def peek(path: Path) -> UpdateState | str:
    """What a state file says, or why it cannot be read by this agent; a file that is not there says nothing. Changes nothing."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return f"larger than {MAX_BYTES} bytes"
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Versioned).v
        return READERS[version](data) if version in READERS else f"version {version} is not known here"
    except FileNotFoundError:
        return UpdateState()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)


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
                known = ", ".join(map(str, READERS))
                return self._of_another_version(data, version, f"version {version} is not known here, {known} are")
            return reader(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._set_aside(str(error))

    def save(self, state: UpdateState) -> None:
        """Durable when it returns; raises OSError and leaves the old file then."""
        write_whole(self._path, msgspec.json.encode(state), 0o600)

    def _of_another_version(self, data: bytes, version: int, problem: str) -> UpdateState:
        """A later agent wrote it and this one was put back: the file is kept for the later one, its floors hold here too."""
        lasting = msgspec.json.decode(data, type=_Lasting)
        fresh = self._set_aside(problem, f"v{version}")
        self.note += f"; its floor {lasting.floor} and number {lasting.seen_seq} hold on"
        return msgspec.structs.replace(fresh, floor=lasting.floor, seen_seq=lasting.seen_seq)

    def _set_aside(self, problem: str, suffix: str = "unreadable") -> UpdateState:
        aside = self._path.with_name(f"{self._path.name}.{suffix}")
        with contextlib.suppress(OSError):
            self._path.replace(aside)
        self.note = f"{self._path} could not be read ({problem}): kept as {aside.name}, started from nothing seen"
        return UpdateState()
