"""A server, or a device behind it, that wants the operator's terminal."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

EVIL = "\x1b]0;owned\x07\x1b[2Jall is well\u202e"


@pytest.fixture(scope="module")
def evil_url() -> Iterator[str]:
    """A server whose every text holds terminal escapes; what is not known is an error of the same kind."""
    answers: dict[str, Any] = {
        "why-not": {"device": EVIL, "sentences": [EVIL], "rules": [{"rule": EVIL, "ok": False, "detail": EVIL}]},
        "logs": {"items": [{"sequence": EVIL, "at_s": 1.0, "level": EVIL, "logger": EVIL, "text": EVIL}], "next": None},
        "devices": {"items": [{"id": EVIL, "name": EVIL}], "next": None},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0].rpartition("/")[2])
            body = json.dumps(found or {"detail": EVIL, "hint": EVIL}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("words", [
    ("device", "why-not", "cam"), ("device", "logs", "cam"), ("-o", "name", "device", "list"),
    ("-o", "name", "device", "logs", "cam"), ("device", "show", "cam"), ("rollout", "status", "r-1"), ("alert", "list"),
])  # fmt: skip
def test_no_escape_reaches_the_terminal(rookery, evil_url: str, words: tuple[str, ...]) -> None:
    """A hostile board writes escapes into its report and its log; a hostile server into every answer and every refusal."""
    answer = rookery(*words, ROOKERY_SERVER=evil_url, ROOKERY_TOKEN="t")
    said = answer.out + answer.err
    assert not {letter for letter in said if not letter.isprintable()} - {"\n"}
    assert "all is well" in said
