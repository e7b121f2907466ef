"""A Raspberry Pi's sensor, against a stand-in that behaves as picamera2 does, and its calls against the real package."""

import ast
import inspect
import subprocess
import sys
import threading
import zipfile
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import picamera2_fake
import pytest

from device_agent.vision.camera_picamera2 import SensorCamera, SensorSettings, configuration
from device_agent.vision.camera_planes import Planes, region_bgr
from device_agent.vision.open_camera import CameraSettings, open_camera, sensor_settings, small_px
from device_agent.vision.types import CameraError


def settings_for(world, **changes):
    chosen = {"main_px": (640, 360), "lores_px": (200, 112), "load": lambda: world, "load_colour": lambda: "BT.601",
              "monotonic_s": lambda: world.now_s, "boottime_s": lambda: world.now_s + world.boot_ahead_s}
    return SensorSettings(**(chosen | changes))


def opened(world, **changes):
    """A camera, and the library's own object behind it."""
    camera = SensorCamera("sensor", settings_for(world, **changes))
    return camera, world.made[-1]


def test_one_request_a_frame_and_the_large_stream_is_left_alone():
    """100 frames: each from one request, given back when the next is asked for; the large stream is neither copied nor mapped."""
    world = picamera2_fake.World()
    camera, library = opened(world)
    for count, frame in enumerate(islice(camera.frames(), 100), start=1):
        assert library.held == 1, "a request that is held for longer starves the sensor"
        assert library.number == count
        assert (frame.width_px, frame.height_px) == (640, 360)
        assert frame.picture_bgr.shape == (112, 200, 3)
        assert frame.luma.shape == (112, 200)
    camera.close()
    assert library.mapped == {"main": 0, "lores": 100}
    assert library.copies == {"main": 0, "lores": 0}
    assert library.lost == 0
    assert library.held == 0
    assert not library.is_open


@pytest.mark.parametrize("width", [200, 192, 322, 126])
def test_rows_are_cut_by_the_stride_in_luma_and_in_colour(width):
    """The driver pads rows to 64 bytes, colour rows to 32: padding reaches neither the motion gate nor the detector."""
    world = picamera2_fake.World()
    camera, _ = opened(world, lores_px=(width, 96))
    frame = next(camera.frames())
    assert frame.luma.shape == (96, width)
    assert frame.luma.tolist() == [[60 + (x + y + 1) % 100 for x in range(width)] for y in range(96)]
    blue, _, red = (int(value) for value in frame.picture_bgr[50, 10])
    assert red > blue + 60, "the left half is red"
    blue, _, red = (int(value) for value in frame.picture_bgr[50, width - 2])
    assert blue > red + 60, "the right one is blue, up to the last column"
    camera.close()


@pytest.mark.parametrize("kind", ["YUV420", "RGB888"])
def test_a_winner_is_cut_from_the_large_picture_by_its_own_bytes(kind):
    """A crop with odd corners out of padded planes is what the whole converted picture shows there."""
    world = picamera2_fake.World()
    camera, library = opened(world, main_px=(650, 370), main_format=kind)
    for count, frame in enumerate(islice(camera.frames(), 10)):
        if count == 4:
            cut = (201, 33, 354, 178)
            region = frame.region(cut)
            assert region.shape == (145, 153, 3)
            with picamera2_fake.MappedArray(library.made_request(), "main", reshape=False, write=False) as mapped:
                stream = library.stream_configuration("main")
                whole = region_bgr(mapped.array, Planes(650, 370, stream["stride"]), kind, (0, 0, 650, 370))
            assert np.array_equal(region, whole[33:178, 201:354])
    camera.close()
    assert library.mapped["main"] == 2, "once for the winner, once by this test"
    assert library.copies["main"] == 0


def test_the_large_picture_is_gone_with_its_frame():
    """Somebody keeps a frame and cuts it later: the memory belongs to another picture by then, and a clear error says so."""
    world = picamera2_fake.World()
    camera, _ = opened(world)
    frames = camera.frames()
    first = next(frames)
    kept, luma = first.picture_bgr.copy(), first.luma.copy()
    second = next(frames)
    with pytest.raises(CameraError) as raised:
        first.region((0, 0, 10, 10))
    assert raised.value.reason == "closed"
    assert np.array_equal(first.picture_bgr, kept), "what was copied out stays"
    assert np.array_equal(first.luma, luma)
    assert second.region((0, 0, 10, 10)).shape == (10, 10, 3)
    camera.close()
    with pytest.raises(CameraError):
        second.region((0, 0, 10, 10))


def test_a_leaked_request_would_starve_the_sensor():
    """The stand-in is worth something: whoever does not give back gets nothing more, as with the real one."""
    world = picamera2_fake.World()
    camera, library = opened(world)
    for _ in range(library.camera_config["buffer_count"]):
        library.wait(library.capture_request(wait=False), timeout=1.0)
    with pytest.raises(TimeoutError):
        library.wait(library.capture_request(wait=False), timeout=1.0)
    assert library.lost > 0
    camera.close()


def test_a_silent_sensor_is_noticed_after_three_seconds_or_ten_periods():
    """The front end times out (picamera2 issue 883): no error, no frame. At 15 a second 3 s are needed, at 2 a second 5 s."""
    for fps, least_s in ((15.0, 3.0), (2.0, 5.0)):
        world = picamera2_fake.World()
        camera, library = opened(world, fps=fps)
        library.silent_after = 3
        seen = []
        with pytest.raises(CameraError) as raised:
            seen.extend((frame, world.now_s) for frame in camera.frames())
        last_s = seen[-1][1]
        assert raised.value.reason == "no_frames"
        assert "cable" in raised.value.message
        assert len(seen) == 3
        assert least_s < world.now_s - last_s < least_s + 3
        camera.close()
        assert library.held == 0
        again, _ = opened(world)
        assert next(again.frames()).index == 0, "it was closed, so it can be had again"
        again.close()


def test_the_time_of_a_frame_is_the_sensors_and_no_clock_jump_moves_it():
    """Exposure ended 20 ms before we had the frame, on the clock that runs on in suspend; the wall clock leaps by years."""
    world = picamera2_fake.World()
    wall = iter([1e9, 5.0, 2e9, 7e8, 1e9])
    camera, _ = opened(world, wall_s=lambda: next(wall))
    at = []
    for frame in islice(camera.frames(), 5):
        at.append(frame.at_s)
        assert frame.at_s == pytest.approx(world.now_s - 0.02)
    assert [later - earlier for earlier, later in pairwise(at)] == pytest.approx([1 / 15] * 4, abs=1e-5)
    camera.close()


def test_a_time_stamp_that_cannot_be_is_not_believed():
    """None at all, one from the future, one of yesterday: the moment of arrival counts, and time never goes back."""
    world = picamera2_fake.World()
    camera, library = opened(world)
    at = []
    for frame in islice(camera.frames(), 12):
        at.append(frame.at_s)
        library.stamped = len(at) % 4 != 1
        library.age_s = {2: -50.0, 3: 86400.0}.get(len(at) % 4, 0.02)
    assert all(later > earlier for earlier, later in pairwise(at))
    assert at[-1] - at[0] < 2.0
    camera.close()


def test_frames_that_came_while_we_worked_are_counted_by_the_sensors_own_time():
    """The detector took four periods: the newest frame is next, and the three that nobody saw are counted as late."""
    world = picamera2_fake.World()
    camera, library = opened(world)
    frames = camera.frames()
    assert next(frames).index == 0
    assert not camera.newer
    for _ in range(4):
        library.expose()
    assert camera.newer
    frame = next(frames)
    assert frame.index == 4
    assert camera.dropped == {"late": 3}
    camera.close()


def test_on_a_small_board_there_are_fewer_buffers_and_the_mode_is_pinned():
    """A Zero 2 W has little contiguous memory: no raw stream, three buffers, and no mode is tried out (issue 1358)."""
    told = CameraSettings("s", "picamera2", low_memory=True, sensor_mode=(1640, 1232, 10), size_px=(1640, 922))
    chosen = sensor_settings(told, 0)
    keywords = configuration(chosen, "BT.601")
    assert keywords["buffer_count"] == 3
    assert keywords["sensor"] == {"output_size": (1640, 1232), "bit_depth": 10}
    assert keywords["raw"] is None
    world = picamera2_fake.World(cma_bytes=3 * 2**20)
    camera, library = opened(world, buffers=3, main_px=(640, 480), lores_px=(320, 240))
    for frame in islice(camera.frames(), 20):
        frame.region((0, 0, 64, 64))
    assert library.lost == 0, "three buffers are enough: one held, one waiting, one being filled"
    camera.close()


def test_opening_again_and_again_in_one_process_runs_out_of_memory():
    """Contiguous memory leaks with each opening (issues 887, 958, 1125): the error is told and nothing stays open."""
    world = picamera2_fake.World(cma_bytes=6 * 2**20)
    world.leaks = True

    def again_and_again():
        for _ in range(10):
            camera, _ = opened(world)
            assert camera.process_bound
            next(camera.frames())
            camera.close()

    with pytest.raises(CameraError) as raised:
        again_and_again()
    assert raised.value.reason == "missing"
    assert "memory" in raised.value.message
    assert not world.open


def test_errors_of_the_library_are_words(monkeypatch):
    """No library, no camera, one that another program holds, sizes that cannot be, and memory that is not mapped any more."""
    world = picamera2_fake.World()

    def reason(**changes):
        with pytest.raises(CameraError) as raised:
            opened(world, **changes)
        assert len(raised.value.message) > 10
        return raised.value.reason

    def missing():
        raise ImportError("No module named 'picamera2'")

    assert reason(load=missing) == "not_installed"
    assert reason(camera=3) == "missing"
    assert reason(main_px=(320, 180), lores_px=(640, 360)) == "missing"
    camera, library = opened(world)
    assert reason() == "missing"
    library.broken = True
    with pytest.raises(CameraError) as raised:
        next(camera.frames())
    assert raised.value.reason == "broken_frame"
    assert library.held == 0
    camera.close()
    camera.close()


def test_closing_from_another_thread_ends_the_wait_and_a_library_that_hangs_is_left_behind():
    """SIGTERM while a frame is waited for; and a library whose event loop died with the sensor: the agent ends all the same."""
    world = picamera2_fake.World()
    camera, library = opened(world, close_s=0.05)
    library.silent_after, library.hangs = 0, threading.Event()
    waited = threading.Event()

    def waiting(job, timeout):
        waited.set()
        camera._stopped.wait(0.05)  # a turn passes, and no time on the sensor's clock: only the close ends this
        raise TimeoutError

    library.wait = waiting
    closer = threading.Thread(target=lambda: (waited.wait(60), camera.close()))
    closer.start()
    assert list(camera.frames()) == []
    closer.join(60)
    assert not closer.is_alive()
    library.hangs.set()


def test_the_small_stream_has_the_shape_of_the_large_one_and_covers_the_models_input():
    """A model for 300x300 pixels: 534x300 of a 16:9 sensor, so that nothing is enlarged on the way."""
    assert small_px((1280, 720), (300, 300)) == (534, 300)
    assert small_px((1640, 1232), (320, 320)) == (426, 320)
    assert small_px((640, 480), (1280, 1280)) == (640, 480), "not larger than the large one"
    chosen = sensor_settings(CameraSettings("s", "picamera2:1", detector_px=(192, 192), fps=5.0), 1)
    assert (chosen.lores_px, chosen.fps, chosen.camera) == ((342, 192), 5.0, 1)


def test_a_sensor_is_live_by_itself_and_keeps_the_large_picture_for_its_reader(monkeypatch):
    """A reader thread that runs ahead would take the large picture away while it is being cut: there is none."""
    world = picamera2_fake.World()
    monkeypatch.setattr("device_agent.vision.open_camera.SensorSettings", lambda **changes: settings_for(world, **changes))
    monkeypatch.setattr("device_agent.vision.open_camera.sensor_settings", lambda settings, number: settings_for(world))
    camera = open_camera(CameraSettings("sensor", "picamera2", pacing="live"))
    assert isinstance(camera, SensorCamera)
    camera.close()


def test_colours_are_what_opencv_takes_yuv_for():
    """libcamera must be told: OpenCV converts BT.601 in limited range, and would tint anything else."""
    assert configuration(SensorSettings(), "SMPTE170M")["colour_space"] == "SMPTE170M"
    bgr = np.full((32, 32, 3), (30, 120, 200), np.uint8)
    i420 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    planes = Planes(32, 32, 32)
    back = region_bgr(i420.reshape(-1), planes, "YUV420", (0, 0, 32, 32))
    assert np.abs(back.astype(int) - bgr).max() <= 3


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder of the real picamera2: installed, or fetched; it cannot be imported without libcamera, so it is read."""
    found = find_spec("picamera2")
    if found is not None and found.origin:
        return Path(found.origin).parent
    folder = tmp_path_factory.mktemp("picamera2")
    command = [sys.executable, "-m", "pip", "download", "picamera2", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    try:
        done = subprocess.run([*command, "-q", "--retries", "1", "--timeout", "10"], capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        done = None
    wheels = list(folder.glob("*.whl"))
    if done is None or done.returncode or not wheels:
        pytest.skip("picamera2 cannot be installed here")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder)
    return folder / "picamera2"


def signatures(path, name):
    """Method -> names of its parameters, of one class of a source file; of overloads the last one, which is the real one."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            functions = [entry for entry in node.body if isinstance(entry, ast.FunctionDef)]
            return {entry.name: [argument.arg for argument in entry.args.args + entry.args.kwonlyargs] for entry in functions}
    raise AssertionError(f"{path.name} has no class {name}")


def test_every_call_fits_the_real_package(package):
    """What the agent calls and what the stand-in offers exist in picamera2 with these parameters, in this order."""
    real = signatures(package / "picamera2.py", "Picamera2")
    request = signatures(package / "request.py", "CompletedRequest")
    mapped = signatures(package / "request.py", "MappedArray")
    used = ("create_video_configuration", "configure", "start", "stop", "close", "capture_request", "wait", "process_requests",
            "cancel_all_and_flush", "stream_configuration", "camera_configuration")
    for name in used:
        offered = list(inspect.signature(getattr(picamera2_fake.Picamera2, name)).parameters)
        assert real[name] == offered, name
    for name in ("acquire", "release", "make_array", "make_buffer", "get_metadata"):
        assert request[name] == list(inspect.signature(getattr(picamera2_fake.CompletedRequest, name)).parameters), name
    assert mapped["__init__"] == list(inspect.signature(picamera2_fake.MappedArray.__init__).parameters)
    assert set(configuration(SensorSettings(mode=(1, 1, 10)), None)) <= set(real["create_video_configuration"])
    assert real["__init__"][:2] == ["self", "camera_num"]
    source = (package / "picamera2.py").read_text()
    assert 'valid = ("format", "size", "stride", "preserve_ar")' in source
    assert "self._max_queue_len = 1" in source, "with queue=True exactly one completed request is kept: the latest"
