"""Whether a debug session may have pictures, and that each request is answered once. Pure but for what it is given."""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from device_agent.duties.turn import Stop
from device_agent.vision.live_view import LiveView, Wish
from ota.wire.debug import MAX_SESSIONS, DebugSession, FrameAnswer

log = logging.getLogger(__name__)
# A level of its own: who asked for pictures stands in the board's log whatever the levels of the settings and the server say.
log.setLevel(logging.WARNING)
TICK_S = 1.0
LONGEST_S = 24 * 3600.0
REMEMBERED_SESSIONS = 100
MOST_PER_HOUR = 60
"""Requests: a debug session looks now and then; whoever wants a film has to go there."""
MOST_TOLD_PER_HOUR = 2 * MOST_PER_HOUR
"""Answers, refusals among them: each is written to this board's card. Who asks more often than that hears nothing."""
KINDS: dict[str, Literal["last", "burst"]] = {"last": "last", "burst": "burst"}


def refusal_of(*, debug_sessions: bool, live_view: bool, upload_classes: Sequence[str]) -> str | None:
    """Why this board's policy allows no pictures, in words; None where it does."""
    if not debug_sessions:
        return "this board's policy.toml has debug_sessions = false"
    if not live_view:
        return "this board's policy.toml has no live_view = true"
    if "debug" not in upload_classes:
        return "this board's policy.toml does not list debug in upload_classes"
    return None


class Showing:
    """A duty. ``views`` by camera. ``refusal``: why the policy allows no pictures, None where it does.

    ``answer`` sends an answer back. ``marks`` are requests answered before, by session, ``keep_marks`` writes them down before
    anything is done: a board that loses power in between asks nobody to look twice. ``now_s`` is the trusted clock. A server that
    floods the board with requests costs it so many writes an hour and no more.
    """

    def __init__(
        self, views: Mapping[str, LiveView], refusal: str | None, answer: Callable[[FrameAnswer], None], *,
        now_s: Callable[[], float], steady_s: Callable[[], float], marks: Mapping[str, int],
        keep_marks: Callable[[dict[str, int]], None],
    ) -> None:  # fmt: skip
        self.name = "live view"
        self.silence_s = 120.0
        self._views, self._refusal, self._answer = views, refusal, answer
        self._now_s, self._steady_s = now_s, steady_s
        self._marks = OrderedDict(marks)
        self._keep_marks = keep_marks
        self._asked_s: deque[float] = deque()
        self._told_s: deque[float] = deque()
        self._silent = False

    def adopt(self, sessions: Sequence[DebugSession]) -> None:
        """The assignment's sessions, as they came. One thread calls this."""
        now_s, steady_s = self._now_s(), self._steady_s()
        for view in self._views.values():
            view.cancel({session.id for session in sessions})
        asking = [one for one in sessions[:MAX_SESSIONS] if one.frames in KINDS]
        new = [one for one in asking if one.frames_asked > self._marks.get(one.id, 0)]
        for session in new:
            self._marks[session.id] = session.frames_asked
            self._marks.move_to_end(session.id)
        while len(self._marks) > REMEMBERED_SESSIONS:
            self._marks.popitem(last=False)
        open_ones = [session for session in new if session.until_s > now_s]
        told = open_ones[: _left(self._told_s, MOST_TOLD_PER_HOUR, steady_s)]
        if told:
            self._keep_marks(dict(self._marks))
        for session in told:
            self._judge(session, steady_s, steady_s + min(session.until_s - now_s, LONGEST_S))
        if len(told) < len(open_ones) and not self._silent:
            log.warning("debug sessions ask for pictures more than %d times within an hour: no answer", MOST_TOLD_PER_HOUR)
        self._silent = len(told) < len(open_ones)

    def _judge(self, session: DebugSession, now_s: float, until_s: float) -> None:
        self._told_s.append(now_s)
        cameras = [session.camera] if session.camera is not None else list(self._views)
        if self._refusal is not None:
            self._refuse(session, "policy", self._refusal)
        elif any(camera not in self._views for camera in cameras):
            self._refuse(session, "camera", f"there is no camera {session.camera!r}; there are {', '.join(self._views)}")
        elif _left(self._asked_s, MOST_PER_HOUR, now_s) <= 0:
            self._refuse(session, "too_often", f"more than {MOST_PER_HOUR} requests within an hour")
        else:
            self._asked_s.append(now_s)
            log.warning("debug session %s: pictures (%s) of %s are sent", session.id, session.frames, ", ".join(cameras))
            for camera in cameras:
                self._views[camera].ask(Wish(session.id, session.frames_asked, KINDS[session.frames], until_s))

    def _refuse(self, session: DebugSession, reason: str, detail: str) -> None:
        # In the log too: it goes up with the session, and it stays on the board for its owner to read.
        log.warning("debug session %s asks for pictures (%s) and is refused: %s", session.id, session.frames, detail)
        self._answer(
            FrameAnswer(
                session=session.id, asked=session.frames_asked, camera=session.camera or "", frames=session.frames,
                state="refused", reason=reason, detail=detail,
            )
        )  # fmt: skip

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """End what waits in vain, until told to stop."""
        while not stop.wait(TICK_S):
            for view in self._views.values():
                view.tick()
            progress()


def _left(times_s: deque[float], most: int, now_s: float) -> int:
    """How many more an hour takes; what is older is forgotten."""
    while times_s and times_s[0] <= now_s - 3600.0:
        times_s.popleft()
    return max(0, most - len(times_s))
