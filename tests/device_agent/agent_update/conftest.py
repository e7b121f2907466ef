"""A board under the real launcher: a real agent as the factory's, a stand-in of the server, agents to update to."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ota.wire.assignments import AssignedBundle, Assignment
from ota.wire.deployments import DeploymentReport
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import ReleaseFleet

ROOT = Path(__file__).parents[3]
PATIENCE_S = 150.0


class LaunchedBoard:
    """The launcher is a process of its own, and so is every agent below it. Tests wait for what the server hears."""

    def __init__(self, folder: Path, door: DeviceDoor, fleet: ReleaseFleet, bundle: Path) -> None:
        self.folder, self.door, self.data = folder, door, folder / "data"
        folder.mkdir()
        (folder / "claim").write_text(door.claim())
        self.config = folder / "agent.toml"
        self.text = f"""
[agent]
data_dir = "data"
[server]
url = "{door.url}"
ca_file = "{door.ca_file}"
claim_file = "claim"
poll_s = 1
timeout_s = 5
[factory]
bundle = "{bundle}"
root = "{fleet.root_file}"
[telemetry]
heartbeat_s = 1
https_heartbeat_s = 1
[trial]
agent_settle_s = 1
agent_frames_s = FRAMES
agent_link_s = LINK
[detector]
threads = 1
child = false
[[camera]]
name = "yard"
source = "rendered:7:day"
pacing = "live"
fps = 8
"""
        self.limits(120, 120)
        self.seq = 0
        self.process: subprocess.Popen[bytes] | None = None

    def limits(self, frames_s: int, link_s: int) -> None:
        """How long an agent on trial may see nothing, and hear nothing."""
        self.config.write_text(self.text.replace("FRAMES", str(frames_s)).replace("LINK", str(link_s)))

    def start(self) -> None:
        """Start the launcher."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "device_agent.launcher", "--config", str(self.config)]
        with (self.folder / "launcher.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it and its agent."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
            self.process = None

    @property
    def device(self) -> str:
        assert self.door.wait(lambda: bool(self.door.state.devices), PATIENCE_S), self.words()
        return next(iter(self.door.state.devices))

    def assign(self, agent: AssignedBundle | None) -> None:
        """What the server wants from its next answer on; the model stays."""
        self.seq += 1
        now_s = time.time()
        self.door.state.assignments[self.device] = Assignment(
            device=self.device, seq=self.seq, issued_s=now_s, expires_s=now_s + 3600, agent=agent
        )

    def wait_for_frames(self) -> None:
        """Until the agent that runs now has seen for some seconds: what it saw before a switch is asked of the one after it."""
        beats = self.door.state.heartbeats
        heard = len(beats)
        seen = self.door.wait(lambda: sum(one.frames for beat in beats[heard:] for one in beat.cameras) > 24, PATIENCE_S)
        assert seen, self.words()

    def reports(self, agent: AssignedBundle) -> list[DeploymentReport]:
        """What the device said of this release of its agent."""
        said = self.door.state.reports.get(self.device, {})
        return [said[number] for number in sorted(said) if said[number].target_sha256 == agent.sha256]

    def wait_for_end(self, agent: AssignedBundle, number: int = 1) -> DeploymentReport:
        """The ``number``-th end of a deployment of this release."""
        ends = ("committed", "rolled_back", "refused")

        def ended() -> list[DeploymentReport]:
            return [one for one in self.reports(agent) if one.state in ends]

        assert self.door.wait(lambda: len(ended()) >= number, PATIENCE_S), self.words()
        return ended()[number - 1]

    def agent_of_last_facts(self) -> str:
        """The agent release that the board said last that it runs."""
        facts = [batch.facts for batch in list(self.door.state.report_batches) if batch.facts is not None]
        return facts[-1].agent_release if facts else ""

    def words(self) -> str:
        """For a failure: what launcher and agents said."""
        text = ""
        with contextlib.suppress(OSError):
            text = (self.folder / "launcher.log").read_text()[-4000:]
        with contextlib.suppress(OSError):
            text += json.dumps(json.loads((self.data / "state" / "agent-state.json").read_text()))[:1500]
        return text


@pytest.fixture
def fleet(tmp_path: Path) -> ReleaseFleet:
    return ReleaseFleet(tmp_path / "fleet")


@pytest.fixture
def door(tmp_path: Path, fleet: ReleaseFleet) -> Iterator[DeviceDoor]:
    with DeviceDoor(tmp_path / "door") as running:
        running.state.poll_s = 1.0
        fleet.attach(running)
        yield running


@pytest.fixture
def launched(tmp_path: Path, door: DeviceDoor, fleet: ReleaseFleet) -> Iterator[LaunchedBoard]:
    bundle, _ = fleet.publish("1")
    made = LaunchedBoard(tmp_path / "board", door, fleet, bundle)
    yield made
    made.stop()
