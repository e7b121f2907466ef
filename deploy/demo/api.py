"""The operator API as the demo reads it, and the command line as it is used by a person."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from processes import DemoError

COMMAND_DEADLINE_S = 180.0


class Api:
    """Reads the operator door with a token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def get(self, path: str, **query: Any) -> Any:
        """Decoded answer; raises DemoError with the server's words."""
        return self._decoded(self._http.get(path, params=query))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Decoded answer; raises DemoError with the server's words."""
        return self._decoded(self._http.post(path, json=dict(body or {})))

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list."""
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self.get(path, **query, **({"cursor": cursor} if cursor else {}))
            found += page["items"]
            cursor = page.get("next")
            if not cursor:
                return found

    def _decoded(self, response: httpx.Response) -> Any:
        if response.is_error:
            raise DemoError(
                f"{response.request.method} {response.request.url.path} answered {response.status_code}: {response.text[:300]}"
            )
        return response.json() if response.content else None


class Cli:
    """Runs ``rookery`` as an operator would, and keeps what it said in a file."""

    def __init__(self, binary: Path, environment: Mapping[str, str], log: Path) -> None:
        self._binary = binary
        self._environment = {**os.environ, **environment}
        self._log = log

    def run(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
        """Standard output of one command; raises DemoError with its last words unless its exit code is allowed."""
        done = subprocess.run(
            [str(self._binary), *arguments], env=self._environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=COMMAND_DEADLINE_S, check=False, start_new_session=True,
        )  # fmt: skip
        with self._log.open("a") as log:
            log.write(f"$ rookery {' '.join(arguments)}\n{done.stdout}{done.stderr}(exit {done.returncode})\n")
        if done.returncode not in allowed:
            words = done.stderr.strip().splitlines()
            raise DemoError(f"rookery {' '.join(arguments[:2])} ended with {done.returncode}: {words[0] if words else 'no word'}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Standard output of one command with ``-o json``, decoded."""
        return json.loads(self.run("-o", "json", *arguments))
