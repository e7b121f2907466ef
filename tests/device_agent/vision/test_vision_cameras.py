"""Cameras of every kind, whole and broken."""

import threading
import types
from itertools import pairwise

import cv2
import numpy as np
import pytest

from device_agent.vision.camera import LatestWins, Pace
from device_agent.vision.camera_disk import FilmCamera, PicturesCamera, Playing
from device_agent.vision.camera_opencv import StreamCamera, StreamSettings
from device_agent.vision.camera_stream_wire import Order
from device_agent.vision.open_camera import CameraSettings, open_camera, shown_source
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
    assert camera.dropped == {}


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


def damaged(film, low=0.4, high=0.5):
    """A film with a share of its bytes overwritten, as a bad card does it."""
    content = bytearray(film.read_bytes())
    start, end = int(low * len(content)), int(high * len(content))
    content[start:end] = np.random.default_rng(3).integers(0, 256, end - start, np.uint8).tobytes()
    film.write_bytes(content)
    return film


@pytest.mark.parametrize(("suffix", "fourcc"), [("avi", "MJPG"), ("mp4", "mp4v")])
def test_broken_frames_inside_a_film_are_counted_and_the_others_keep_their_time(tmp_path, draw, suffix, fourcc):
    """A bad sector: FFmpeg gives nothing for some frames. What follows is seen at its own time; nothing is lost silently."""
    noise = np.random.default_rng(1)
    path = tmp_path / f"film.{suffix}"
    draw.film(path, [noise.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(60)], fourcc=fourcc)
    camera = FilmCamera("door", damaged(path))
    frames = list(camera.frames())
    assert 48 <= len(frames) < 60
    assert frames[-1].index > 50, "the film went on behind the damage"
    if suffix == "mp4":  # whose index knows each frame: an AVI's are found again by their marks, some of which are gone
        assert frames[-1].index == 59
    assert camera.dropped == {"broken_frame": 60 - len(frames)}
    assert [frame.at_s for frame in frames] == pytest.approx([frame.index / 10 for frame in frames])


def test_a_film_of_which_most_is_broken_says_so(tmp_path, draw):
    """Half of the file is noise: what can be decoded is seen, then the reason is told."""
    noise = np.random.default_rng(1)
    film = draw.film(tmp_path / "film.avi", [noise.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(60)])
    camera = FilmCamera("door", damaged(film, 0.2, 0.8))
    assert reason_of(lambda: list(camera.frames())) == "broken_frame"
    assert camera.dropped["broken_frame"] > 10


def test_a_film_that_changes_its_size_is_read_in_its_first_one(tmp_path, draw):
    """A recorder was switched to another resolution without a new file: frames come on, in the size that tracks live in."""
    path = tmp_path / "film.mjpeg"
    sizes = [(240, 320)] * 5 + [(120, 160)] * 5 + [(480, 640)] * 5
    path.write_bytes(b"".join(cv2.imencode(".jpg", draw.picture(size=size))[1].tobytes() for size in sizes))
    frames = list(FilmCamera("door", path).frames())
    assert [frame.picture_bgr.shape for frame in frames] == [(240, 320, 3)] * 15


def test_a_film_with_wrong_time_stamps_is_played_by_its_rate(tmp_path, draw):
    """A recorder without a clock wrote 100 s between two frames: nobody believes it, and it is counted."""
    film = draw.film(tmp_path / "film.mp4", [draw.picture((10 * t, 50, 10 * t + 30, 100)) for t in range(20)], fourcc="mp4v")
    content = bytearray(film.read_bytes().replace(b"edts", b"free"))
    at = content.index(b"stts") + 4 + 4 + 4 + 4  # version, number of entries, count of the first: then its duration
    old = int.from_bytes(content[at : at + 4], "big")
    content[at : at + 4] = (1000 * old).to_bytes(4, "big")
    film.write_bytes(content)
    camera = FilmCamera("door", film)
    frames = list(camera.frames())
    assert len(frames) == 20
    assert frames[1].at_s - frames[0].at_s <= 10.0
    assert all(later.at_s > earlier.at_s for earlier, later in pairwise(frames))
    assert camera.dropped["bad_time"] >= 1


def test_a_broken_picture_of_a_folder_is_left_out_and_counted(tmp_path, draw):
    """One of ten was cut short while it was copied; when most of them were, the source itself is broken."""
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), draw.picture((10 * number, 50, 10 * number + 30, 100)))
    (tmp_path / "3.png").write_bytes(b"broken")
    camera = PicturesCamera("door", tmp_path)
    assert [frame.index for frame in camera.frames()] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert camera.dropped == {"broken_frame": 1}
    for number in range(4, 8):
        (tmp_path / f"{number}.png").write_bytes(b"")
    assert reason_of(lambda: list(PicturesCamera("door", tmp_path).frames())) == "broken_frame"


def test_the_wall_clock_may_jump(film):
    """The board learns the time while it sees: deadlines and dwell do not move, in either kind of pacing."""
    wall = iter([1e9, 2e9, 5e8, 3e9, 1.0] + [7.0] * 100)
    steady = iter(n / 100 for n in range(10_000))
    camera = FilmCamera("door", film, Playing("live", wall_s=lambda: next(wall), monotonic_s=lambda: next(steady), fps=240.0))
    camera._pace = types.SimpleNamespace(wait=lambda: True, stop=lambda: None)
    frames = list(camera.frames())
    assert len(frames) == 20
    assert all(later.at_s > earlier.at_s for earlier, later in pairwise(frames))
    assert len({frame.wall_s for frame in frames}) > 3, "the jumps are shown, and only shown"


def test_a_folder_of_pictures_plays_in_the_order_of_names(tmp_path, draw):
    """Pictures from a time-lapse; one of them has another size, the folder is empty, there is none."""
    for name, left in (("b.png", 60), ("a.png", 10)):
        cv2.imwrite(str(tmp_path / name), draw.picture((left, 50, left + 30, 100)))
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = list(PicturesCamera("door", tmp_path).frames())
    assert len(frames) == 2
    assert frames[0].picture_bgr[70, 20, 2] > 150, "a before b"
    cv2.imwrite(str(tmp_path / "c.png"), draw.picture(size=(100, 100)))
    assert reason_of(lambda: list(PicturesCamera("door", tmp_path).frames())) == "size_changed"
    (tmp_path / "empty").mkdir()
    assert reason_of(lambda: PicturesCamera("door", tmp_path / "empty")) == "no_frames"
    assert reason_of(lambda: PicturesCamera("door", tmp_path / "none")) == "missing"


class Scripted:
    """A source that gives a frame when it is told to, and reports when the next is asked for."""

    def __init__(self, count, *, error=None, ends=True):
        self.name, self.count, self.error, self.ends = "door", count, error, ends
        self.asked, self.go, self.closed = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
        self.dropped, self.noisy, self.process_bound, self.newer = {}, False, False, False

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
    assert camera.dropped == {"late": 2}
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
    assert camera.dropped == {}


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
    "source",
    ["", "film", "film:", "rendered:x", "rendered:1:noon", "opencv:", "opencv:cam.local", "tape:1", "picamera2:", "picamera2:x",
     "pictures:"],
)
def test_a_source_that_is_none_is_refused_with_the_forms(source):
    """A typo in agent.toml."""
    assert reason_of(lambda: open_camera(CameraSettings("door", source))) == "bad_source"


def test_a_mistyped_address_is_refused_without_its_password():
    """Two characters were forgotten in agent.toml; the message goes to the log, and the log to the server."""
    with pytest.raises(CameraError) as raised:
        open_camera(CameraSettings("door", "opencv:rtsp:/admin:s3cret@10.0.0.7/1"))
    assert "s3cret" not in raised.value.message
    assert "camera door" in raised.value.message


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


@pytest.mark.parametrize(("source", "told"), [
    ("opencv:rtsp://admin:Se?cretive@10.0.0.5:554/live", "opencv:rtsp://***"),
    ("opencv:rtsp://admin:Se/cretive@10.0.0.5/live", "opencv:rtsp://***"),
    ("opencv:rtsp://admin:Se@cretive@cam.local:8554/live", "opencv:rtsp://cam.local:8554"),
    ("opencv:rtsp://10.0.0.5:554/user=admin_password=Secretive_channel=1.sdp", "opencv:rtsp://10.0.0.5:554"),
    ("opencv:http://cam.local/video?user=admin&pwd=Secretive", "opencv:http://cam.local"),
    ("opencv:rtsp://[fe80::1]:554/Secretive", "opencv:rtsp://[fe80::1]:554"),
    ("rtsp://admin:Secretive@cam.local/live", "rtsp://cam.local"),
    ("opencv:cam.local/user:Se/cretive@x", "opencv:***"),
    ("admin:Secretive@cam.local", "admin:***"),
    ("Secretive@cam.local", "***"),
    ("film:rtsp://admin:Secretive@cam.local/live", "film:rtsp://cam.local"),
    ("opencv:/dev/video0", "opencv:/dev/video0"),
    ("rendered:x", "rendered:x"),
])  # fmt: skip
def test_of_a_cameras_address_nothing_is_shown_but_scheme_host_and_port(source: str, told: str) -> None:
    """A journal, a doctor's report and a bug report are read by many: no password gets there, however it was written."""
    settings = CameraSettings("door", source)
    assert shown_source(source) == told
    assert "cretive" not in repr(settings)
    assert "cretive" not in repr(Order(source, 1.0, 1.0))
    if not source.startswith(("opencv:rtsp:", "opencv:http:", "opencv:/dev")):
        with pytest.raises(CameraError) as raised:
            open_camera(settings)
        assert told in raised.value.message
        assert "cretive" not in raised.value.message


@pytest.mark.parametrize("target", ["rtsp://admin:Se?cretive@127.0.0.1:9/live", "rtsp://127.0.0.1:9/user=admin_password=Secretive.sdp"])
def test_a_stream_that_cannot_be_had_is_told_without_its_password(target: str) -> None:
    """Nobody answers: the words go to the journal, the doctor and the server."""
    class Nobody:
        """A connection that is refused."""

        def open(self) -> str:
            return "refused"

        def close(self) -> None:
            pass

    times = iter(range(0, 10_000, 15))
    settings = StreamSettings(first_wait_s=0.0, max_silence_s=10.0, monotonic_s=lambda: float(next(times)))
    camera = StreamCamera("yard", target, settings, lambda *_: Nobody())
    with pytest.raises(CameraError, match="no frame from rtsp://") as raised:
        next(iter(camera.frames()))
    assert "cretive" not in raised.value.message
