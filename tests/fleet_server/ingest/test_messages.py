"""MQTT bytes: three messages, or a reason; never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.ingest.messages import Beat, Lines, Malformed, Presence, parse
from ota.wire import codec
from ota.wire.heartbeat import Heartbeat
from ota.wire.logs import LogBatch, LogLine

BEAT = Heartbeat(sequence=1, boot_id="b", at_s=1.0, uptime_s=1.0, window_s=30.0, state="idle")
UP = "fleet/v1/cam-1/up"


def test_the_three_messages() -> None:
    assert parse(f"{UP}/heartbeat", codec.encode(BEAT)) == Beat("cam-1", BEAT)
    assert parse(f"{UP}/online", b"online") == Presence("cam-1", True)
    assert parse(f"{UP}/online", b"offline") == Presence("cam-1", False)
    lines = LogBatch(boot_id="b", lines=[LogLine(sequence=1, at_s=1, level="info", logger="a", text="NUL \x00 \\u0000")])
    found = parse(f"{UP}/log", codec.encode(lines))
    assert isinstance(found, Lines)
    assert found.batch.lines[0].text == "NUL \ufffd \\u0000"


@pytest.mark.parametrize(("topic", "payload", "reason"), [
    ("fleet/v1/cam-1/down/wake", b"{}", "not an up topic"),
    ("fleet/v1/../up/heartbeat", b"{}", "device id"),
    (f"{UP}/online", b"perhaps", "neither"),
    (f"{UP}/heartbeat", b'{"v":9}', "version 9"),
    (f"{UP}/heartbeat", b"\xff\xfe", "not JSON"),
    (f"{UP}/heartbeat", b"[" * 100_000, "$"),
    (f"{UP}/heartbeat", b"x" * 300_000, "limit"),
])  # fmt: skip
def test_what_is_none_of_ours_says_why(topic: str, payload: bytes, reason: str) -> None:
    found = parse(topic, payload)
    assert isinstance(found, Malformed)
    assert reason in found.reason


@given(st.text(max_size=60), st.binary(max_size=200))
def test_no_bytes_make_it_fall(topic: str, payload: bytes) -> None:
    for one in (topic, f"{UP}/heartbeat", f"{UP}/log", f"{UP}/online"):
        parse(one, payload)
