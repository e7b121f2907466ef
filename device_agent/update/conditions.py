"""Why an update may not begin now, though it is wanted: each reason visible, with its end where that is known. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from device_agent.update.policy import Policy

DAY_MINUTES = 24 * 60


HEAT_GAP_C = 5.0
"""A board that was too hot must cool by so much before updates begin: one at the limit would begin and stop for ever."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """What must pass first. ``reason`` is inhibit, window, heat or metered; ``until_s`` (since 1970) None if unknown."""

    reason: str
    detail: str
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """What decides whether an update may begin: the time, the processor's heat, a lock file's text, what the line costs."""

    now_s: float
    temperature_c: float | None = None
    inhibited: str | None = None
    """Text of the inhibit lock; None when there is no such file."""
    was_hot: bool = False
    """Heat stood in the way when it was last asked."""
    metered_spent_bytes: int = 0
    """What updates fetched in this month; looked at where the policy says that the line is metered."""


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
    limit_c = policy.max_temp_c - (HEAT_GAP_C if moment.was_hot else 0.0)
    if moment.temperature_c is not None and moment.temperature_c > limit_c:
        return Blocked("heat", f"the processor is at {moment.temperature_c:.0f} °C, updates begin below {limit_c:.0f}")
    return over_budget(policy, moment.metered_spent_bytes, 1, moment.now_s)


def over_budget(policy: Policy, spent_bytes: int, needed_bytes: int, now_s: float) -> Blocked | None:
    """``metered`` where the line costs money and this month's budget does not hold what is needed; None where all is well."""
    if not policy.metered or needed_bytes <= 0:
        return None
    if policy.metered_bytes_per_month is None:
        return Blocked("metered", "the line is metered, and policy.toml names no metered_bytes_per_month: nothing is fetched")
    left_bytes = policy.metered_bytes_per_month - spent_bytes
    if needed_bytes <= left_bytes:
        return None
    detail = f"{max(0, left_bytes)} of {policy.metered_bytes_per_month} bytes are left this month, {needed_bytes} are needed"
    return Blocked("metered", f"the line is metered: {detail}", next_month_s(now_s))


def month_of(now_s: float) -> str:
    """The month in UTC, as 2026-11: a budget is one month's."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m")


def next_month_s(now_s: float) -> float:
    """Seconds since 1970 at which the next month begins in UTC."""
    now = datetime.fromtimestamp(now_s, UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp()


def _seconds_to_window(window: tuple[int, int], now_s: float) -> float:
    start, end = window
    minute = (now_s / 60.0) % DAY_MINUTES
    inside = start <= minute < end if start < end else (minute >= start or minute < end)
    return 0.0 if inside else ((start - minute) % DAY_MINUTES) * 60.0
