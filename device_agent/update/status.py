"""Where an update part stands, for heartbeat, ``doctor`` and the log. Pure."""

from dataclasses import dataclass

from device_agent.update.deployment import Deployment
from device_agent.update.installed import Running
from device_agent.update.why_not import Situation, sentences
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment


@dataclass(frozen=True, slots=True)
class Status:
    """For heartbeat, ``doctor`` and the log. ``state`` is that of the present or last deployment, idle without one."""

    state: str
    reason: str
    detail: str
    target: str
    running: Running | None
    wanted: str
    sentences: list[str]


def status_of(
    deployment: Deployment | None,
    assignment: Assignment | None,
    wanted: AssignedBundle | None,
    running: Running | None,
    *,
    now_s: float,
    refused_answer: Refusal | None,
    trial_note: str,
    state_note: str,
    failing: str = "",
) -> Status:
    """The status, with the reasons in sentences (see ``why_not.Situation`` for what the notes are).

    ``failing``: why the state cannot be written down now; it is the reason then, whatever the deployment's own was.
    """
    situation = Situation(
        now_s=now_s,
        running="" if running is None else running.release,
        running_sha256=None if running is None else running.sha256,
        wanted=wanted,
        expires_s=None if assignment is None else assignment.expires_s,
        deployment=deployment,
        refused_answer=refused_answer,
        trial_note=trial_note,
        state_note=state_note,
    )
    return Status(
        state="idle" if deployment is None else deployment.state,
        reason="disk" if failing else "" if deployment is None else deployment.reason,
        detail=failing or ("" if deployment is None else deployment.detail),
        target="" if deployment is None else deployment.bundle.release,
        running=running,
        wanted="" if wanted is None else wanted.release,
        sentences=[*([failing] if failing else []), *sentences(situation)],
    )
