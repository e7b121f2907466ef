"""The story that the demo tells: chapter by chapter, through the command line and the operator API, on real processes."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from boards import BOARDS
from judge import Record
from material import NAME, STORY, DemoRelease
from processes import DemoError
from stage import Stage
from tamper import flip_byte

DEBUG_S = 60
WATCH_DEADLINE_S = 150
COMMITTED_OR_STOPPED = (0, 1, 6)
"""Exit codes of ``rookery rollout watch``: finished; paused with none committed; paused with some."""
ENDED = {"refused", "rolled_back", "committed"}


@dataclass(slots=True)
class Story:
    """The chapters. ``said_of_tampering`` keeps what API, page and command line said while a tampered release was wanted."""

    stage: Stage
    said_of_tampering: dict[str, list[Record]] = field(default_factory=dict)

    def tell(self) -> None:
        """All chapters; one that cannot be told raises DemoError."""
        stage, wait = self.stage, self.stage.processes.wait_until
        wait("three devices enrolled and running", lambda: len(self.running()) == len(BOARDS), 60)
        for device in self.devices():
            running, accelerator = device["running"], device["accelerator"]
            note = f" ({accelerator['reason']})" if accelerator.get("reason") else ""
            stage.say(f"  {device['name']}: {device['profile']}, {running['release']} variant {running['variant']}{note}")
        wait("an event with a crop from every device", self._all_seen, 60)
        stage.say("every device has seen somebody, and its crop is in the store")
        stage.cli.run("device", "debug", BOARDS[0].name, "--for", str(DEBUG_S), "--reason", "the demo reads a log from afar")
        stage.say(f"log level of {BOARDS[0].name} raised to debug for {DEBUG_S} s")
        self._roll("2")
        if not stage.own:
            self._roll("3-boxes")
            self._roll("4-night")
            self._tampered("5-torn", self._flip_content)
            self._tampered("6-forged", self._flip_metadata)
        self._read_log()
        self._second_looks()

    def devices(self) -> list[dict[str, Any]]:
        """All devices with all that is known of each, by name."""
        api = self.stage.api
        found = [api.get(f"/devices/{device['id']}") for device in api.items("/devices")]
        return sorted(found, key=lambda device: str(device["name"]))

    def running(self) -> list[dict[str, Any]]:
        """Devices that are online and say what they run."""
        return [device for device in self.devices() if device["state"] == "online" and device.get("running")]

    def _all_seen(self) -> bool:
        events = self.stage.api.get("/detections", limit=200)["items"]
        delivered = {event["device_name"] for event in events if any(crop.get("url") for crop in event["crops"])}
        return delivered >= {board.name for board in BOARDS}

    def _roll(self, version: str) -> None:
        stage = self.stage
        release = next(item for item in STORY if item.version == version)
        stage.push(stage.build(release))
        made = stage.cli.json("rollout", "create", f"{NAME}@{version}", "--group", "demo", "--stages", "33%,100%")
        why = "the same model once more, as a new release" if stage.own else release.why
        stage.say(f"rollout {made['id']} of {NAME}@{version}: {why}")
        watch = ["rollout", "watch", str(made["id"]), "--timeout", str(WATCH_DEADLINE_S)]
        status = stage.cli.follow(*watch, say=lambda line: stage.say(f"  {line}"))
        if status not in COMMITTED_OR_STOPPED:
            raise DemoError(f"rookery rollout watch {made['id']} ended with {status}")

    def _tampered(self, version: str, flip: Callable[[DemoRelease], Callable[[], None]]) -> None:
        stage, name = self.stage, f"{NAME}@{version}"
        release = next(item for item in STORY if item.version == version)
        stage.push(stage.build(release))
        restore = flip(release) if stage.options.broken != "tamper" else lambda: None
        try:
            every = ["--stages", "100%", "--max-failed", str(len(BOARDS))]
            made = stage.cli.json("rollout", "create", name, "--group", "demo", *every)
            stage.say(f"rollout {made['id']} of {name}: {release.why}")
            try:
                stage.processes.wait_until(f"the refusal of {name} by every device", lambda: self._ended_everywhere(name), 60)
            finally:
                self.said_of_tampering[name] = [self._said_at_rest(device) for device in self.devices()]
            for line in str(self.said_of_tampering[name][0]["cli"]).splitlines()[:3]:
                stage.say(f"  why-not {BOARDS[0].name}: {line}")
        finally:
            restore()

    def _said_at_rest(self, device: Record) -> Record:
        """What all three say while nothing moves: a device tries a torn release again when its debug session ends."""
        found: list[Record] = []

        def at_rest() -> bool:
            found.append(self._said(device))
            after = self.stage.api.get(f"/devices/{device['id']}/why-not")
            return found[-1]["state"] in ENDED and all(after[key] == found[-1][key] for key in ("state", "reason"))

        with contextlib.suppress(DemoError):  # it goes on moving: the judge shall see what is said of it meanwhile
            self.stage.processes.wait_until(f"the end of {device['name']}'s attempt", at_rest, 30)
        return found[-1]

    def _said(self, device: Record) -> Record:
        """What API, page and command line say of a device now."""
        api, cli = self.stage.api, self.stage.cli
        answer = api.get(f"/devices/{device['id']}/why-not")
        page = api.page(f"/devices/{device['id']}")
        return {
            "device": device["name"],
            "state": answer["state"],
            "reason": answer["reason"],
            "page": page,
            "cli": cli.run("device", "why-not", str(device["name"])),
        }

    def _flip_content(self, release: DemoRelease) -> Callable[[], None]:
        # A file that every variant needs and that devices keep no copy of by another release: this release's own card.
        bundle = self.stage.work / "releases" / f"{NAME}-{release.version}.rookery"
        card = json.loads(self.stage.cli.run("-o", "json", "bundle", "info", str(bundle)))["files"]["card.toml"]
        travels = card.get("packed") or card
        return flip_byte(self.stage.work / "server" / "tuf" / "targets" / "files" / str(travels["sha256"]))

    def _flip_metadata(self, release: DemoRelease) -> Callable[[], None]:
        version = self.stage.api.get("/trust")["channels"]["stable"]
        return flip_byte(self.stage.work / "server" / "tuf" / "metadata" / f"{version}.stable.json", inside=b'"length"')

    def _ended_everywhere(self, name: str) -> bool:
        for device in self.devices():
            reports = self.stage.api.items(f"/devices/{device['id']}/reports")
            ends = {report["state"] for report in reports if report["target"] == name}
            if not ends & ENDED:
                return False
        return True

    def _read_log(self) -> None:
        """Let the session end, see the level fall, and show lines that were read from afar."""
        stage, name = self.stage, BOARDS[0].name
        device = next(device for device in self.devices() if device["name"] == name)
        sessions = stage.api.items(f"/devices/{device['id']}/debug-sessions")
        end_s = max(float(session["until_s"]) for session in sessions)
        # A device says its level with each heartbeat; the judge looks at what came well after the end.
        stage.processes.wait_until("the end of the debug session", lambda: time.time() > end_s + 12, DEBUG_S + 60)
        for line in stage.cli.run("device", "logs", name, "--level", "debug", "--limit", "500").splitlines()[-3:]:
            stage.say(f"  log of {name}: {line[:150]}")
        level = stage.api.get(f"/devices/{device['id']}")["log_level"]
        stage.say(
            f"log level of {name} is {level} again, by itself" if level == "info" else f"log level of {name} is still {level}"
        )

    def _second_looks(self) -> None:
        """Let the verifier catch up, and say what came of it."""
        stage = self.stage
        if not stage.own:
            stage.processes.wait_until("a verdict on every crop", self._all_verified, 40)
        shown = stage.api.get("/overview")
        if shown["verdicts_24h"]:
            stage.say(f"second look: {shown['verdicts_24h']} verdicts beside the edge's labels")
        sent, baseline = shown["bytes_sent"], shown["bytes_baseline_gated_jpeg"] or 1
        stage.say(f"sent: {sent / 1e6:.1f} MB, {100 * sent / baseline:.1f} % of a JPEG of every frame with motion")

    def _all_verified(self) -> bool:
        events = self.stage.api.items("/detections", limit=1000)
        return all(crop.get("verdict") for event in events for crop in event["crops"] if crop.get("url"))
