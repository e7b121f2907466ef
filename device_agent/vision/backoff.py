"""How long to wait before the next start of something that keeps failing. Pure."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """The first restart is at once; each further failure in a row doubles the wait from `first_s` to at most `longest_s`.

    `good_needed` successes in a row forget the failures.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    good_needed: int = 20
    _failures: int = field(default=0, init=False)
    _good: int = field(default=0, init=False)
    _not_before_s: float = field(default=float("-inf"), init=False)

    def failed(self, now_s: float) -> None:
        """It failed now."""
        self._failures += 1
        self._good = 0
        wait_s = 0.0 if self._failures == 1 else min(self.longest_s, self.first_s * 2.0 ** min(self._failures - 2, 20))
        self._not_before_s = now_s + wait_s

    def worked(self) -> None:
        """It answered."""
        if self._failures == 0:
            return
        self._good += 1
        if self._good >= self.good_needed:
            self._failures = self._good = 0

    def wait_s(self, now_s: float) -> float:
        """How long to wait still; 0 when it may be tried."""
        return max(0.0, self._not_before_s - now_s)
