"""What the newest assignment wants, against what runs and what was tried: the decisions before and beside a deployment. Pure."""

from device_agent.update.deployment import Deployment, Event
from device_agent.update.states import STATES
from ota.wire.assignments import AssignedBundle, Assignment

MODEL_FAULTS = frozenset(
    {
        "format", "parity", "acceptance", "budget", "model", "detection_rate", "frame_rate", "latency", "crashes", "boots",
    }
)  # fmt: skip
"""Faults of the release itself: it is not tried again until something else was wanted in between.

An assignment is signed anew every few hours and for every debug session: a new digest alone must not bring a blind model back.
Every other refusal (line, disk, store, metadata, policy, board) may have passed: it is tried again for a new digest.
"""


def to_run(assignment: Assignment) -> AssignedBundle | None:
    """The bundle that an assignment wants to run here; None keeps what runs, as for a shadow, which runs beside it."""
    return None if assignment.role == "shadow" else assignment.bundle


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
    assignment: Assignment, digest: str, last: Deployment | None, running_sha256: str | None, now_s: float
) -> AssignedBundle | None:
    """The bundle to begin a deployment for, or None: nothing wanted, running already, expired, or tried already."""
    bundle = to_run(assignment)
    if bundle is None or bundle.sha256 == running_sha256 or assignment.expires_s <= now_s:
        return None
    if last is None or last.bundle.sha256 != bundle.sha256:
        return bundle
    if last.state == "committed" or last.reason == "superseded" or last.state in ("superseded", "cancelled"):
        return bundle
    if last.reason in MODEL_FAULTS or last.assignment_digest == digest:
        return None
    return bundle
