"""The whole loop with the real processes: mosquitto, TLS, gunicorn, three agents, the command line, a story of six releases."""

import re
from pathlib import Path

import pytest
from demo_process import DemoRun, run_demo

pytestmark = pytest.mark.system

STEPS = ["enrolment", "detection", "better release", "bad releases", "tampering", "remote log", "second look"]


def check_result(run: DemoRun) -> None:
    assert run.status == 0, run.output
    assert run.result is not None
    assert [step["name"] for step in run.result["steps"]] == STEPS
    assert run.untrue == []
    assert set(run.result) == {
        "devices_enrolled", "events", "crops_delivered", "verdicts", "bytes_sent", "bytes_baseline_gated_jpeg", "releases",
        "steps", "duration_s",
    }  # fmt: skip
    assert run.result["devices_enrolled"] == 3
    assert run.result["events"] >= 3
    assert run.result["crops_delivered"] >= run.result["events"]
    assert 0 < run.result["bytes_sent"] < run.result["bytes_baseline_gated_jpeg"]
    fates = {release["version"]: release for release in run.result["releases"]}
    assert (fates["2"]["committed"], fates["2"]["refused"], fates["2"]["rolled_back"]) == (3, 0, 0)
    assert (fates["3-boxes"]["committed"], fates["3-boxes"]["refused"]) == (0, 1)
    assert (fates["4-night"]["committed"], fates["4-night"]["rolled_back"]) == (0, 1)
    assert [fates[version]["refused"] for version in ("5-torn", "6-forged")] == [3, 3]


def no_secret_in_logs(home: Path) -> None:
    """Claims, tokens, passwords, keys and signatures of the run stand in none of its logs: server, boards, broker."""
    run = home / "run"
    secrets = {"token": (run / "token").read_text().strip(), "password": "only for this demo"}
    setup, inside = run / "server" / "setup-link", run / "server" / "mosquitto" / "inside-password"
    if setup.exists():
        secrets["setup link"] = setup.read_text().strip().rpartition("=")[2]
    if inside.exists():
        secrets["broker"] = inside.read_text().strip()
    for path in run.rglob("*"):
        if path.is_file() and path.stat().st_size < 8192 and path.suffix in (".key", ".pem"):
            lines = path.read_text(errors="replace").splitlines()
            if lines and "PRIVATE KEY" in lines[0]:
                secrets[f"key {path}"] = lines[1]
    assert sum(name.startswith("key ") for name in secrets) >= 5, sorted(secrets)
    logs = {log for log in [*run.rglob("*.log"), *run.rglob("logs/**/*")] if log.is_file()}
    assert len(logs) >= 6
    for log in logs:
        text = log.read_text(errors="replace")
        assert [name for name, secret in secrets.items() if secret in text] == [], f"a secret stands in {log}"
        for sign in ("rkc_", "rkt_", "PRIVATE KEY-----", r"[?&]signature=(?!\[)"):
            assert not re.search(sign, text), f"{sign} stands in {log}"


@pytest.mark.timeout(600)
def test_the_story_with_mosquitto(demo_home: Path, films: Path, mosquitto: str) -> None:
    """Three boards enrol, see, take a better release, refuse or roll back four bad ones; every step is judged from the API."""
    run = run_demo(demo_home, films)
    assert "broker: mosquitto" in run.output
    check_result(run)
    no_secret_in_logs(demo_home)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_story_without_a_broker(demo_home: Path, films: Path) -> None:
    """No mosquitto anywhere: devices use HTTPS alone, and the story is the same."""
    run = run_demo(demo_home, films, "--no-broker")
    assert "no broker" in run.output
    check_result(run)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("broken", "step"),
    [
        ("server", "enrolment"),
        ("unsigned", "better release"),
        ("acceptance", "bad releases"),
        ("trial", "bad releases"),
        ("tamper", "tampering"),
        ("log", "remote log"),
        ("verifier", "second look"),
    ],
)
def test_breaks_are_named(demo_home: Path, films: Path, broken: str, step: str) -> None:
    """Each promise broken on purpose: the demo must end non-zero and name the step, or its green is worth nothing."""
    run = run_demo(demo_home, films, "--break", broken, deadline_s=600)
    assert run.status == 1, run.output
    assert step in run.untrue
    assert step in run.output.rpartition("not true:")[2]
