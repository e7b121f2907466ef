"""How far a run has come, in a line for a terminal. Pure: the time comes in."""

MEASURED_S = 2.0
"""No estimate of what is left before so much time has been measured."""
BAR_CHARS = 24


class Progress:
    """Progress through `total` frames of a source, None where nobody knows how many there are."""

    def __init__(self, total: int | None, now_s: float) -> None:
        self._total = total if total and total > 0 else None
        self._began_s = now_s

    def line(self, done: int, now_s: float) -> str:
        """After so many frames: a bar, the measured rate, and what is left once that was measured."""
        passed_s = max(0.0, now_s - self._began_s)
        rate = done / passed_s if passed_s > 0 else 0.0
        said = f"frame {done}" + (f" of {self._total}" if self._total else "")
        if self._total:
            share = min(1.0, done / self._total)
            filled = round(share * BAR_CHARS)
            said = f"[{'#' * filled}{'.' * (BAR_CHARS - filled)}] {share:4.0%} {said}"
        if passed_s < MEASURED_S or done == 0:
            return said
        said += f", {rate:.1f} a second"
        left = self._total - done if self._total else 0
        return said + (f", {_clock(left / rate)} left" if left > 0 else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
