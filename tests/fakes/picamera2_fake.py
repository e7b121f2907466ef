"""A stand-in for the part of picamera2 0.3 that the agent uses: requests, streams, strides, jobs, timeouts and errors as there.

There is no sensor and no thread. `expose` is the sensor's shutter; while `alone` is set, whoever waits for a request makes it
click. Time is the fake's own (`World.now_s`): a wait that is in vain costs its time-out there and nothing on the wall. Memory
that went back to the sensor is overwritten, so that a view that somebody kept shows.
"""

import concurrent.futures

import cv2
import numpy as np

GONE = 0xEE
"""What memory holds after its request was given back."""


class World:
    """What all cameras of one process share: the clock, the contiguous memory, and which sensors are open."""

    def __init__(self, *, cameras=1, cma_bytes=64 * 2**20, platform="vc4"):
        self.now_s, self.cameras, self.cma_bytes, self.platform = 100.0, cameras, cma_bytes, platform
        self.boot_ahead_s = 5.0  # the boot clock has run on in suspend
        self.open, self.made, self.leaks = set(), [], False
        self.open_error, self.frames_per_camera = None, None
        self.scene = None  # (number, (width, height)) -> BGR, where a picture is to show something
        world = self

        class Bound(Picamera2):
            def __init__(self, camera_num=0):
                super().__init__(camera_num, world=world)

        self.Picamera2, self.MappedArray = Bound, MappedArray


class Job:
    """As picamera2's: a future that the event loop fulfils."""

    def __init__(self):
        self.future = concurrent.futures.Future()


class CompletedRequest:
    def __init__(self, picam2, number, memory):
        self.picam2, self.number, self.memory = picam2, number, memory
        self.ref_count, self.stop_count = 1, picam2.stop_count
        self.stamp_ns = picam2.stamp_ns()

    def acquire(self):
        if self.ref_count == 0:
            raise RuntimeError("CompletedRequest: acquiring lock with ref_count 0")
        self.ref_count += 1

    def release(self):
        self.ref_count -= 1
        if self.ref_count < 0:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        if self.ref_count == 0:
            self.picam2.released += 1
            for plane in self.memory.values():
                plane[:] = GONE
            if self.stop_count == self.picam2.stop_count and self.picam2.started:
                self.picam2.free.append(self.memory)
            self.memory = None

    def make_array(self, name):
        self.picam2.copies[name] += 1
        with MappedArray(self, name) as mapped:
            return mapped.array.copy()

    def make_buffer(self, name):
        self.picam2.copies[name] += 1
        with MappedArray(self, name, reshape=False) as mapped:
            return mapped.array.copy()

    def get_metadata(self):
        return {"SensorTimestamp": self.stamp_ns, "ExposureTime": 10_000} if self.stamp_ns else {"ExposureTime": 10_000}


class MappedArray:
    def __init__(self, request, stream, reshape=True, write=True):
        self.request, self.stream, self.reshape, self.write = request, stream, reshape, write
        self.array = None

    def __enter__(self):
        if self.request.memory is None or self.request.picam2.broken:
            raise RuntimeError("failed to find buffer")
        picam2 = self.request.picam2
        assert not self.write, "whoever only reads says so: a dirty cache costs a copy of the stream"
        picam2.mapped[self.stream] += 1
        self.array = self.request.memory[self.stream]
        if self.reshape:
            stream = picam2.camera_config[self.stream]
            (width, height), stride = stream["size"], stream["stride"]
            if stream["format"] == "YUV420":
                self.array = self.array[: stride * height * 3 // 2].reshape(height * 3 // 2, stride)
            else:
                self.array = self.array[: stride * height].reshape(height, stride)[:, : width * 3].reshape(height, width, 3)
        return self

    def __exit__(self, exc_type, exc_value, exc_traceback):
        self.array = None


class Picamera2:
    def __init__(self, camera_num=0, verbose_console=None, tuning=None, allocator=None, *, world):
        self.world, self.camera_num, self.started, self.is_open = world, camera_num, False, False
        if world.open_error is not None:
            raise world.open_error
        if camera_num >= world.cameras:
            raise RuntimeError(f"No camera number {camera_num} found")
        if camera_num in world.open:
            raise RuntimeError("Camera __init__ sequence did not complete.")  # it is held by somebody, as acquire() says
        world.open.add(camera_num)
        world.made.append(self)
        self.is_open, self.camera_config, self.allocated = True, None, 0
        self.stop_count = self.number = self.released = self.lost = 0
        self.free, self.completed_requests, self.jobs = [], [], []
        self.mapped, self.copies = {"main": 0, "lores": 0}, {"main": 0, "lores": 0}
        self.alone, self.silent_after, self.broken, self.hangs = True, world.frames_per_camera, False, None
        self.age_s, self.stamped = 0.02, True

    def create_video_configuration(  # the defaults are picamera2's own
        self, main={}, lores=None, raw={}, transform=None, colour_space=None, buffer_count=6, controls={},  # noqa: B006
        display="main", encode="main", queue=True, sensor={}, use_case="video",  # noqa: B006
    ):
        def stream(defaults, updates):
            if updates is None:
                return None
            unknown = set(updates) - {"format", "size", "stride", "preserve_ar"}
            if unknown:
                raise ValueError(f"Bad key {unknown.pop()!r}: valid stream configuration keys are ...")
            made = defaults | updates
            made["size"] = (made["size"][0] - made["size"][0] % 2, made["size"][1] - made["size"][1] % 2)
            return made

        main = stream({"format": "XBGR8888", "size": (1280, 720), "preserve_ar": True}, main)
        return {
            "main": main, "lores": stream({"format": "YUV420", "size": main["size"], "preserve_ar": False}, lores),
            "raw": stream({"format": "SRGGB10_CSI2P", "size": main["size"]}, raw),
            "colour_space": colour_space, "transform": transform,
            "controls": {"FrameDurationLimits": (33333, 33333)} | controls, "buffer_count": buffer_count, "queue": queue,
            "display": display, "encode": encode, "sensor": sensor, "use_case": use_case,
        }

    def configure(self, camera_config=None):
        if self.started:
            raise RuntimeError("Camera must be stopped before configuring")
        config = {key: dict(value) if isinstance(value, dict) else value for key, value in camera_config.items()}
        main, lores = config["main"], config["lores"]
        if lores["size"][0] > main["size"][0] or lores["size"][1] > main["size"][1]:
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        if self.world.platform == "vc4" and lores["format"] != "YUV420":
            raise RuntimeError("lores stream must be YUV")
        if set(config["sensor"] or {}) - {"bit_depth", "output_size"}:
            raise RuntimeError("Unexpected keys in sensor configuration")
        for stream in (main, lores):
            width, height = stream["size"]
            yuv = stream["format"] == "YUV420"
            stream["stride"] = -(-width // 64) * 64 if yuv else -(-width * 3 // 64) * 64
            size = stream["stride"] * height * 3 // 2 if yuv else stream["stride"] * height
            stream["framesize"] = -(-size // 4096) * 4096  # whole pages
        raw_bytes = 0 if config["raw"] is None else 2 * main["size"][0] * main["size"][1]
        needed = config["buffer_count"] * (main["framesize"] + lores["framesize"] + raw_bytes)
        if needed > self.world.cma_bytes:
            raise OSError(12, "Cannot allocate memory")
        self.world.cma_bytes -= needed
        self.allocated, self.camera_config = needed, config

    def camera_configuration(self):
        return self.camera_config

    def stream_configuration(self, name="main"):
        return self.camera_config[name]

    def start(self, config=None, show_preview=False):
        if not self.camera_config:
            raise RuntimeError("Camera has not been configured")
        sizes = {name: self.camera_config[name]["framesize"] for name in ("main", "lores")}
        self.free = [{name: np.full(size, GONE, np.uint8) for name, size in sizes.items()}
                     for _ in range(self.camera_config["buffer_count"])]
        self.started = True

    def expose(self):
        """The shutter: one frame, where there is a buffer to put it in. True then."""
        self.world.now_s += self.camera_config["controls"]["FrameDurationLimits"][0] / 1e6
        if self.silent_after is not None and self.number >= self.silent_after:
            return False
        self.number += 1
        if not self.free:
            self.lost += 1
            return False
        memory = self.free.pop(0)
        for name in ("main", "lores"):
            if self.world.scene is None:
                draw(self.camera_config[name], memory[name], self.number)
            else:
                lay_out(self.camera_config[name], memory[name], self.world.scene(self.number, self.camera_config[name]["size"]))
        self.completed_requests.append(CompletedRequest(self, self.number, memory))
        self.process_requests()
        return True

    def process_requests(self, display=None):
        while self.jobs and self.completed_requests:
            job = self.jobs.pop(0)
            if not job.future.done():
                job.future.set_result(self.completed_requests.pop(0))
        keep = 1 if self.camera_config["queue"] and self.camera_config["buffer_count"] > 1 else 0
        while len(self.completed_requests) > keep:
            self.completed_requests.pop(0).release()

    def capture_request(self, wait=None, signal_function=None, flush=None):
        if not self.started:
            raise RuntimeError("Camera is not started")
        assert wait is False, "a wait without end could never be closed"
        job = Job()
        self.jobs.append(job)
        self.process_requests()
        return job

    def wait(self, job, timeout=None):
        assert timeout is not None
        if not job.future.done() and self.alone:
            self.expose()
        if not job.future.done():
            self.world.now_s += timeout
        self.handed = job.future.result(timeout=0)
        return self.handed

    def made_request(self):
        """The request that was handed out last and is still held, for tests that look into it."""
        return self.handed

    def cancel_all_and_flush(self):
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(concurrent.futures.CancelledError())

    def stamp_ns(self):
        """On the clock that runs on in suspend."""
        return round((self.world.now_s + self.world.boot_ahead_s - self.age_s) * 1e9) if self.stamped else None

    def stop(self):
        if self.hangs is not None:
            self.hangs.wait()
        if self.started:
            self.stop_count += 1
            self.started = False
            while self.completed_requests:
                self.completed_requests.pop(0).release()

    def close(self):
        if self.is_open:
            self.stop()
            self.is_open = False
            self.world.open.discard(self.camera_num)
            self.world.cma_bytes += 0 if self.world.leaks else self.allocated

    @property
    def held(self):
        """Requests that are neither with the sensor nor waiting to be taken."""
        return self.camera_config["buffer_count"] - len(self.free) - len(self.completed_requests)


def draw(stream, memory, number):
    """A picture whose every pixel says where it is: luma by row, column and number; the left half red, the right one blue."""
    (width, height), stride = stream["size"], stream["stride"]
    memory[:] = GONE
    if stream["format"] == "YUV420":
        luma = memory[: stride * height].reshape(height, stride)
        luma[:, :width] = 60 + (np.arange(width)[None, :] + np.arange(height)[:, None] + number) % 100
        chroma = memory[stride * height : stride * height * 3 // 2].reshape(2, height // 2, stride // 2)
        chroma[0, :, : width // 2] = np.where(np.arange(width // 2) < width // 4, 90, 220)
        chroma[1, :, : width // 2] = np.where(np.arange(width // 2) < width // 4, 220, 90)
    else:
        rows = memory[: stride * height].reshape(height, stride)
        rows[:, : width * 3] = 0
        rows[:, 0 : width * 3 : 3] = 60 + (np.arange(width)[None, :] + np.arange(height)[:, None] + number) % 100
        rows[:, 2 : width * 3 : 3] = 200  # in "RGB888" the last byte of a pixel is red


def lay_out(stream, memory, picture_bgr):
    """A picture as the driver lays it into memory: planes with padded rows."""
    (width, height), stride = stream["size"], stream["stride"]
    memory[:] = GONE
    if stream["format"] != "YUV420":
        memory[: stride * height].reshape(height, stride)[:, : width * 3] = picture_bgr.reshape(height, width * 3)
        return
    planes = cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    memory[: stride * height].reshape(height, stride)[:, :width] = planes[: width * height].reshape(height, width)
    chroma = memory[stride * height : stride * height * 3 // 2].reshape(height, stride // 2)
    chroma[:, : width // 2] = planes[width * height :].reshape(height, width // 2)
