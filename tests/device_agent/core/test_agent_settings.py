"""agent.toml: everything wrong is told at once, in words that name the key."""

from pathlib import Path

import pytest

from device_agent.errors import SettingsError
from device_agent.settings import parse
from device_agent.settings_rules import configuration_of

GOOD = """
policy = "policy.toml"
[agent]
data_dir = "data"
board_root = "/tmp/board"
[server]
url = "https://127.0.0.1:8443"
ca_file = "ca.pem"
claim_file = "claim"
poll_s = 2
[factory]
bundle = "yard-1.rookery"
root = "root.json"
[[camera]]
name = "yard"
source = "rendered:7:day"
pacing = "recorded"
fps = 10
[[zone]]
camera = "yard"
name = "gate"
polygon = [[0, 0], [1, 0], [1, 1]]
dwell_s = 0.5
"""


def test_a_good_file_with_paths_relative_to_it() -> None:
    settings = parse(GOOD, Path("/etc/rookery/agent.toml"))
    assert settings.agent.data_dir == Path("/etc/rookery/data")
    assert settings.agent.board_root == Path("/tmp/board")
    assert settings.policy == Path("/etc/rookery/policy.toml")
    assert settings.server.poll_s == 2.0
    assert settings.cameras[0].fps == 10.0
    assert settings.rules["yard"].zones[0].polygon[1] == (1.0, 0.0)
    assert settings.spool.max_bytes == 256 * 1024 * 1024


def test_all_faults_are_told_at_once() -> None:
    """Eight things are wrong: eight lines, not eight starts."""
    text = """
[agent]
data_dri = "data"
log_level = "loud"
[server]
url = "http://insecure"
ca_file = 5
[[camera]]
name = "yard"
source = "rendered:7"
pacing = "fast"
[[camera]]
name = "yard"
source = "x"
[[zone]]
camera = "garden"
name = "gate"
polygon = [[0, 0], [2, 0], [1, 1]]
colour = "red"
[extra]
"""
    with pytest.raises(SettingsError) as caught:
        parse(text, Path("agent.toml"))
    said = "\n".join(caught.value.faults)
    for words in (
        "[factory] is missing",
        "agent.data_dri is not a setting; did you mean data_dir?",
        "agent.data_dir is missing",
        "agent.log_level",
        "server.url",
        "server.ca_file",
        "camera[1].pacing",
        "zone[1].polygon",
        "colour",
        "there is no camera 'garden'",
        "extra is not a setting",
    ):
        assert words in said
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('name = "gate"', 'name = "gate"\nextra = 1', "zone[1] has unknown fields: extra"),
        ("[[camera]]", "[camera]", "camera must be written as [[camera]]"),
        ('camera = "yard"', 'camera = "garden"', "there is no camera 'garden'"),
        ("poll_s = 2", "poll_s = -2", "server.poll_s"),
        ("poll_s = 2", "poll_s = [", "not TOML"),
        ('policy = "policy.toml"', "policy = 5", "policy is not a setting"),
    ],
)
def test_single_faults(before: str, after: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(GOOD.replace(before, after), Path("agent.toml"))
    assert words in "\n".join(caught.value.faults)


def test_a_home_folder_that_is_not_there_is_a_fault_of_the_file() -> None:
    """``~nobody-here/data``: words with the key, no stack trace."""
    with pytest.raises(SettingsError, match=r"agent\.data_dir: expected a path: there is no home folder"):
        parse(GOOD.replace('"data"', '"~nobody-here-at-all/data"'), Path("/etc/rookery/agent.toml"))


LINE = """
[[line]]
camera = "yard"
name = "door"
points = [[0.5, 0], [0.5, 1]]
right = "in"
left = "out"
cooldown_s = 5
"""


def test_lines_schedules_and_triggers_stand_in_the_boards_own_file() -> None:
    """A board that no server ever configures: the same rules as a configuration may hold, judged by the same judge."""
    more = '[camera.triggers.first_today]\nburst = true\n[[zone]]\nschedule = [{from = "22:00", to = "06:00"}]'
    text = GOOD.replace("[[zone]]", more)
    text += LINE
    settings = parse(text.replace("fps = 10", 'fps = 10\ntimezone = "Europe/Berlin"'), Path("agent.toml"))
    assert settings.rules["yard"].lines[0].right == "in"
    assert settings.cameras[0].triggers == {"first_today": {"burst": True}}
    crossed = text.replace("[[0, 0], [1, 0], [1, 1]]", "[[0, 0], [1, 1], [1, 0], [0, 1]]").replace("first_today", "full_moon")
    with pytest.raises(SettingsError) as caught:
        parse(crossed.replace("fps = 10", 'fps = 10\ntimezone = "Mars/Base"'), Path("agent.toml"))
    said = "\n".join(caught.value.faults)
    for words in ("zone[1].polygon", "full_moon", "camera[1].timezone"):
        assert words in said


def test_gate_pictures_and_least_scores_stand_in_the_boards_own_file() -> None:
    """What a server may configure can be had without one, judged by the same judge: a score of 6 is no score."""
    more = 'gate = {sensitivity = 0.8, keepalive_s = 5}\ncrops = {max_bytes = 50000}\nmin_score = {person = 0.6}\nfps = 10'
    camera = parse(GOOD.replace("fps = 10", more), Path("agent.toml")).cameras[0]
    assert configuration_of(camera)["cameras"]["yard"]["min_score"] == {"person": 0.6}
    told = parse(GOOD.replace("fps = 10", "sureness = 0\nsure_after_s = 2.5\nfps = 10"), Path("agent.toml")).cameras[0]
    assert configuration_of(told)["cameras"]["yard"] == {"sureness": 0.0, "sure_after_s": 2.5}
    with pytest.raises(SettingsError, match="sureness"):
        parse(GOOD.replace("fps = 10", "sureness = 2\nfps = 10"), Path("agent.toml"))
    with pytest.raises(SettingsError) as caught:
        parse(GOOD.replace("fps = 10", more.replace("0.6", "6").replace("sensitivity", "sense")), Path("agent.toml"))
    said = "\n".join(caught.value.faults)
    assert "min_score" in said
    assert "sense" in said
