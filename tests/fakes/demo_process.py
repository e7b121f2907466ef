"""Runs the demo as a person would: a whole process, with a home of its own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo"


@dataclass
class DemoRun:
    """How one run of the demo ended."""

    status: int
    output: str
    home: Path
    result: dict[str, Any] | None

    @property
    def untrue(self) -> list[str]:
        """Names of the steps that were not true."""
        assert self.result is not None, self.output
        return [step["name"] for step in self.result["steps"] if not step["ok"]]


def processes_of(home: Path) -> list[str]:
    """Command lines of living processes that work in this home: it stands in their arguments or in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
            about = words + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(home).encode() in about and state != "Z" and int(entry.name) != os.getpid():
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "ROOKERY_DEMO_HOME": str(home)}


def run_demo(home: Path, films: Path, *arguments: str, deadline_s: float = 420) -> DemoRun:
    """Run the demo to its end; whatever happens, no process of it survives this call."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "films").exists():
        (home / "films").symlink_to(films)
    out = home / "out.json"
    process = subprocess.Popen(
        [sys.executable, str(DEMO), "--once", "--json", str(out), *arguments], cwd=ROOT, env=environment(home),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        output += f"\n(ended by the test after {deadline_s} s)"
    return DemoRun(process.returncode, output, home, json.loads(out.read_text()) if out.exists() else None)
