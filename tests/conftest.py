"""What holds for every test: where the real material lies, and which reasons may skip a test in continuous integration."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def assets_folder() -> Path:
    """Real models, pictures and films made by others: beside the repository, or where ROOKERY_ASSETS says."""
    return Path(os.environ.get("ROOKERY_ASSETS") or ROOT.parent / "shared" / "assets")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):  # type: ignore[attr-defined]
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)  # type: ignore[attr-defined]
        if not any(re.search(allowed, reason) for allowed in ALLOWED_SKIPS):
            _forbidden.append(f"{item.nodeid}: {reason}")
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") == "true" and _forbidden and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") == "true" and _forbidden:
        terminalreporter.section("skipped without leave")
        for line in _forbidden:
            terminalreporter.line(line)
