"""Pictures that nobody needs: uploads that no event ever named, and crops older than the operator wants to keep them.

Each call does a bounded piece of work and goes on where the last one ended: a store of any size never holds up the worker.
"""

import logging

from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.detections import service as detections

log = logging.getLogger(__name__)

ORPHAN_S = 86_400.0
"""Between an upload and its event lie seconds; a device that lost its connection in between asks for its slot again."""
DEBUG_KEPT_S = 7 * 86_400.0
"""Pictures of a debug session are for whoever asked, now: they go with it, and earlier than crops."""
WALK_EVERY_S = 3_600.0
SLICE = 500
"""Blobs looked at in one call."""
EXPIRED_AT_ONCE = 200
_DAY_S = 86_400.0


class Sweeping:
    """The sweeper's side of the worker; not for two threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._after = ""
        self._not_before_s = 0.0
        self._looks_not_before_s = 0.0

    def sweep(self) -> int:
        """One bounded piece; answers how many blobs were deleted. Raises UnavailableError when the store does not answer."""
        self._forget_looks()
        return self._expire() + self._delete_orphans()

    def _forget_looks(self) -> None:
        """Who looked at what lately is of no more use after ten minutes; the audit's own rows stay for ever."""
        here, now_s = self._context, self._context.clock()
        if now_s >= self._looks_not_before_s:
            self._looks_not_before_s = now_s + WALK_EVERY_S
            with here.database.write() as session:
                audit.forget_looks(session, now_s)

    def _expire(self) -> int:
        here = self._context
        keep_days = here.settings.crop_retention_days
        if keep_days <= 0:
            return 0
        with here.database.read() as session:
            old = detections.crops_before(session, here.clock() - keep_days * _DAY_S, EXPIRED_AT_ONCE)
        if not old:
            return 0
        # The blob first: after a crash in between the crop is found here again, while the other way round the blob would stay.
        gone = sum(here.blobs.delete(key) for key in old)
        with here.database.write() as session:
            detections.mark_expired(session, old)
        log.info("%d crops were older than %g days and are deleted", gone, keep_days)
        return gone

    def _delete_orphans(self) -> int:
        here, now_s = self._context, self._context.clock()
        if now_s < self._not_before_s:
            return 0
        found = here.blobs.list("", after=self._after, limit=SLICE)
        if len(found) < SLICE:
            self._after, self._not_before_s = "", now_s + WALK_EVERY_S
        else:
            self._after = found[-1].key
        old = [blob.key for blob in found if blob.stored_s < now_s - self._kept_s(blob.key)]
        if not old:
            return 0
        with here.database.read() as session:
            named = detections.named_keys(session, old)
        gone = sum(here.blobs.delete(key) for key in old if key not in named)
        if gone:
            log.info("%d uploads that no event named are deleted", gone)
        return gone

    def _kept_s(self, key: str) -> float:
        # Recall samples and debug pictures are named by no event.
        purpose = key.split("/")[1:2]
        if purpose == ["crop"]:
            return ORPHAN_S
        keep_days = self._context.settings.crop_retention_days
        kept_s = keep_days * _DAY_S if keep_days > 0 else float("inf")
        return min(kept_s, DEBUG_KEPT_S) if purpose == ["debug"] else kept_s
