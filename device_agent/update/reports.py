"""A deployment as the report that the server gets of it: one for every change of state. Pure."""

import hashlib
import logging
import math

from device_agent.update.deployment import Deployment
from device_agent.update.installed import Installed, Running
from device_agent.update.ports import Reports
from ota.trust.refusal import Refusal
from ota.wire.assignments import Assignment
from ota.wire.deployments import DeploymentReport

MAX_DETAIL_CHARS = 4000

log = logging.getLogger("rookery.update")


def report_of(deployment: Deployment, running: Running | None, now_s: float, part: str = "model") -> DeploymentReport:
    """What the deployment is now, what runs meanwhile, and everything that was measured. The spool gives it its number.

    ``part``: of the board; ``running`` is what runs of this part.
    """
    return DeploymentReport(
        sequence=0,
        kind=part,
        at_s=now_s,
        assignment_seq=deployment.assignment_seq,
        target_sha256=deployment.bundle.sha256,
        target=deployment.bundle.release,
        state=deployment.state,
        reason=deployment.reason,
        detail=deployment.detail[:MAX_DETAIL_CHARS],
        running_sha256=None if running is None else running.sha256,
        running="" if running is None else running.release,
        variant=deployment.variant.lower(),
        variant_reason=deployment.variant_reason[:MAX_DETAIL_CHARS],
        origin=deployment.origin,
        attempt=deployment.attempt,
        behaviour_unseen=deployment.behaviour_unseen,
        figures={name: value for name, value in deployment.figures.items() if math.isfinite(value)},
    )


def report_of_refused_answer(
    refusal: Refusal, assignment: Assignment | None, digest: str, running: Running | None, now_s: float
) -> DeploymentReport:
    """An answer of the server that was not believed. What it names is shown as named: nothing was acted upon.

    ``assignment`` is what it said, unverified; where it cannot be read, ``digest`` (sha256 of its payload) stands for it.
    """
    bundle = None if assignment is None else assignment.bundle
    return DeploymentReport(
        sequence=0,
        at_s=now_s,
        assignment_seq=0 if assignment is None else assignment.seq,
        target_sha256=digest if bundle is None else bundle.sha256,
        target="(assignment)" if bundle is None else bundle.release,
        state="refused",
        reason=refusal.code,
        detail=refusal.detail[:MAX_DETAIL_CHARS],
        running_sha256=None if running is None else running.sha256,
        running="" if running is None else running.release,
    )


def report_of_refused_policy(refusal: Refusal, path: str, running: Running | None, now_s: float) -> DeploymentReport:
    """A policy target that this board follows and did not take; the digest of its path stands for it."""
    return DeploymentReport(
        sequence=0,
        at_s=now_s,
        assignment_seq=0,
        target_sha256=hashlib.sha256(path.encode()).hexdigest(),
        target=path,
        state="refused",
        reason=refusal.code,
        detail=refusal.detail[:MAX_DETAIL_CHARS],
        running_sha256=None if running is None else running.sha256,
        running="" if running is None else running.release,
    )


def report_of_first_contact(running: Installed, *, factory: bool, now_s: float) -> DeploymentReport:
    """What a board runs that never reported: which variant and why. ``idle``: it was no deployment, so no rollout counts it."""
    return DeploymentReport(
        sequence=0,
        at_s=now_s,
        assignment_seq=0,
        target_sha256=running.sha256,
        target=running.release,
        state="idle",
        detail="it came with the board" if factory else "it ran when this board was enrolled",
        running_sha256=running.sha256,
        running=running.release,
        variant=running.variant.lower(),
        variant_reason=running.variant_reason[:MAX_DETAIL_CHARS],
        origin="factory" if factory else "server",
    )


def deliver(reports: Reports, report: DeploymentReport) -> None:
    """Hand a report to the spool; a spool that cannot keep it holds up no update, for the state itself is on the disk."""
    try:
        reports.put(report)
    except OSError as error:
        log.error("the report %s(%s) of %s is lost: %s", report.state, report.reason, report.target, error)
