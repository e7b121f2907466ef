"""Which candidate runs beside the current model: one that the server assigned as a shadow, else one of the board's own settings.

Its inference process gets the lowest claim to the processor, so that the current model keeps its rate.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from device_agent.update.shadow_fetch_disk import ShadowFiles
from device_agent.vision.detector import Answer
from device_agent.vision.detector_process import ProcessDetector
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.shadow_candidate import Candidate, NoCandidateError
from device_agent.vision.types import Picture
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment

log = logging.getLogger(__name__)
NICE = 15
"""Of 19: whatever else wants the processor comes first."""
Fetch = Callable[[AssignedBundle, Callable[[], bool]], ShadowFiles | Refusal]


class PoliteDetector:
    """A detector in a process of its own that yields to all others. One thread: the kernel's niceness is a thread's own."""

    def __init__(self, model: Path, card: Path) -> None:
        self._inner = ProcessDetector(read_spec(model, card, 1, None))
        self._polite_pid: int | None = None
        self._be_polite()

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture; raises DetectorError."""
        self._be_polite()
        return self._inner.look(picture_bgr)

    def close(self) -> None:
        """End its process."""
        self._inner.close()

    def _be_polite(self) -> None:
        pid = self._inner.pid
        if pid is not None and pid != self._polite_pid:
            with contextlib.suppress(OSError):  # it has just died: its successor is told
                os.setpriority(os.PRIO_PROCESS, pid, NICE)
                self._polite_pid = pid


class ShadowChoice:
    """Says which candidate should run now. ``assignment`` gives the newest accepted assignment, None before there is one.

    ``local`` is (model, card) of the board's own settings, None where there is none; ``stopping`` ends a download.
    """

    def __init__(
        self,
        local: tuple[Path, Path] | None,
        *,
        assignment: Callable[[], Assignment | None],
        fetch: Fetch,
        stopping: Callable[[], bool],
        now_s: Callable[[], float],
    ) -> None:
        self._local, self._assignment, self._fetch = local, assignment, fetch
        self._stopping, self._now_s = stopping, now_s

    def wanted(self) -> Candidate | None:
        """The candidate; opening it may fetch its files first."""
        assigned = self._assignment()
        if assigned is not None and assigned.role == "shadow" and assigned.bundle is not None:
            bundle, expires_s = assigned.bundle, assigned.expires_s
            return Candidate(bundle.sha256, bundle.release, lambda: self._open_assigned(bundle, expires_s))
        if self._local is not None:
            model, card = self._local
            return Candidate(f"{model}|{card}", f"{model.name} (this board's own setting)", lambda: PoliteDetector(model, card))
        return None

    def _open_assigned(self, bundle: AssignedBundle, expires_s: float) -> PoliteDetector:
        if expires_s <= self._now_s():
            raise NoCandidateError("expired", f"the assignment of the shadow {bundle.release} has expired")
        found = self._fetch(bundle, lambda: self._stopping() or self._overtaken(bundle))
        if isinstance(found, Refusal):
            raise NoCandidateError(found.code, found.detail)
        return PoliteDetector(found.model, found.card)

    def _overtaken(self, bundle: AssignedBundle) -> bool:
        now = self._assignment()
        return now is None or now.role != "shadow" or now.bundle is None or now.bundle.sha256 != bundle.sha256
