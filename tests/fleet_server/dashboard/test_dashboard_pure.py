"""Words, columns and where a sign-in may lead: the pages' pure parts; and what no template may ever hold."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.dashboard import words
from fleet_server.dashboard.api import safe_path
from fleet_server.dashboard.columns import series
from fleet_server.errors import InvalidError
from ota.wire.deployments import DEPLOYMENT_STATES, REASONS

DASHBOARD = Path(words.__file__).parent


@given(st.text(max_size=40))
def test_a_sign_in_never_leads_to_another_site(path: str) -> None:
    """Whatever stands in ?next=: the browser stays here."""
    found = safe_path(path)
    assert found.startswith("/")
    assert not found.startswith("//")
    assert "\\" not in found
    assert not any(ord(letter) < 32 for letter in found)


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "", "devices"])
def test_known_ways_out_are_closed(path: str) -> None:
    assert safe_path(path) == "/"


def test_every_state_that_a_device_can_report_has_a_sign_and_a_tone() -> None:
    """Colour alone tells nobody: each state is sign, word and colour; an unknown one from a newer agent is shown calmly."""
    for state in DEPLOYMENT_STATES:
        assert state in words.SIGNS
        assert words.tone(state) in ("good", "busy", "calm", "bad", "over")
    assert (words.sign("brand_new"), words.tone("brand_new"), words.say("brand_new")) == ("○", "calm", "brand new")


def test_every_reason_has_a_meaning() -> None:
    assert all(words.meaning(reason) for reason in REASONS)
    assert words.meaning("unheard_of") == ""


@pytest.mark.parametrize(("at_s", "said"), [
    (None, "never"), (0.0, "never"), (1000.0, "0 s ago"), (941.0, "59 s ago"), (900.0, "1 min ago"), (2000.0, "0 s ago"),
])  # fmt: skip
def test_how_long_ago(at_s: float | None, said: str) -> None:
    """A clock that runs ahead gives no negative times."""
    assert words.ago(at_s, 1000.0) == said


@given(st.floats(0, 1e13))
def test_amounts_are_short_and_have_a_unit(count_bytes: float) -> None:
    assert re.fullmatch(r"\d+(\.\d)? (B|kB|MB|GB)", words.amount(count_bytes))


@pytest.mark.parametrize(("seconds", "said"), [(5.0, "5 s"), (90.0, "90 s"), (1800.0, "30 min"), (3600.0, "1 h"), (9e4, "25 h")])
def test_spans(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_a_problem_is_a_sentence_with_its_hint() -> None:
    assert words.sentence(InvalidError("the link is old", "print a new one")) == "The link is old. Print a new one."


def test_columns_have_one_length_whatever_a_heartbeat_lacks() -> None:
    """An old agent leaves fields out, a board has no thermometer, a camera is gone: a gap in the line, no crash."""
    full = {"cameras": [{"processed_fps": 7.0, "gated_frames": 10, "frames_with_detection": 5}, {"processed_fps": 8.0}],
            "host": {"cpu_temp_c": 50.0}, "latency": {"detect": {"p95_ms": 20.0}, "total": {"p95_ms": 30.0}}}  # fmt: skip
    old = {"host": {}, "cameras": [{"gated_frames": 0}], "latency": {"a": {"p95_ms": 4}}}
    found = series([(3.0, full), (2.0, {}), (1.0, old)])
    assert found == {
        "at_s": [1.0, 2.0, 3.0], "temperature_c": [None, None, 50.0], "fps": [0.0, None, 15.0], "latency_ms": [4.0, None, 30.0],
        "detection_percent": [None, None, 50.0],
    }  # fmt: skip


@pytest.mark.parametrize("template", sorted((DASHBOARD / "templates").glob("*.html")), ids=lambda path: path.name)
def test_templates_need_no_unsafe_policy(template: Path) -> None:
    """No inline script, style, handler or evaluated attribute: the strict policy would refuse them, quietly."""
    text = template.read_text()
    assert not re.search(r"\sstyle\s*=", text)
    assert not re.search(r"\son[a-z]+\s*=", text)
    assert not re.search(r"<style|hx-on|hx-vals|js:|javascript:", text)
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert "|safe" not in text
    assert not re.search(r"https?://", text)


def test_vendored_files_are_what_their_list_says() -> None:
    """A library that was edited in place, or added without its licence, stands out."""
    vendor = DASHBOARD / "static" / "vendor"
    listed = {entry["file"]: entry["sha384"] for entry in json.loads((vendor / "VENDOR.json").read_text())}
    present = {str(path.relative_to(vendor)) for path in vendor.rglob("*") if path.is_file()} - {"VENDOR.json"}
    assert present == set(listed)
    for file, wanted in listed.items():
        digest = hashlib.sha384((vendor / file).read_bytes()).digest()
        assert wanted == "sha384-" + base64.b64encode(digest).decode()
    assert {f"{name.split('/')[0]}/LICENSE" for name in listed} <= present


@pytest.mark.parametrize(("agent", "said"), [
    ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML) Chrome/126.0.0.0 Safari/537.36", "Chrome 126 on Linux"),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0", "Firefox 127 on Windows"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Safari/604.1", "Safari on iPhone"),
    ("Mozilla/5.0 (Windows NT 10.0) Chrome/126.0.0.0 Safari/537.36 Edg/126.0", "Edge 126 on Windows"), ("curl/8.5", "curl/8.5"),
    ("x" * 200, "x" * 80), ("", ""),
])  # fmt: skip
def test_a_browser_is_called_by_its_name(agent: str, said: str) -> None:
    """A list of sessions that a person recognises; what is no browser keeps its own words."""
    assert words.browser(agent) == said
