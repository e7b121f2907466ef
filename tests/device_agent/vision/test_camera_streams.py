"""Network cameras: a real RTSP server that misbehaves, an HTTP one, and the child that reads them."""

import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from rtsp_server import RtspServer

from device_agent.vision import camera_stream_wire as wire
from device_agent.vision.camera import LatestWins, Losses
from device_agent.vision.camera_opencv import StreamCamera, StreamSettings, shown
from device_agent.vision.camera_stream_process import ChildConnection, NetworkCamera
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.types import CameraError

QUICK = StreamSettings(open_timeout_s=20.0, read_timeout_s=20.0, max_silence_s=120.0, first_wait_s=0.02)
HASTY = StreamSettings(open_timeout_s=20.0, read_timeout_s=1.5, max_silence_s=120.0, first_wait_s=0.02)


def numbered(number, size=(240, 320)):
    """A picture that says its number: a bright column that moves on."""
    picture = np.full((*size, 3), 80, np.uint8)
    x = number * 16 % size[1]
    picture[:, x : x + 16] = 250
    return picture


@pytest.fixture
def rtsp():
    servers = []

    def start(**options):
        servers.append(RtspServer(options.pop("picture", numbered), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def network():
    """A camera that is closed at the end, whatever happens."""
    made = []

    def start(address, settings=QUICK):
        made.append(NetworkCamera("gate", address, settings))
        return made[-1]

    yield start
    for camera in made:
        camera.close()


def children():
    """Process ids of the readers that this process has started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"camera_stream_child" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def test_an_rtsp_camera_is_read_by_opencv_and_only_the_newest_picture_comes(rtsp, network):
    """A slow detector: the reader passes over what nobody asked for, and counts it; what comes was taken after it was asked for.

    Then somebody chooses another resolution in the camera's menu.
    """
    sizes = [(240, 320)]
    server = rtsp(user="admin", password="s3cret", picture=lambda number: numbered(number, sizes[0]))
    camera = network(server.address)
    frames = camera.frames()
    first = next(frames)
    assert first.picture_bgr.shape == (240, 320, 3)
    assert camera.noisy
    assert not camera.process_bound
    for _ in range(50):  # a busy machine may not have let the reader read meanwhile
        sent = server.sent
        assert wait_for(lambda sent=sent: server.sent > sent + 12)
        before, asked_s = first, time.monotonic()
        second = next(frames)
        if second.index > before.index + 5:
            break
        first = second
    assert second.index > before.index + 5
    assert second.at_s > asked_s
    assert camera.dropped["late"] >= second.index - before.index - 1
    sizes[0], sent = (480, 640), server.sent
    changed = until(frames, lambda: server.sent > sent + 10)[-1]
    assert changed.picture_bgr.shape == (240, 320, 3), "tracks and zones live on in the size that they had"
    camera.close()
    assert list(frames) == []
    assert not children(), "no process is left"


def wait_for(condition, timeout_s=60.0):
    """Until it holds; False when it never did."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def until(frames, condition):
    """Frames up to the first one after which the condition holds."""
    seen = []
    for frame in frames:
        seen.append(frame)
        if condition():
            return seen
    raise AssertionError("the stream ended")


def test_a_bad_day_of_a_network_camera(rtsp, network):
    """Torn connections, a reboot, rubbish on the line, pictures of noise, and a stall (opencv issue 22677).

    Each costs at most one connection; the reader that hangs is killed; numbers and times only grow, and all is counted.
    """
    server = rtsp()
    camera = network(server.address, HASTY)
    frames = camera.frames()
    seen = list(islice(frames, 2))
    server.mode = "reset"
    back = threading.Thread(target=lambda: (wait_for(lambda: not server.open), setattr(server, "mode", "normal")))
    back.start()
    seen += until(frames, lambda: camera.reconnects == 1)
    back.join()

    port = server.port
    server.close()
    server = rtsp(port=port)
    seen += until(frames, lambda: camera.reconnects >= 2)

    server.mode, clients = "rubbish", server.clients
    back = threading.Thread(target=lambda: (server.wait_clients(clients + 1), setattr(server, "mode", "normal")))
    back.start()
    seen += until(frames, lambda: server.clients > clients)
    back.join()

    sent, server.mode = server.sent, "broken"
    back = threading.Thread(target=lambda: (wait_for(lambda: server.sent > sent + 10), setattr(server, "mode", "normal")))
    back.start()
    seen += until(frames, lambda: server.mode == "normal")
    back.join()

    before = set(children())
    server.mode, clients, known = "stall", server.clients, camera.reconnects
    back = threading.Thread(target=lambda: (server.wait_clients(clients + 1), setattr(server, "mode", "normal")))
    back.start()
    seen += until(frames, lambda: camera.reconnects > known)
    back.join()
    assert before
    assert not before & set(children()), "the reader that hung is gone"

    numbers = [frame.index for frame in seen]
    assert numbers == sorted(set(numbers))
    assert all(later.at_s > earlier.at_s for earlier, later in pairwise(seen))
    assert {frame.picture_bgr.shape for frame in seen} == {(240, 320, 3)}
    assert camera.dropped["reconnected"] == camera.reconnects >= 4


def test_the_password_stands_nowhere(rtsp, network, caplog):
    """Everybody on the board can read the arguments of a process, and logs go to the server: neither holds the password."""
    caplog.set_level(logging.DEBUG)
    server = rtsp(user="admin", password="s3cret")
    camera = network(server.address)
    frames = camera.frames()
    next(frames)
    reader = children()
    assert reader
    for process in reader:
        for name in ("cmdline", "environ"):
            assert b"s3cret" not in Path(f"/proc/{process}/{name}").read_bytes(), name
    camera.close()
    ticks = iter(range(1000))
    impatient = StreamSettings(open_timeout_s=20.0, max_silence_s=3.0, first_wait_s=0.01, monotonic_s=lambda: float(next(ticks)))
    wrong = network(server.address.replace("s3cret", "wr0ng"), impatient)
    with pytest.raises(CameraError) as raised:
        list(wrong.frames())
    assert raised.value.reason == "unreachable"
    assert "password" in raised.value.message
    assert server.refused
    for text in (raised.value.message, caplog.text, repr(raised.value)):
        assert "s3cret" not in text
        assert "wr0ng" not in text
    assert shown("rtsp://u:p@ss@cam.local/1") == "rtsp://cam.local"
    assert shown("http://cam.local/a?user=u&password=p") == "http://cam.local"


def test_what_is_wrong_with_an_address_is_told(network):
    """Nobody listens at the port: the reason says so, in words, without a password."""
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    open_before = descriptors()
    with RefusedPort() as port:
        settings = StreamSettings(open_timeout_s=20.0, max_silence_s=3.0, first_wait_s=0.01, monotonic_s=clock)
        with pytest.raises(CameraError) as raised:
            list(network(f"rtsp://admin:s3cret@127.0.0.1:{port}/x", settings).frames())
    assert raised.value.reason == "unreachable"
    assert "refuses" in raised.value.message
    assert descriptors() <= open_before, "neither a line to a reader nor its memory is left open"
    assert "s3cret" not in raised.value.message


def descriptors():
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class RefusedPort:
    """A port that is taken by a socket which does not listen: whoever connects is refused."""

    def __enter__(self):
        import socket

        self.taken = socket.socket()
        self.taken.bind(("127.0.0.1", 0))
        return self.taken.getsockname()[1]

    def __exit__(self, *_):
        self.taken.close()


def test_closing_ends_a_reader_that_hangs(rtsp, network):
    """SIGTERM while the stream stalls with a long time limit: the wait ends at once, and the reader with it."""
    server = rtsp()
    camera = network(server.address)  # its time limit is 20 s
    frames = camera.frames()
    next(frames)
    server.mode = "stall"
    closer = threading.Thread(target=camera.close)
    closer.start()
    assert list(frames) == []
    closer.join()
    assert not children()


def test_a_reader_ends_with_its_agent(rtsp):
    """The agent is killed with SIGKILL while the stream stalls: nobody is left who could tell the reader, and it ends."""
    server = rtsp()
    script = ("import sys, time\nfrom device_agent.vision.camera_stream_process import NetworkCamera\n"
              "camera = NetworkCamera('gate', sys.argv[1])\nframes = camera.frames()\nnext(frames)\n"
              "print(camera._connection._process.pid, flush=True)\ntime.sleep(600)\n")
    agent = subprocess.Popen([sys.executable, "-c", script, server.address], stdout=subprocess.PIPE)
    try:
        reader = int(agent.stdout.readline())
        assert Path(f"/proc/{reader}").exists()
        server.mode = "stall"
    finally:
        agent.kill()
        agent.wait()
        agent.stdout.close()

    def gone():
        try:
            return Path(f"/proc/{reader}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
        except OSError:
            return True

    assert wait_for(gone)


def test_a_reader_that_says_nonsense_is_done_with():
    """Its messages are looked at before they are believed: a picture larger than the memory would be read beyond its end."""
    with pytest.raises(ValueError, match="larger"):
        wire.said_from(wire.said_bytes(wire.Said("picture", 100_000, 100_000)))
    for bad in (b"", b"x" * wire.SAID_BYTES, b"\xff" * (wire.SAID_BYTES - 1)):
        with pytest.raises(ValueError, match=r"message|larger"):
            wire.said_from(bad)
    order = wire.Order("rtsp://a:b@c/ü", 1.0, 2.0)
    body = wire.order_bytes(order)
    assert wire.order_from(body[4:]) == order
    assert json.loads(body[4:])


def test_an_interrupted_connection_is_not_opened():
    """Closed in the moment in which the reader is being started: it is killed, and nobody waits for its word."""
    connection = ChildConnection("rtsp://127.0.0.1:9/x", QUICK, Losses())
    connection.interrupt()
    assert connection.open() == "closed"
    connection.close()
    connection.close()
    assert not children()


def test_streams_are_read_by_a_child_and_on_a_small_board_in_the_process():
    """A Zero 2 W has no memory for a second Python; everybody else gets a reader that can be killed."""
    address = "opencv:rtsp://127.0.0.1:9/x"
    assert isinstance(open_camera(CameraSettings("gate", address)), NetworkCamera)
    assert isinstance(open_camera(CameraSettings("gate", address, low_memory=True)), LatestWins)
    assert isinstance(open_camera(CameraSettings("gate", "opencv:/dev/video7")), LatestWins)


class Streams(http.server.BaseHTTPRequestHandler):
    """Serves a few MJPEG frames, then breaks the connection off; each connection is counted."""

    connections = 0
    jpeg = b""

    def do_GET(self):
        type(self).connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for _ in range(8):
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self.jpeg)
            self.wfile.write(head + self.jpeg + b"\r\n")

    def log_message(self, *args):
        pass


@pytest.fixture
def stream(draw):
    Streams.connections = 0
    Streams.jpeg = cv2.imencode(".jpg", draw.picture((50, 50, 90, 120)))[1].tobytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Streams) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stream.mjpg"
        server.shutdown()
        thread.join()


def test_a_stream_that_breaks_off_is_opened_again_in_the_process_too(stream):
    """A network camera restarts every few seconds, on a small board: frames go on, numbered on, after a pause."""
    camera = StreamCamera("gate", stream, StreamSettings(first_wait_s=0.01))
    seen = []
    for frame in camera.frames():
        seen.append(frame)
        if Streams.connections >= 2 and len(seen) >= 10:
            camera.close()
    assert [frame.index for frame in seen] == list(range(len(seen)))
    assert seen[-1].picture_bgr.shape == (240, 320, 3)
    assert camera.reconnects >= 1
