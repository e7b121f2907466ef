"""Runs a candidate model beside the current one, on some frames, while the board has something to spare. No IO of its own.

The cameras' threads only hand over a copy of a frame, and only when its turn has come; looking, comparing and counting happen in
a thread of its own. One frame waits at most: a slow candidate skips frames, it never holds one up.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from device_agent.duties.turn import Stop
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import DetectorError
from device_agent.vision.privacy import Privacy
from device_agent.vision.scene import Scene
from device_agent.vision.shadow import (
    BoardLimits,
    DutyCycle,
    Found,
    ShadowTally,
    compare,
    hold_back,
    reported,
    scaled,
)
from device_agent.vision.shadow_candidate import Candidate, Looks, NoCandidateError
from device_agent.vision.triggers import Disagreement
from device_agent.vision.types import EventUpdate, Picture
from models.inference.errors import ModelError
from ota.wire.heartbeat import HostHealth, ShadowHealth, ShadowPair

log = logging.getLogger(__name__)
LOOK_AT_BOARD_S = 5.0
"""How often heat and memory are read."""
OPEN_AGAIN_S = 600.0
"""A candidate that did not load is tried again after this, or when another is wanted."""
MEMORY_AWAY_S = 120.0
MOST_PAIRS = 90
"""As many as the heartbeat carries."""
WAITING_DISAGREEMENTS = 50


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """``every_n``: every so many-th answered frame of a camera has a turn; ``max_core_share``: of one core, over time.

    ``wait_s``: for a turn, before it is looked at again what is wanted.
    """

    every_n: int = 10
    max_core_share: float = 0.1
    limits: BoardLimits = field(default_factory=BoardLimits)
    wait_s: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """One frame that both models look at: a copy of the detector's picture, and what the current model reported on it."""

    camera: str
    picture_bgr: Picture
    current: Found
    width_px: int
    height_px: int
    privacy: Privacy


class Shadowing:
    """A duty, and the watchers that feed it. ``wanted`` says which candidate should run now, None is none."""

    def __init__(
        self,
        wanted: Callable[[], Candidate | None],
        settings: ShadowSettings,
        host: Callable[[], HostHealth],
        steady_s: Callable[[], float],
    ) -> None:
        self.name = "shadow"
        self.silence_s = 300.0
        self._wanted, self.settings, self._host, self._steady_s = wanted, settings, host, steady_s
        self._asked_share: float | None = None
        self._turns: queue.Queue[_Turn] = queue.Queue(1)
        self._lock = threading.Lock()
        self._candidate: Candidate | None = None
        self._detector: Looks | None = None
        self._failed = ""
        self._open_at_s = 0.0
        self._held = ("", "")
        self._duty = DutyCycle(settings.max_core_share, steady_s())
        self._tally = ShadowTally()
        self._skipped: Counter[str] = Counter()
        self._invoke_ms: float | None = None
        self._looked_at_board_s = -LOOK_AT_BOARD_S
        self._found: dict[str, list[Disagreement]] = {}

    # -- the cameras' side ------------------------------------------------------------------------------------------------

    def watcher(self, camera: str, cutter: Cutter, disagreed: Callable[[Disagreement], None] | None = None) -> "ShadowWatcher":
        """The watcher of one camera. ``disagreed`` is called in the camera's own thread, some frames after the one it was on."""
        return ShadowWatcher(self, camera, cutter, disagreed or (lambda one: None))

    def offer(self, camera: str, scene: Scene, privacy: Privacy) -> None:
        """It is this frame's turn: taken where the candidate is free and the board can spare it, else counted as skipped."""
        if scene.answer is None or scene.reported is None:
            return
        with self._lock:
            if self._candidate is None or self._failed:
                return
            reason = self._held[0] or ("busy" if self._turns.full() else "")
            reason = reason or ("" if self._duty.due(self._steady_s()) else "cost")
            if reason:
                self._skipped[reason] += 1
                return
        frame = scene.frame
        current = reported(scene.reported, scene.answer.card)
        turn = _Turn(camera, frame.picture_bgr.copy(), current, frame.width_px, frame.height_px, privacy)
        try:
            self._turns.put_nowait(turn)
        except queue.Full:
            with self._lock:
                self._skipped["busy"] += 1

    def take_disagreements(self, camera: str) -> list[Disagreement]:
        """What was found on this camera's frames since the last call."""
        with self._lock:
            return self._found.pop(camera, [])

    def use(self, max_core_share: float | None) -> None:
        """Another share of a core from now on; None is the settings'. It only lowers that: the board says what it can spare."""
        with self._lock:
            self._asked_share = max_core_share
            self._duty.share = self._share()

    def _share(self) -> float:
        own = self.settings.max_core_share
        return own if self._asked_share is None else min(own, max(0.0, self._asked_share))

    # -- the loop ---------------------------------------------------------------------------------------------------------

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Run the wanted candidate until told to stop."""
        try:
            while not stop.is_set():
                self._look_at_board()
                self._follow()
                self._take_turn()
                progress()
        finally:
            self._close()

    def _follow(self) -> None:
        """Open what is wanted as soon as the board can spare it, close what is not wanted any more."""
        wanted, present = self._wanted(), self._candidate
        if present is not None and (wanted is None or wanted.key != present.key):
            self._close()
            present = None
        if wanted is None:
            return
        if present is None:
            self._begin(wanted)
        if self._held[0] == "memory" and self._detector is not None:
            # What it takes itself may be what is missing: it is away for a while, or it would come and go every few seconds.
            self._open_at_s = self._steady_s() + MEMORY_AWAY_S
            self._unload()
        if self._held[0] or self._detector is not None or self._steady_s() < self._open_at_s:
            return
        try:
            detector = wanted.load()
        except (ModelError, NoCandidateError) as error:
            log.warning("the shadow %s does not load: %s", wanted.release, error.message)
            with self._lock:
                self._failed, self._open_at_s = f"{error.reason}: {error.message}", self._steady_s() + OPEN_AGAIN_S
            return
        log.info("the shadow %s runs beside the current model", wanted.release)
        with self._lock:
            self._detector, self._failed = detector, ""

    def _begin(self, wanted: Candidate) -> None:
        now_s = self._steady_s()
        with self._lock:
            self._candidate, self._failed, self._open_at_s = wanted, "", now_s
            self._tally, self._skipped, self._invoke_ms = ShadowTally(), Counter(), None
            self._duty = DutyCycle(self._share(), now_s)
            self._found.clear()

    def _look_at_board(self) -> None:
        now_s = self._steady_s()
        if now_s - self._looked_at_board_s < LOOK_AT_BOARD_S:
            return
        self._looked_at_board_s = now_s
        host, before = self._host(), self._held
        why = hold_back(
            self.settings.limits, temp_c=host.cpu_temp_c, memory_bytes=host.memory_available_bytes, throttled=host.throttled,
            held=bool(before[0]),
        )  # fmt: skip
        if why[0] != before[0] and self._candidate is not None:
            log.info("the shadow %s", f"pauses: {why[1]}" if why[0] else "goes on")
        with self._lock:
            self._held = why

    def _take_turn(self) -> None:
        try:
            turn = self._turns.get(timeout=self.settings.wait_s)
        except queue.Empty:
            return
        detector, candidate = self._detector, self._candidate
        if detector is None or candidate is None:
            return
        began_s = self._steady_s()
        try:
            answer = detector.look(turn.picture_bgr)
        except DetectorError as error:
            with self._lock:
                self._skipped[error.reason] += 1
                self._duty.spent((self._steady_s() - began_s) * candidate.threads, self._steady_s())
            return
        height_px, width_px = turn.picture_bgr.shape[:2]
        found = scaled(answer.detections, turn.width_px / width_px, turn.height_px / height_px)
        if turn.privacy.masks and len(found):
            found = found[turn.privacy.seen(found.xyxy, turn.width_px, turn.height_px)]
        compared = compare(turn.current, reported(found, answer.card), turn.width_px, turn.height_px)
        now_s = self._steady_s()
        with self._lock:
            self._duty.spent((now_s - began_s) * candidate.threads, now_s)
            self._tally.add(compared)
            self._invoke_ms = answer.invoke_ms if self._invoke_ms is None else 0.9 * self._invoke_ms + 0.1 * answer.invoke_ms
            waiting = self._found.setdefault(turn.camera, [])
            waiting += compared.disagreements[: max(0, WAITING_DISAGREEMENTS - len(waiting))]

    def _unload(self) -> None:
        with self._lock:
            detector, self._detector = self._detector, None
        if detector is not None:
            detector.close()

    def _close(self) -> None:
        self._unload()
        with self._lock:
            self._candidate = None

    def health(self) -> ShadowHealth | None:
        """For the heartbeat; None where no candidate is wanted. Callable from any thread."""
        with self._lock:
            candidate = self._candidate
            if candidate is None:
                return None
            pairs = self._tally.pairs()
            state = "failed" if self._failed else "paused" if self._held[0] else "running"
            return ShadowHealth(
                release=candidate.release[:100],
                state=state,
                reason=(self._failed or self._held[1])[:500],
                frames=self._tally.frames,
                skipped=dict(self._skipped),
                core_share=self._duty.core_share(self._steady_s()),
                invoke_ms=self._invoke_ms,
                pairs=[
                    ShadowPair(
                        label=pair.label[:100], size=pair.size, both=pair.both, only_current=pair.only_current,
                        only_candidate=pair.only_candidate,
                    )
                    for pair in pairs[:MOST_PAIRS]
                ],
                left_out=max(0, len(pairs) - MOST_PAIRS),
            )  # fmt: skip


class ShadowWatcher:
    """One camera's side: counts its answered frames and hands over every n-th."""

    name = "shadow"

    def __init__(self, shadowing: Shadowing, camera: str, cutter: Cutter, disagreed: Callable[[Disagreement], None]) -> None:
        self._shadowing, self._camera, self._cutter, self._disagreed = shadowing, camera, cutter, disagreed
        self._answered = 0

    def saw(self, scene: Scene) -> Sequence[EventUpdate]:
        """Nothing of its own comes of it: a shadow decides nothing."""
        for one in self._shadowing.take_disagreements(self._camera):
            self._disagreed(one)
        if scene.answer is not None:
            self._answered += 1
            if self._answered % max(1, self._shadowing.settings.every_n) == 0:
                self._shadowing.offer(self._camera, scene, self._cutter.privacy)
        return ()

    def finish(self) -> Sequence[EventUpdate]:
        """The source ended; what waits for this camera is forgotten with it."""
        self._shadowing.take_disagreements(self._camera)
        return ()
