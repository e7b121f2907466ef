"""What the outbox must remember of entries that are gone: numbers used, batches sent, what was given up and why."""

import logging
from pathlib import Path

import msgspec

from ota.durable_disk import make_folder, remove_leftovers, write_whole

log = logging.getLogger(__name__)
RESERVE = 64
"""Batch numbers are reserved in blocks: with one write for many, and a full disk does not stop the next report at once."""


class _State(msgspec.Struct, kw_only=True):
    """``used``: stream -> highest number whose file may be gone. ``counter``: report batches numbered, with a reserve.

    ``evicted``: entries given up, by reason. ``jumping``: stream -> number up to which entries are being numbered anew.
    """

    used: dict[str, int] = {}
    counter: int = 0
    evicted: dict[str, int] = {}
    jumping: dict[str, int] = {}


class Ledger:
    """``state.json`` of the outbox. Where it is lost, the server's mark repairs the numbers (see ``Outbox.stored``)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"
        remove_leftovers(folder)
        self._state = _State()
        try:
            self._state = msgspec.json.decode(self._path.read_bytes(), type=_State)
        except FileNotFoundError:
            pass
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
            log.error("spool: state.json cannot be read (%s); numbers are taken from the server's mark", error)
            make_folder(folder / "quarantine")
            self._path.replace(folder / "quarantine" / "state.json")
        self._counter = self._state.counter

    def used(self, stream: str) -> int:
        """Highest number of this stream that may have no file any more."""
        return self._state.used.get(stream, 0)

    def raise_used(self, stream: str, number: int) -> None:
        """Remember durably that ``number`` is used up. Raises OSError, remembering nothing, where the disk cannot be written."""
        before = self.used(stream)
        if number <= before:
            return
        self._state.used[stream] = number
        try:
            self._write()
        except OSError:
            self._state.used[stream] = before
            raise

    def jumping(self, stream: str) -> int:
        """Entries up to this number are being numbered anew; 0 where none are."""
        return self._state.jumping.get(stream, 0)

    def jump(self, stream: str, mark: int) -> None:
        """Remember durably that all numbers up to ``mark`` are used and what still has one is numbered anew; 0: that is done.

        Raises OSError, remembering nothing, where the disk cannot be written.
        """
        used, jumping = dict(self._state.used), dict(self._state.jumping)
        self._state.used[stream] = max(self.used(stream), mark)
        self._state.jumping = {**jumping, stream: mark} if mark else {one: jumping[one] for one in jumping if one != stream}
        try:
            self._write()
        except OSError:
            self._state.used, self._state.jumping = used, jumping
            raise

    def next_counter(self) -> int:
        """Number of the next report batch: higher than any before, also after a restart (which skips what was reserved).

        Raises OSError, numbering nothing, where no number is left in reserve and the disk cannot be written.
        """
        if self._counter >= self._state.counter:
            self._write()
        self._counter += 1
        return self._counter

    def count(self, reason: str) -> None:
        """One entry was given up for this reason; written with the next durable change (a lost count costs nothing)."""
        self._state.evicted[reason] = self._state.evicted.get(reason, 0) + 1

    @property
    def evicted(self) -> dict[str, int]:
        """Entries given up so far, by reason."""
        return dict(self._state.evicted)

    def _write(self) -> None:
        # Whatever the reason to write, the reserve is filled again: on a disk that is full later, reports still go.
        before, self._state.counter = self._state.counter, self._counter + RESERVE
        try:
            write_whole(self._path, msgspec.json.encode(self._state))
        except OSError:
            self._state.counter = before
            raise
