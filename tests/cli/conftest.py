"""The command line as a person starts it: a process of its own, against the real operator door in a thread."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.operator_site import NAME, PASSWORD, OperatorSite, operator_site
from tests.fakes.softhsm_token import SoftToken

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str


Rookery = Callable[..., Answer]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands of one file run."""
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorSite]:
    """An operator door with one admin."""
    with operator_site(tmp_path_factory.mktemp("site") / "data") as made:
        made.add_operator()
        yield made


@pytest.fixture(scope="module")
def rookery(workplace: Path) -> Rookery:
    """``rookery("device", "list", …, stdin=, …)``: without a terminal, as in a script. A stack trace is never an answer."""

    def call(*arguments: object, stdin: str = "", **environment: str) -> Answer:
        variables = {
            key: value for key, value in os.environ.items() if not key.startswith("ROOKERY_")
        } | {"ROOKERY_CONFIG": str(workplace / "config.toml"), "PYTHONPATH": str(ROOT), **environment}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "fleet_server.cli.main", *map(str, arguments)], input=stdin, capture_output=True,
            text=True, cwd=workplace, env=variables, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="module")
def signed_in(site: OperatorSite, rookery: Rookery) -> OperatorSite:
    """The same site, remembered by ``rookery login``."""
    answer = rookery("login", "--server", site.url, "--name", NAME, "--password-stdin", stdin=PASSWORD + "\n")
    assert answer.code == 0, answer.err
    return site


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    """A token in software. One for the whole run: the library reads where it lies once per process."""
    if SoftToken.missing():
        pytest.skip("softhsm2 is not installed")
    made = SoftToken(tmp_path_factory.mktemp("token"))
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(made.config)
    yield made
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
