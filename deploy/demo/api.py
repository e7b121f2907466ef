"""The operator API as the demo reads it, and the command line as it is used by a person."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
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
        return self._ask(path, query).json()

    def page(self, path: str) -> str:
        """A page of the dashboard as text, without its tags."""
        html = self._ask(self.url + path, {}).text
        return " ".join(re.sub(r"<[^>]*>", " ", html).split())

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

    def _ask(self, path: str, query: Mapping[str, Any]) -> httpx.Response:
        try:
            response = self._http.get(path, params=dict(query))
        except httpx.HTTPError as error:
            raise DemoError(f"the fleet server does not answer: {error}") from None
        if response.is_error:
            raise DemoError(f"GET {response.request.url.path} answered {response.status_code}: {response.text[:300]}")
        return response


class Cli:
    """Runs ``rookery`` as an operator would, and keeps what it said in a file."""

    def __init__(self, binary: Path, environment: Mapping[str, str], log: Path) -> None:
        self._binary = binary
        self._environment = {**os.environ, **environment}
        self._log = log

    def run(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
        """Standard output of one command; raises DemoError with its last words unless its exit code is allowed."""
        try:
            done = subprocess.run(
                [str(self._binary), *arguments], env=self._environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                timeout=COMMAND_DEADLINE_S, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DemoError(f"rookery {' '.join(arguments[:2])} did not end within {COMMAND_DEADLINE_S:.0f} s") from None
        with self._log.open("a") as log:
            log.write(f"$ rookery {' '.join(arguments)}\n{done.stdout}{done.stderr}(exit {done.returncode})\n")
        if done.returncode not in allowed:
            words = done.stderr.strip().splitlines()
            raise DemoError(f"rookery {' '.join(arguments[:2])} ended with {done.returncode}: {words[0] if words else 'no word'}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Standard output of one command with ``-o json``, decoded."""
        return json.loads(self.run("-o", "json", *arguments))

    def follow(self, *arguments: str, say: Callable[[str], None]) -> int:
        """Run a command that talks while it works, telling each line as it comes; returns its exit code."""
        with subprocess.Popen(
            [str(self._binary), *arguments], env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                assert process.stderr is not None
                for line in process.stderr:
                    say(line.rstrip())
            finally:
                if process.poll() is None:
                    process.terminate()
        return process.returncode
