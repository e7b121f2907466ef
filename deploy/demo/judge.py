"""What was true? Computed afterwards from the operator API alone: never from the driver's own return codes. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
STEP_NAMES = ("enrolment", "detection", "better release", "bad releases", "tampering", "remote log", "second look")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was read from the operator API after the story. ``reports`` and ``logs`` are by device id."""

    devices: Sequence[Record]
    claims: Sequence[Record]
    reports: Mapping[str, Sequence[Record]]
    rollouts: Sequence[Record]
    detections: Sequence[Record]
    logs: Mapping[str, Sequence[Record]]
    debug_sessions: Mapping[str, Sequence[Record]]
    said_of_tampering: Mapping[str, Sequence[Record]]
    """What API (``reason``), page and command line said of each device while a tampered release was wanted, by release."""
    alerts: Sequence[Record]
    overview: Record
    impossible: str
    """What the board that no variant fits was told."""
    now_s: float


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the story promised."""

    profiles: Mapping[str, str]
    """Device name -> board profile."""
    missing_accelerators: frozenset[str]
    """Names of devices whose accelerator must be reported as found but not usable."""
    good: str
    impossible: str = ""
    """Name of the board that no variant fits; empty when the story has none."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Release -> reason with which every device that tried it must have refused it."""
    rolled_back: Mapping[str, str] = field(default_factory=dict)
    tampered: Mapping[str, str] = field(default_factory=dict)
    """Release -> reason with which EVERY device must have refused it."""
    debugged: str = ""
    """Name of the device whose log level was raised."""
    verified: bool = True
    variants: int = 2
    min_gated_frames: int = 50
    """Frames with motion that a trial must have seen before its commit counts."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the story: whether it was true, and the figures or the first thing that was not."""

    name: str
    ok: bool
    detail: str


class UntrueError(Exception):
    """A step was not true; the message says in which respect."""


def demand(condition: bool, what: str) -> None:
    """Raise UntrueError unless the condition holds."""
    if not condition:
        raise UntrueError(what)


def judge(evidence: Evidence, expected: Expectation) -> list[Step]:
    """All steps, in the order of the story."""
    checks: list[Callable[[Evidence, Expectation], str]] = [
        _enrolment, _detection, _better_release, _bad_releases, _tampering, _remote_log, _second_look,
    ]  # fmt: skip
    found = []
    for name, check in zip(STEP_NAMES, checks, strict=True):
        try:
            found.append(Step(name, True, check(evidence, expected)))
        except UntrueError as untrue:
            found.append(Step(name, False, str(untrue)))
        except (KeyError, TypeError, IndexError, StopIteration) as error:
            found.append(Step(name, False, f"the server's answer lacks what the step needs: {error!r}"))
    return found


def _enrolment(evidence: Evidence, expected: Expectation) -> str:
    by_name = {str(device["name"]): device for device in evidence.devices}
    demand(set(by_name) == set(expected.profiles), f"devices are {sorted(by_name)}, expected {sorted(expected.profiles)}")
    for name, profile in expected.profiles.items():
        device = by_name[name]
        demand(device["state"] == "online", f"{name} is {device['state']}")
        demand(device["profile"] == profile, f"{name} is a {device['profile']}, expected {profile}")
        demand(bool(device.get("running")), f"{name} does not say what it runs")
        demand(bool(device.get("runtime")), f"{name} does not say which runtime it has")
    for what in ("serial", "key_sha256"):
        distinct = {str(device["certificate"][what]) for device in evidence.devices}
        demand(len(distinct) == len(by_name), f"devices share a certificate's {what}")
    used = {str(claim["device"]) for claim in evidence.claims if claim["state"] == "used"}
    demand({str(device["id"]) for device in evidence.devices} <= used, "a device stands in the inventory without a used claim")
    for name in expected.missing_accelerators:
        accelerator = by_name[name]["accelerator"]
        reason = str(accelerator.get("reason") or by_name[name]["running"].get("variant_reason") or "")
        demand(str(accelerator["wanted"]).startswith("edgetpu"), f"{name}: the accelerator was not found")
        demand(accelerator["running"] == "cpu" and bool(reason), f"{name}: no reason why the accelerator is not used")
    if expected.impossible:
        demand(
            "no variant fits" in evidence.impossible,
            f"{expected.impossible} was not told that no variant fits: {evidence.impossible}",
        )
    variants = {str(device["running"]["variant"]) for device in evidence.devices}
    demand(len(variants) >= expected.variants, f"all devices run the same variant: {sorted(variants)}")
    return ", ".join(f"{name}: {by_name[name]['profile']} runs {by_name[name]['running']['variant']}" for name in sorted(by_name))


def _detection(evidence: Evidence, expected: Expectation) -> str:
    events = Counter(str(event["device_name"]) for event in evidence.detections)
    crops = Counter(str(event["device_name"]) for event in evidence.detections for crop in event["crops"] if crop.get("url"))
    for device in evidence.devices:
        name = str(device["name"])
        demand(events[name] > 0, f"{name} raised no event")
        demand(crops[name] > 0, f"no crop of {name} reached the blob store")
        demand(bool(device.get("heartbeat")), f"no heartbeat of {name} arrived")
    demand(all(event.get("zone") for event in evidence.detections), "an event names no zone")
    demand(all(int(event["track"]) > 0 for event in evidence.detections), "an event belongs to no track")
    return f"{sum(events.values())} events, {sum(crops.values())} crops"


def _reports(evidence: Evidence, release: str) -> dict[str, list[Record]]:
    return {device: [report for report in reports if report["target"] == release] for device, reports in evidence.reports.items()}


def _rollout(evidence: Evidence, release: str) -> Record:
    found = [rollout for rollout in evidence.rollouts if rollout["release"] == release]
    demand(bool(found), f"there is no rollout of {release}")
    return found[0]


def _ends(reports: Sequence[Record], state: str, reason: str) -> bool:
    return any(report["state"] == state and report["reason"] == reason for report in reports)


def _better_release(evidence: Evidence, expected: Expectation) -> str:
    rollout = _rollout(evidence, expected.good)
    devices = len(expected.profiles)
    demand(
        rollout["counts"]["committed"] == devices,
        f"{rollout['counts']['committed']} of {devices} devices committed {expected.good}",
    )
    demand(rollout["state"] == "finished", f"the rollout of {expected.good} is {rollout['state']}: {rollout.get('reason')}")
    demand(len(rollout["stages"]) > 1, f"{expected.good} went out in one stage")
    for device, reports in _reports(evidence, expected.good).items():
        states = [report["state"] for report in reports]
        for state in ("verifying", "selftest", "trial", "committed"):
            demand(state in states, f"device {device} never reported {state} for {expected.good}")
        last = next(report for report in reports if report["state"] == "committed")
        demand(not last.get("behaviour_unseen"), f"device {device} committed {expected.good} with its behaviour unseen")
        gated = float(last["figures"].get("trial_gated_frames", 0))
        demand(
            gated >= expected.min_gated_frames, f"device {device} committed {expected.good} after {gated:.0f} frames with motion"
        )
    return f"{expected.good} committed on {devices} devices in {len(rollout['stages'])} stages"


def _bad_releases(evidence: Evidence, expected: Expectation) -> str:
    said = []
    for fates, state in ((expected.refused, "refused"), (expected.rolled_back, "rolled_back")):
        for release, reason in fates.items():
            rollout = _rollout(evidence, release)
            demand(rollout["counts"]["committed"] == 0, f"{release} was committed on a device")
            demand(rollout["counts"][state] > 0, f"{release} was {state} on no device: {dict(rollout['counts'])}")
            tried = {device: reports for device, reports in _reports(evidence, release).items() if reports}
            demand(bool(tried), f"no device reported on {release}")
            for device, reports in tried.items():
                demand(_ends(reports, state, reason), f"device {device} did not end {release} with {state}({reason})")
            paused = [
                alert for alert in evidence.alerts if alert["kind"] == "rollout_paused" and alert["subject"] == rollout["id"]
            ]
            demand(bool(paused), f"the rollout of {release} did not pause by itself: it is {rollout['state']}")
            said.append(f"{release} {state}({reason})")
    return ", ".join(said) or "no bad release in this story"


def _tampering(evidence: Evidence, expected: Expectation) -> str:
    for release, reason in expected.tampered.items():
        for name, reports in _reports(evidence, release).items():
            demand(_ends(reports, "refused", reason), f"device {name} did not refuse {release} with refused({reason})")
        answers = evidence.said_of_tampering.get(release, ())
        demand(len(answers) == len(expected.profiles), f"why-not was not asked of every device about {release}")
        for answer in answers:
            demand(answer["reason"] == reason, f"why-not of {answer['device']} says {answer['reason']!r} about {release}")
            for where in ("page", "cli"):
                told = reason in str(answer[where]) and release in str(answer[where])
                demand(told, f"the {where} of {answer['device']} does not say {reason} about {release}")
    for device in evidence.devices:
        demand(device["running"]["release"] == expected.good, f"{device['name']} runs {device['running']['release']}")
    said = [f"{release} refused({reason}) on every device" for release, reason in expected.tampered.items()]
    return ", ".join(said) or "no tampered release in this story"


def _remote_log(evidence: Evidence, expected: Expectation) -> str:
    device = next(device for device in evidence.devices if device["name"] == expected.debugged)
    sessions = evidence.debug_sessions[str(device["id"])]
    demand(bool(sessions), f"there was no debug session on {expected.debugged}")
    ids = {str(session["id"]) for session in sessions}
    lines = [line for line in evidence.logs[str(device["id"])] if line.get("session") in ids]
    details = [line for line in lines if line["level"] == "debug"]
    demand(bool(details), f"no debug line of {expected.debugged} arrived in its session")
    ended = max(float(session["until_s"]) for session in sessions)
    demand(evidence.now_s > ended, f"the session on {expected.debugged} is not over yet")
    demand(device["log_level"] == "info", f"the log level of {expected.debugged} is still {device['log_level']}")
    late = [line for line in evidence.logs[str(device["id"])] if line["level"] == "debug" and float(line["at_s"]) > ended + 5]
    demand(not late, f"{expected.debugged} went on at debug level after its session")
    return f"{len(details)} debug lines from {expected.debugged}; back to {device['log_level']} by itself"


def _second_look(evidence: Evidence, expected: Expectation) -> str:
    if not expected.verified:
        return "no verifier for this material"
    crops = [crop for event in evidence.detections for crop in event["crops"] if crop.get("url")]
    verdicts = [crop["verdict"] for crop in crops if crop.get("verdict")]
    demand(bool(crops), "there was no crop to look at")
    demand(len(verdicts) == len(crops), f"{len(crops) - len(verdicts)} of {len(crops)} crops have no verdict")
    agreeing = sum(bool(verdict.get("agrees")) for verdict in verdicts)
    return f"{len(verdicts)} verdicts, {agreeing} agree with the edge"


def release_rows(evidence: Evidence, expected: Expectation, name: str) -> list[dict[str, Any]]:
    """``releases`` of the result file: what became of each release, from the devices' reports."""
    rows = []
    wanted = [expected.good, *expected.refused, *expected.rolled_back, *expected.tampered]
    for release in wanted:
        ends: Counter[str] = Counter()
        for reports in _reports(evidence, release).values():
            ends.update({report["state"] for report in reports} & {"committed", "refused", "rolled_back"})
        rows.append({
            "name": name, "version": release.partition("@")[2],
            "committed": ends["committed"], "refused": ends["refused"], "rolled_back": ends["rolled_back"],
        })  # fmt: skip
    return rows
