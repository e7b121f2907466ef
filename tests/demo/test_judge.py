"""The judge believes the operator API alone: each promise that was not kept makes its own step fail, and no other."""

import copy
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo"


@pytest.fixture(scope="module")
def judge_module() -> Any:
    sys.path.insert(0, str(DEMO))
    try:
        yield importlib.import_module("judge")
    finally:
        sys.path.remove(str(DEMO))


def true_story() -> dict[str, Any]:
    """Evidence of a run in which everything was true."""
    names = {"a": "rpi-5", "b": "rpi-4-coral-usb", "c": "rpi-zero-2w"}
    devices, reports, logs, sessions = [], {}, {}, {}
    for number, (name, profile) in enumerate(names.items()):
        running = {"release": "yard@2", "variant": "cpu-float32" if name == "a" else "cpu-int8", "variant_reason": "why"}
        wanted, reason = ("edgetpu-usb", "no library") if name == "b" else ("none", "")
        accelerator = {"wanted": wanted, "running": "cpu", "reason": reason}
        certificate = {"serial": str(number), "key_sha256": f"k{number}"}
        devices.append({
            "id": f"d-{name}", "name": name, "profile": profile, "state": "online", "runtime": "litert 2", "running": running,
            "accelerator": accelerator, "certificate": certificate, "heartbeat": {"v": 1}, "log_level": "info",
        })  # fmt: skip
        told = [("yard@2", state, "") for state in ("verifying", "selftest", "trial", "committed")]
        told += [("yard@5", "refused", "hash"), ("yard@6", "refused", "signature")]
        if name == "a":
            told += [("yard@3", "refused", "acceptance"), ("yard@4", "rolled_back", "detection_rate")]
        figures = {"trial_gated_frames": 60.0}
        reports[f"d-{name}"] = [
            {"target": target, "state": state, "reason": reason, "figures": figures, "behaviour_unseen": False}
            for target, state, reason in told
        ]
        logs[f"d-{name}"] = [{"session": "s1", "level": "debug", "at_s": 50.0}] if name == "a" else []
        sessions[f"d-{name}"] = [{"id": "s1", "until_s": 100.0}] if name == "a" else []
    counts = {"committed": 0, "refused": 0, "rolled_back": 0}
    rollouts = [
        {"id": "r2", "release": "yard@2", "state": "finished", "stages": [1, 2], "counts": {**counts, "committed": 3}},
        {"id": "r3", "release": "yard@3", "state": "superseded", "stages": [1, 2], "counts": {**counts, "refused": 1}},
        {"id": "r4", "release": "yard@4", "state": "paused", "stages": [1, 2], "counts": {**counts, "rolled_back": 1}},
    ]
    crop = {"url": "/x", "verdict": {"label": "person", "score": 0.9, "agrees": True}}
    return {
        "devices": devices, "reports": reports, "rollouts": rollouts, "logs": logs, "debug_sessions": sessions,
        "detections": [{"device_name": name, "zone": "yard", "track": 1, "crops": [copy.deepcopy(crop)]} for name in names],
        "said_of_tampering": {
            release: [{"device": name, "reason": reason, "page": f"{release} refused({reason})", "cli": f"{release} {reason}"}
                      for name in names]
            for release, reason in (("yard@5", "hash"), ("yard@6", "signature"))
        },
        "claims": [{"state": "used", "device": f"d-{name}"} for name in names],
        "impossible": "no variant fits: cpu: too small",
        "alerts": [{"kind": "rollout_paused", "subject": "r3"}, {"kind": "rollout_paused", "subject": "r4"}],
        "overview": {"bytes_sent": 1, "bytes_baseline_gated_jpeg": 9}, "now_s": 200.0,
    }  # fmt: skip


def verdict(judge: Any, story: dict[str, Any]) -> list[str]:
    """Names of the steps that were not true."""
    expected = judge.Expectation(
        profiles={"a": "rpi-5", "b": "rpi-4-coral-usb", "c": "rpi-zero-2w"}, missing_accelerators=frozenset({"b"}),
        good="yard@2", impossible="d", refused={"yard@3": "acceptance"}, rolled_back={"yard@4": "detection_rate"},
        tampered={"yard@5": "hash", "yard@6": "signature"}, debugged="a",
    )  # fmt: skip
    return [step.name for step in judge.judge(judge.Evidence(**story), expected) if not step.ok]


def test_a_true_story_is_believed(judge_module: Any) -> None:
    assert verdict(judge_module, true_story()) == []


def spoil(story: dict[str, Any], how: str) -> None:
    devices, rollouts = story["devices"], {rollout["release"]: rollout for rollout in story["rollouts"]}
    match how:
        case "a device is missing":
            devices.pop()
        case "two devices share a certificate":
            devices[1]["certificate"]["serial"] = devices[0]["certificate"]["serial"]
        case "the missing delegate is not explained":
            devices[1]["accelerator"]["reason"] = devices[1]["running"]["variant_reason"] = ""
        case "all run one variant":
            devices[0]["running"]["variant"] = "cpu-int8"
        case "a device saw nothing":
            story["detections"].pop()
        case "a crop was never delivered":
            story["detections"][0]["crops"] = []
        case "release 2 did not reach all":
            rollouts["yard@2"]["counts"]["committed"] = 2
        case "release 2 skipped its self-test":
            story["reports"]["d-a"] = [one for one in story["reports"]["d-a"] if one["state"] != "selftest"]
        case "boxes was committed":
            rollouts["yard@3"]["counts"]["committed"] = 1
        case "night was refused for another reason":
            story["reports"]["d-a"][-1]["reason"] = "frame_rate"
        case "a person paused the rollout":
            story["alerts"].pop()
        case "one device took the torn file":
            story["reports"]["d-c"] = [one for one in story["reports"]["d-c"] if one["target"] != "yard@5"]
        case "why-not is silent":
            story["said_of_tampering"]["yard@6"][0]["reason"] = ""
        case "the page hides the reason":
            story["said_of_tampering"]["yard@5"][1]["page"] = "yard@5 is wanted"
        case "the command line hides the reason":
            story["said_of_tampering"]["yard@5"][1]["cli"] = "yard@5 is wanted"
        case "two devices share a key":
            devices[1]["certificate"]["key_sha256"] = devices[0]["certificate"]["key_sha256"]
        case "a device came without a claim":
            story["claims"][0]["state"] = "unused"
        case "the impossible board was told nothing":
            story["impossible"] = "it said nothing"
        case "a trial saw nothing":
            story["reports"]["d-b"][3]["behaviour_unseen"] = True
        case "a trial saw too little":
            story["reports"]["d-b"][3]["figures"] = {"trial_gated_frames": 9.0}
        case "a device left release 2":
            devices[2]["running"]["release"] = "yard@6"
        case "the level never fell":
            devices[0]["log_level"] = "debug"
        case "debug went on after the session":
            story["logs"]["d-a"].append({"session": None, "level": "debug", "at_s": 150.0})
        case "no debug line came":
            story["logs"]["d-a"] = []
        case "a crop has no verdict":
            story["detections"][0]["crops"][0]["verdict"] = None


@pytest.mark.parametrize(
    ("how", "step"),
    [
        ("a device is missing", "enrolment"),
        ("two devices share a certificate", "enrolment"),
        ("the missing delegate is not explained", "enrolment"),
        ("all run one variant", "enrolment"),
        ("a device saw nothing", "detection"),
        ("a crop was never delivered", "detection"),
        ("release 2 did not reach all", "better release"),
        ("release 2 skipped its self-test", "better release"),
        ("boxes was committed", "bad releases"),
        ("night was refused for another reason", "bad releases"),
        ("a person paused the rollout", "bad releases"),
        ("one device took the torn file", "tampering"),
        ("why-not is silent", "tampering"),
        ("the page hides the reason", "tampering"),
        ("the command line hides the reason", "tampering"),
        ("two devices share a key", "enrolment"),
        ("a device came without a claim", "enrolment"),
        ("the impossible board was told nothing", "enrolment"),
        ("a trial saw nothing", "better release"),
        ("a trial saw too little", "better release"),
        ("a device left release 2", "tampering"),
        ("the level never fell", "remote log"),
        ("debug went on after the session", "remote log"),
        ("no debug line came", "remote log"),
        ("a crop has no verdict", "second look"),
    ],
)
def test_each_broken_promise_is_named(judge_module: Any, how: str, step: str) -> None:
    """The demo's exit code is worth nothing unless its judge can say no."""
    story = true_story()
    spoil(story, how)
    assert step in verdict(judge_module, story)


def test_an_answer_that_lacks_a_field_is_a_failure_and_no_crash(judge_module: Any) -> None:
    story = true_story()
    del story["devices"][0]["certificate"]
    assert "enrolment" in verdict(judge_module, story)
