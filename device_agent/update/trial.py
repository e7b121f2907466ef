"""Watches what the pipeline counts: into the device's history while a release is trusted, into the trial while one is not."""

from dataclasses import replace
from typing import Protocol

from device_agent.update.deployment import Event
from device_agent.update.health import HealthWindow, Trial, TrialLimits, add_window, judge
from device_agent.update.history import History, remember


class HistoryKeeper(Protocol):
    """Where the history is kept; ``history_disk.HistoryFile`` fits."""

    def load(self) -> History:
        """What was kept."""
        ...

    def keep(self, history: History, steady_s: float, *, now: bool = False) -> None:
        """Write it down, rarely, or ``now``."""
        ...


class TrialWatch:
    """One at a time; the caller holds the lock. Pure but for the keeper that it is given."""

    def __init__(self, keeper: HistoryKeeper, limits: TrialLimits) -> None:
        self._keeper, self._limits = keeper, limits
        self._history = keeper.load()
        self._trial = Trial()
        self._switched_s: float | None = None
        self.note = ""

    @property
    def history(self) -> History:
        """The device's own history."""
        return self._history

    @property
    def trial(self) -> Trial:
        """What was seen since the switch."""
        return self._trial

    def switched(self, steady_s: float) -> None:
        """A release on trial begins to answer (again): counting starts anew."""
        self._trial, self._switched_s, self.note = Trial(), steady_s, ""

    def add(self, window: HealthWindow, steady_s: float, *, trial: bool) -> None:
        """One more window that ended at ``steady_s``. One that began before the switch saw two models and counts for neither."""
        if self._switched_s is not None and steady_s - window.duration_s < self._switched_s - 0.001:
            return
        if trial:
            self._trial = add_window(self._trial, window)
        else:
            self._history = remember(self._history, window)
            self._keeper.keep(self._history, steady_s)

    def verdict(self, in_state_s: float, budget_ms: float | None) -> Event | None:
        """The event that the trial has come to, or None while it goes on (``note`` says what is missing)."""
        found = judge(self._trial, self._history.before(), replace(self._limits, budget_ms=budget_ms), in_state_s)
        self.note = found.reason
        kind = {"pass": "good", "fail": "bad", "unseen": "unseen"}.get(found.outcome)
        return None if kind is None else Event(kind=kind, reason=found.code, detail=found.reason, figures=found.figures)

    def keep(self, steady_s: float) -> None:
        """Write the history down now."""
        self._keeper.keep(self._history, steady_s, now=True)
