"""Bodies of the device door, before anything looks at them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.context import Context
from fleet_server.http_wire import without_nul


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough for these doors."""
    return sqlite_server


@given(st.text(alphabet=st.sampled_from('\x00\\u0a"é')))
def test_nul_becomes_a_mark_and_nothing_else_changes(text: str) -> None:
    """A log line holds NUL (which PostgreSQL cannot): it is replaced, and a text that merely spells \\u0000 is left alone."""
    assert json.loads(without_nul(json.dumps(text).encode())) == text.replace("\x00", "\ufffd")


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"{}", "text/plain", 400, "not application/json"),
        (b"{", "application/json", 400, "not JSON"),
        (b'{"v":1}', "application/json", 400, "nonce"),
        (b'{"v":7,"nonce":"0123456789abcdef"}', "application/json", 400, "version 7"),
        (b"[" * 10_000, "application/json", 400, "$"),
        (b'{"v":1,"nonce":"' + b"x" * 300_000 + b'"}', "application/json", 413, "at most 262144"),
        (b"\xff\xfe", "application/json", 400, "$"),
    ],
)
def test_a_broken_message_is_named(device_door: Any, body: bytes, kind: str, status: int, words: str) -> None:
    """Every way in which a device (or somebody else) can send rubbish: a problem that names what was wrong."""
    answer = device_door.client.post("/device/v1/time", data=body, content_type=kind)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert words in answer.json["detail"]


def test_numbers_and_texts_that_no_column_holds(sign_in: Any) -> None:
    """A cursor of a hundred digits, NUL in a name: the caller's fault, never a stack trace."""
    client = sign_in("operator")
    assert client.get(f"/api/v1/audit?cursor={'9' * 100}").status_code == 400
    assert client.get("/api/v1/devices/a%00b").status_code in (400, 404), "PostgreSQL takes no NUL, SQLite finds nothing"
    assert client.get("/api/v1/devices?q=%00").status_code in (200, 400)
