"""What the newest assignment wants, against what runs and what was tried: the decisions before and beside a deployment. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from device_agent.update.deployment import Deployment, Event
from device_agent.update.states import STATES
from ota.wire.assignments import AssignedBundle, Assignment
from ota.wire.deployments import FAULTS, RELEASE

MODEL_FAULTS = frozenset(code for code, fault in FAULTS.items() if fault == RELEASE)
"""Faults of the release itself: it is not tried again until something else was wanted in between.

An assignment is signed anew every few hours and for every debug session: a new digest alone must not bring a blind model back.
Every other refusal (line, disk, store, metadata, policy, board) may have passed: it is tried again for a new digest.
"""


def to_run(assignment: Assignment) -> AssignedBundle | None:
    """The bundle that an assignment wants to run here; None keeps what runs, as for a shadow, which runs beside it."""
    return None if assignment.role == "shadow" else assignment.bundle


def agent_to_run(assignment: Assignment) -> AssignedBundle | None:
    """The agent release that an assignment wants here; None keeps the agent that runs."""
    return assignment.agent


@dataclass(frozen=True, slots=True)
class Part:
    """What of the board an updater keeps: its name for people, and which bundle of an assignment is its own."""

    name: str
    wanted: Callable[[Assignment], AssignedBundle | None]


MODEL = Part("model", to_run)
AGENT = Part("agent", agent_to_run)


def busy_with(deployment: Deployment | None) -> str:
    """The words of a deployment for which another updater waits; empty where there is none, or where it waits itself.

    One that waits touches nothing, and asks again before it begins: two that wait for each other would wait for ever.
    """
    if deployment is None or deployment.state in ("idle", "waiting"):
        return ""
    return f"{deployment.bundle.release} goes first: {deployment.state}"


def interrupting(deployment: Deployment, wanted: AssignedBundle | None, running_sha256: str | None) -> Event | None:
    """The event by which the newest assignment ends this deployment, or None while it still wants the same."""
    if STATES[deployment.state].ended or deployment.state == "idle":
        return None
    if wanted is None:
        # "Keep what runs": a release on trial runs.
        return None if deployment.state == "trial" else Event(kind="withdrawn", detail="the assignment names no release any more")
    if wanted.sha256 == deployment.bundle.sha256:
        return None
    if deployment.state != "trial" and wanted.sha256 == running_sha256:
        return Event(kind="withdrawn", detail=f"{wanted.release} is wanted, which runs already")
    return Event(kind="newer", reason="superseded", detail=f"{wanted.release} is wanted now")


def should_begin(
    assignment: Assignment,
    bundle: AssignedBundle | None,
    digest: str,
    last: Deployment | None,
    running_sha256: str | None,
    now_s: float,
) -> AssignedBundle | None:
    """``bundle`` (what the assignment wants here) where a deployment of it is to begin, or None.

    None: nothing wanted, running already, expired, or tried already.
    """
    if bundle is None or bundle.sha256 == running_sha256 or assignment.expires_s <= now_s:
        return None
    if last is None or last.bundle.sha256 != bundle.sha256:
        return bundle
    if last.state == "committed" or last.reason == "superseded" or last.state in ("superseded", "cancelled"):
        return bundle
    if last.reason in MODEL_FAULTS or last.assignment_digest == digest:
        return None
    return bundle
