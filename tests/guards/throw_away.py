"""A throw-away copy of the tree, in which a guard is switched off and its tests are run. The tree itself is never touched."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from tests.guards.guard import Guard, off

ROOT = Path(__file__).resolve().parents[2]
_MTIMES_S = itertools.count(946_684_800)
"""Python takes compiled code for its source by time and length: each patched file gets a time of its own."""


class ThrowAway:
    """The files that git knows of (as they stand in the working tree), in ``folder``."""

    def __init__(self, folder: Path, named: Sequence[str] = ()) -> None:
        self.folder = folder
        self._named = named
        """Tests that will be asked for: those of one file are run together, once, with all guards on."""
        self._whole: dict[str, set[str]] = {}
        self._forked: subprocess.Popen[str] | None = None
        for name in _files():
            source, target = ROOT / name, folder / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        if (ROOT / ".venv").exists():
            (folder / ".venv").symlink_to(ROOT / ".venv")

    @contextmanager
    def all_without(self, guards: Sequence[Guard]) -> Iterator[None]:
        """These guards (each in a file of its own) are off inside the block. ValueError when a patch does not fit."""
        kept = {guard.file: (self.folder / guard.file).read_text() for guard in guards}
        patched = {guard.file: off(kept[guard.file], guard) for guard in guards}
        try:
            for file, text in patched.items():
                self._write(self.folder / file, text)
            yield
        finally:
            for file, text in kept.items():
                self._write(self.folder / file, text)

    def whole(self, tests: Sequence[str]) -> dict[str, set[str]]:
        """The outcomes of these tests as the tree stands."""
        for file in sorted({test.partition("::")[0] for test in tests if test not in self._whole}):
            together = {test for test in (*self._named, *tests) if test.partition("::")[0] == file}
            self._whole |= self.outcomes(sorted(together))
        return {test: self._whole[test] for test in tests}

    def outcomes(self, tests: Sequence[str], *, may_hang: bool = False) -> dict[str, set[str]]:
        """Run these tests in the copy: each -> the outcomes of its cases (passed, failed, error, skipped, killed).

        A run that was killed (no memory, no end) says nothing of a guard, unless that is what the guard is against: ``may_hang``.
        """
        report = self.folder / f".report-{time.monotonic_ns()}.xml"
        arguments = ["-q", "-p", "no:cacheprovider", "--no-header", f"--junitxml={report}", *tests]
        code = self._pytest(arguments)
        if code < 0:
            return {test: {"failed" if may_hang else "killed"} for test in tests}
        found: dict[str, set[str]] = {test: set() for test in tests}
        if not report.exists():
            return found
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"
            if test in found:
                kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
                found[test].add({"failure": "failed", "error": "error", "skipped": "skipped"}[kinds.pop()] if kinds else "passed")
        report.unlink()
        return found

    def _pytest(self, arguments: list[str]) -> int:
        if self._forked is None:
            left_out = ("PYTEST_", "ROOKERY_EVIDENCE", "CI")
            environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
            environment["PYTHONPATH"] = str(self.folder)  # before the tree to which the environment's own link leads
            environment.setdefault("ROOKERY_ASSETS", str(ROOT.parent / "shared" / "assets"))
            command = [sys.executable, str(self.folder / "tests" / "guards" / "forked.py")]
            self._forked = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._forked.stdin is not None
        assert self._forked.stdout is not None
        self._forked.stdin.write(json.dumps(arguments) + "\n")
        self._forked.stdin.flush()
        return int(self._forked.stdout.readline())

    def close(self) -> None:
        """End the process that runs the tests."""
        if self._forked is not None:
            self._forked.communicate()
            self._forked = None

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        at_s = next(_MTIMES_S)
        os.utime(path, (at_s, at_s))


def _files() -> list[str]:
    """Paths of the tree's files; where there is no git, everything but what is made."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        return [name for name in listed.stdout.decode().split("\0") if name]
    made = (".venv", ".venvs", ".git", ".ci", "__pycache__", ".hypothesis", ".mypy_cache", ".ruff_cache", ".demo")
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [str(path) for path in found if not any(part in made for part in path.parts)]


def unnoticed(copy: ThrowAway, guard: Guard) -> list[str]:
    """Empty when the guard's tests pass with it and each of them fails without it; else what is wrong."""
    wrong = [
        f"{test} does not pass as the tree stands: {sorted(seen) or 'it was not run'}"
        for test, seen in copy.whole(guard.tests).items()
        if seen != {"passed"} and seen != {"passed", "skipped"}
    ]
    if wrong:
        return wrong
    try:
        with copy.all_without([guard]):
            without = copy.outcomes(guard.tests, may_hang=guard.may_hang)
    except (ValueError, SyntaxError) as error:
        return [str(error)]
    return [
        f"{test} does not fail without the guard {guard.name!r}: {sorted(seen) or 'it was not run'}"
        for test, seen in without.items()
        if "failed" not in seen
    ]
