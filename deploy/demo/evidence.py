"""From the operator API to what the judge reads, and from the judge's word to the result file."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boards import BOARDS, IMPOSSIBLE
from judge import STEP_NAMES, Evidence, Expectation, Step, release_rows
from material import NAME, STORY
from stage import Stage
from story import Story


def gather(story: Story) -> Evidence:
    """Everything that the judge needs, read from the operator API now."""
    api = story.stage.api
    devices = story.devices()
    ids = [str(device["id"]) for device in devices]
    return Evidence(
        devices=devices,
        claims=api.items("/claims"),
        reports={one: api.items(f"/devices/{one}/reports") for one in ids},
        rollouts=[api.get(f"/rollouts/{rollout['id']}") for rollout in api.items("/rollouts")],
        detections=api.items("/detections", limit=1000),
        logs={one: api.get(f"/devices/{one}/logs", level="debug", limit=5000)["items"] for one in ids},
        debug_sessions={one: api.items(f"/devices/{one}/debug-sessions") for one in ids},
        said_of_tampering=story.said_of_tampering,
        alerts=api.items("/alerts"),
        overview=api.get("/overview"),
        impossible=story.stage.impossible,
        now_s=time.time(),
    )


def expectation(stage: Stage) -> Expectation:
    """What the story on this stage promised."""
    fates: dict[str, dict[str, str]] = {"refused": {}, "rolled_back": {}, "tampered": {}}
    for release in () if stage.own else STORY[2:]:
        state, _, reason = release.fate.rstrip(")").partition("(")
        group = "tampered" if reason in ("hash", "signature") else state
        fates[group][f"{NAME}@{release.version}"] = reason
    return Expectation(
        profiles={board.name: board.profile for board in BOARDS},
        missing_accelerators=frozenset(board.name for board in BOARDS if board.coral_usb),
        impossible="" if stage.own else IMPOSSIBLE.name,
        good=f"{NAME}@2",
        refused=fates["refused"],
        rolled_back=fates["rolled_back"],
        tampered=fates["tampered"],
        debugged=BOARDS[0].name,
        verified=not stage.own,
        variants=1 if stage.own else 2,
    )


def result(stage: Stage, steps: Sequence[Step], evidence: Evidence, duration_s: float) -> dict[str, Any]:
    """The result file's content."""
    crops = [crop for event in evidence.detections for crop in event["crops"] if crop.get("url")]
    return {
        "devices_enrolled": len(evidence.devices),
        "events": len(evidence.detections),
        "crops_delivered": len(crops),
        "verdicts": sum(bool(crop.get("verdict")) for crop in crops),
        "bytes_sent": evidence.overview["bytes_sent"],
        "bytes_baseline_gated_jpeg": evidence.overview["bytes_baseline_gated_jpeg"],
        "releases": release_rows(evidence, expectation(stage), NAME),
        "steps": [{"name": step.name, "ok": step.ok, "detail": step.detail} for step in steps],
        "duration_s": round(duration_s, 1),
    }


def nothing(why: str, duration_s: float) -> dict[str, Any]:
    """The result when there was no server to ask: no step was true."""
    counts = ("devices_enrolled", "events", "crops_delivered", "verdicts", "bytes_sent", "bytes_baseline_gated_jpeg")
    steps = [{"name": name, "ok": False, "detail": why} for name in STEP_NAMES]
    return {**dict.fromkeys(counts, 0), "releases": [], "steps": steps, "duration_s": round(duration_s, 1)}


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write the result file; it appears only when whole."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)
