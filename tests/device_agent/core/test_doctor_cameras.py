"""The doctor on cameras: what to do follows the fault and the kind of camera, no password is said, and ten seconds are ten."""

import socket
import sys
import threading

import pytest

from device_agent import doctor_cameras_linux
from device_agent.doctor_cameras_linux import look_at_camera
from device_agent.doctor_link_http import look_at_link
from device_agent.settings import CameraSection, ServerSection
from device_agent.vision.types import CameraError


def looked(source):
    finding = look_at_camera(CameraSection(name="gate", source=source))
    assert finding.state == "bad"
    assert "geheim" not in finding.line()
    return finding


@pytest.fixture
def listening():
    """A port that takes connections and says nothing."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()
        yield port.getsockname()[1]


def test_a_stream_that_nobody_serves_is_a_matter_of_the_network():
    """The camera is off: nothing to plug in, no group to join."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it
        finding = looked(f"opencv:rtsp://user:geheim@127.0.0.1:{free.getsockname()[1]}/live")
    assert finding.code == "unreachable"
    assert "host and port" in finding.advice
    assert "network" in finding.advice
    assert "group video" not in finding.advice


def test_a_stream_that_answers_and_gives_nothing_keeps_the_deadline(listening, monkeypatch):
    """A wrong password or path, or a camera that hangs: told at the deadline, with what to check in the address."""
    monkeypatch.setattr(doctor_cameras_linux, "LOOK_S", 0.5)
    finding = looked(f"opencv:rtsp://user:geheim@127.0.0.1:{listening}/live")
    assert finding.code == "no_frames"
    assert "0.5 s" in finding.detail
    assert "user and password" in finding.advice


def test_a_driver_that_never_returns_holds_up_nobody(monkeypatch):
    """Opening hangs for good in the driver: the finding comes all the same."""
    monkeypatch.setattr(doctor_cameras_linux, "LOOK_S", 0.2)
    over, late = threading.Event(), threading.Event()

    class Slow:
        frames = staticmethod(lambda: iter(()))
        close = staticmethod(late.set)

    def hangs(settings):
        over.wait()
        return Slow()

    monkeypatch.setattr(doctor_cameras_linux, "open_camera", hangs)
    assert looked("picamera2").code == "no_frames"
    over.set()
    assert late.wait(60.0), "what opens at last is closed at once"


def test_a_driver_that_breaks_is_a_finding(monkeypatch):
    """Whatever a driver raises: words, and the other checks go on."""

    def breaks(settings):
        raise RuntimeError("VIDIOC_S_FMT")

    monkeypatch.setattr(doctor_cameras_linux, "open_camera", breaks)
    finding = looked("opencv:/dev/null")
    assert finding.code == "failed"
    assert "VIDIOC_S_FMT" in finding.detail


def test_a_usb_camera_that_is_missing_and_one_that_may_not_be_opened(monkeypatch):
    """The cable; then the group. Nothing of networks."""
    missing = looked("opencv:/dev/video97")
    assert (missing.code, "cable" in missing.advice, "group" in missing.advice) == ("missing", True, False)
    monkeypatch.setattr(doctor_cameras_linux.os, "access", lambda path, mode: False)
    closed = looked("opencv:/dev/null")
    assert (closed.code, "group video" in closed.advice, "cable" in closed.advice) == ("permission", True, False)


def test_a_sensor_without_its_library_needs_no_ribbon_cable(monkeypatch):
    """picamera2 is not installed: a package, not a screwdriver. Only a sensor that is missing has a cable to seat."""
    monkeypatch.setitem(sys.modules, "picamera2", None)
    finding = looked("picamera2")
    assert finding.code == "not_installed"
    assert "apt install python3-picamera2" in finding.advice
    assert "ribbon" not in finding.advice

    def no_sensor(settings):
        raise CameraError("missing", "there is no camera 0")

    monkeypatch.setattr(doctor_cameras_linux, "open_camera", no_sensor)
    assert "ribbon" in looked("picamera2").advice


def test_an_address_that_is_no_source_is_corrected_in_the_settings():
    assert "agent.toml" in looked("opencv:nonsense").advice


def test_an_authority_that_is_missing_is_one_sentence(tmp_path):
    """Not a settings error within a finding, and no errno."""
    (tmp_path / "empty.pem").write_text("no certificate at all")
    for name, words in (("none.pem", "cannot be read: No such file"), ("empty.pem", "holds no certificate")):
        finding = look_at_link(ServerSection(url="https://127.0.0.1:1", ca_file=tmp_path / name))
        assert finding.code == "ca_file"
        assert words in finding.detail
        assert "Errno" not in finding.detail
        assert "\n" not in finding.detail
        assert "fault" not in finding.detail
