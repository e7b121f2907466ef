"""What holds for every test: where the real material lies, which reasons may skip, and evidence of the slow tier."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's matter: no test fails on time.
settings.register_profile("rookery", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rookery")

ROOT = Path(__file__).resolve().parents[1]

ALLOWED_SKIPS = (
    r"the shared assets are absent",
    r"TUF_CONFORMANCE_DIR is not set",
    r"no loop device",
    r"nspawn refused by the kernel",
    r"ptrace refused by the kernel",
    r"picamera2 cannot be installed here",
)
"""With CI=true any other reason fails the run: a test that silently stopped running proves nothing."""

_forbidden: list[str] = []
_worker = False
"""Whether this process is one of several that share the tests out; set once at the start."""
_outcomes: dict[str, str] = {}


def assets_folder() -> Path:
    """Real models, pictures and films made by others: beside the repository, or where ROOKERY_ASSETS says."""
    return Path(os.environ.get("ROOKERY_ASSETS") or ROOT.parent / "shared" / "assets")


def evidence_file() -> Path | None:
    """Where ``./run test --slow PART`` keeps what was shown; None in the everyday tier."""
    given = os.environ.get("ROOKERY_EVIDENCE")
    return Path(given) if given else None


def commit() -> str:
    """The commit that is tested, with a mark when the tree differs from it (evidence itself aside)."""
    here = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", ".", ":!docs/evidence"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return here.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


LONG_FIRST = ("tests/system", "tests/drills", "tests/faults", "tests/browser")
"""Folders whose files run for minutes: begun first, so that no core waits for the last of them alone."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_FIRST))
    shown = evidence_file()
    if shown is not None and shown.exists():
        # A long matrix is taken up where it was interrupted, as long as it is the same commit.
        before = json.loads(shown.read_text())
        if before["commit"] == commit():
            done = {name for name, outcome in before["tests"].items() if outcome == "passed"}
            _outcomes.update(dict.fromkeys(done, "passed"))
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
            items[:] = [item for item in items if item.nodeid not in done]
    if assets_folder().is_dir():
        return
    for item in items:
        if item.get_closest_marker("assets"):
            item.add_marker(pytest.mark.skip(reason=f"the shared assets are absent ({assets_folder().name} not found)"))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real material; tests that use it are marked ``assets``."""
    if not assets_folder().is_dir():
        pytest.skip("the shared assets are absent")
    return assets_folder()


def pytest_configure(config: pytest.Config) -> None:
    global _worker
    _worker = hasattr(config, "workerinput")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if _worker:
        return  # whoever runs the whole hears of every test and counts
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(re.search(allowed, reason) for allowed in ALLOWED_SKIPS):
            _forbidden.append(f"{report.nodeid}: {reason}")
    if evidence_file() is not None and (report.when == "call" or report.outcome != "passed"):
        _outcomes[report.nodeid] = report.outcome
        _write_evidence()


def _write_evidence() -> None:
    target = evidence_file()
    assert target is not None
    counts = {outcome: sum(value == outcome for value in _outcomes.values()) for outcome in ("passed", "failed", "skipped")}
    document = {"commit": commit(), "date": time.strftime("%Y-%m-%d", time.gmtime()), "counts": counts, "tests": _outcomes}
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    temporary.replace(target)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and _outcomes and set(_outcomes.values()) == {"passed"}:
        session.exitstatus = 0  # everything was shown before at this commit
    if os.environ.get("CI") == "true" and _forbidden and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") == "true" and _forbidden:
        terminalreporter.section("skipped without leave")
        for line in _forbidden:
            terminalreporter.line(line)
