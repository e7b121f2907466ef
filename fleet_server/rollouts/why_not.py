"""Why a device does not run what is wanted: the rules, each evaluated, and what they come to in sentences. Pure."""

from dataclasses import dataclass

from fleet_server.rollouts.gates import BEGUN
from ota.wire.deployments import REASONS


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it was evaluated for this device."""

    rule: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one device and what it should run; empty strings where there is nothing."""

    device: str
    name: str
    wanted: str
    """Release that the newest rollout (or the standing target) means for it."""
    wanted_sha256: str
    running: str
    running_sha256: str
    online: bool
    silent_s: float | None
    revoked: bool
    held: str
    """Why the device is held back (a cloned card), or empty."""
    yanked: bool
    variant_problem: str
    rollout: str
    rollout_state: str
    rollout_reason: str
    stage: int
    open_stage: int
    state: str
    """State of the device in the rollout, else its last reported deployment state."""
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class WhyNot:
    """The answer for its model; ``sentences`` speak of its agent, too, where one is wanted, and ``agent`` has that alone."""

    device: str
    wanted: str | None
    running: str | None
    state: str
    reason: str
    sentences: list[str]
    rules: list[Rule]
    agent: "WhyNot | None" = None


def why_not(case: Case) -> WhyNot:
    """The rules in the order in which they bind, and sentences for those that fail."""
    rules = _rules(case)
    runs_it = bool(case.wanted_sha256) and case.running_sha256 == case.wanted_sha256
    if not case.wanted:
        sentences = [
            f"{case.name} runs {case.running or 'nothing that it has reported'}; no rollout or experiment wants anything else."
        ]
    elif runs_it:
        sentences = [f"{case.name} runs {case.wanted}, as wanted."]
    else:
        sentences = [f"{case.name} should run {case.wanted} and runs {case.running or 'nothing that it has reported'}."]
        sentences += [rule.detail[:1].upper() + rule.detail[1:] + "." for rule in rules if not rule.ok]
        if all(rule.ok for rule in rules):
            sentences.append(_under_way(case))
    return WhyNot(case.device, case.wanted or None, case.running or None, case.state, case.reason, sentences, rules)


def _rules(case: Case) -> list[Rule]:
    rules = [
        Rule("enrolled", not case.revoked, "its certificate is revoked" if case.revoked else "its certificate is accepted"),
        Rule("not held", not case.held, f"it is held back from updates: {case.held}" if case.held else "it is not held back"),
    ]
    if not case.wanted:
        return rules
    rules += [
        Rule("online", case.online, _heard(case)),
        Rule("release stands", not case.yanked, f"{case.wanted} is no longer in its channel's signed metadata" if case.yanked
             else f"{case.wanted} is in its channel's signed metadata"),
        Rule("a variant fits", not case.variant_problem, case.variant_problem or "the release has a variant for this board"),
    ]  # fmt: skip
    if case.rollout:
        open_now = case.stage <= case.open_stage
        going = case.rollout_state in ("running", "finished")
        ended = case.state in ("committed", "refused", "rolled_back")
        rules += [
            Rule("its stage is open", open_now, f"its stage {case.stage + 1} of rollout {case.rollout} "
                 + ("is open" if open_now else f"is not open yet; stage {case.open_stage + 1} is")),
            Rule("the rollout goes on", going or ended, f"rollout {case.rollout} is {case.rollout_state}"
                 + (f": {case.rollout_reason}" if case.rollout_reason and not going else "")),
        ]  # fmt: skip
    rules.append(Rule("the device took it", case.state not in ("refused", "rolled_back", "lost"), _outcome(case)))
    return rules


def _heard(case: Case) -> str:
    if case.online:
        return "it is online"
    if case.silent_s is None:
        return "it is offline and was never heard"
    return f"it is offline; last heard {case.silent_s:.0f} s ago"


def _outcome(case: Case) -> str:
    if case.state not in ("refused", "rolled_back", "lost"):
        return f"the device says {case.state or 'nothing yet'}" + (
            f": {case.detail}" if case.detail and case.state == "waiting" else ""
        )
    if case.state == "lost":
        return "it fell silent after it began to download"
    meaning = REASONS.get(case.reason, "")
    told = "; ".join(part for part in (meaning, case.detail) if part)
    verb = "refused it" if case.state == "refused" else "rolled it back"
    return f"the device {verb} ({case.reason})" + (f": {told}" if told else "")


def _under_way(case: Case) -> str:
    if case.state in BEGUN:
        return f"It is under way: {case.state}."
    if case.state == "waiting":
        told = "; ".join(part for part in (REASONS.get(case.reason, ""), case.detail) if part)
        return f"It waits before its next attempt ({case.reason or 'no reason given'})" + (f": {told}." if told else ".")
    if case.state == "committed":
        return "It committed the release and has not said yet that it runs."
    return "It was offered and has not begun; it asks at its next poll."
