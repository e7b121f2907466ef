"""The HTTP client of the command line: one small class, the server's problems turned into exit codes."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from fleet_server.cli.errors import CONFLICT, FAILURE, USAGE, CliError, from_status
from fleet_server.cli.settings_disk import Target

TIMEOUT_S = 30.0
CHUNK_BYTES = 256 * 1024


class Client:
    """Talks to one fleet server's operator door."""

    def __init__(self, target: Target, timeout_s: float = TIMEOUT_S) -> None:
        self.server, self._timeout_s = target.server, timeout_s
        headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
        self._http = httpx.Client(
            base_url=f"{target.server}/api/v1", headers=headers, timeout=timeout_s, follow_redirects=False, verify=_trust(target)
        )  # fmt: skip

    def get(self, path: str, **query: Any) -> Any:
        """GET, decoded; None values are left out of the query."""
        return self._call("GET", path, params={key: value for key, value in query.items() if value is not None})

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST of a JSON body, decoded."""
        return self._call("POST", path, json=dict(body or {}))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """PUT of a JSON body, decoded."""
        return self._call("PUT", path, json=dict(body))

    def publish(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST of something signed: what the server finds wrong with it is a conflict, not a failure."""
        return self._call("POST", path, json=dict(body), invalid=CONFLICT)

    def delete(self, path: str) -> Any:
        """DELETE, decoded."""
        return self._call("DELETE", path)

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **query)
            found += page["items"]
            cursor = page.get("next")
            if not cursor:
                return found

    def put_content(self, sha256: str, data: bytes) -> bool:
        """Upload one content file; True when the server did not have it yet."""
        response = self._send("PUT", f"/content/{sha256}", content=_chunks(data), headers={
            "Content-Type": "application/octet-stream", "Content-Length": str(len(data)),
        }, invalid=CONFLICT)  # fmt: skip
        return response.status_code == 201

    @contextmanager
    def stream(self, path: str, **query: Any) -> Iterator[Iterator[bytes]]:
        """GET of something long, in pieces as they come; None values are left out of the query."""
        params = {key: value for key, value in query.items() if value is not None}
        try:
            with self._http.stream("GET", path, params=params) as response:
                if not response.is_success:
                    response.read()
                    raise _problem(response, FAILURE)
                yield response.iter_bytes()
        except httpx.HTTPError as error:
            raise CliError(FAILURE, f"the answer of {self.server} broke off: {error}", "run the same command again") from None

    def download(self, path: str, out: Path) -> None:
        """Fetch bytes into a file that appears only when whole."""
        response = self._send("GET", path)
        temporary = out.with_name(f".{out.name}.part")
        temporary.write_bytes(response.content)
        temporary.replace(out)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        response = self._send(method, path, **options)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise CliError(
                FAILURE, f"{self.server} did not answer with JSON", "is it a Rookery server of this version?"
            ) from None

    def _send(self, method: str, path: str, *, invalid: int = FAILURE, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException:
            raise CliError(FAILURE, f"{self.server} did not answer within {self._timeout_s:.0f} s") from None
        except httpx.InvalidURL as error:
            raise CliError(FAILURE, f"{self.server!r} is not a URL: {error}") from None
        except httpx.HTTPError as error:
            hint = "is the server running, and is the address right?"
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                hint = "a server with an authority of its own: rookery login --ca-file FILE, a copy of its pki/ca.pem"
            raise CliError(FAILURE, f"cannot reach {self.server}: {error}", hint) from None
        if response.is_success:
            return response
        raise _problem(response, invalid)


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _trust(target: Target) -> ssl.SSLContext | bool:
    if not target.ca_file or not target.server.startswith("https:"):
        return True
    try:
        return ssl.create_default_context(cafile=target.ca_file)
    except OSError as error:  # ssl.SSLError, too: the file is no PEM
        detail = f"{target.ca_file} cannot be read as PEM: {error.strerror or error}"
        raise CliError(USAGE, detail, "give the server's pki/ca.pem: --ca-file FILE") from None


def _problem(response: httpx.Response, invalid: int) -> CliError:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    title = str(body.get("detail") or body.get("title") or f"the server answered {response.status_code}")
    faults = body.get("faults")
    for fault in faults if isinstance(faults, list) else []:
        if isinstance(fault, dict):
            title += f"\n  {fault.get('path') or 'the whole'}: {fault.get('problem')}"
    error = from_status(response.status_code, title, str(body.get("hint", "")))
    if response.status_code == 400:
        error.code = invalid
    return error
