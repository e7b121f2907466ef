"""The update machine: (deployment, event, now) -> (deployment, actions). Pure; ``states.TABLE`` decides, this file counts.

It adds to the table what a table cannot say: how often a class of failure may be tried again, how long a state may last, how many
restarts a state may see, and that every deployment ends.
"""

import msgspec

from device_agent.update.deployment import Deployment, Event, Step
from device_agent.update.states import STATES, row_for
from ota.wire.assignments import AssignedBundle

TRANSITION_LIMIT = 28
"""The loop breaker: an honest deployment with every retry spent stays below it."""
RETRY_BUDGET = {"download": 5, "disk": 3, "memory": 3, "hash": 1, "fault": 1}
"""How often each class of failure is tried again within one deployment; a class that is not here ends it at once."""
RETRY_FIRST_S = 5.0
RETRY_FACTOR = 3.0
RETRY_LONGEST_S = 1800.0
HOOK_ASKS = 340
"""How often a hook may say "not now": a week of half hours. Each asking is no transition, for nothing goes in circles."""
HOOK_FIRST_S = 60.0
BOOT_LIMITS = {"trial": 3, "selftest": 3}
"""How many restarts a state survives. In the others a restart costs nothing but a transition."""


def begin(seq: int, digest: str, bundle: AssignedBundle, now_s: float, origin: str = "server") -> Deployment:
    """A deployment that has not begun."""
    return Deployment(
        assignment_seq=seq, assignment_digest=digest, bundle=bundle, origin=origin, started_at_s=now_s, entered_at_s=now_s
    )


def step(deployment: Deployment, event: Event, now_s: float) -> Step:
    """What the event makes of the deployment; raises UnknownEventError (naming state and event) where the table has no row."""
    event, deployment = _decide(deployment, event, now_s)
    row = row_for(deployment.state, event.kind)
    if event.kind == "settled":
        done = {**event.learned, "settled": True}
        return Step(deployment=msgspec.structs.replace(deployment, **done), actions=())
    spent = deployment.transitions >= TRANSITION_LIMIT and event.kind != "interrupted"
    if spent and not STATES[row.next].ended:
        event = _end(deployment, "loop", f"{deployment.transitions} transitions without an end")
        row = row_for(deployment.state, event.kind)
    changes = {**_entered(deployment, row.next, event, now_s), **event.learned}
    return Step(deployment=msgspec.structs.replace(deployment, **changes), actions=row.actions)


def age(deployment: Deployment, passed_s: float) -> Deployment:
    """The deployment after ``passed_s`` seconds of running time in its state."""
    if passed_s <= 0 or STATES[deployment.state].ended:
        return deployment
    return msgspec.structs.replace(deployment, in_state_s=deployment.in_state_s + passed_s)


def overdue(deployment: Deployment) -> Event | None:
    """The event that ends a state which lasted too long, or None."""
    limit_s = STATES[deployment.state].deadline_s
    if limit_s is None or deployment.in_state_s <= limit_s:
        return None
    waited = f" for {deployment.reason}" if deployment.state == "waiting" else ""
    return _end(deployment, "deadline", f"{deployment.state}{waited} lasted longer than {limit_s:.0f} s")


def retry_wait_s(failures: int) -> float:
    """Seconds before the next attempt after this many failures of one class."""
    return float(min(RETRY_FIRST_S * RETRY_FACTOR ** max(0, failures - 1), RETRY_LONGEST_S))


def retry_over(deployment: Deployment, now_s: float) -> bool:
    """Whether the wait between two attempts is over."""
    if deployment.retry_at_s is None or now_s >= deployment.retry_at_s:
        return True
    # Bounded by running time too: a clock that was set back must not make a wait longer.
    return deployment.in_state_s >= deployment.retry_at_s - deployment.entered_at_s


def _decide(deployment: Deployment, event: Event, now_s: float) -> tuple[Event, Deployment]:
    """The event as the table knows it, and the deployment with what was counted."""
    if event.kind == "failed":
        return _classed(deployment, event, now_s)
    if event.kind == "interrupted" and not STATES[deployment.state].ended:
        deployment = msgspec.structs.replace(deployment, boots=deployment.boots + 1, transitions=deployment.transitions + 1)
        limit = BOOT_LIMITS.get(deployment.state)
        if limit is not None and deployment.boots > limit:
            detail = f"the agent was started {deployment.boots} times during {deployment.state}"
            return _end(deployment, "boots", detail), deployment
        if deployment.transitions >= TRANSITION_LIMIT:
            return _end(deployment, "loop", f"{deployment.transitions} transitions without an end"), deployment
    if event.kind == "blocked" and event.reason == "hook":
        return _asked(deployment, event, now_s)
    if event.kind == "newer" and deployment.state == "trial":
        event = msgspec.structs.replace(event, reason="superseded")
    return event, deployment


def _asked(deployment: Deployment, event: Event, now_s: float) -> tuple[Event, Deployment]:
    """A hook's "not now": asked again after a minute, then two, … half an hour, and not for ever."""
    counted = msgspec.structs.replace(deployment, asked=deployment.asked + 1)
    if counted.asked > HOOK_ASKS:
        return _end(deployment, "hook", f"{event.detail} (asked {HOOK_ASKS} times)"), counted
    again_s = now_s + min(HOOK_FIRST_S * 2.0 ** min(deployment.asked, 10), RETRY_LONGEST_S)
    learned = {**event.learned, "retry_at_s": again_s}
    return msgspec.structs.replace(event, learned=learned, until_s=again_s), counted


def _classed(deployment: Deployment, event: Event, now_s: float) -> tuple[Event, Deployment]:
    """A failure as ``retry`` where its class and its budget allow it, else as the end."""
    budget = RETRY_BUDGET.get(event.reason, 0)
    failures = deployment.attempts.get(event.reason, 0) + 1
    if deployment.state not in ("offered", "downloading", "verifying", "staging") or budget == 0:
        return _end(deployment, event.reason, event.detail, event.figures, event.learned), deployment
    counted = msgspec.structs.replace(deployment, attempts={**deployment.attempts, event.reason: failures})
    if failures > budget:
        detail = f"{event.detail} (after {failures} attempts)" if failures > 1 else event.detail
        return _end(deployment, event.reason, detail, event.figures, event.learned), counted
    wait_s = retry_wait_s(failures)
    learned = {**event.learned, "retry_at_s": now_s + wait_s, "refetch": event.reason == "hash"}
    again = msgspec.structs.replace(event, kind="retry", learned=learned, until_s=now_s + wait_s)
    return again, counted


def _end(
    deployment: Deployment,
    reason: str,
    detail: str,
    figures: dict[str, float] | None = None,
    learned: dict[str, object] | None = None,
) -> Event:
    """The event that ends a deployment that cannot go on: a trial goes back, everything before it is refused."""
    kind = "bad" if deployment.state == "trial" else "refused"
    return Event(kind=kind, reason=reason, detail=detail, figures=figures or {}, learned=learned or {})


def _entered(deployment: Deployment, state: str, event: Event, now_s: float) -> dict[str, object]:
    """The fields that change on the way into ``state``."""
    same = state == deployment.state
    asking = event.kind == "ask" or (event.kind == "blocked" and event.reason == "hook")
    if same and event.kind == "interrupted":
        return {}
    return {
        "state": state,
        "reason": event.reason,
        "detail": event.detail,
        "entered_at_s": deployment.entered_at_s if same else now_s,
        "in_state_s": deployment.in_state_s if same else 0.0,
        "boots": deployment.boots if same else 0,
        "transitions": deployment.transitions + (0 if asking else 1),
        "retry_at_s": None,
        "until_s": event.until_s,
        "figures": {**deployment.figures, **event.figures},
        "behaviour_unseen": event.kind == "unseen",
    }
