"""USB cameras: pulled out, put back, giving garbage. OpenCV's capture is played; the code around it is the real one."""

from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.vision.camera_opencv import StreamCamera, StreamSettings
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.types import CameraError

FRAME = np.full((48, 64, 3), 90, np.uint8)


class Port:
    """A USB port: what is plugged in gives what `gives` says, one entry a grab; "pull" takes it out, "plug" is waited for."""

    def __init__(self, gives=(), *, plugged=True, taken=False, driver_clock=True):
        self.gives, self.plugged, self.taken, self.driver_clock = list(gives), plugged, taken, driver_clock
        self.now_s, self.looked, self.opened, self.released, self.set_to = 50.0, 0, 0, 0, {}
        self.plug_after, self.back, self.step_s = None, True, 0.01

    def settings(self, **changes):
        chosen = {"open_capture": self.capture, "exists": self.exists, "monotonic_s": self.clock, "first_wait_s": 0.001}
        return StreamSettings(**(chosen | changes))

    def clock(self):
        self.now_s += self.step_s
        return self.now_s

    def exists(self, path):
        assert path == Path("/dev/video2")
        self.looked += 1
        if self.plug_after is not None and self.looked >= self.plug_after:
            self.plugged, self.plug_after = True, None
        return self.plugged

    def capture(self, target, backend):
        assert (target, backend) == ("/dev/video2", cv2.CAP_V4L2)
        assert self.plugged, "a device that is not there must not be opened: V4L2 would wait for it"
        self.opened += 1
        return Capture(self)


class Capture:
    """As cv2.VideoCapture on V4L2: after the cable was pulled every grab fails, until it is released and opened again."""

    def __init__(self, port):
        self.port, self.gone, self.current = port, False, None

    def isOpened(self):
        return not self.port.taken

    def set(self, name, value):
        self.port.set_to[name] = value
        return True

    def get(self, name):
        assert name == cv2.CAP_PROP_POS_MSEC
        return (self.port.now_s - 0.03) * 1e3 if self.port.driver_clock else 0.0

    def grab(self):
        if self.gone or not self.port.gives:
            return False
        self.current = self.port.gives.pop(0)
        if isinstance(self.current, str):
            self.gone, self.port.plugged = True, False
            self.port.plug_after = self.port.looked + 4 if self.port.back else None
            return False
        return True

    def retrieve(self):
        return self.current is not None, self.current

    def release(self):
        self.port.released += 1


def test_a_camera_that_is_pulled_out_and_put_back_goes_on():
    """The cleaner pulls the cable and puts it back: the node vanishes and returns; numbers, times and counts go on."""
    port = Port([FRAME] * 3 + ["pull"] + [FRAME] * 3)
    camera = StreamCamera("till", "2", port.settings())
    seen = list(islice(camera.frames(), 6))
    assert [frame.index for frame in seen] == [0, 1, 2, 3, 4, 5]
    assert all(later.at_s > earlier.at_s for earlier, later in pairwise(seen))
    assert port.opened == 2
    assert port.looked >= 5, "it was looked for until it was there, and only then opened"
    assert camera.dropped == {"reconnected": 1}


def test_a_camera_that_stays_away_ends_the_source_in_words():
    """Nobody puts it back: after the time limit the reason is told; whoever supervises tries again."""
    port = Port([FRAME, "pull"])
    camera = StreamCamera("till", "2", port.settings(max_silence_s=0.5))
    frames = camera.frames()
    next(frames)
    port.step_s, port.back = 0.2, False
    with pytest.raises(CameraError) as raised:
        next(frames)
    assert raised.value.reason == "unreachable"
    assert "plug" in raised.value.message
    assert port.released == 1


def test_a_device_that_gives_garbage_is_not_believed():
    """A broken cable: empty pictures, planes of another format, nothing. Each is counted; five in a row open it again."""
    garbage = [None, np.zeros((0, 64, 3), np.uint8), np.zeros((48, 64, 2), np.uint8), np.zeros((48, 64), np.uint8),
               np.zeros((48, 64, 3), np.float32)]
    port = Port([FRAME, *garbage[:3], FRAME, *garbage, FRAME])
    camera = StreamCamera("till", "2", port.settings())
    seen = list(islice(camera.frames(), 3))
    assert all(frame.picture_bgr.shape == (48, 64, 3) for frame in seen)
    assert camera.dropped == {"broken_frame": 8, "reconnected": 1}
    assert port.opened == 2


def test_another_camera_at_the_same_node_is_a_new_source():
    """A camera with other pixels is plugged in: tracks in the old ones would be nonsense, so the source ends and says why."""
    port = Port([FRAME, "pull", np.zeros((96, 128, 3), np.uint8)])
    frames = StreamCamera("till", "2", port.settings()).frames()
    next(frames)
    with pytest.raises(CameraError) as raised:
        next(frames)
    assert raised.value.reason == "size_changed"
    assert "128x96" in raised.value.message


def test_the_driver_is_asked_for_the_format_and_for_one_buffer():
    """Four buffers would add their age to every frame (opencv issue 10671); MJPG is what USB 2 has room for at 1080p."""
    port = Port([FRAME])
    camera = StreamCamera("till", "/dev/video2", port.settings(size_px=(1920, 1080), fps=15.0, fourcc="MJPG"))
    next(camera.frames())
    assert port.set_to == {
        cv2.CAP_PROP_BUFFERSIZE: 1, cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"), cv2.CAP_PROP_FPS: 15.0,
        cv2.CAP_PROP_FRAME_WIDTH: 1920, cv2.CAP_PROP_FRAME_HEIGHT: 1080,
    }


@pytest.mark.parametrize(("size", "fourcc"), [(None, None), ((640, 480), None), ((1280, 720), "MJPG")])
def test_large_pictures_are_asked_for_as_mjpg(size, fourcc):
    """Uncompressed 720p does not fit through USB 2 at a useful rate; small pictures are better left as the sensor made them."""
    camera = open_camera(CameraSettings("till", "opencv:0", size_px=size))
    assert camera._source._settings.fourcc == fourcc
    assert camera._source._settings.size_px == size


def test_a_frame_has_the_time_at_which_the_driver_took_it():
    """UVC drivers stamp on the monotonic clock; a driver that does not is not believed, and arrival counts."""
    port = Port([FRAME])
    frame = next(StreamCamera("till", "2", port.settings()).frames())
    assert 0.02 < port.now_s - frame.at_s < 0.08
    port = Port([FRAME], driver_clock=False)
    frame = next(StreamCamera("till", "2", port.settings()).frames())
    assert port.now_s - frame.at_s < 0.03


def test_a_device_that_another_program_holds_is_told_so():
    """Somebody runs a viewer on the same camera."""
    port = Port([FRAME], taken=True)
    port.step_s = 0.1
    with pytest.raises(CameraError, match="another program"):
        next(StreamCamera("till", "2", port.settings(max_silence_s=0.3)).frames())
    assert port.released == port.opened
