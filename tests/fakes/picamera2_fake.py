"""A stand-in for the part of picamera2 that the agent uses, as its 0.3 line behaves: padded rows, jobs, released requests.

It holds no camera: it makes pictures, as many as it has buffers, and stops when all of them are held, as the real one does.
"""

import threading
import time

import numpy as np


class Request:
    def __init__(self, owner, number):
        self.owner, self.number, self.held = owner, number, True

    def make_buffer(self, name):
        assert self.held, "a released request holds no pixels"
        stream = self.owner.configuration[name]
        width, height = stream["size"]
        stride = self.owner.stream_configuration(name)["stride"]
        if name == "lores":
            rows = np.full((height * 3 // 2, stride), 7, np.uint8)
            rows[:height, :width] = np.arange(width, dtype=np.uint16).astype(np.uint8)[None, :] // 2 + self.number
            return rows.reshape(-1)
        rows = np.zeros((height, width, 3), np.uint8)
        rows[:, :, 2] = 200  # in "RGB888" the last channel of the array is red
        return rows.reshape(-1)

    def make_array(self, name):
        width, height = self.owner.configuration[name]["size"]
        return self.make_buffer(name).reshape(height, width, 3)

    def get_metadata(self):
        return {"SensorTimestamp": self.owner.stamp_ns(), "ExposureTime": 10_000}

    def release(self):
        assert self.held, "released twice"
        self.held = False
        self.owner.held -= 1


class Picamera2:
    cameras = 1

    def __init__(self, camera_num=0):
        if camera_num >= self.cameras:
            raise IndexError("list index out of range")
        self.configuration, self.started, self.closed = None, False, False
        self.held, self.made, self.silent_after = 0, 0, None
        self.age_ns = 20_000_000

    def create_video_configuration(self, main=None, lores=None, controls=None, buffer_count=6, queue=True):
        if lores["size"][0] > main["size"][0] or lores["size"][1] > main["size"][1]:
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        assert lores["format"] == "YUV420", "VC4 makes no other low-resolution format"
        return {"main": dict(main), "lores": dict(lores), "controls": controls, "buffer_count": buffer_count, "queue": queue}

    def configure(self, configuration):
        self.configuration = configuration

    def stream_configuration(self, name):
        stream = self.configuration[name]
        width = stream["size"][0]
        return stream | {"stride": (width + 63) // 64 * 64 if name == "lores" else width * 3}

    def start(self):
        self.started = True

    def capture_request(self, wait=None):
        assert self.started
        assert wait is False
        return threading.Event()

    def wait(self, job, timeout=None):
        if self.silent_after is not None and self.made >= self.silent_after:
            time.sleep(min(timeout, 0.02))
            raise TimeoutError
        if self.held >= self.configuration["buffer_count"] - 1:
            raise TimeoutError
        self.held += 1
        self.made += 1
        return Request(self, self.made)

    def stamp_ns(self):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.age_ns

    def stop(self):
        self.started = False

    def close(self):
        self.closed = True
