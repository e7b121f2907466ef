"""A Python that has the libraries loaded already and forks for each run of pytest: a matrix of a hundred starts none a hundred
times. Nothing of ours is imported before the fork; the child sees the files as they are at that moment.

    python forked.py        one JSON list of pytest's arguments a line; answers one line each, the exit status
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time

LIBRARIES = (
    "pytest", "hypothesis", "hypothesis.strategies", "sqlalchemy.orm", "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite", "psycopg", "alembic.command", "flask", "flask.testing", "flask_openapi3.openapi",
    "flask_openapi3.blueprint", "flask_wtf.csrf", "flask_limiter", "pydantic", "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ec", "argon2", "httpx", "boto3", "botocore.session", "numpy", "cv2",
    "paho.mqtt.client", "gunicorn.app.base", "gunicorn.workers.gthread", "tuf.ngclient", "tuf.api.metadata",
    "securesystemslib.signer", "msgspec", "urllib3", "zstandard", "click", "rich.console", "pyotp", "segno",
    "http_message_signatures", "xml.etree.ElementTree", "http.server", "concurrent.futures",
)  # fmt: skip
WHOLE_S = 900
"""Longest run."""


def main() -> None:
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        print(_waited(child), flush=True)


def _run(arguments: list[str]) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    code = 3
    try:
        import pytest

        code = int(pytest.main(arguments))
    finally:
        os._exit(code)


def _waited(child: int) -> int:
    until_s = time.monotonic() + WHOLE_S
    while time.monotonic() < until_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.02)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests left behind
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
