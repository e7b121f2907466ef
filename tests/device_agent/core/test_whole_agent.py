"""The whole agent against a stand-in of the server: enrol, see, deliver, update, be debugged, and end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from device_agent.__main__ import main
from device_agent.assemble import assembled
from device_agent.own_folder_disk import read_settings
from ota.wire.assignments import AssignedBundle, Assignment
from ota.wire.debug import DebugSession
from ota.wire.enrolment import BrokerAddress
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import ReleaseFleet

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[3]


class Board:
    """A board's folder with its agent.toml, and the agent in a thread of this process."""

    def __init__(self, folder: Path, door: DeviceDoor, fleet: ReleaseFleet, bundle: Path) -> None:
        self.folder, self.door = folder, door
        folder.mkdir()
        (folder / "claim").write_text(door.claim())
        self.config = folder / "agent.toml"
        self.config.write_text(f"""
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
min_gated_frames = 5
deadline_s = 60
[detector]
threads = 1
[[camera]]
name = "yard"
source = "rendered:7:day"
pacing = "live"
fps = 8
[[zone]]
camera = "yard"
name = "everywhere"
polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
""")
        self.failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stop = lambda: None

    def start(self) -> None:
        ready = threading.Event()

        def work() -> None:
            try:
                with assembled(read_settings(self.config)) as (supervisor, stop):
                    self._stop = stop.set
                    ready.set()
                    supervisor.run()
            except BaseException as error:
                self.failure = error
            finally:
                ready.set()

        self._thread = threading.Thread(target=work)
        self._thread.start()
        assert ready.wait(60)

    def join(self) -> None:
        """Wait for an agent that ends by itself."""
        assert self._thread is not None
        self._thread.join(60)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self._stop()
        if self._thread is not None:
            self._thread.join(30)
            assert not self._thread.is_alive()

    @property
    def device(self) -> str:
        return next(iter(self.door.state.devices))


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
    yield made
    made.stop()


def assign(
    door: DeviceDoor, device: str, seq: int, bundle: AssignedBundle | None, debug: list[DebugSession] | None = None
) -> None:
    now_s = time.time()
    door.state.assignments[device] = Assignment(
        device=device, seq=seq, issued_s=now_s, expires_s=now_s + 3600, bundle=bundle, debug=debug or []
    )


def test_a_board_enrols_sees_delivers_updates_and_is_debugged(board: Board, door: DeviceDoor, fleet: ReleaseFleet) -> None:
    """From the claim to a committed second release, with the broker dead from the first second."""
    door.state.broker = BrokerAddress(host="127.0.0.1", port=1)
    before = set(threading.enumerate())
    board.start()
    assert door.wait(lambda: bool(door.state.devices))
    device = board.device
    assert door.wait(lambda: bool(door.state.shown(device)), 60), board.failure
    assert not (board.folder / "claim").exists()
    event = next(iter(door.state.shown(device).values()))
    assert event.release == "yard@1"
    assert event.camera == "yard"
    assert event.crops
    assert door.state.blobs[event.crops[0].key][:2] == b"\xff\xd8"
    assert door.wait(lambda: any(beat.cameras[0].frames > 0 for beat in door.state.heartbeats))
    beat = door.state.heartbeats[-1]
    assert not beat.broker_connected
    assert beat.running is not None
    assert (beat.running.version, beat.running.slot) == ("1", "factory")
    assert beat.bytes_sent > 1000
    assert door.state.report_batches[0].facts is not None
    assert door.wait(lambda: bool(door.state.reports.get(device)))
    first = door.state.reports[device][1]
    assert (first.state, first.origin, first.target, first.running) == ("idle", "factory", "yard@1", "yard@1")
    assert first.variant_reason, "the inventory can say why this variant runs before any update"

    _, second = fleet.publish("2", model="yard-2", counter=2)
    until_s = time.time() + 6
    assign(door, device, 1, second, [DebugSession(id="look", until_s=until_s, log_level="debug")])
    states = lambda: [r.state for r in door.state.reports.get(device, {}).values()]  # noqa: E731
    assert door.wait(lambda: {"committed", "refused", "rolled_back"} & set(states()), 100), states()
    last = list(door.state.reports[device].values())[-1]
    assert (last.state, last.reason, last.running) == ("committed", "", "yard@2"), msgspec.to_builtins(last)
    assert door.wait(lambda: door.state.heartbeats[-1].running.version == "2")  # type: ignore[union-attr]
    assert door.wait(lambda: any(line.session == "look" for line in door.state.logs.get(device, {}).values()))
    assert door.wait(lambda: door.state.heartbeats[-1].log_level == "info" and time.time() > until_s, 40)
    assert any("has ended" in line.text for line in door.state.logs[device].values()) or door.wait(
        lambda: any("has ended" in line.text for line in door.state.logs[device].values()), 40
    )
    board.stop()
    assert board.failure is None
    left = [thread.name for thread in set(threading.enumerate()) - before if not thread.name.startswith("Thread-")]
    assert left == []


def test_a_server_that_goes_away_gets_every_event_once_when_it_is_back(board: Board, door: DeviceDoor) -> None:
    """The port closes while the camera sees; after the restart of agent and server all events are there, each once."""
    board.start()
    assert door.wait(lambda: bool(door.state.devices))
    device = board.device
    assert door.wait(lambda: bool(door.state.shown(device)), 60)
    door.stop()
    spool = board.folder / "data" / "spool" / "events"
    deadline_s = time.monotonic() + 60
    while not list(spool.glob("*.entry")):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    board.stop()
    waiting = {path.name for path in spool.glob("*.entry")}
    door.start()
    board.start()
    assert door.wait(lambda: len(door.state.events[device]) >= max(int(name.split(".")[0]) for name in waiting), 60)
    numbers = sorted(door.state.events[device])
    assert numbers == list(range(1, len(numbers) + 1))
    assert [report.origin for report in door.state.reports[device].values()] == ["factory"], "told once, not at every start"


def test_a_used_claim_ends_the_agent_with_words_and_a_code(
    board: Board, door: DeviceDoor, capsys: pytest.CaptureFixture[str]
) -> None:
    """The claim was used by another board: exit code 3, the server's words, what to do, no stack trace."""
    door.claim(state="used")
    assert main(["run", "--config", str(board.config)]) == 3
    said = capsys.readouterr().err
    assert "this claim was used already" in said
    assert "new claim" in said
    assert "Traceback" not in said


def test_sigterm_ends_the_launcher_and_the_agent_within_seconds(board: Board, door: DeviceDoor) -> None:
    """systemd stops the unit: launcher, agent and detector child are gone, and the exit code is 0."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    launcher = subprocess.Popen(
        [sys.executable, "-m", "device_agent.launcher", "--config", str(board.config)], env=environment, stderr=subprocess.PIPE
    )
    try:
        assert door.wait(lambda: bool(door.state.devices), 60)
        agent = int(Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()[0])
        launcher.send_signal(signal.SIGTERM)
        _, said = launcher.communicate(timeout=20)
    finally:
        launcher.kill()
    assert launcher.returncode == 0, said.decode()
    assert b"Traceback" not in said, said.decode()
    assert not Path(f"/proc/{agent}").exists()


def test_a_second_agent_in_the_same_folder_says_so(board: Board, door: DeviceDoor, capsys: pytest.CaptureFixture[str]) -> None:
    """Two agents would use the same numbers twice."""
    board.start()
    assert main(["run", "--config", str(board.config)]) == 2
    assert "another agent is running" in capsys.readouterr().err


def test_a_board_that_no_variant_fits_is_told_why(board: Board, fleet: ReleaseFleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The impossible board: the factory release has nothing for it."""
    bundle, _ = fleet.publish("9", counter=9, runtime="some-other-runtime")
    board.config.write_text(board.config.read_text().replace("yard-1.rookery", bundle.name))
    assert main(["run", "--config", str(board.config)]) == 5
    assert "no variant fits" in capsys.readouterr().err


def test_a_damaged_factory_bundle_is_refused(board: Board, fleet: ReleaseFleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The file was cut in half while it was copied to the card."""
    bundle = fleet.folder / "yard-1.rookery"
    bundle.write_bytes(bundle.read_bytes()[: bundle.stat().st_size // 2])
    assert main(["run", "--config", str(board.config)]) == 2
    assert "bundle" in capsys.readouterr().err


def test_a_lost_root_is_named(board: Board, fleet: ReleaseFleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The file that the board's trust begins with is gone."""
    fleet.root_file.unlink()
    assert main(["run", "--config", str(board.config)]) == 2
    assert "root.json" in capsys.readouterr().err


def test_the_doctor_names_what_is_wrong(board: Board, door: DeviceDoor, capsys: pytest.CaptureFixture[str]) -> None:
    """The server is away and the claim is missing: two lines with advice, the rest is well."""
    door.stop()
    (board.folder / "claim").unlink()
    assert main(["doctor", "--config", str(board.config)]) == 5
    said = capsys.readouterr().out
    assert "✗ server" in said
    assert "✗ identity" in said
    assert "✓ camera yard" in said


def test_a_board_follows_its_server_to_another_address(board: Board, door: DeviceDoor, tmp_path: Path) -> None:
    """The server says where it moves; the board tries the place, starts anew there, and needs the old one no more."""
    with DeviceDoor(tmp_path / "new-door", authority=door.authority) as new:
        new.state, new.signer = door.state, door.signer  # one server, two addresses
        door.state.servers = [new.url, door.url]
        board.start()
        kept = board.folder / "data" / "state" / "server.json"
        deadline = time.monotonic() + 90
        while not (kept.exists() and new.url in msgspec.json.decode(kept.read_bytes())["chosen"]):
            assert time.monotonic() < deadline, board.failure
            time.sleep(0.05)
        board.join()  # it ends by itself: the launcher starts it again
        assert board.failure is None
        door.stop()
        before = door.state.polls
        board.start()
        assert new.wait(lambda: door.state.polls > before, 90), board.failure
        board.stop()
