"""Why this device does not run what is wanted, in sentences for a person. Pure."""

from dataclasses import dataclass

from device_agent.update.deployment import Deployment
from device_agent.update.states import STATES
from device_agent.update.wanted import MODEL_FAULTS
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle
from ota.wire.deployments import REASONS


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known on the device at ``now_s``. ``refused_answer`` is the newest answer of the server that was not believed."""

    now_s: float
    running: str
    running_sha256: str | None
    wanted: AssignedBundle | None
    expires_s: float | None
    deployment: Deployment | None
    refused_answer: Refusal | None = None
    trial_note: str = ""
    state_note: str = ""


def sentences(now: Situation) -> list[str]:
    """The reasons, the most immediate first; one sentence that all is well where there are none."""
    said = []
    if now.state_note:
        said.append(now.state_note)
    if now.refused_answer is not None:
        said.append(f"The server's last answer was refused ({now.refused_answer.code}): {now.refused_answer.detail}.")
    running = now.running or "nothing"
    if now.wanted is None:
        return [*said, f"No release is assigned to this device; it runs {running}."]
    if now.wanted.sha256 == now.running_sha256 and (now.deployment is None or now.deployment.state != "trial"):
        return [*said, f"It runs {running}, as it should."]
    deployment = now.deployment
    if deployment is not None and deployment.bundle.sha256 == now.wanted.sha256:
        said += _of_deployment(deployment, running, now)
    else:
        said.append(f"{now.wanted.release} is wanted and has not been begun yet; {running} runs.")
    if now.expires_s is not None and now.expires_s <= now.now_s:
        past_s = now.now_s - now.expires_s
        said.append(f"The assignment expired {past_s:.0f} s ago: nothing new is installed until the server renews it.")
    return said


def _of_deployment(deployment: Deployment, running: str, now: Situation) -> list[str]:
    release = deployment.bundle.release
    meaning = REASONS.get(deployment.reason, deployment.reason)
    because = f"{meaning}: {deployment.detail}" if deployment.detail else meaning
    if deployment.state == "waiting":
        until = deployment.until_s
        end = f", until about {max(0.0, until - now.now_s):.0f} s from now" if until is not None else ""
        since = max(0.0, now.now_s - deployment.entered_at_s)
        return [f"{release} waits since {since:.0f} s ({because}){end}."]
    if deployment.state == "trial":
        return [f"{release} is on trial since {deployment.in_state_s:.0f} s: {now.trial_note or 'nothing was judged yet'}."]
    if not STATES[deployment.state].ended:
        return [f"{release} is being installed: {deployment.state} ({STATES[deployment.state].meaning})."]
    ended = deployment.state.replace("_", " ")
    said = [f"{release} was {ended} ({deployment.reason or 'no reason'}): {because}. {running} runs."]
    if deployment.variant_reason and deployment.reason == "variant":
        said.append(f"Variants: {deployment.variant_reason}.")
    if deployment.state in ("refused", "rolled_back"):
        faulty = deployment.reason in MODEL_FAULTS
        again = "until another release was wanted in between" if faulty else "until the server renews the assignment"
        said.append(f"It is not tried again {again}.")
    return said
