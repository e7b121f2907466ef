"""Vision's stills and the answers that go with them, as the outbox keeps them. Pure but for what it is given."""

import logging
from collections.abc import Callable

from device_agent.spool.spool_disk import Outbox
from device_agent.spool.stills import StillInfo
from device_agent.vision.types import Still
from ota.wire.codec import encode
from ota.wire.debug import ANSWER_TYPE, FrameAnswer, answers_name

log = logging.getLogger(__name__)


class KeepingStills:
    """Puts stills into the outbox. ``now_s``: seconds since 1970, by the trusted clock."""

    def __init__(self, outbox: Outbox, now_s: Callable[[], float]) -> None:
        self._outbox, self._now_s = outbox, now_s

    def keep(self, still: Still) -> bool:
        """Whether there was room; a disk that fails counts as none."""
        try:
            return self._outbox.add_still(StillInfo(still.purpose, still.name), still.jpeg, at_s=still.wall_s) is not None
        except OSError as error:
            log.warning("a still cannot be kept: %s", error)
            return False

    def answer(self, answer: FrameAnswer) -> None:
        """What became of a request: it goes after its pictures, because the outbox keeps their order."""
        log.info("debug session %s: %s %s %s", answer.session, answer.camera or "no camera", answer.state, answer.reason)
        try:
            kept = self._outbox.add_still(
                StillInfo("debug", answers_name(answer.session), ANSWER_TYPE), encode(answer), at_s=self._now_s()
            )
        except OSError as error:
            log.warning("an answer cannot be kept: %s", error)
            return
        if kept is None:
            log.warning("an answer cannot be kept: no room")
