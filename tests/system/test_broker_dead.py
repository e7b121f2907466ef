"""The broker dies at the first second and never returns: every event arrives all the same, by HTTPS."""

import importlib
import json
import os
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
    """The demo's own parts: they start a server and boards in three lines."""
    sys.path.insert(0, str(DEMO))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(DEMO))


def expected_events(film: Path, release: Path, folder: Path) -> int:
    """What the same model sees in the same film without any server."""
    zone = {"zones": [{"name": "the yard", "polygon": [[0.02, 0.25], [0.98, 0.25], [0.98, 0.98], [0.02, 0.98]], "dwell_s": 0.5}]}
    (folder / "zone.json").write_text(json.dumps(zone))
    out = folder / "events.ndjson"
    subprocess.run(
        [str(BIN / "rookery-agent"), "run", "--source", f"film:{film}", "--model", str(release / "model_float32.tflite"),
         "--labels", str(release / "labels.txt"), "--card", str(release / "card.toml"), "--zone", str(folder / "zone.json"),
         "--events", str(out)],
        check=True, cwd=ROOT, capture_output=True,
    )  # fmt: skip
    return len(out.read_text().splitlines())


@pytest.mark.timeout(300)
def test_every_event_arrives_without_a_broker(demo_modules: Any, films: Path, tmp_path: Path) -> None:
    """mosquitto is installed and ends at once, each time it is started; the devices were told that there is one."""
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "mosquitto").write_text("#!/bin/sh\necho 'this broker dies at the first second' >&2\nexit 1\n")
    (broken / "mosquitto").chmod(0o755)
    stage_module, boards, fleet = demo_modules("stage"), demo_modules("boards"), demo_modules("fleet")
    processes_module, material = demo_modules("processes"), demo_modules("material")
    home = tmp_path / "home"
    home.mkdir()
    (home / "films").symlink_to(films)
    film = films / "yard-0.mp4"
    material.draw_film(film, seed=1)
    processes = processes_module.Processes(home / "run" / "logs")
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{broken}:{path}"
    try:
        stage = stage_module.Stage(stage_module.Options(home=home, port=fleet.free_port(20_000)), processes, lambda text: None)
        stage.work.mkdir(parents=True, exist_ok=True)
        stage.start_server()
        stage.make_trust()
        bundle = stage.build(material.STORY[0])
        stage.push(bundle)
        board = boards.BOARDS[0]
        folder = stage.work / "boards" / board.name
        folder.mkdir(parents=True)
        stage.cli.run("claim", "create", "--name", board.name, "--out", str(folder / "claim"))
        root = stage.work / "offline" / "trust" / "root.json"
        config = fleet.write_agent(board, folder, server=stage.server, bundle=bundle, root=root, film=film)
        config.write_text(config.read_text().replace('pacing = "live"\nloop = true', 'pacing = "recorded"'))
        wanted = expected_events(film, material.RELEASES / "yard-1", tmp_path)
        assert wanted > 3
        fleet.start_agent(processes, Path(sys.executable), board, config)
        processes.wait_until(
            f"the arrival of {wanted} events", lambda: len(stage.api.items("/detections", limit=1000)) >= wanted, 120
        )
        found = stage.api.items("/detections", limit=1000)
        assert len(found) == wanted
        assert len({event["id"] for event in found}) == wanted
        processes.wait_until("a heartbeat by HTTPS", lambda: bool(stage.api.items("/devices")[0].get("heartbeat")), 60)
        assert stage.api.items("/devices")[0]["heartbeat"]["broker_connected"] is False
        assert stage.api.get("/overview")["broker"]["connected"] is False
    finally:
        os.environ["PATH"] = path
        processes.close()
    assert processes_of(home) == []
