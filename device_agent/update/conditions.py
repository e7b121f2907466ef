"""Why an update may not begin now, though it is wanted: each reason visible, with its end where that is known. Pure."""

from dataclasses import dataclass

from device_agent.update.policy import Policy

DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Blocked:
    """What must pass first. ``reason`` is window, heat, inhibit, metered or disk; ``until_s`` (since 1970) None if unknown."""

    reason: str
    detail: str
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """What decides whether an update may begin: the time, the processor's heat, a lock file's text, a metered line."""

    now_s: float
    temperature_c: float | None = None
    inhibited: str | None = None
    """Text of the inhibit lock; None when there is no such file."""
    metered: bool = False
    """Not fed yet: no board tells it (see docs/update-states.md)."""


def blocked(policy: Policy, moment: Moment) -> Blocked | None:
    """The first thing that stands in the way, or None."""
    if moment.inhibited is not None:
        return Blocked("inhibit", f"an inhibit lock is held: {moment.inhibited.strip()[:200] or 'without a reason'}")
    if policy.window_utc is not None:
        wait_s = _seconds_to_window(policy.window_utc, moment.now_s)
        if wait_s > 0:
            start = policy.window_utc[0]
            detail = f"outside this board's update window, which opens at {start // 60:02d}:{start % 60:02d} UTC"
            return Blocked("window", detail, moment.now_s + wait_s)
    if moment.temperature_c is not None and moment.temperature_c > policy.max_temp_c:
        return Blocked("heat", f"the processor is at {moment.temperature_c:.0f} °C, updates begin below {policy.max_temp_c:.0f}")
    if moment.metered:
        return Blocked("metered", "the line is metered")
    return None


def _seconds_to_window(window: tuple[int, int], now_s: float) -> float:
    start, end = window
    minute = (now_s / 60.0) % DAY_MINUTES
    inside = start <= minute < end if start < end else (minute >= start or minute < end)
    return 0.0 if inside else ((start - minute) % DAY_MINUTES) * 60.0
