"""What the update part remembers across a power cut: one small file, replaced whole; a torn one is set aside.

Floor and number of the newest assignment lie in a second file, too, with a checksum: one damaged file, or one flipped bit that
makes another number of the floor, does not let an old release or an old assignment in.
"""

import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec

from device_agent.update.deployment import UpdateState
from ota.durable_disk import remove_leftovers, write_whole
from ota.slots.slots_disk import Slots

STATE_FILE = "update.json"
AGENT_STATE_FILE = "agent-state.json"
MAX_BYTES = 4 * 1024 * 1024


class _Floors(msgspec.Struct, frozen=True, kw_only=True):
    """The second file. ``sum``: crc32 of the rest as text: a number with a flipped bit must not bar every release.

    ``seen_keyid``: who signed that number; it binds as long as that key does.
    """

    v: int = 1
    floor: Annotated[int, msgspec.Meta(ge=0)] = 0
    seen_seq: Annotated[int, msgspec.Meta(ge=0)] = 0
    seen_keyid: str = ""
    sum: int = 0


class _Versioned(msgspec.Struct):
    v: int


class _Lasting(msgspec.Struct):
    """What every version of the file says in the same words: it must not be forgotten when the rest cannot be read."""

    floor: Annotated[int, msgspec.Meta(ge=0)] = 0
    seen_seq: Annotated[int, msgspec.Meta(ge=0)] = 0
    seen_keyid: str = ""


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

    ``installed``: the floor that the releases in the install places set, given the state (``floor_of`` fits); it and the second
    file hold whatever the first one says. ``note`` says what was found wrong at the last load, empty when nothing was.
    """

    def __init__(
        self, folder: Path, name: str = STATE_FILE, installed: Callable[[UpdateState], int] = lambda state: 0
    ) -> None:
        self._path, self._installed = folder / name, installed
        self._floors = self._path.with_name(f"{self._path.stem}-floor.json")
        self.note = ""

    def load(self) -> UpdateState:
        """What was saved; where there is nothing or it is unreadable: no deployment, and the floors that are known otherwise."""
        state = self._load()
        kept, damaged = _floors(self._floors), self.note
        floor, seen_seq = max(state.floor, kept.floor, self._installed(state)), max(state.seen_seq, kept.seen_seq)
        if damaged or (max(kept.floor, state.floor), seen_seq) != (state.floor, state.seen_seq):
            self.note = f"{damaged or f'{self._path} says less than its copy'}; floor {floor} and number {seen_seq} hold on"
        if seen_seq != state.seen_seq:  # the digest and the words of an older one are not those of this number
            state = msgspec.structs.replace(state, seen_seq=seen_seq, seen_keyid=kept.seen_keyid, seen_digest="", assignment="")
        return msgspec.structs.replace(state, floor=floor)

    def _load(self) -> UpdateState:
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
        kept = _floors(self._floors)
        fresh = _Floors(floor=max(state.floor, kept.floor), seen_seq=state.seen_seq, seen_keyid=state.seen_keyid)
        # Not the larger number: one that a stolen key signed, and that binds no more, is replaced by a smaller one.
        fresh = msgspec.structs.replace(fresh, sum=_sum(fresh))
        if fresh != kept:
            with contextlib.suppress(OSError):  # the state is saved; where this copy cannot be written the next save tries again
                write_whole(self._floors, msgspec.json.encode(fresh), 0o600)

    def _of_another_version(self, data: bytes, version: int, problem: str) -> UpdateState:
        """A later agent wrote it and this one was put back: the file is kept for the later one, its floors hold here too."""
        lasting = msgspec.json.decode(data, type=_Lasting)
        fresh = self._set_aside(problem, f"v{version}")
        return msgspec.structs.replace(fresh, floor=lasting.floor, seen_seq=lasting.seen_seq, seen_keyid=lasting.seen_keyid)

    def _set_aside(self, problem: str, suffix: str = "unreadable") -> UpdateState:
        aside = self._path.with_name(f"{self._path.name}.{suffix}")
        with contextlib.suppress(OSError):
            self._path.replace(aside)
        self.note = f"{self._path} could not be read ({problem}): kept as {aside.name}, no deployment is known"
        return UpdateState()


def floor_of(slots: Slots, state: UpdateState) -> int:
    """What the installed releases demand; not one that is still on trial or was taken back: only a commit raises the floor."""
    places = [slots.current(), slots.previous(), slots.factory()]
    return max((one.manifest.min_counter for one in places if one is not None and stays(one.sha256, state)), default=0)


def stays(sha256: str, state: UpdateState) -> bool:
    """Whether a release that lies in an install place was committed, as far as the state knows."""
    deployment = state.deployment
    return deployment is None or deployment.bundle.sha256 != sha256 or deployment.state == "committed"


def _floors(path: Path) -> _Floors:
    """What the second file says; nothing where it is not there or is damaged: then the first one holds."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Floors)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Floors()
    return kept if kept.sum == _sum(kept) else _Floors()


def _sum(kept: _Floors) -> int:
    return zlib.crc32(f"{kept.floor} {kept.seen_seq} {kept.seen_keyid}".encode())
