"""The whole agent, as far as its owner lets others look: a captured server asks for all, the policy decides what it gets."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.__main__ import main
from device_agent.assemble import assembled
from device_agent.own_folder_disk import read_settings
from ota.wire.assignments import Assignment
from ota.wire.codec import decode
from ota.wire.debug import DebugSession, FrameAnswer
from ota.wire.enrolment import BrokerAddress
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import ReleaseFleet

pytestmark = pytest.mark.system
WAIT_S = 90.0
LEFT_HALF = "[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]"


def write_board(folder: Path, door: DeviceDoor, fleet: ReleaseFleet, policy: str, more: str = "") -> Path:
    bundle, _ = fleet.publish("1")
    folder.mkdir()
    (folder / "claim").write_text(door.claim())
    (folder / "policy.toml").write_text(policy)
    config = folder / "agent.toml"
    config.write_text(f"""policy = "policy.toml"
[agent]
data_dir = "data"
name = "front"
[server]
url = "{door.url}"
ca_file = "{door.ca_file}"
claim_file = "claim"
poll_s = 1
[factory]
bundle = "{bundle}"
root = "{fleet.root_file}"
[detector]
threads = 1
[[camera]]
name = "yard"
source = "rendered:7:day"
fps = 8
{more}""")
    return config


@contextmanager
def running(config: Path) -> Iterator[None]:
    """The agent in a thread; what ended it is told."""
    failures: list[BaseException] = []
    ready = threading.Event()
    stops = []

    def work() -> None:
        try:
            with assembled(read_settings(config)) as (supervisor, stop):
                stops.append(stop.set)
                ready.set()
                supervisor.run()
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield
    finally:
        for stop in stops:
            stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert not failures, failures


@pytest.fixture
def fleet(tmp_path: Path) -> ReleaseFleet:
    return ReleaseFleet(tmp_path / "fleet")


@pytest.fixture
def door(tmp_path: Path, fleet: ReleaseFleet) -> Iterator[DeviceDoor]:
    with DeviceDoor(tmp_path / "door") as open_door:
        open_door.state.poll_s = 1.0
        fleet.attach(open_door)
        yield open_door


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict], threading.Event]]:
    """A receiver on the spot: its address, what it heard, and whether it heard anything."""
    heard: list[dict] = []
    rung = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            rung.set()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", heard, rung
    server.shutdown()
    server.server_close()
    thread.join(30)


def ask(door: DeviceDoor, device: str) -> None:
    now_s = time.time()
    session = DebugSession(id="s1", until_s=now_s + 600, log_level="info", frames="last", frames_asked=1)
    door.state.assignments[device] = Assignment(device=device, seq=1, issued_s=now_s, expires_s=now_s + 3600, debug=[session])


def answers(door: DeviceDoor) -> list[FrameAnswer]:
    return [decode(FrameAnswer, data) for key, data in list(door.state.blobs.items()) if "/s1-answers/" in key]


def test_what_leaves_the_board_is_masked_and_live_view_comes_where_the_policy_has_it(
    tmp_path: Path, door: DeviceDoor, fleet: ReleaseFleet, webhook
) -> None:
    """The left half is the neighbour's: it is black in the live picture. Events reach the receiver on the spot, too. The
    server names a broker at an address that the policy does not list: nobody goes there."""
    url, heard, rung = webhook
    door.state.broker = BrokerAddress(host="203.0.113.9", port=8883)
    config = write_board(
        tmp_path / "board", door, fleet,
        'live_view = true\nupload_classes = ["crop", "debug"]\n'
        f'server_hosts = ["127.0.0.1"]\nlocal_output_hosts = ["127.0.0.1"]\n[masks]\nyard = [{LEFT_HALF}]\n',
        f'[local.webhook]\nurl = "{url}"\nprivate_hosts = ["127.0.0.1"]\n',
    )  # fmt: skip
    with running(config):
        assert door.wait(lambda: bool(door.state.devices), WAIT_S)
        ask(door, next(iter(door.state.devices)))
        assert door.wait(lambda: bool(answers(door)), WAIT_S)
        assert rung.wait(WAIT_S)
    (answer,) = answers(door)
    assert (answer.state, answer.camera, len(answer.pictures)) == ("done", "yard", 1)
    (key,) = [key for key in door.state.blobs if "/s1/" in key]
    assert key.endswith(answer.pictures[0].sha256 + ".jpg")
    picture = cv2.imdecode(np.frombuffer(door.state.blobs[key], np.uint8), cv2.IMREAD_COLOR)
    height, width = picture.shape[:2]
    # Words are drawn at the rim; between them the masked half is black and the other one is not.
    between = picture[height // 3 : height * 2 // 3]
    left, right = between[:, 2 : width // 2 - 2], between[:, width // 2 + 8 :]
    assert np.percentile(left, 90) <= 3
    assert np.median(right) > 20
    assert (heard[0]["device"], heard[0]["camera"], heard[0]["kind"]) == ("front", "yard", "start")
    assert all(event["box"][0] + event["box"][2] > 0.5 * event["frame_width_px"] for event in heard), "nobody within the mask"
    log = "".join(path.read_text(errors="replace") for path in (tmp_path / "board" / "data" / "logs").glob("*") if path.is_file())
    assert "203.0.113.9:8883 is not used" in log


def test_a_captured_server_that_asks_for_live_view_gets_the_policys_word_and_no_picture(
    tmp_path: Path, door: DeviceDoor, fleet: ReleaseFleet
) -> None:
    """Validly signed, within a session; but the board's policy has no live view, and crops are not in its upload classes. Beside,
    a webhook leads into a private network that nobody listed: its losses stand in the heartbeat."""
    more = '[telemetry]\nheartbeat_s = 1\nhttps_heartbeat_s = 1\n[local.webhook]\nurl = "http://127.0.0.1:9/"\n'
    config = write_board(tmp_path / "board", door, fleet, 'upload_classes = ["debug"]\n', more)
    with running(config):
        assert door.wait(lambda: bool(door.state.devices), WAIT_S)
        device = next(iter(door.state.devices))
        ask(door, device)
        assert door.wait(lambda: bool(answers(door)), WAIT_S)
        assert door.wait(lambda: bool(door.state.shown(device)), WAIT_S)
        assert door.wait(lambda: any(beat.local_dropped.get("webhook_refused") for beat in list(door.state.heartbeats)), WAIT_S)
    (answer,) = answers(door)
    assert (answer.state, answer.reason) == ("refused", "policy")
    assert "live_view" in answer.detail
    assert all("/s1-answers/" in key for key in door.state.blobs), "not one picture left the board"
    assert all(event.crops == [] for event in door.state.shown(device).values())


def test_settings_that_the_policy_does_not_allow_are_told_at_the_start(
    tmp_path: Path, door: DeviceDoor, fleet: ReleaseFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask for a camera that does not exist, and a server that the owner never named: the agent does not start blind to it."""
    policy = f'server_hosts = ["fleet.example"]\n[masks]\nyrad = [{LEFT_HALF}]\n'
    config = write_board(tmp_path / "board", door, fleet, policy)
    assert main(["run", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert "'yrad'" in said
    assert "fleet.example only" in said
