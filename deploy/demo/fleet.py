"""The server and the boards of the demo, as processes."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boards import BOARDS, DemoBoard, lay
from processes import DemoError, Processes

START_DEADLINE_S = 60.0
OPERATOR_PORT = 8080
ZONE = [[0.02, 0.25], [0.98, 0.25], [0.98, 0.98], [0.02, 0.98]]


def free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """``wanted``, or the next port after it that nobody listens on."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise DemoError(f"no free port between {wanted} and {wanted + 99}")


def start_server(
    processes: Processes, binary: Path, data: Path, port: int, broker: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Start ``rookery-server`` and wait until it says where it listens: the content of its run.json."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [str(binary), "run", "--data", str(data), "--operator-port", str(port), "--device-port", "0", "--broker", broker]
    processes.start("server", command, environment)
    run_file = data / "run.json"
    processes.wait_until("the start of the fleet server", run_file.exists, START_DEADLINE_S)
    found: dict[str, Any] = json.loads(run_file.read_text())
    return found


def write_agent(
    board: DemoBoard,
    folder: Path,
    *,
    server: Mapping[str, Any],
    bundle: Path,
    root: Path,
    film: Path,
    trial: str = "",
    log_level: str = "info",
) -> Path:
    """Lay one board and write its agent.toml and policy beside its claim; returns the configuration file."""
    lay(board, folder / "root")
    (folder / "policy.toml").write_text('channels = ["stable"]\n')
    config = folder / "agent.toml"
    config.write_text(f"""policy = "policy.toml"

[agent]
data_dir = "data"
board_root = "root"
name = "{board.name}"
log_level = "{log_level}"

[server]
url = "{server["device_url"]}"
ca_file = "{server["ca_file"]}"
claim_file = "claim"
poll_s = 2

[factory]
bundle = "{bundle}"
root = "{root}"

[detector]
threads = 1

[telemetry]
heartbeat_s = 5
https_heartbeat_s = 5

[logs]
upload_level = "info"

[trial]
deadline_s = 120
# Three boards, a server and its command line share this machine's cores: frames per second say little here.
min_fps_ratio = 0.3
{trial}

[[camera]]
name = "{board.name}-camera"
source = "film:{film}"
pacing = "live"
loop = true

[[zone]]
camera = "{board.name}-camera"
name = "the yard"
polygon = {ZONE}
dwell_s = 0.5
""")
    return config


def start_agent(processes: Processes, python: Path, board: DemoBoard, config: Path) -> None:
    """Start one agent through its launcher, as systemd would."""
    processes.start(f"agent-{board.name}", [str(python), "-m", "device_agent.launcher", "--config", str(config)],
                    {"ROOKERY_WHERE": "demo", "OMP_NUM_THREADS": "1", "OPENCV_FFMPEG_LOGLEVEL": "8"})  # fmt: skip


__all__ = ["BOARDS", "OPERATOR_PORT", "free_port", "start_agent", "start_server", "write_agent"]
