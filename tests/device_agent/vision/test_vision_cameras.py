"""Cameras of every kind, whole and broken."""

import http.server
import threading
import types
from itertools import pairwise

import cv2
import numpy as np
import picamera2_fake
import pytest

from device_agent.vision.camera import LatestWins, Pace
from device_agent.vision.camera_disk import FilmCamera, PicturesCamera, Playing
from device_agent.vision.camera_opencv import StreamCamera, StreamSettings, shown
from device_agent.vision.camera_picamera2 import SensorCamera, SensorSettings
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.types import CameraError, Frame


def reason_of(action):
    with pytest.raises(CameraError) as raised:
        action()
    assert len(raised.value.message) > 10
    return raised.value.reason


@pytest.fixture
def film(tmp_path, draw):
    return draw.film(tmp_path / "film.avi", [draw.picture((10 * t, 50, 10 * t + 30, 100)) for t in range(20)], fps=5.0)


def test_a_recorded_film_gives_every_frame_with_the_time_of_the_film(film):
    """Nothing is dropped and nothing depends on how fast the board is."""
    camera = FilmCamera("door", film)
    frames = list(camera.frames())
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.at_s for frame in frames] == pytest.approx([t / 5 for t in range(20)])
    assert frames[1].wall_s - frames[0].wall_s == pytest.approx(0.2)
    assert (frames[0].width_px, frames[0].height_px) == (320, 240)
    assert camera.dropped == 0


def test_a_looped_film_goes_on_in_time(film):
    """A demo film plays round and round: numbers and times only grow."""
    camera = FilmCamera("door", film, Playing(loop=True))
    frames = []
    for frame in camera.frames():
        frames.append(frame)
        if len(frames) == 45:
            camera.close()
    assert [frame.index for frame in frames] == list(range(45))
    assert frames[-1].at_s == pytest.approx(44 / 5)
    assert np.array_equal(frames[0].picture_bgr, frames[20].picture_bgr)


def test_a_limit_thins_a_film_and_leaves_its_time_alone(film):
    """5 frames a second, 2 are wanted: 8 of 20 come, evenly, with the film's own numbers and times, also in the second round."""
    camera = FilmCamera("door", film, Playing(fps=2.0))
    frames = list(camera.frames())
    assert [frame.index for frame in frames] == [0, 3, 5, 8, 10, 13, 15, 18]
    assert [frame.at_s for frame in frames] == pytest.approx([index / 5 for index in (0, 3, 5, 8, 10, 13, 15, 18)])
    assert len(list(FilmCamera("door", film, Playing(fps=50.0)).frames())) == 20, "a limit above the film's rate adds nothing"
    looped = FilmCamera("door", film, Playing(fps=2.0, loop=True)).frames()
    assert [next(looped).index for _ in range(9)][-1] == 20


def test_what_is_not_a_film_is_refused_before_it_is_played(tmp_path):
    """A text file with a film's name, an empty one, a folder, none at all: each with its reason."""
    (tmp_path / "text.mp4").write_text("not a film " * 500)
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert reason_of(lambda: FilmCamera("door", tmp_path / "text.mp4")) == "not_a_film"
    assert reason_of(lambda: FilmCamera("door", tmp_path / "empty.mp4")) == "not_a_film"
    assert reason_of(lambda: FilmCamera("door", tmp_path)) == "missing"
    assert reason_of(lambda: FilmCamera("door", tmp_path / "none.mp4")) == "missing"


def test_a_film_without_a_frame_is_refused(tmp_path, draw):
    """A recorder that was switched off at once leaves a header and nothing else."""
    path = tmp_path / "none.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    writer.release()
    assert reason_of(lambda: FilmCamera("door", path)) in ("no_frames", "not_a_film")


def test_a_film_cut_short_gives_its_frames_and_then_says_so(tmp_path, draw):
    """Half of a film was copied: what is there is seen, then it is said that more was promised."""
    noise = np.random.default_rng(1)
    whole = draw.film(tmp_path / "film.avi", [noise.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(30)])
    content = whole.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: len(content) // 2])
    seen = []
    assert reason_of(lambda: seen.extend(FilmCamera("door", cut).frames())) == "broken_frame"
    assert 5 <= len(seen) <= 20


def test_a_folder_of_pictures_plays_in_the_order_of_names(tmp_path, draw):
    """Pictures from a time-lapse; one of them is broken, another has another size, the folder is empty."""
    for name, left in (("b.png", 60), ("a.png", 10)):
        cv2.imwrite(str(tmp_path / name), draw.picture((left, 50, left + 30, 100)))
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = list(PicturesCamera("door", tmp_path).frames())
    assert len(frames) == 2
    assert frames[0].picture_bgr[70, 20, 2] > 150, "a before b"
    cv2.imwrite(str(tmp_path / "c.png"), draw.picture(size=(100, 100)))
    assert reason_of(lambda: list(PicturesCamera("door", tmp_path).frames())) == "size_changed"
    (tmp_path / "c.png").write_bytes(b"broken")
    assert reason_of(lambda: list(PicturesCamera("door", tmp_path).frames())) == "broken_frame"
    (tmp_path / "empty").mkdir()
    assert reason_of(lambda: PicturesCamera("door", tmp_path / "empty")) == "no_frames"
    assert reason_of(lambda: PicturesCamera("door", tmp_path / "none")) == "missing"


class Scripted:
    """A source that gives a frame when it is told to, and reports when the next is asked for."""

    def __init__(self, count, *, error=None, ends=True):
        self.name, self.count, self.error, self.ends = "door", count, error, ends
        self.asked, self.go, self.closed = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
        self.dropped = 0

    def frames(self):
        for index in range(self.count):
            self.asked.release()
            self.go.acquire()
            yield Frame("door", index, index / 10, 0.0, np.zeros((4, 4, 3), np.uint8))
        self.asked.release()
        if self.error:
            raise self.error
        if not self.ends:
            self.closed.wait(10)

    def close(self):
        self.closed.set()


def test_a_live_camera_gives_the_latest_frame_and_counts_what_it_dropped():
    """The detector is slow: it gets the newest frame, not a queue of old ones, and the others are counted."""
    source = Scripted(5)
    camera = LatestWins(source)
    frames = camera.frames()
    source.go.release()
    assert next(frames).index == 0
    for _ in range(3):
        source.go.release()
    for _ in range(5):  # asked for the fifth: the fourth lies ready
        source.asked.acquire()
    assert next(frames).index == 3
    assert camera.dropped == 2
    source.go.release()
    assert [frame.index for frame in frames] == [4]


def test_a_live_camera_tells_its_error_after_its_last_frame():
    """The cable is pulled: the last frame is still seen, then the reason arrives where frames are read."""
    source = Scripted(1, error=CameraError("unreachable", "the stream ended"))
    source.go.release()
    camera = LatestWins(source)
    seen = []
    with pytest.raises(CameraError, match="the stream ended"):
        seen.extend(iter(camera.frames()))
    assert camera.dropped == 0


def test_a_silent_camera_is_noticed():
    """The sensor stops without any error, as libcamera does: after the time limit it is said."""
    camera = LatestWins(Scripted(0, ends=False), no_frame_timeout_s=0.05)
    assert reason_of(lambda: next(camera.frames())) == "no_frames"
    camera.close()


def test_closing_a_live_camera_from_another_thread_ends_its_reading():
    """Ctrl-C while a camera waits for a frame."""
    camera = LatestWins(Scripted(0, ends=False))
    closer = threading.Timer(0.05, camera.close)
    closer.start()
    assert list(camera.frames()) == []
    closer.join()


def test_a_pace_neither_hurries_nor_catches_up():
    """Frames are due at 10 per second; a board that slept for a minute does not play the minute at once."""
    now = [0.0]
    pace = Pace(10.0, lambda: now[0])
    waited = []
    pace._stopped = types.SimpleNamespace(wait=lambda s: waited.append(s) or now.__setitem__(0, now[0] + s), is_set=lambda: False)
    for _ in range(3):
        assert pace.wait()
    assert waited == pytest.approx([0.1, 0.1])
    now[0] += 60
    waited.clear()
    for _ in range(3):
        pace.wait()
    assert waited == pytest.approx([0.1, 0.1])


def test_a_film_played_live_has_the_clocks_time_and_can_be_stopped(tmp_path, draw):
    """A live film is stamped with the monotonic clock and ends when it is closed, in the middle of a wait too."""
    film = draw.film(tmp_path / "fast.avi", [draw.picture((10 * t, 50, 10 * t + 30, 100)) for t in range(20)], fps=100.0)
    camera = open_camera(CameraSettings("door", f"film:{film}", pacing="live", loop=True))
    assert isinstance(camera, LatestWins)
    seen = []
    for frame in camera.frames():
        seen.append(frame)
        if len(seen) == 30:
            camera.close()
    assert all(later.at_s > earlier.at_s for earlier, later in pairwise(seen))
    assert seen[-1].index >= 29


@pytest.mark.parametrize(
    "source", ["", "film", "film:", "rendered:x", "rendered:1:noon", "opencv:", "tape:1", "picamera2:0", "pictures:"]
)
def test_a_source_that_is_none_is_refused_with_the_forms(source):
    """A typo in agent.toml."""
    assert reason_of(lambda: open_camera(CameraSettings("door", source))) == "bad_source"


def test_a_rate_that_is_none_is_refused(film):
    """fps = 0 would wait for ever."""
    assert reason_of(lambda: open_camera(CameraSettings("door", f"film:{film}", fps=0))) == "bad_source"


def test_a_drawn_yard_is_the_same_film_each_time():
    """The demo's camera: the same seed gives the same pictures, night is darker than day."""
    def first(source, count):
        camera = open_camera(CameraSettings("yard", source))
        frames = [frame for frame, _ in zip(camera.frames(), range(count), strict=False)]
        camera.close()
        return frames

    day, again, night = first("rendered:5", 3), first("rendered:5:day", 3), first("rendered:5:night", 1)
    assert all(np.array_equal(a.picture_bgr, b.picture_bgr) for a, b in zip(day, again, strict=True))
    assert [frame.at_s for frame in day] == pytest.approx([0, 0.1, 0.2])
    assert night[0].picture_bgr.mean() < day[0].picture_bgr.mean()


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


def test_a_stream_that_breaks_off_is_opened_again(stream):
    """A network camera restarts every few seconds: frames go on, numbered on, after a pause."""
    camera = StreamCamera("gate", stream, StreamSettings(first_wait_s=0.01))
    seen = []
    for frame in camera.frames():
        seen.append(frame)
        if Streams.connections >= 2 and len(seen) >= 10:
            camera.close()
    assert [frame.index for frame in seen] == list(range(len(seen)))
    assert seen[-1].picture_bgr.shape == (240, 320, 3)
    assert camera.reconnects >= 1


def test_a_stream_that_is_not_there_is_given_up_with_its_name_but_not_its_password():
    """Nobody listens: after the time limit the reason is told; the camera's password is not."""
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    settings = StreamSettings(open_timeout_s=1.0, max_silence_s=3.0, first_wait_s=0.01, monotonic_s=clock)
    camera = StreamCamera("gate", "http://admin:secret@127.0.0.1:9/stream", settings)
    with pytest.raises(CameraError) as raised:
        list(camera.frames())
    assert raised.value.reason == "unreachable"
    assert "secret" not in raised.value.message
    assert shown("rtsp://u:p@ss@cam.local/1") == "rtsp://***@cam.local/1"


@pytest.fixture
def sensor():
    made = []

    class Counted(picamera2_fake.Picamera2):
        def __init__(self, number=0):
            super().__init__(number)
            made.append(self)

    settings = SensorSettings(main_px=(640, 360), lores_px=(200, 112), load=lambda: types.SimpleNamespace(Picamera2=Counted))
    return settings, made


def test_a_sensors_frames_carry_a_luma_plane_without_padding(sensor):
    """Rows of the low-resolution stream are padded to 64 bytes: the padding never reaches the motion gate; no request is kept."""
    settings, made = sensor
    camera = SensorCamera("sensor", settings)
    frames = [frame for frame, _ in zip(camera.frames(), range(10), strict=False)]
    camera.close()
    assert made[0].held == 0, "a request that is held starves the sensor"
    assert made[0].closed
    assert frames[0].picture_bgr.shape == (360, 640, 3)
    assert frames[0].picture_bgr[0, 0].tolist() == [0, 0, 200]
    assert frames[0].luma.shape == (112, 200)
    assert frames[3].luma[5].tolist() == (np.arange(200) // 2 + 4).tolist()
    assert all(later.at_s > earlier.at_s for earlier, later in pairwise(frames))


def test_a_sensor_that_falls_silent_can_still_be_closed(sensor):
    """The front end times out: no error, no frame. The time limit tells, and closing does not hang."""
    settings, made = sensor
    camera = LatestWins(SensorCamera("sensor", settings), no_frame_timeout_s=0.3)
    made[0].silent_after = 2
    with pytest.raises(CameraError) as raised:
        for _ in camera.frames():
            pass
    assert raised.value.reason == "no_frames"
    camera.close()
    assert made[0].closed


def test_without_picamera2_or_a_camera_the_reason_is_told(sensor):
    """A PC, and a Pi with its ribbon cable out."""
    settings, _ = sensor

    def missing():
        raise ImportError("No module named 'picamera2'")

    assert reason_of(lambda: SensorCamera("sensor", SensorSettings(load=missing))) == "not_installed"
    assert reason_of(lambda: SensorCamera("sensor", SensorSettings(camera=3, load=settings.load))) == "missing"
    too_large = SensorSettings(main_px=(320, 180), lores_px=(640, 360), load=settings.load)
    assert reason_of(lambda: SensorCamera("sensor", too_large)) == "missing"
