"""How many bytes a device may upload in a day. Counted in memory, written down now and then: a slot costs no commit."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from sqlalchemy import delete, select

from fleet_server.blobs.tables import UploadDayRow
from fleet_server.database import Database, upsert
from fleet_server.errors import TooManyError

DAY_S = 86_400.0
WRITE_EVERY_BYTES = 32 * 1024 * 1024
"""So much of a device's count may be lost when the server is killed."""
WRITE_EVERY_S = 300.0
RETRY_AFTER_S = 300
"""The day may be long; a device that is over asks again so often, and its reports, which come first, go meanwhile."""
KEEP_DAYS = 8
LEAST_BYTES = 4096
"""What any blob counts at least: a file system's block and an inode. A million blobs of one byte fill a disk, too."""
_MOST_KEYS = 20_000
_MOST_DEVICES = 20_000


@dataclass(slots=True)
class _Count:
    day: int
    length_bytes: int
    written_bytes: int
    written_s: float
    keys: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    """Blobs that were counted today: a slot that is asked for again, after a lost answer or a store that was away, is no news."""


class UploadQuota:
    """The counts of one door process. ``limit_bytes`` 0: no limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, database: Database, device_id: str, key: str, length_bytes: int, now_s: float) -> None:
        """Count a blob, as LEAST_BYTES at least; TooManyError where the day's bytes are used up.

        A blob that was counted today is not counted again.
        """
        if self._limit_bytes <= 0:
            return
        day = int(now_s // DAY_S)
        with self._lock:
            count = self._counts.get(device_id)
        if count is None or count.day != day:
            count = self._read(database, device_id, day, now_s)
        with self._lock:
            self._counts.move_to_end(device_id)
            if key in count.keys:
                return
            counted_bytes = max(length_bytes, LEAST_BYTES)
            if count.length_bytes + counted_bytes > self._limit_bytes:
                raise TooManyError(
                    f"this device has uploaded {count.length_bytes // 2**20} MiB today; "
                    f"it may upload {self._limit_bytes // 2**20} MiB in a day",
                    "the rest waits in its spool; look at why it sends so much, or raise ROOKERY_UPLOAD_BYTES_PER_DAY",
                    RETRY_AFTER_S,
                )
            count.length_bytes += counted_bytes
            count.keys[key] = None
            if len(count.keys) > _MOST_KEYS:
                count.keys.popitem(last=False)
            due = count.length_bytes - count.written_bytes >= WRITE_EVERY_BYTES or now_s - count.written_s >= WRITE_EVERY_S
            total = count.length_bytes
            if due:
                count.written_bytes, count.written_s = total, now_s
        if due:
            _write(database, device_id, day, total)

    def _read(self, database: Database, device_id: str, day: int, now_s: float) -> _Count:
        query = select(UploadDayRow.length_bytes).where(UploadDayRow.device_id == device_id, UploadDayRow.day == day)
        with database.read() as session:
            known = session.scalar(query) or 0
        with self._lock:
            there = self._counts.get(device_id)
            if there is None or there.day != day:  # another thread may have been faster
                self._counts[device_id] = there = _Count(day, known, known, now_s)
                if len(self._counts) > _MOST_DEVICES:
                    self._counts.popitem(last=False)
            return there


def _write(database: Database, device_id: str, day: int, length_bytes: int) -> None:
    with database.write() as session:
        row = {"device_id": device_id, "day": day, "length_bytes": length_bytes}
        upsert(session, UploadDayRow, [row], keys=["device_id", "day"], update=["length_bytes"])
        session.execute(delete(UploadDayRow).where(UploadDayRow.device_id == device_id, UploadDayRow.day < day - KEEP_DAYS))
