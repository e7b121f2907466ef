"""When to try again: decorrelated jitter by class of answer. Pure: randomness comes in as an argument."""

from dataclasses import dataclass

from device_agent.errors import AgentError, ServerUnavailableError, UntrustedServerError


@dataclass(frozen=True, kw_only=True)
class BackOff:
    """Waits of one sender, in seconds. ``previous_s`` is 0 after a success.

    Decorrelated jitter: the next wait is drawn from [base, 3 × previous], capped: a thousand devices that lost the same server
    do not come back in the same second.
    """

    base_s: float = 0.5
    cap_s: float = 300.0
    previous_s: float = 0.0

    def after_failure(self, draw: float, *, at_least_s: float = 0.0) -> "BackOff":
        """State after one more failure. ``draw`` is uniform in [0, 1); ``at_least_s`` is the server's Retry-After."""
        top = max(self.base_s, 3 * max(self.previous_s, self.base_s))
        wait = min(self.cap_s, self.base_s + draw * (top - self.base_s))
        # What the server asked for is honoured beyond the cap, spread by up to a quarter so that not all return at once.
        wait = max(wait, min(at_least_s, 3600.0) * (1 + draw / 4))
        return BackOff(base_s=self.base_s, cap_s=self.cap_s, previous_s=wait)

    def after_success(self) -> "BackOff":
        """State after a success: no wait."""
        return BackOff(base_s=self.base_s, cap_s=self.cap_s)

    @property
    def wait_s(self) -> float:
        """How long to wait before the next try."""
        return self.previous_s


def after_error(state: BackOff, error: AgentError, draw: float) -> BackOff:
    """The next wait by class of answer: an outage backs off from its base, a refusal waits longer (asking soon is useless)."""
    if isinstance(error, ServerUnavailableError):
        return state.after_failure(draw, at_least_s=error.retry_after_s or 0.0)
    if isinstance(error, UntrustedServerError):
        return state.after_failure(draw, at_least_s=5.0)
    return state.after_failure(draw, at_least_s=30.0)
