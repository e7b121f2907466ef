"""The durable outbox on disk: one file per entry, forgotten only when the server has said *stored*.

A sequence number is used once: it becomes visible to anyone only after its file is on disk, and the highest number that no longer
has a file stands in ``state.json`` before that file goes. So the next number is always max(state, files) + 1.
"""

import contextlib
import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from device_agent.errors import DiskFullError
from device_agent.spool import retention
from device_agent.spool.entry import Crop, Header, TornEntryError, Waiting, likeness, line_of, pack, renumbered, unpack
from device_agent.spool.ledger_disk import Ledger
from device_agent.spool.quarantine_disk import Quarantine
from device_agent.spool.retention import Candidate, Known, candidate_of
from device_agent.spool.scan_disk import SUFFIX, scan
from device_agent.spool.stills import StillInfo, surplus
from ota.durable_disk import make_folder, write_whole
from ota.wire.deployments import DeploymentReport
from ota.wire.events import Event
from ota.wire.heartbeat import SpoolHealth

STREAMS = ("events", "reports", "stills")
READ_BYTES = 8 * 1024 * 1024
"""Of entries that are in memory at once while they are sent."""
GIVEN_UP = ("stills", "events")
"""Streams whose entries may be given up for others; a report never is."""
log = logging.getLogger(__name__)


class Outbox:
    """All entries under ``folder``. Methods may be called from any thread; an entry is durable when ``add_*`` returns.

    ``max_bytes`` is the budget of the files here (what was put aside may have a tenth of it besides), ``min_free_bytes`` the
    reserve that the disk keeps for others. ``changed`` is called (without a lock held) after an entry was added.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        min_free_bytes: int,
        now: Callable[[], float] = time.time,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self.folder = folder
        self.changed: Callable[[], None] = lambda: None
        self._max_bytes, self._min_free_bytes = max_bytes, min_free_bytes
        self._now, self._free_bytes = now, free_bytes
        self._lock = threading.RLock()
        self._known: dict[str, dict[int, Known]] = {stream: {} for stream in STREAMS}
        self._used_bytes = 0
        for sub in STREAMS:
            make_folder(folder / sub)  # durably: an entry is, when ``add_*`` returns
        self._ledger = Ledger(folder)
        self._quarantine = Quarantine(folder / "quarantine", max_bytes, lambda: self._ledger.count("quarantine"))
        for stream in STREAMS:
            self._scan(stream)
            if self._ledger.jumping(stream):
                with contextlib.suppress(OSError):  # a full disk: gone on with when the server answers
                    self._renumber(stream)

    # -- adding ---------------------------------------------------------------------------------------------------------

    def add_event(self, event: Event, crops: Sequence[Crop], *, priority: int = 0) -> int | None:
        """Keep an event and its crops; ``event.sequence`` and ``event.crops`` are filled in here and at sending.

        Returns its number, or None where it had to be given up (no room, and nothing of less value here): counted then.
        """
        message = msgspec.to_builtins(msgspec.structs.replace(event, sequence=0, crops=[]))
        return self._add("events", message, crops, priority, event.score)

    def add_report(self, report: DeploymentReport) -> int:
        """Keep a report; ``report.sequence`` is filled in here. Raises DiskFullError when not even that fits."""
        number = self._add("reports", msgspec.to_builtins(report), (), 0, 1.0)
        if number is None:
            raise DiskFullError("a report could not be kept: the disk is full", "free some space on the board")
        return number

    def add_still(self, info: StillInfo, data: bytes, *, at_s: float) -> int | None:
        """Keep a picture that is no event's crop (or the answer that goes with such); the oldest ones go where there are many.

        Returns its number, or None where there is no room: nothing but other stills is given up for it.
        """
        still = Crop("still", hashlib.sha256(data).hexdigest(), len(data), 0.0, at_s, (0.0, 0.0, 0.0, 0.0), data)
        with self._lock:
            known = self._known["stills"]
            gone = surplus([(number, known[number].size_bytes) for number in sorted(known)], len(data), self._max_bytes)
            for number in gone:
                self.forget("stills", number, "stills")
        return self._add("stills", info.message(), (still,), 0, 0.0)

    def _add(self, stream: str, message: dict[str, Any], crops: Sequence[Crop], priority: int, score: float) -> int | None:
        bodies = [crop.jpeg for crop in crops if crop.jpeg is not None]
        lines = [line_of(crop) for crop in crops]
        with self._lock:
            number = self._next(stream)
            header = Header(
                stream=stream, sequence=number, created_s=self._now(), priority=priority, score=score,
                message=message | {"sequence": number}, crops=lines,
            )  # fmt: skip
            data = pack(header, bodies)
            if not self._make_room(candidate_of(header, len(data))) or not self._write(header, data):
                self._ledger.count("no_room")
                return None
        self.changed()
        return number

    def _write(self, header: Header, data: bytes, *, evict: bool = True) -> bool:
        stream, number, newcomer = header.stream, header.sequence, candidate_of(header, len(data))
        path = self.folder / stream / f"{number:012d}{SUFFIX}"
        for last_try in (False, True):
            try:
                write_whole(path, data)
            except OSError as error:
                # The reserve was a guess, another program was quicker: give up something of less value once, then this entry.
                if last_try or not evict or not self._evict(newcomer, len(data), "disk_full"):
                    log.warning("spool: entry given up, the disk cannot be written: %s", error)
                    return False
            else:
                break
        self._known[stream][number] = Known(path, len(data), header.created_s, header.priority, header.score)
        self._used_bytes += len(data)
        return True

    def _make_room(self, newcomer: Candidate) -> bool:
        # A report may dip into the reserve that events must leave alone: the reserve is there for such moments.
        report = newcomer.stream == "reports"
        need = retention.over_budget_bytes(
            self._used_bytes, newcomer.size_bytes, self._free_bytes(self.folder), max_bytes=self._max_bytes,
            min_free_bytes=0 if report else self._min_free_bytes,
        )  # fmt: skip
        return need == 0 or self._evict(newcomer, need, "budget") or report

    def _evict(self, newcomer: Candidate, need_bytes: int, reason: str) -> bool:
        now_s = self._now()
        candidates = [one.candidate(stream, number, now_s) for stream in GIVEN_UP for number, one in self._known[stream].items()]
        chosen = retention.choose(candidates, need_bytes, below=newcomer)
        for entry in chosen:
            self._ledger.count(reason)
            log.warning("spool: %s %d given up (%s)", entry.stream.removesuffix("s"), entry.sequence, reason)
        try:
            for stream in GIVEN_UP:
                self._remove(stream, [entry.sequence for entry in chosen if entry.stream == stream])
        except OSError as error:
            # The ledger could not be written: the entry with the highest number stays, the others made room.
            log.debug("spool: one entry less was given up: %s", error)
        return bool(chosen)

    # -- sending --------------------------------------------------------------------------------------------------------

    def waiting(self, stream: str, limit: int, max_bytes: int = READ_BYTES) -> list[Waiting]:
        """The oldest entries of a stream in order, one at least; what turns out torn is quarantined and left out.

        At most ``limit``, and no more than ``max_bytes`` of them: they are all in memory at once.
        """
        found: list[Waiting] = []
        left_bytes = max_bytes
        with self._lock:
            for number in sorted(self._known[stream])[:limit]:
                left_bytes -= self._known[stream][number].size_bytes
                if found and left_bytes < 0:
                    break
                if (entry := self._read(stream, number)) is not None:
                    found.append(entry)
        return found

    def stored(self, stream: str, mark: int, refused: dict[str, str] | None = None) -> None:
        """The server has committed everything up to ``mark``: forget it. ``refused`` can never be stored: counted, forgotten."""
        for number, reason in (refused or {}).items():
            log.warning("spool: the server refused %s %s: %s", stream, number, reason)
            self._ledger.count("refused")
        with self._lock:
            if mark >= self._next(stream):
                self._jump(stream, mark)
                return
            # What could not be numbered anew yet was never sent under a number of this mark.
            least = 0 if not self._ledger.jumping(stream) or self._renumber(stream) else self._ledger.jumping(stream)
            self._remove(stream, [number for number in self._known[stream] if least < number <= mark])

    def give_up(self, stream: str, number: int, reason: str) -> None:
        """Put one entry aside that the server will never take; it stays in quarantine for a person to look at."""
        with self._lock:
            known = self._known[stream].get(number)
            if known is not None:
                self._quarantine_file(stream, number, known.path, reason)

    def forget(self, stream: str, number: int, reason: str) -> None:
        """One entry goes unsent, and is counted; OSError where the disk cannot be written: then it stays."""
        with self._lock:
            if number in self._known[stream]:
                self._remove(stream, [number])
                self._ledger.count(reason)

    def count_unsent(self, reason: str) -> None:
        """A picture of an event was held back (the policy, say); the event itself goes."""
        with self._lock:
            self._ledger.count(reason)

    def next_counter(self) -> int:
        """A number that rises with every report batch this device ever sent; OSError where the disk takes no further reserve."""
        with self._lock:
            return self._ledger.next_counter()

    def untouched(self, stream: str) -> bool:
        """Whether this board never put anything into a stream."""
        with self._lock:
            return self._next(stream) == 1

    def count(self, stream: str) -> int:
        """How many entries of a stream wait."""
        return len(self._known[stream])

    def health(self) -> SpoolHealth:
        """What waits here, for the heartbeat."""
        with self._lock:
            created = [k.created_s for entries in self._known.values() for k in entries.values()]
            return SpoolHealth(
                items=len(created), bytes=self._used_bytes, quarantined=self._quarantine.count(SUFFIX),
                oldest_age_s=max(0.0, self._now() - min(created)) if created else 0.0, evicted=self._ledger.evicted,
            )  # fmt: skip

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _next(self, stream: str) -> int:
        return max([self._ledger.used(stream), *self._known[stream]]) + 1

    def _jump(self, stream: str, mark: int) -> None:
        """The server knows higher numbers than this disk (it was wiped or restored): continue above them, losing nothing here."""
        log.warning("spool: the server has %s up to %d, past what this board used; numbers go on above", stream, mark)
        self._ledger.jump(stream, mark)
        self._renumber(stream)

    def _renumber(self, stream: str) -> bool:
        """Give what lies below a jump a number above it, one after the other; False where the disk is full: gone on with later.

        A power cut in between leaves some under both numbers: they are known by what they say, and not copied again.
        """
        known, mark = self._known[stream], self._ledger.jumping(stream)
        there = {likeness(copy.header) for number in sorted(known) if number > mark and (copy := self._read(stream, number))}
        for old in sorted(number for number in known if number <= mark):
            entry = self._read(stream, old) if old in known else None
            if entry is None:
                continue
            header, data = renumbered(entry, self._next(stream))
            if likeness(header) not in there and not self._write(header, data, evict=False):
                return False
            self._remove(stream, [old] if old in known else [])
        self._ledger.jump(stream, 0)
        return True

    def _read(self, stream: str, number: int) -> Waiting | None:
        """One entry, proved; None (and put aside) where it is torn."""
        path = self._known[stream][number].path
        try:
            return Waiting(*unpack(path.read_bytes()))
        except (TornEntryError, OSError) as error:
            with contextlib.suppress(OSError):  # a full disk: it stays where it is and is left out, the others go
                self._quarantine_file(stream, number, path, str(error))
            return None

    def _remove(self, stream: str, numbers: list[int]) -> None:
        if not numbers:
            return
        highest = max(numbers)
        # On a full disk the ledger cannot be written before something is removed: the highest file goes last, in its stead.
        for number in sorted(numbers):
            if number == highest:
                self._ledger.raise_used(stream, number)
            known = self._known[stream].pop(number)
            self._used_bytes -= known.size_bytes
            known.path.unlink(missing_ok=True)

    def _quarantine_file(self, stream: str, number: int, path: Path, why: str) -> None:
        log.warning("spool: %s %d is put aside: %s", stream, number, why)
        if number >= max(self._known[stream], default=0):
            self._ledger.raise_used(stream, number)  # before its file goes, or the number would be given out again
        if path.exists():
            self._quarantine.take(path, f"{stream}-{path.name}")
        known = self._known[stream].pop(number, None)
        if known is not None:
            self._used_bytes -= known.size_bytes

    def _scan(self, stream: str) -> None:
        for number, path, size, found in scan(self.folder / stream):
            if isinstance(found, str):
                self._quarantine_file(stream, number, path, found)
            else:
                self._known[stream][number] = Known(path, size, found.created_s, found.priority, found.score)
                self._used_bytes += size
