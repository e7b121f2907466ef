"""Heartbeats: windows of totals, latencies, and a board whose files may be missing or nonsense."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from device_agent.telemetry.latency import StageHistogram
from device_agent.telemetry.probes_linux import read_host
from device_agent.telemetry.window import CameraTotals, Reading, Window
from ota.wire.codec import decode, encode
from ota.wire.heartbeat import Heartbeat, HostHealth, SpoolHealth


def reading(*cameras: CameraTotals) -> Reading:
    return Reading(
        state="idle", running=None, accelerator_reason="", detector_restarts=0, cameras=list(cameras), spool=SpoolHealth(),
        host=HostHealth(), bytes_sent=10, log_level="info", log_level_until_s=None, broker_connected=False,
    )  # fmt: skip


def test_a_heartbeat_tells_its_window_only() -> None:
    """Totals since the start go in; the second heartbeat counts what came after the first."""
    window = Window("boot", 100.0)
    first = CameraTotals("yard", frames=100, gated_frames=40, frames_with_detection=10, brightness_sum=10_000.0)
    window.close(reading(first), at_s=1.0, monotonic_s=110.0)
    window.stage({"invoke": 5.0})
    second = CameraTotals(
        "yard", frames=160, gated_frames=50, frames_with_detection=15, brightness_sum=19_000.0, dropped={"late": 30}
    )
    beat = window.close(reading(second), at_s=2.0, monotonic_s=130.0)
    camera = beat.cameras[0]
    assert (beat.sequence, beat.uptime_s, beat.window_s) == (2, 30.0, 20.0)
    assert (camera.frames, camera.gated_frames, camera.frames_with_detection) == (60, 10, 5)
    assert (camera.processed_fps, camera.camera_fps, camera.brightness) == (3.0, 4.5, 150.0)
    assert beat.latency["invoke"].count == 1
    assert beat.detection_share == 15 / 50
    assert decode(Heartbeat, encode(beat)) == beat


def test_a_camera_that_gave_nothing_is_said_so() -> None:
    beat = Window("boot", 0.0).close(reading(CameraTotals("yard")), at_s=1.0, monotonic_s=10.0)
    assert beat.cameras[0].state == "no_frames"


@given(st.lists(st.floats(0.001, 30_000), min_size=1, max_size=200))
def test_percentiles_are_right_to_a_tenth(values: list[float]) -> None:
    histogram = StageHistogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(0, -(-len(values) // 2) - 1)]
    assert exact * 0.99 - 0.01 <= histogram.percentile_ms(0.5) <= max(0.011, exact * 1.11)


def test_a_pi_tells_its_temperature_and_throttling(tmp_path: Path) -> None:
    """The files as a Pi 4 has them."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("61234\n")
    firmware = tmp_path / "sys/devices/platform/soc/soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50005\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 3884136 kB\nMemAvailable: 1000 kB\n")
    (tmp_path / "proc/loadavg").write_text("0.52 0.6 0.7 1/200 999\n")
    host = read_host(tmp_path, tmp_path)
    assert host.cpu_temp_c == 61.234
    assert host.throttled == 0x50005
    assert host.memory_available_bytes == 1_024_000
    assert host.load_1m == 0.52
    assert host.disk_free_bytes
    assert host.agent_rss_bytes


def test_nonsense_is_not_a_reading(tmp_path: Path) -> None:
    """A dead sensor, an empty file, a folder where a file should be: not known, and no error."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal")
    (zone / "temp").write_text("-273000")
    (tmp_path / "proc/meminfo").mkdir(parents=True)
    (tmp_path / "proc/loadavg").write_text("")
    host = read_host(tmp_path, tmp_path / "not there")
    assert (host.cpu_temp_c, host.load_1m, host.memory_available_bytes, host.disk_free_bytes) == (None, None, None, None)
