"""The gates of a rollout: from what is known now, what is to be done next. Pure; doing it twice changes nothing more.

The denominator of a stage are the devices that were offered the release while online. Devices that were offline before they began
are shown apart and block nothing; a device that fell silent after it began to download is lost, and that is a failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

BEGUN = ("downloading", "verifying", "staging", "selftest", "trial")
"""The device works on it: it goes on even when the rollout pauses."""
NOT_BEGUN = ("offered", "waiting")
"""The device may know of it and has fetched nothing."""
UNOFFERED = ("pending", "pending_offline")
BAD = ("refused", "rolled_back", "lost")
ASIDE = ("superseded", "cancelled")
"""Ended without saying anything about the release."""
ENDED = ("committed", *BAD, *ASIDE)
TERMINAL = ("finished", "aborted", "superseded")
NAMED_IN_REASON = 3
"""How many failed devices a reason names before it says "and n more"."""


@dataclass(frozen=True, slots=True)
class Member:
    """One device of a rollout as it is known now."""

    device: str
    stage: int
    state: str
    online: bool
    silent_s: float
    """Since it was last heard in any way."""
    name: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What stops a rollout. ``max_failed`` per stage; None: none while fewer than ten were offered, then one in twenty."""

    max_failed: int | None = None
    max_wait_s: float = 24 * 3600.0
    """A stage without enough evidence after this long is held for a person."""
    deadline_s: float = 14 * 86400.0
    """A rollout that has not ended by then is aborted: every rollout ends."""
    lost_after_s: float = 600.0
    """max(10 min, 5 heartbeats), from contracts.md §6."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a rollout stands. ``stage`` is the last open one (from 0; -1 before the first).

    ``accepted``: failures per stage that a person has accepted by resuming.
    """

    state: str
    stage: int
    stages: int
    created_s: float
    stage_opened_s: float
    accepted: dict[int, int] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do: the rollout's new place, and devices whose state changes (each list holds device ids)."""

    state: str
    reason: str
    stage: int
    stage_opened_s: float
    offer: list[str] = field(default_factory=list)
    offline: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    withdraw: list[str] = field(default_factory=list)


def allowed_failures(offered: int, limits: Limits) -> int:
    """How many of the ``offered`` devices of one stage may fail."""
    if limits.max_failed is not None:
        return limits.max_failed
    return 0 if offered < 10 else offered // 20


def evaluate(now: Progress, members: Sequence[Member], limits: Limits, now_s: float) -> Step:
    """The next step of this rollout. Ended rollouts stay as they are."""
    if now.state in TERMINAL:
        return Step(now.state, now.reason, now.stage, now.stage_opened_s)
    lost = [one.device for one in members if one.state in BEGUN and not one.online and one.silent_s > limits.lost_after_s]
    states = {one.device: "lost" if one.device in set(lost) else one.state for one in members}
    if now_s - now.created_s > limits.deadline_s:
        reason = f"aborted by itself: no end within {_days(limits.deadline_s)}; before that: {now.reason or now.state}"
        return Step("aborted", reason, now.stage, now.stage_opened_s, lost=lost, withdraw=_of(states, NOT_BEGUN))
    breach = _breach(now, members, states, limits)
    if breach is not None:
        reason = now.reason if now.state == "paused" else breach
        return Step("paused", reason, now.stage, now.stage_opened_s, lost=lost, withdraw=_of(states, NOT_BEGUN))
    if now.state == "paused":
        return Step("paused", now.reason, now.stage, now.stage_opened_s, lost=lost, withdraw=_of(states, NOT_BEGUN))
    if now.state == "held":
        return Step("held", now.reason, now.stage, now.stage_opened_s, lost=lost)
    return _advance(now, members, states, limits, now_s, lost)


def _advance(
    now: Progress, members: Sequence[Member], states: dict[str, str], limits: Limits, now_s: float, lost: list[str]
) -> Step:
    stage, opened_s, offer, offline = now.stage, now.stage_opened_s, [], []
    if stage < 0:
        stage, opened_s = 0, now_s
    while True:
        for one in members:
            if one.stage > stage:
                continue
            state = states[one.device]
            if state in UNOFFERED and one.online:
                states[one.device] = "offered"
                offer.append(one.device)
            elif (state == "pending" or state in NOT_BEGUN) and not one.online:
                # It was offline, or fell silent before it began: nothing is known from it, and it holds nobody up.
                states[one.device] = "pending_offline"
                offline.append(one.device)
        missing = _missing_evidence(stage, members, states, now.accepted)
        if missing is not None:
            break
        if stage + 1 >= now.stages:
            return Step("finished", _summary(states), stage, opened_s, offer, offline, lost)
        stage, opened_s = stage + 1, now_s
    if now_s - opened_s > limits.max_wait_s:
        reason = f"held for a person: after {_days(limits.max_wait_s)} in stage {stage + 1}, {missing}"
        return Step("held", reason, stage, opened_s, offer, offline, lost)
    return Step("running", f"stage {stage + 1} of {now.stages}: {missing}", stage, opened_s, offer, offline, lost)


def _missing_evidence(stage: int, members: Sequence[Member], states: dict[str, str], accepted: dict[int, int]) -> str | None:
    """What the open stages still wait for, in words; None when the next one may open."""
    going = [one for one in members if one.stage <= stage and states[one.device] in (*NOT_BEGUN, *BEGUN)]
    if going:
        first = going[0]
        more = f" and {len(going) - 1} more" if len(going) > 1 else ""
        return f"waiting for {first.name or first.device} ({states[first.device]}){more}"
    here = [states[one.device] for one in members if one.stage == stage and states[one.device] not in ASIDE]
    if not here or "committed" in here or accepted.get(stage, 0) > 0:
        return None
    return f"none of its {len(here)} devices has committed yet; {here.count('pending_offline')} are offline"


def _breach(now: Progress, members: Sequence[Member], states: dict[str, str], limits: Limits) -> str | None:
    for stage in range(now.stage + 1):
        offered = [one for one in members if one.stage == stage and states[one.device] not in (*UNOFFERED, *ASIDE)]
        bad = [one for one in offered if states[one.device] in BAD]
        allowed = allowed_failures(len(offered), limits) + now.accepted.get(stage, 0)
        if len(bad) > allowed:
            named = "; ".join(_failure(one, states[one.device]) for one in bad[:NAMED_IN_REASON])
            more = f"; and {len(bad) - NAMED_IN_REASON} more" if len(bad) > NAMED_IN_REASON else ""
            return (
                f"paused by itself: {len(bad)} of {len(offered)} devices offered in stage {stage + 1} failed, "
                f"{allowed} may: {named}{more}"
            )
    return None


def _failure(one: Member, state: str) -> str:
    why = "fell silent after it began" if state == "lost" else one.detail
    code = f"({one.reason})" if one.reason and state != "lost" else ""
    return f"{one.name or one.device} {state.replace('_', ' ')}{code}" + (f": {why[:200]}" if why else "")


def _summary(states: dict[str, str]) -> str:
    committed = sum(1 for state in states.values() if state == "committed")
    offline = sum(1 for state in states.values() if state == "pending_offline")
    return f"{committed} of {len(states)} devices committed" + (
        f"; {offline} were offline and get it when they return" if offline else ""
    )


def _of(states: dict[str, str], wanted: tuple[str, ...]) -> list[str]:
    return [device for device, state in states.items() if state in wanted]


def _days(duration_s: float) -> str:
    if duration_s >= 2 * 86400:
        return f"{duration_s / 86400:.0f} days"
    return f"{duration_s / 3600:.0f} hours" if duration_s >= 7200 else f"{duration_s:.0f} s"
