"""The story that the demo tells: chapter by chapter, through the command line and the operator API, on real processes."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fleet
import material
from api import Api, Cli
from boards import BOARDS
from judge import Evidence, Expectation, Record, Step, judge, release_rows
from material import NAME, STORY, DemoRelease
from processes import DemoError, Processes

from models.rendered.scenes import SHOWN_SEEDS

BIN = Path(sys.executable).parent
ENDED = ("finished", "paused", "held", "aborted", "superseded")
DEBUG_S = 60
BREAKS = ("server", "unsigned", "acceptance", "trial", "tamper", "log", "verifier")
"""What can be broken on purpose, to prove that the judge sees it: one for each promise of the story."""


@dataclass(slots=True)
class Options:
    """What was asked on the command line."""

    home: Path
    port: int | None = None
    broker: str = "auto"
    broken: str = ""
    film: Path | None = None
    model: Path | None = None
    card: Path | None = None


@dataclass(slots=True)
class Story:
    """One run: the processes, the folders and what was learnt on the way. ``say`` tells a line to the person."""

    options: Options
    processes: Processes
    say: Callable[[str], None]
    server: dict[str, Any] = field(default_factory=dict)
    evidence_why_not: dict[str, list[Record]] = field(default_factory=dict)
    api: Api | None = None
    cli: Cli | None = None

    @property
    def work(self) -> Path:
        """The folder of this run; made anew each time."""
        return self.options.home / "run"

    @property
    def own(self) -> bool:
        """The user brought a film and a model."""
        return self.options.model is not None

    @property
    def releases(self) -> tuple[DemoRelease, ...]:
        """The releases of this story: all of it, or the good ones for a model of the user's own."""
        return STORY[:2] if self.own else STORY

    def begin(self) -> None:
        """Server, signing keys, releases' first, and three boards."""
        if self.work.exists():
            shutil.rmtree(self.work)
        self.work.mkdir(parents=True, mode=0o700)
        self._server()
        self._trust()
        first = self._release(self.releases[0])
        self._push(first)
        self._boards(first)

    def _server(self) -> None:
        port = self.options.port or fleet.free_port(fleet.OPERATOR_PORT)
        if self.options.port is None and port != fleet.OPERATOR_PORT:
            self.say(f"port {fleet.OPERATOR_PORT} is taken: using {port}")
        settings = {"ROOKERY_FAST_POLL_S": "2", "ROOKERY_POLL_S": "2", "ROOKERY_HEARTBEAT_S": "5"}
        if not self.own and self.options.broken != "verifier":
            settings |= {"ROOKERY_VERIFIER_MODEL": str(material.VERIFIER / "model_int8.tflite"),
                         "ROOKERY_VERIFIER_CARD": str(material.VERIFIER / "card.toml")}  # fmt: skip
        if self.options.broken == "verifier":
            settings |= {
                "ROOKERY_VERIFIER_MODEL": str(self.work / "gone.tflite"),
                "ROOKERY_VERIFIER_CARD": str(self.work / "gone.toml"),
            }
        self.server = fleet.start_server(
            self.processes, BIN / "rookery-server", self.work / "server", port, self.options.broker, settings
        )
        broker = self.server.get("broker")
        self.say(f"fleet server: {self.server['operator_url']}  (devices: {self.server['device_url']})")
        self.say(
            "broker: mosquitto" if broker else "no broker: devices use HTTPS alone; wakes come with the next poll, not at once"
        )
        token = self._token()
        self.api = Api(self.server["operator_url"], token)
        environment = {"ROOKERY_SERVER": self.server["operator_url"], "ROOKERY_TOKEN": token,
                       "ROOKERY_CONFIG": str(self.work / "cli.toml"), "ROOKERY_PASSPHRASE": "only for this demo"}  # fmt: skip
        self.cli = Cli(BIN / "rookery", environment, self.work / "logs" / "cli.log")

    def _token(self) -> str:
        """A machine token from the server's own machine: the first person's password is not ours to set."""
        out = self.work / "token"
        done = subprocess.run(
            [str(BIN / "rookery-server"), "token", "--data", str(self.work / "server"), "--name", "demo", "--role", "admin",
             "--hours", "12", "--out", str(out)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise DemoError(f"rookery-server token: {done.stderr.strip()}")
        return out.read_text().strip()

    def _trust(self) -> None:
        keys = self.work / "offline"
        for name in ("root-1", "root-2", "root-3", "stable"):
            self._cli.run("key", "generate", str(keys / f"{name}.pem"))
        arguments = [word for number in (1, 2, 3) for word in ("--root-key", str(keys / f"root-{number}.pem.pub"))]
        channel = f"stable={keys / 'stable.pem.pub'}"
        self._cli.run("root", "create", str(keys / "trust"), *arguments, "--threshold", "2", "--channel", channel)
        for number in (1, 3):
            self._cli.run("root", "sign", str(keys / "trust"), "--key", str(keys / f"root-{number}.pem"))
        self._cli.run("root", "push", str(keys / "trust"))
        self.say("root of trust: 2 of 3 root keys signed, offline; channel stable has its own key")
        if not self.own:
            acceptance = ["channel", "acceptance", "stable", str(material.ACCEPTANCE), "--key", str(keys / "stable.pem")]
            self._cli.run(*acceptance, "--trust", str(keys / "trust"))

    def _release(self, release: DemoRelease) -> Path:
        folder = self.work / "releases" / release.version
        if self.own:
            assert self.options.model is not None
            assert self.options.card is not None
            material.own_release_folder(release.version, release.counter, folder, self.options.model, self.options.card)
        else:
            material.release_folder(release, folder, acceptance=self.options.broken != "acceptance")
        bundle = folder.parent / f"{NAME}-{release.version}.rookery"
        self._cli.run("bundle", "build", str(folder), "--out", str(bundle))
        keys = self.work / "offline"
        if not (self.options.broken == "unsigned" and release.version != "1"):
            self._cli.run("bundle", "sign", str(bundle), "--key", str(keys / "stable.pem"), "--trust", str(keys / "trust"))
            self._cli.run("bundle", "verify", str(bundle), "--root", str(keys / "trust" / "root.json"))
        return bundle

    def _push(self, bundle: Path) -> None:
        self._cli.run("bundle", "push", str(bundle))

    def _boards(self, factory: Path) -> None:
        server = dict(self.server)
        if self.options.broken == "server":
            server["device_url"] = f"https://127.0.0.1:{fleet.free_port(20_000)}"
        trial = "min_rate_ratio = 0" if self.options.broken == "trial" else ""
        for number, board in enumerate(BOARDS):
            film = self.options.film or self.options.home / "films" / f"yard-{number}.mp4"
            if self.options.film is None:
                material.draw_film(film, seed=SHOWN_SEEDS[number])
            folder = self.work / "boards" / board.name
            folder.mkdir(parents=True)
            bound = ["--name", board.name, "--group", "demo", "--serial", board.serial]
            self._cli.run("claim", "create", *bound, "--out", str(folder / "claim"))
            root = self.work / "offline" / "trust" / "root.json"
            config = fleet.write_agent(board, folder, server=server, bundle=factory, root=root, film=film, trial=trial)
            fleet.start_agent(self.processes, Path(sys.executable), board, config)
        self.say("three agents started: " + ", ".join(f"{board.name} ({board.model})" for board in BOARDS))

    def tell(self) -> None:
        """All chapters after the beginning; a chapter that cannot be told raises DemoError."""
        self._wait("three devices enrolled and running", lambda: len(self._running()) == len(BOARDS), 60)
        for device in self._devices():
            running, accelerator = device["running"], device["accelerator"]
            note = f" ({accelerator['reason']})" if accelerator.get("reason") else ""
            self.say(f"  {device['name']}: {device['profile']}, {running['release']} variant {running['variant']}{note}")
        self._wait("an event with a crop from every device", self._all_seen, 60)
        self.say("every device has seen somebody, and its crop is in the store")
        self._debug()
        self._roll("2", "33%,100%")
        if self.own:
            return
        self._roll("3-boxes", "33%,100%")
        self._roll("4-night", "33%,100%")
        self._tampered("5-torn", self._flip_content)
        self._tampered("6-forged", self._flip_metadata)

    def _debug(self) -> None:
        seconds = 3600 if self.options.broken == "log" else DEBUG_S
        self._cli.run("device", "debug", BOARDS[0].name, "--for", str(seconds), "--reason", "the demo reads a log from afar")
        self.say(f"log level of {BOARDS[0].name} raised to debug for {seconds} s")

    def _roll(self, version: str, stages: str, *extra: str, push: bool = True) -> Record:
        release = next(item for item in STORY if item.version == version)
        if push:
            self._push(self._release(release))
        made = self._cli.json("rollout", "create", f"{NAME}@{version}", "--group", "demo", "--stages", stages, *extra)
        why = "the same model once more, as a new release" if self.own else release.why
        self.say(f"rollout {made['id']} of {NAME}@{version}: {why}")
        last = ""

        def ended() -> bool:
            nonlocal last
            rollout = self._api.get(f"/rollouts/{made['id']}")
            line = ", ".join(f"{key} {value}" for key, value in rollout["counts"].items() if value)
            if line != last:
                self.say(f"  {rollout['state']}: {line}")
                last = line
            return rollout["state"] in ENDED

        self._wait(f"the end of the rollout of {NAME}@{version}", ended, 150)
        rollout = self._api.get(f"/rollouts/{made['id']}")
        self.say(f"  {rollout['state']}: {rollout.get('reason') or 'all devices committed'}")
        return dict(rollout)

    def _tampered(self, version: str, flip: Callable[[DemoRelease], Callable[[], None]]) -> None:
        release = next(item for item in STORY if item.version == version)
        self._push(self._release(release))
        restore = flip(release) if self.options.broken != "tamper" else lambda: None
        try:
            every = str(len(BOARDS))
            made = self._cli.json(
                "rollout", "create", f"{NAME}@{version}", "--group", "demo", "--stages", "100%", "--max-failed", every
            )
            self.say(f"rollout {made['id']} of {NAME}@{version}: {release.why}")
            try:
                self._wait(f"the refusal of {NAME}@{version} by every device", lambda: self._ended_everywhere(version), 60)
            finally:
                answers = [self._api.get(f"/devices/{device['id']}/why-not") for device in self._devices()]
                self.evidence_why_not[f"{NAME}@{version}"] = answers
            words = self._cli.run("device", "why-not", BOARDS[0].name).splitlines()
            self.say(f"  {BOARDS[0].name}: {words[0] if words else '-'}")
        finally:
            restore()

    def _flip_content(self, release: DemoRelease) -> Callable[[], None]:
        # A file that every variant needs and that no earlier release brought: this release's own card.
        data = (self.work / "releases" / release.version / "card.toml").read_bytes()
        return flip_byte(self.work / "server" / "tuf" / "targets" / "files" / hashlib.sha256(data).hexdigest())

    def _flip_metadata(self, release: DemoRelease) -> Callable[[], None]:
        version = self._api.get("/trust")["channels"]["stable"]
        return flip_byte(self.work / "server" / "tuf" / "metadata" / f"{version}.stable.json", inside=b'"length"')

    def finish(self) -> None:
        """Let the last things arrive: verdicts of all crops, and the end of the debug session."""
        device = next((device for device in self._devices() if device["name"] == BOARDS[0].name), None)
        if device is None:
            return
        sessions = self._api.items(f"/devices/{device['id']}/debug-sessions")
        end_s = max((float(session["until_s"]) for session in sessions), default=0.0)
        if end_s - time.time() < DEBUG_S:
            self._try("the fall of the log level", lambda: time.time() > end_s + 6 and self._level() == "info", DEBUG_S + 30)
        if not self.own:
            self._try("a verdict on every crop", self._all_verified, 30)

    def gather(self) -> Evidence:
        """Everything that the judge needs, read from the operator API."""
        devices = self._devices()
        ids = [str(device["id"]) for device in devices]
        rollouts = [self._api.get(f"/rollouts/{rollout['id']}") for rollout in self._api.items("/rollouts")]
        return Evidence(
            devices=devices,
            reports={one: self._api.items(f"/devices/{one}/reports") for one in ids},
            rollouts=rollouts,
            detections=self._api.items("/detections", limit=1000),
            logs={one: self._api.get(f"/devices/{one}/logs", level="debug", limit=5000)["items"] for one in ids},
            debug_sessions={one: self._api.items(f"/devices/{one}/debug-sessions") for one in ids},
            why_not=self.evidence_why_not,
            alerts=self._api.items("/alerts"),
            overview=self._api.get("/overview"),
            now_s=time.time(),
        )

    def expectation(self) -> Expectation:
        """What this story promised."""
        fates: dict[str, dict[str, str]] = {"refused": {}, "rolled_back": {}, "tampered": {}}
        for release in self.releases[2:]:
            state, _, reason = release.fate.rstrip(")").partition("(")
            group = "tampered" if reason in ("hash", "signature") else state
            fates[group][f"{NAME}@{release.version}"] = reason
        return Expectation(
            profiles={board.name: board.profile for board in BOARDS},
            missing_accelerators=frozenset(board.name for board in BOARDS if board.coral_usb),
            factory=f"{NAME}@1",
            good=f"{NAME}@2",
            refused=fates["refused"],
            rolled_back=fates["rolled_back"],
            tampered=fates["tampered"],
            debugged=BOARDS[0].name,
            verified=not self.own,
            variants=1 if self.own else 2,
        )

    def result(self, steps: list[Step], evidence: Evidence, duration_s: float) -> Mapping[str, Any]:
        """The result file."""
        crops = [crop for event in evidence.detections for crop in event["crops"] if crop.get("url")]
        return {
            "devices_enrolled": len(evidence.devices),
            "events": len(evidence.detections),
            "crops_delivered": len(crops),
            "verdicts": sum(bool(crop.get("verdict")) for crop in crops),
            "bytes_sent": evidence.overview["bytes_sent"],
            "bytes_baseline_gated_jpeg": evidence.overview["bytes_baseline_gated_jpeg"],
            "releases": release_rows(evidence, self.expectation(), NAME),
            "steps": [{"name": step.name, "ok": step.ok, "detail": step.detail} for step in steps],
            "duration_s": round(duration_s, 1),
        }

    def judge(self, evidence: Evidence) -> list[Step]:
        """The judge's word on this story."""
        return judge(evidence, self.expectation())

    @property
    def _cli(self) -> Cli:
        assert self.cli is not None, "the server has not started"
        return self.cli

    @property
    def _api(self) -> Api:
        assert self.api is not None, "the server has not started"
        return self.api

    def _devices(self) -> list[dict[str, Any]]:
        return sorted(
            (self._api.get(f"/devices/{device['id']}") for device in self._api.items("/devices")),
            key=lambda device: str(device["name"]),
        )

    def _running(self) -> list[dict[str, Any]]:
        return [device for device in self._devices() if device["state"] == "online" and device.get("running")]

    def _level(self) -> str:
        return next(str(device["log_level"]) for device in self._devices() if device["name"] == BOARDS[0].name)

    def _all_seen(self) -> bool:
        events = self._api.items("/detections", limit=200)
        return {event["device_name"] for event in events if any(crop.get("url") for crop in event["crops"])} >= {
            board.name for board in BOARDS
        }

    def _all_verified(self) -> bool:
        events = self._api.items("/detections", limit=1000)
        return all(crop.get("verdict") for event in events for crop in event["crops"] if crop.get("url"))

    def _ended_everywhere(self, version: str) -> bool:
        for device in self._devices():
            reports = self._api.items(f"/devices/{device['id']}/reports")
            ends = {report["state"] for report in reports if report["target"] == f"{NAME}@{version}"}
            if not ends & {"refused", "rolled_back", "committed"}:
                return False
        return True

    def _wait(self, what: str, ready: Callable[[], bool], deadline_s: float) -> None:
        self.processes.wait_until(what, ready, deadline_s)

    def _try(self, what: str, ready: Callable[[], bool], deadline_s: float) -> None:
        try:
            self._wait(what, ready, deadline_s)
        except DemoError as error:
            self.say(f"  {error}")


def flip_byte(path: Path, inside: bytes | None = None) -> Callable[[], None]:
    """Flip one bit of one byte of a file in the server's store; returns what puts it back."""
    original = path.read_bytes()
    at = original.index(inside) + len(inside) + 2 if inside else len(original) // 2
    changed = bytearray(original)
    # A digit becomes another digit, so that the file stays readable and only its signature can tell.
    changed[at] = ord("1") if chr(changed[at]).isdigit() and changed[at] != ord("1") else changed[at] ^ 1
    path.write_bytes(bytes(changed))

    def restore() -> None:
        path.write_bytes(original)

    return restore


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write the result file; it appears only when whole."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(path)
