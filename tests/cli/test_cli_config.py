"""``rookery config``: from the command line a file of zones reaches every board of a group, and comes back with one word."""

import json
from pathlib import Path

import pytest

from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import SeededFleet, seed_fleet

ZONES = """
[every_camera]
fps = 5
[[every_camera.zones]]
name = "door"
polygon = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]
classes = ["person"]
"""


@pytest.fixture(scope="module")
def fleet(signed_in: OperatorSite) -> SeededFleet:
    return seed_fleet(signed_in.context)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_is_set_read_back_compared_and_undone(rookery, fleet: SeededFleet, workplace: Path) -> None:
    """TOML in, JSON out, JSON in again; each change is a version with a reason; undo gives the old one back."""
    toml = write(workplace, "zones.toml", ZONES)
    answer = rookery("-o", "json", "config", "set", "fleet", toml, "--why", "new shop")
    assert (answer.code, json.loads(answer.out)["version"]) == (0, 1), answer.err
    answer = rookery("config", "get", "fleet")
    assert json.loads(answer.out)["every_camera"]["zones"][0]["name"] == "door"
    again = write(workplace, "again.json", answer.out.replace('"fps": 5', '"fps": 6'))
    assert rookery("config", "set", "fleet", again, "--if-version", 1).code == 0
    answer = rookery("config", "set", "fleet", toml, "--if-version", 1)
    assert (answer.code, "version 2 by now" in answer.err) == (5, True)
    answer = rookery("config", "set", "gate-north", "-", stdin='{"log_level": "debug"}')
    assert answer.code == 0, answer.err
    assert "every_camera.fps" in rookery("config", "diff", "fleet").out
    found = json.loads(rookery("-o", "json", "config", "diff", "fleet", "effective:gate-north").out)["items"]
    assert [(one["path"], one["kind"]) for one in found] == [("log_level", "added")]
    answer = rookery("config", "effective", "gate-north")
    assert [line.split()[-1] for line in answer.out.splitlines()[1:]] == [
        "fleet", "fleet", f"device:{fleet.devices['gate-north']}"
    ]  # fmt: skip
    assert "has not said yet" in answer.err
    assert "has not said anything of it" in rookery("device", "show", "gate-north").out
    answer = rookery("config", "undo", "fleet", "--why", "too fast")
    assert (answer.code, "version 3" in answer.err) == (0, True)
    assert json.loads(rookery("config", "get", "fleet", "--version", 3).out)["every_camera"]["fps"] == 5
    history = rookery("config", "history").out
    assert [("too fast" in line, "new shop" in line) for line in history.splitlines()[1:]] == [
        (True, False), (False, False), (False, True)
    ]  # fmt: skip
    assert len(rookery("-o", "name", "config", "list").out.split()) == 2


def test_all_faults_are_told_at_once_and_nothing_is_changed(rookery, fleet: SeededFleet, workplace: Path) -> None:
    """A polygon that crosses itself, a typing error, a rate of nothing: exit code 5, each with its place."""
    crossed = ZONES.replace("[0.9, 0.9]]", "[0.1, 0.9], [0.9, 0.9]]")
    wrong = write(workplace, "wrong.toml", crossed.replace("= 5", "= 0\nfpss = 1"))
    before = rookery("config", "get", "group:shops").out
    for options in ((), ("--dry-run",)):
        answer = rookery("config", "set", "group:shops", wrong, *options)
        assert answer.code == 5
        for place in ("every_camera.fps", "every_camera.fpss", "every_camera.zones[0].polygon"):
            assert place in answer.err + answer.out
    assert rookery("config", "get", "group:shops").out == before
    assert rookery("config", "set", "group:shops", write(workplace, "good.toml", ZONES), "--dry-run").code == 0
    assert rookery("config", "get", "group:shops").out == before


@pytest.mark.parametrize(("text", "says"), [
    ("{", "is not JSON"), ("a = [", "is not TOML"), ("a = 2026-01-01", "date"), ("a = nan", "not TOML"), ("[" * 5000, "TOML"),
])  # fmt: skip
def test_a_file_that_is_none_is_a_usage_error(rookery, fleet: SeededFleet, workplace: Path, text: str, says: str) -> None:
    answer = rookery("config", "set", "fleet", write(workplace, "odd", text))
    assert (answer.code, says in answer.err) == (2, True), answer.err


def test_unknown_things_and_missing_people_have_their_codes(rookery, fleet: SeededFleet, workplace: Path) -> None:
    assert rookery("config", "get", "device:nobody").code == 3
    assert rookery("config", "get", "nobody").code == 3
    assert rookery("config", "set", "fleet", workplace / "not-there.toml").code == 2
    assert rookery("config", "undo", "group:never").code == 5
    answer = rookery("config", "edit", "fleet")
    assert (answer.code, "config set" in answer.err) == (2, True), "without a terminal there is no editor"
