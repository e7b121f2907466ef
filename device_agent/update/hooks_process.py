"""The board owner's own programs around an install: ``hooks/<moment>/`` beside ``agent.toml``, run in order of name.

``pre-install`` may say no (any exit code but 0 and 21) or not now (21: it is asked again later). ``post-commit`` and
``post-rollback`` change nothing any more; what they say is told in the report. A hook may be run more than once for the same
install: after a power cut or a restart in its midst it is run again (``ROOKERY_DEPLOYMENT`` names the install, so that a hook can
tell a repetition from a new one).
"""

import contextlib
import os
import re
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device_agent.update.deployment import Deployment

PRE_INSTALL, POST_COMMIT, POST_ROLLBACK = "pre-install", "post-commit", "post-rollback"
MOMENTS = (PRE_INSTALL, POST_COMMIT, POST_ROLLBACK)
NOT_NOW = 21
"""The exit code that means: ask again later (Mender's state scripts use the same)."""
LIMIT_S = 60.0
MOMENT_LIMIT_S = 300.0
KEPT_BYTES = 2000
"""Of what a hook says the end is kept: enough for its last lines, whatever it floods us with."""
_PACE_S = 0.1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
GO, LATER, NO, STOPPED = "go", "later", "no", "stopped"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hooks of a moment came to: go, later, no, or stopped (the agent ends); ``words`` is what they said."""

    outcome: str
    words: str = ""


def facts_of(deployment: Deployment, part: str) -> dict[str, str]:
    """What a hook learns of the install, as environment variables."""
    return {
        "ROOKERY_PART": part,
        "ROOKERY_RELEASE": deployment.bundle.release,
        "ROOKERY_SHA256": deployment.bundle.sha256,
        "ROOKERY_CHANNEL": deployment.bundle.channel,
        "ROOKERY_VARIANT": deployment.variant,
        "ROOKERY_ORIGIN": deployment.origin,
        "ROOKERY_REASON": deployment.reason,
        "ROOKERY_DEPLOYMENT": f"{deployment.bundle.sha256[:12]}-{deployment.started_at_s:.0f}",
        "ROOKERY_ATTEMPT": str(deployment.attempt),
    }


class Hooks:
    """The hooks below ``folder``; where it does not exist there are none. Limits in seconds."""

    def __init__(self, folder: Path, limit_s: float = LIMIT_S, moment_limit_s: float = MOMENT_LIMIT_S) -> None:
        self._folder, self._limit_s, self._moment_limit_s = folder, limit_s, moment_limit_s

    def run(self, moment: str, facts: Mapping[str, str], should_stop: Callable[[], bool]) -> Answer:
        """Run all of a moment, as far as the first that does not exit with 0. Never raises."""
        folder = self._folder / moment
        try:
            os.lstat(folder)
        except FileNotFoundError:
            return Answer(GO)
        except OSError as error:
            return Answer(NO, f"{folder}: {error.strerror}")
        ends_s = time.monotonic() + self._moment_limit_s
        said = []
        try:
            fault = _fault(self._folder, folder=True) or _fault(folder, folder=True)
            names = [] if fault else sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            fault, names = f"{folder}: {error.strerror}", []
        if fault:
            return Answer(NO, fault)
        for name in names:
            left_s = min(self._limit_s, ends_s - time.monotonic())
            answer = self._one(folder / name, moment, facts, left_s, should_stop)
            if answer.words:
                said.append(f"{moment}/{name}: {answer.words}")
            if answer.outcome != GO:
                return Answer(answer.outcome, "\n".join(said))
        return Answer(GO, "\n".join(said))

    def _one(
        self, path: Path, moment: str, facts: Mapping[str, str], limit_s: float, should_stop: Callable[[], bool]
    ) -> Answer:
        try:
            fault = _fault(path, folder=False)
            if fault is not None:
                return Answer(NO, fault)
            if limit_s <= 0:
                return Answer(NO, f"the hooks of this moment took longer than {self._moment_limit_s:.0f} s: not run")
            code, words = _run(path, {**facts, "ROOKERY_MOMENT": moment}, limit_s, should_stop)
        except OSError as error:
            return Answer(NO, f"cannot be run: {error.strerror or error}")
        if code is None:
            if should_stop():
                return Answer(STOPPED, words)
            return Answer(NO, f"ended after {limit_s:.0f} s, its time limit. {words}".strip())
        if code == 0:
            return Answer(GO, words)
        ended = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
        return Answer(LATER if code == NOT_NOW else NO, f"{ended}. {words}".strip())


def _run(path: Path, facts: Mapping[str, str], limit_s: float, should_stop: Callable[[], bool]) -> tuple[int | None, str]:
    """Exit code (None: it was ended by us) and the end of what it said. Its whole family ends with it."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **facts}
    ends_s, tail = time.monotonic() + limit_s, b""
    with subprocess.Popen(
        [str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd="/",
        start_new_session=True, bufsize=0,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(child.stdout, selectors.EVENT_READ)
                while child.poll() is None and time.monotonic() < ends_s and not should_stop():
                    tail = _read(child.stdout.fileno(), tail) if waiting.select(_PACE_S) else tail
            code = child.poll()
        finally:
            # Whoever it left behind keeps our pipe open and would run on beside the install.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        tail = _read(child.stdout.fileno(), tail)
    return code, tail.decode("utf-8", "replace").strip()


def _read(handle: int, tail: bytes) -> bytes:
    """What can be read now, at most a few pipes full, added to ``tail``; only the end is kept."""
    for _ in range(16):
        try:
            chunk = os.read(handle, 65536)
        except BlockingIOError:
            break
        if not chunk:
            break
        tail = (tail + chunk)[-KEPT_BYTES:]
    return tail


def _fault(path: Path, *, folder: bool) -> str | None:
    """Why a folder or file is not to be trusted as the owner's; None when it is. Raises OSError."""
    found = os.lstat(path)
    right = stat.S_ISDIR(found.st_mode) if folder else stat.S_ISREG(found.st_mode)
    if not right:
        return f"{path} is not a plain {'folder' if folder else 'file'} (a link, say): it is not run"
    if not folder and not _NAME.fullmatch(path.name):
        return f"{path.name!r} is not a name for a hook (letters, digits, '.', '_', '-'): it is not run"
    if found.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to user {found.st_uid}, not to root or to the agent's own: it is not run"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} may be written by others (mode {stat.S_IMODE(found.st_mode):04o}): it is not run; chmod go-w it"
    if not folder and not found.st_mode & stat.S_IXUSR:
        return f"{path} is not executable: chmod +x it, or take it away"
    return None
