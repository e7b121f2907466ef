"""One enrolled board with bad intentions at the device door, over both databases: never a 500, and the pages still open."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fleet_server.app import create_operator_app
from fleet_server.blobs.store_disk import DiskBlobStore
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment.identity import peer_certificate
from fleet_server.settings import Settings
from ota.trust.key_types import CryptoSigner
from ota.wire import topics

MOST = 2**53 - 1
EVIL = "<script>alert(1)</script>\\u0000\\ud83d\\ude00\\u202e\\u001b[2J' OR 1=1 --{{7*7}}%s"
"""As it stands inside a JSON string: markup, NUL, a letter beyond 16 bits, a direction change, an escape, quotes."""


@pytest.fixture
def server(settings: Settings, database: Database, clock: Any, repository: Any) -> Context:
    """The context over both kinds of database."""
    blobs = DiskBlobStore(settings.data_dir / "blobs", secret=b"s" * 32, base_url=settings.device_url, clock=clock)
    return Context(
        settings=replace(settings, host="localhost"), database=database, blobs=blobs, repository=repository,
        signer=CryptoSigner.generate_ecdsa(), clock=clock, certificate_of=peer_certificate, web_secret=b"w" * 32,
        factor_key=b"f" * 32,
    )  # fmt: skip


def messages() -> list[tuple[str, dict[str, Any]]]:
    word = "EVIL"
    one = {
        "sequence": MOST, "id": "e1", "revision": MOST, "camera": word, "track": MOST, "label": word, "rule": word,
        "rule_kind": "zone", "zone": word, "started_at_s": 2**34 - 1, "start_frame": MOST, "end_frame": 0, "score": 1,
        "threshold": 0, "box": [1e15, -1e15, 0, 5e-324], "frame_width_px": MOST, "frame_height_px": 0,
        "bundle_sha256": "0" * 64, "release": word,
    }  # fmt: skip
    facts = {
        "profile": "rpi-5", "board_model": word, "serial": word, "machine": "x", "memory_bytes": MOST, "python": word,
        "agent_version": word, "os": word, "runtimes": {"x": word},
        "accelerators": [{"kind": "edgetpu-usb", "present": True, "usable": False, "reason": word}],
    }  # fmt: skip
    report = {
        "sequence": MOST, "at_s": 0, "assignment_seq": MOST, "target_sha256": "0" * 64, "target": word, "state": "committed",
        "detail": word, "running": word, "variant_reason": word, "figures": {"a": 1e15, "b": -1e15}, "attempt": MOST,
    }  # fmt: skip
    camera = {"camera": word, "processed_fps": 1e15, "frames": MOST, "gated_frames": 1, "frames_with_detection": MOST}
    beat = {
        "sequence": MOST, "boot_id": "b", "at_s": 0, "uptime_s": -1e15, "window_s": 0, "state": "idle",
        "accelerator_reason": word, "cameras": [camera, camera], "host": {"cpu_temp_c": -1e15, "load_1m": 1e15},
        "latency": {"total": {"p50_ms": 1e15, "p95_ms": -1e15, "count": MOST}}, "bytes_sent": MOST,
        "running": {"name": word, "version": word, "bundle_sha256": "0" * 64, "variant": "v", "slot": "s"},
    }  # fmt: skip
    line = {"sequence": MOST, "at_s": 2**34 - 1, "level": "zzz", "logger": word, "text": word}
    batch = {"v": 1, "boot_id": "b"}
    return [
        (topics.EVENTS, {**batch, "events": [one]}),
        (topics.REPORTS, {**batch, "counter": MOST, "highest_seq": MOST, "reports": [report], "facts": facts}),
        (topics.LOGS, {**batch, "lines": [line], "dropped": MOST}),
        (topics.HEARTBEATS, {"v": 1, **beat}),
        (topics.STATE, {"v": 1, "nonce": word * 5, "seq": MOST}),
    ]


def test_words_and_numbers_of_a_hostile_board(server: Context, device_door: Any, enrolled: Any, sign_in: Any) -> None:
    """Every text hostile and every number at its end, in every message it may send; then an operator opens every page."""
    device_door.certificate = enrolled.der
    for path, message in messages():
        body = json.dumps(message).replace("EVIL", EVIL)
        answer = device_door.client.post(path, data=body, content_type="application/json")
        assert answer.status_code == (400 if path == topics.STATE else 204 if path == topics.HEARTBEATS else 200), answer.text
    assert create_operator_app(server) is not None
    client = sign_in("admin")
    device = enrolled.device_id
    pages = ["/", "/devices", f"/devices/{device}", "/detections", "/detections/e1", f"/logs?device={device}&level=debug"]
    api = [f"/api/v1/devices/{device}{end}" for end in ("", "/reports", "/logs", "/heartbeats", "/why-not")]
    for path in [*pages, *api, "/api/v1/overview", "/api/v1/detections"]:
        answer = client.get(path, headers={"Accept": "application/json" if "/api/" in path else "text/html"})
        assert answer.status_code == 200, (path, answer.text[:500])
        assert answer.is_json or "<script>alert" not in answer.text, path


def test_a_number_beyond_all_measure_is_refused(server: Context, device_door: Any, enrolled: Any) -> None:
    """1e308 frames a second, of two cameras: PostgreSQL gives it back as an integer that no float can hold, and a page fails."""
    device_door.certificate = enrolled.der
    camera = {"camera": "c", "processed_fps": 1e308}
    beat = {"v": 1, "sequence": 1, "boot_id": "b", "at_s": 0, "uptime_s": 0, "window_s": 0, "state": "idle", "cameras": [camera]}
    answer = device_door.client.post(topics.HEARTBEATS, json=beat)
    assert answer.status_code == 400
    assert "processed_fps" in answer.json["detail"]
