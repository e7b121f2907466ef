"""The whole loop with the real processes: mosquitto, TLS, gunicorn, three agents, the command line, a story of six releases."""

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
    """Claims, tokens and passwords of the run stand in none of its logs."""
    secrets = [(home / "run" / "token").read_text().strip()]
    setup = home / "run" / "server" / "setup-link"
    secrets += [setup.read_text().strip().rpartition("=")[2]] if setup.exists() else []
    secrets.append("only for this demo")
    for log in [*(home / "run").rglob("*.log"), *(home / "run").rglob("logs/**/*")]:
        if log.is_file():
            text = log.read_text(errors="replace")
            for secret in secrets:
                assert secret not in text or log.name == "server.log", f"a secret stands in {log}"
            assert "rkc_" not in text, f"a claim stands in {log}"
            assert "PRIVATE KEY" not in text, f"a private key stands in {log}"


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
