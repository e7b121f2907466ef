"""A camera's loop: failures that are counted and got over, a sensor that only a new process gets back, health, and the switch."""

import threading
import types

import numpy as np
import picamera2_fake
import pytest

from device_agent.duties.seeing import LOST_AFTER, CameraLostError, Seeing, Sinks
from device_agent.duties.turn import Stop
from device_agent.errors import BoardError
from device_agent.supervise import Supervisor
from device_agent.telemetry.window import Reading, Window
from device_agent.vision.camera_picamera2 import SensorCamera, SensorSettings
from device_agent.vision.camera_rules import RuleCounts
from device_agent.vision.counters import Counter
from device_agent.vision.types import CameraError, Frame
from ota.wire.heartbeat import HostHealth, SpoolHealth

GRAIN = np.random.default_rng(2).integers(60, 200, (96, 128, 3), np.uint8)


class Line:
    """A pipeline that counts, and calls `on_frame` with each frame."""

    def __init__(self, on_frame=lambda frame: None):
        self.counter, self.on_frame, self.seen, self.finished = Counter(), on_frame, [], 0

    def step(self, frame):
        self.counter.frame(100.0)
        self.seen.append(frame)
        self.on_frame(frame)
        return types.SimpleNamespace(events=[], timings_ms={}, dropped=None)

    def finish(self):
        self.finished += 1
        return []

    def counts(self):
        return self.counter.read()

    def rule_counts(self):
        return RuleCounts()


class Played:
    """A source that gives these pictures, one a second, and then ends, or fails with a reason."""

    noisy, newer = True, False

    def __init__(self, pictures, error=None, *, bound=False, dropped=None, start_s=0.0):
        self.name, self.pictures, self.error, self.process_bound = "yard", pictures, error, bound
        self.dropped, self.closed, self.start_s = dropped or {}, threading.Event(), start_s

    def frames(self):
        for index, picture in enumerate(self.pictures):
            if self.closed.is_set():
                return
            yield Frame("yard", index, self.start_s + index, 0.0, picture)
        if self.error == "waits":
            assert self.closed.wait(60)
        elif self.error:
            raise CameraError(self.error, f"it is {self.error}: look at the cable")

    def close(self):
        self.closed.set()


def pictures(count, seed=0):
    """Textured pictures with noise that does not repeat."""
    rng = np.random.default_rng(seed)
    return [np.clip(GRAIN.astype(int) + rng.integers(-3, 4, GRAIN.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def seeing(sources, line=None, **options):
    """A duty over sources that are opened one after the other; an exception among them is what opening gives."""
    left = list(sources)

    def open_source():
        source = left.pop(0)
        if isinstance(source, Exception):
            raise source
        return source

    return Seeing("yard", open_source, line or Line(), Sinks(lambda update: None, lambda timings: None), **options)


def runs(duty, stop=None):
    """Run it once; what it raised, or None."""
    try:
        duty.run(stop or Stop(), lambda: None)
    except (BoardError, CameraLostError) as error:
        return error
    return None


def test_a_camera_that_is_unplugged_and_plugged_in_again_keeps_its_counts():
    """Twice the cable is out: each failure is counted by its reason beside what the sources lost, and frames add up."""
    sources = [
        Played(pictures(3), "unreachable", dropped={"late": 4, "broken_frame": 1}),
        CameraError("missing", "it is not there"),
        Played(pictures(2), "no_frames", dropped={"late": 2, "reconnected": 1}),
        Played(pictures(5)),
    ]
    line = Line()
    duty = seeing(sources, line)
    states = []
    for _ in range(4):
        runs(duty)
        states.append(duty.totals().state)
    totals = duty.totals()
    assert states == ["no_frames", "no_frames", "no_frames", "ended"]
    assert totals.frames == 10
    assert totals.dropped == {"late": 6, "broken_frame": 1, "unreachable": 1, "missing": 1, "no_frames": 1, "reconnected": 1}
    assert line.finished == 3, "events that were open are closed with each source"


def test_the_supervisor_opens_a_failed_camera_again_by_itself():
    """Nobody is there: the camera fails, and the agent's own supervisor starts it again after a wait."""
    stop = Stop()
    line = Line(lambda frame: stop.set() if frame.index == 4 else None)
    duty = seeing([Played(pictures(2), "unreachable"), Played(pictures(5))], line)
    supervisor = threading.Thread(target=Supervisor([duty], stop).run, daemon=True)
    supervisor.start()
    supervisor.join(60)
    assert not supervisor.is_alive()
    assert len(line.seen) == 7
    assert duty.totals().dropped == {"unreachable": 1}


def test_a_sensor_that_does_not_come_back_ends_the_agent_for_a_new_process():
    """It worked, then each opening is in vain and leaks memory: the agent ends with an error, systemd starts it afresh."""
    sources = [Played(pictures(3), "no_frames", bound=True)] + [CameraError("missing", "no memory")] * LOST_AFTER
    duty = seeing(sources)
    errors = [runs(duty) for _ in range(LOST_AFTER)]
    assert [type(error) for error in errors] == [BoardError] * (LOST_AFTER - 1) + [CameraLostError]
    assert errors[-1].exit_code != 0
    assert "afresh" in errors[-1].hint
    stop = Stop()
    lost = seeing([Played(pictures(1), "no_frames", bound=True), *[CameraError("missing", "no memory")] * 9])
    lost.run = lambda stop, progress, run=lost.run: run_all(run, stop, progress)
    with pytest.raises(CameraLostError):
        Supervisor([lost], stop).run()
    assert stop.is_set(), "all other duties end with it"


def run_all(run, stop, progress):
    """Without the supervisor's waits between two failures."""
    while True:
        try:
            return run(stop, progress)
        except BoardError:
            continue


def test_a_sensor_that_was_never_there_or_a_usb_camera_ends_nothing():
    """A board without a camera must not restart for ever, and a USB camera costs nothing to open again."""
    absent = seeing([CameraError("missing", "no camera")] * 9)
    assert [type(runs(absent)) for _ in range(9)] == [BoardError] * 9
    usb = seeing([Played(pictures(2), "unreachable"), *[CameraError("missing", "no device")] * 8])
    assert [type(runs(usb)) for _ in range(9)] == [BoardError] * 9
    good = seeing([Played(pictures(2), "no_frames", bound=True) for _ in range(9)])
    assert [type(runs(good)) for _ in range(9)] == [BoardError] * 9, "it gives frames each time"


def test_the_real_sensors_code_leads_there_too():
    """picamera2 falls silent and every opening leaks: three attempts, then the agent asks for a new process; nothing is held."""
    world = picamera2_fake.World(cma_bytes=3 * 2**20)
    world.leaks, world.frames_per_camera = True, 5
    chosen = SensorSettings(main_px=(320, 240), lores_px=(160, 120), load=lambda: world, load_colour=lambda: None,
                            monotonic_s=lambda: world.now_s, boottime_s=lambda: world.now_s + world.boot_ahead_s)
    duty = Seeing("yard", lambda: SensorCamera("yard", chosen), Line(), Sinks(lambda update: None, lambda timings: None))
    errors = []
    while not errors or not isinstance(errors[-1], CameraLostError):
        errors.append(runs(duty))
        assert len(errors) < 20
    assert not world.open
    assert all(camera.held == 0 for camera in world.made if camera.camera_config)
    assert duty.totals().frames == 5 * sum(error.message.count("no frame") for error in errors)


def test_the_health_of_the_picture_reaches_the_heartbeat():
    """Somebody tapes the lens over: the next heartbeat says covered, with the reasons of what was lost."""
    grain = np.random.default_rng(7)
    tape = [np.full((96, 128, 3), 90, np.uint8) + grain.integers(0, 2, (96, 128, 3), np.uint8) for _ in range(10)]
    duty = seeing([Played(pictures(40) + tape, "waits", dropped={"late": 3})])
    stop, thread = Stop(), None
    reached = threading.Event()
    duty._pipeline.on_frame = lambda frame: reached.set() if frame.index == 49 else None
    thread = threading.Thread(target=runs, args=(duty, stop), daemon=True)
    thread.start()
    assert reached.wait(60)
    window = Window("boot", 0.0)
    reading = Reading("idle", None, "", 0, [duty.totals()], SpoolHealth(), HostHealth(), 0, "info", None, False)
    beat = window.close(reading, at_s=1.0, monotonic_s=30.0)
    stop.set()
    thread.join(60)
    assert beat.cameras[0].state == "covered"
    assert beat.cameras[0].dropped == {"late": 3}
    assert beat.cameras[0].frames == 50


def test_closing_while_a_winner_is_cut_is_no_failure():
    """SIGTERM comes in the middle of a step: the large picture is gone under the reader's hands; the camera did not fail."""
    stop = Stop()

    def cut_late(frame):
        stop.set()
        raise CameraError("closed", "the large picture has gone back to the sensor")

    duty = seeing([Played(pictures(3))], Line(cut_late))
    assert runs(duty, stop) is None
    assert duty.totals().dropped == {}
    assert duty.totals().state != "ended"


def test_a_camera_is_switched_off_and_on_while_it_runs():
    """The operator switches a camera off: its device is given back, the state says off; later it is asked for again."""
    first, second = Played(pictures(2), "waits"), Played(pictures(2), "waits")
    line, stop, frames = Line(), Stop(), threading.Semaphore(0)
    line.on_frame = lambda frame: frames.release()
    duty = seeing([first, second], line)
    thread = threading.Thread(target=runs, args=(duty, stop), daemon=True)
    thread.start()
    assert frames.acquire(timeout=60)
    assert frames.acquire(timeout=60)
    duty.use(enabled=False, fps=None)
    assert first.closed.wait(60)
    assert duty.totals().state == "off"
    duty.use(enabled=True, fps=None)
    assert frames.acquire(timeout=60)
    assert frames.acquire(timeout=60)
    assert duty.totals().state == "ok"
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert second.closed.is_set()
    assert duty.totals().frames == 4


def test_a_camera_that_is_off_from_the_start_is_not_opened():
    """Its lens looks at something private: nothing is opened before somebody switches it on."""
    line, stop, progressed = Line(), Stop(), threading.Event()
    duty = seeing([], line)
    duty.use(enabled=False, fps=None)
    thread = threading.Thread(target=duty.run, args=(stop, progressed.set), daemon=True)
    thread.start()
    assert progressed.wait(60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert duty.totals().state == "off"


def test_a_limit_of_frames_is_kept_and_a_source_of_the_same_rate_loses_none():
    """2 frames a second of 10; and a camera whose own 10 jitter by a third of a period, limited to 10: all of them."""
    class Timed(Played):
        def __init__(self, at):
            super().__init__([])
            self.at = at

        def frames(self):
            for index, at_s in enumerate(self.at):
                yield Frame("yard", index, at_s, 0.0, GRAIN)

    thinned = Line()
    duty = seeing([Timed([n / 10 for n in range(100)])], thinned)
    duty.use(enabled=True, fps=2.0)
    runs(duty)
    assert len(thinned.seen) == pytest.approx(20, abs=1)
    jittered = Line()
    duty = seeing([Timed([n / 10 + (n % 2) * 0.033 for n in range(100)])], jittered, fps=10.0)
    runs(duty)
    assert len(jittered.seen) >= 98


def test_a_seat_hears_of_each_frame_and_of_newer_ones():
    """The seat at the shared detector is told when a frame is through, and asks the running source for a newer one."""
    told = types.SimpleNamespace(passed=0, newer=None)
    seat = types.SimpleNamespace(follow=lambda newer: setattr(told, "newer", newer),
                                 passed=lambda: setattr(told, "passed", told.passed + 1))
    source = Played(pictures(3))
    asked = []
    line = Line(lambda frame: asked.append(told.newer()))
    duty = seeing([source], line, seat=seat)
    source.newer = True
    assert told.newer() is False, "no source is open"
    runs(duty)
    assert asked == [True] * 3
    assert told.passed == 3
