"""The child that proves an agent, in its own environment: ``python -m …agent_selftest_child_disk ASKED ANSWER``.

Everything is imported that the agent imports; settings, policy, update state and spool of this board are read, and nothing of
them is written (what a reader might mend is read from a copy); the model in use runs on its golden samples.
"""

import importlib
import os
import shutil
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

import msgspec

from device_agent.errors import AgentError
from device_agent.own_folder_disk import read_policy, read_settings
from device_agent.spool.entry import TornEntryError, unpack
from device_agent.update.agent_formats import OWN
from device_agent.update.agent_selftest import AgentSelftestRequest, AgentSelftestResult
from device_agent.update.state_disk import AGENT_STATE_FILE, STATE_FILE, StateFile
from ota.durable_disk import write_whole

MODULES = ("device_agent.__main__", "device_agent.assemble", "device_agent.launcher_disk")
MAX_ENTRIES = 200
"""Of the spool, the newest: all others were written in the same way."""


def examine(request: AgentSelftestRequest) -> AgentSelftestResult:
    """All looks in turn; the first that fails is the answer."""
    started_s = time.monotonic()
    version = metadata.version("rookery")
    figures: dict[str, float] = {}
    fault = _imports() or _own_version(version, request.version) or _reads(request, figures)
    if not fault and request.model is not None:
        fault = _model(request, figures)
    figures["selftest_ms"] = round((time.monotonic() - started_s) * 1000.0, 1)
    code, detail = fault or ("", "")
    return AgentSelftestResult(
        code=code, detail=detail, version=version, writes=OWN.writes, oldest_read=OWN.oldest_read, figures=figures
    )


def _imports() -> tuple[str, str] | None:
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a module, ours or a stranger's, may raise anything while it is loaded
            return "start", f"{name} cannot be imported: {type(error).__name__}: {error}"
    return None


def _own_version(version: str, wanted: str) -> tuple[str, str] | None:
    return None if version == wanted else ("wheel", f"the agent in it is version {version}, the release is {wanted}")


def _reads(request: AgentSelftestRequest, figures: dict[str, float]) -> tuple[str, str] | None:
    data = Path(request.data)
    try:
        settings = read_settings(Path(request.config))
        read_policy(settings.policy)
    except AgentError as error:
        return "start", f"it does not read this board's settings: {error.message}"
    with tempfile.TemporaryDirectory(prefix="rookery-selftest-") as folder:
        for name in (STATE_FILE, AGENT_STATE_FILE):
            if (data / "state" / name).exists():
                shutil.copy(data / "state" / name, folder)
                file = StateFile(Path(folder), name)
                file.load()
                if file.note:
                    return "start", f"it does not read this board's state: {file.note}"
    return _spool(data / "spool", figures)


def _spool(folder: Path, figures: dict[str, float]) -> tuple[str, str] | None:
    entries = [path for stream in ("reports", "events", "stills") for path in sorted((folder / stream).glob("*"))[-MAX_ENTRIES:]]
    torn = 0
    for path in entries:
        if path.suffix == ".part" or not path.is_file():
            continue
        try:
            unpack(path.read_bytes())
        except TornEntryError:
            torn += 1
        except FileNotFoundError:
            continue  # sent meanwhile: the agent beside us goes on
        except OSError as error:
            return "disk", f"an entry of the spool cannot be read: {error.strerror}"
    figures["spool_entries"] = float(len(entries))
    if torn and torn == len(entries):
        return "start", f"it reads none of the {torn} entries of this board's spool"
    return None


def _model(request: AgentSelftestRequest, figures: dict[str, float]) -> tuple[str, str] | None:
    from device_agent.update.selftest_child_tflite import examine as examine_model

    assert request.model is not None
    found = examine_model(request.model)
    figures.update({f"model_{name}": value for name, value in found.figures.items()})
    return None if not found.code else ("model", f"the model in use does not run in it: {found.code}: {found.detail}")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


def main(argv: list[str]) -> int:
    """Read the request, write the result; 0 even when the agent fails, for then the result says so."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    request = msgspec.json.decode(Path(argv[1]).read_bytes(), type=AgentSelftestRequest)
    write_whole(Path(argv[2]), msgspec.json.encode(examine(request)), durable=False)
    return 0


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stdout.flush()
    os._exit(code)  # the thread that waits for the end of standard input must not hold the exit
