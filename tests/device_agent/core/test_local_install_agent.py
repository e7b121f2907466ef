"""A stick beside a running agent: the verb hands it over and watches; the whole agent installs, tries and commits it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.assemble_updates_http import content_allowed
from device_agent.update.policy import Policy
from tests.device_agent.core.test_whole_agent import Board
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import ReleaseFleet

PATIENCE_S = 240.0


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
def board(tmp_path: Path, door: DeviceDoor, fleet: ReleaseFleet) -> Iterator[Board]:
    bundle, _ = fleet.publish("1")
    made = Board(tmp_path / "board", door, fleet, bundle)
    policy = made.folder / "policy.toml"
    policy.write_text("local_install = true\n")
    made.config.write_text('policy = "policy.toml"\n' + made.config.read_text())
    yield made
    made.stop()


@pytest.mark.system
def test_a_running_agent_takes_a_stick_and_the_server_hears_of_it(board: Board, door: DeviceDoor, fleet: ReleaseFleet) -> None:
    """The verb is another process, as it is on a board. It prints each state as the agent reaches it, and ends with the commit;
    the server's reports say ``local``, and its older word does not bring the old release back."""
    board.start()
    assert door.wait(lambda: bool(door.state.devices))
    device = board.device
    assert door.wait(lambda: bool(door.state.shown(device)), 100), board.failure
    bundle, assigned = fleet.publish("2", model="yard-2b", counter=2)
    command = [sys.executable, "-m", "device_agent", "local-install", str(bundle), "--config", str(board.config)]
    done = subprocess.run(
        [*command, "--wait", str(PATIENCE_S)], capture_output=True, text=True, timeout=PATIENCE_S + 60, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr, board.failure)
    assert "in the inbox of the running agent" in done.stdout
    assert "yard@2: committed" in done.stdout

    def told() -> bool:
        reports = list(door.state.reports[device].values())
        return any(report.state == "committed" and report.origin == "local" for report in reports)

    assert door.wait(told, 100), door.state.reports[device]
    assert list((board.folder / "data" / "inbox").glob("*.rookery")) == []
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (again.returncode, again.stdout.strip()) == (0, "yard@2 runs already")
    assert assigned.release == "yard@2"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://store.example/files/a", True),
        ("https://store.example:443/files/a", True),
        ("https://other.example:9000/a", True),
        ("https://other.example/a", False),
        ("http://store.example/a", False),
        ("https://thief.example/a", False),
        ("https://store.example.thief.example/a", False),
        ("https://store.example@thief.example/a", False),
        ("https://store.example:99999/a", False),
        ("file:///etc/passwd", False),
    ],
)
def test_a_captured_server_leads_content_only_where_the_policy_says(url: str, allowed: bool) -> None:
    """It answers a download with a redirect to a host of its choice: nothing is asked there that ``content_hosts`` does not
    name; without that key, nowhere at all."""
    policy = Policy(content_hosts=("store.example", "other.example:9000"))
    assert content_allowed(policy, url) is allowed
    assert not content_allowed(Policy(), url)
