"""Many boards at once: a simulated fleet on the real wire, with real keys, against the real server."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_process import DEMO, ROOT, processes_of

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent


@pytest.fixture
def demo_modules() -> Iterator[Any]:
    """The demo's own parts: they start a server in three lines."""
    sys.path.insert(0, str(DEMO))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(DEMO))


def simulate(demo_modules: Any, home: Path, devices: int, deadline_s: float) -> None:
    """Enrol ``devices`` boards with a claim each, send them a release, and see each of them finish it."""
    stage_module, fleet, material = demo_modules("stage"), demo_modules("fleet"), demo_modules("material")
    processes = demo_modules("processes").Processes(home / "run" / "logs")
    try:
        options = stage_module.Options(home=home, port=fleet.free_port(20_000))
        stage = stage_module.Stage(options, processes, lambda text: None)
        stage.work.mkdir(parents=True, exist_ok=True)
        stage.start_server()
        stage.make_trust()
        stage.push(stage.build(material.STORY[0]))
        claims = home / "claims"
        claims.write_text(stage.cli.run("-o", "name", "claim", "create", "--count", str(devices), "--group", "simulated"))
        processes.start("simulator", [
            str(BIN / "rookery-agent"), "simulate", "--server", stage.server["device_url"], "--ca", stage.server["ca_file"],
            "--claims", str(claims), "--devices", str(devices), "--root", str(stage.work / "offline" / "trust" / "root.json"),
            "--folder", str(home / "simulated"), "--pace", "2",
        ])  # fmt: skip

        def online() -> int:
            return int(stage.api.get("/overview")["devices"]["online"])

        processes.wait_until(f"{devices} devices online", lambda: online() == devices, deadline_s)
        serials = {device["certificate"]["serial"] for device in stage.api.items("/devices", limit=1000)}
        assert len(serials) == devices
        made = stage.cli.json("rollout", "create", "yard@1", "--group", "simulated", "--stages", "10%,100%")

        def ended() -> bool:
            return bool(stage.api.get(f"/rollouts/{made['id']}")["state"] != "running")

        processes.wait_until("the end of the rollout", ended, deadline_s)
        rollout = stage.api.get(f"/rollouts/{made['id']}")
        assert (rollout["state"], rollout["counts"]["committed"]) == ("finished", devices), rollout["reason"]
        processes.wait_until("events from the simulated fleet", lambda: stage.api.get("/overview")["events_24h"] > 0, deadline_s)
    finally:
        processes.close()
    assert processes_of(home) == []


@pytest.mark.timeout(300)
def test_fifty_boards_enrol_and_take_a_release(demo_modules: Any, tmp_path: Path) -> None:
    """Fifty boards, each with its own key and TUF client: all end with the release committed, in two stages."""
    simulate(demo_modules, tmp_path / "home", 50, 120)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_thousand_boards_enrol_and_take_a_release(demo_modules: Any, tmp_path: Path) -> None:
    simulate(demo_modules, tmp_path / "home", 1000, 1000)


def test_a_claims_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """Three boards and one claim: said at once, nothing started."""
    (tmp_path / "claims").write_text("rkc_only_one_of_them_is_here\n")
    done = subprocess.run(
        [str(BIN / "rookery-agent"), "simulate", "--server", "https://127.0.0.1:1", "--ca", str(tmp_path / "ca.pem"),
         "--claims", str(tmp_path / "claims"), "--devices", "3", "--duration", "1"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
