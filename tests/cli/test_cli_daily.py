"""What an operator does all day from the command line, against the real door; and how each kind of trouble ends."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_server.cli import detections
from fleet_server.cli import rollouts as rollouts_cli
from fleet_server.cli.main import cli as rookery_command
from tests.fakes.operator_site import NAME, PASSWORD, OperatorSite
from tests.fakes.seeded_fleet import HASH_DETAIL, SeededFleet, seed_fleet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fleet(signed_in: OperatorSite) -> SeededFleet:
    return seed_fleet(signed_in.context)


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    """Completion and help run at every keystroke: no HTTP, no TUF, no cryptography, no numpy for them."""
    code = (
        "import sys\n"
        "from fleet_server.cli.main import cli\n"
        "try:\n    cli.main(['--help'], standalone_mode=True)\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'httpx', 'tuf', 'cryptography', 'numpy', 'flask', 'sqlalchemy', 'rich', 'msgspec'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "rollout" in done.stdout


def test_login_keeps_a_token_for_its_owner_alone_and_no_password(rookery, signed_in: OperatorSite, workplace: Path) -> None:
    config = workplace / "config.toml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert PASSWORD not in config.read_text()
    answer = rookery("whoami")
    assert (answer.code, NAME in answer.out, "admin" in answer.out) == (0, True, True)
    assert json.loads(rookery("-o", "json", "whoami").out)["role"] == "admin"


def test_a_wrong_password_is_exit_4(rookery, site: OperatorSite) -> None:
    answer = rookery("login", "--server", site.url, "--name", NAME, "--password-stdin", "--as", "other", stdin="wrong\n")
    assert (answer.code, answer.out) == (4, "")
    assert "name, password or code is wrong" in answer.err


def test_a_question_without_a_terminal_is_exit_2_and_names_the_flag(rookery, site: OperatorSite) -> None:
    """A script that forgot the password must fail at once, not hang."""
    answer = rookery("login", "--server", site.url, "--name", NAME)
    assert (answer.code, "--password-stdin" in answer.err) == (2, True)
    answer = rookery("key", "generate", "sealed.pem")
    assert (answer.code, "--passphrase-file" in answer.err) == (2, True)


def test_a_server_that_is_not_there_is_exit_1(rookery) -> None:
    answer = rookery("--server", "http://127.0.0.1:9", "device", "list")
    assert (answer.code, answer.out) == (1, "")
    assert "cannot reach http://127.0.0.1:9" in answer.err


def test_nobody_is_signed_in_is_exit_4(rookery, site: OperatorSite, tmp_path: Path) -> None:
    answer = rookery("--server", site.url, "device", "list", ROOKERY_CONFIG=str(tmp_path / "none.toml"))
    assert (answer.code, "rookery login" in answer.err) == (4, True)
    answer = rookery("device", "list", ROOKERY_CONFIG=str(tmp_path / "none.toml"))
    assert (answer.code, "rookery login --server URL" in answer.err) == (4, True)


def test_another_program_on_the_port_is_said_plainly(rookery, signed_in: OperatorSite) -> None:
    """Not every server on a port is ours: an answer that is no JSON is no crash."""
    answer = rookery("--server", f"{signed_in.url}/static/style.css?", "device", "list", ROOKERY_TOKEN="x")
    assert answer.code == 1
    answer = rookery("--server", "not a url", "device", "list", ROOKERY_TOKEN="x")
    assert answer.code == 1


def test_a_claim_for_a_board(rookery, signed_in: OperatorSite, workplace: Path) -> None:
    """The token goes into a file for its owner alone, is shown nowhere else, and a second one does not replace it."""
    answer = rookery("claim", "create", "--name", "gate", "--group", "yard", "--out", "claim")
    assert (answer.code, answer.out) == (0, ""), answer.err
    token = (workplace / "claim").read_text().strip()
    assert stat.S_IMODE((workplace / "claim").stat().st_mode) == 0o600
    assert token not in answer.err
    assert rookery("claim", "create", "--out", "claim").code == 1
    assert (workplace / "claim").read_text().strip() == token
    several = rookery("-o", "name", "claim", "create", "--count", "3").out.split()
    assert len(set(several)) == 3
    listed = json.loads(rookery("-o", "json", "claim", "list").out)
    assert {item["group"] for item in listed["items"]} >= {"yard", "default"}
    assert token not in json.dumps(listed)


def test_devices_in_every_format(rookery, fleet: SeededFleet) -> None:
    """Data on standard output, talk on standard error; JSON parses, no colours in a pipe, names feed the next command."""
    table = rookery("device", "list", "--state", "online")
    assert table.code == 0
    assert "\x1b" not in table.out
    assert table.out.splitlines()[0].split()[:3] == ["NAME", "STATE", "LAST"]
    assert "refused(hash)" in table.out
    assert "7 devices" in table.err
    items = json.loads(rookery("-o", "json", "device", "list").out)
    assert items["schema"] == "rookery/v1"
    assert {item["name"] for item in items["items"]} == set(fleet.devices)
    lines = [json.loads(line) for line in rookery("-o", "ndjson", "device", "list", "--group", "yard").out.splitlines()]
    assert {line["group"] for line in lines} == {"yard"}
    ids = rookery("-o", "name", "device", "list").out.split()
    assert set(ids) == set(fleet.devices.values())


def test_one_device_and_why_it_does_not_run_what_is_wanted(rookery, fleet: SeededFleet) -> None:
    shown = rookery("device", "show", "gate-north")
    assert (shown.code, "yard@1 (edgetpu) in slot a" in shown.out) == (0, True)
    refused = next(name for name in fleet.devices if "refused(hash)" in rookery("device", "show", name).out)
    why = rookery("device", "why-not", refused)
    assert why.code == 0
    assert f"{refused} should run yard@2 and runs yard@1." in why.out
    assert "a file is not what the signed manifest says" in why.out
    assert HASH_DETAIL in why.out
    assert json.loads(rookery("-o", "json", "device", "why-not", refused).out)["reason"] == "hash"


def test_a_device_that_nobody_knows_is_exit_3(rookery, fleet: SeededFleet) -> None:
    for verb in ("show", "why-not", "logs"):
        answer = rookery("device", verb, "nobody")
        assert (answer.code, answer.out, "nobody" in answer.err) == (3, "", True)
    assert rookery("device", "show", "../rollouts").code == 3
    assert rookery("rollout", "status", "r-none").code == 3
    assert rookery("rollout", "create", "yard@99").code == 3


def test_reading_a_log_from_afar(rookery, fleet: SeededFleet) -> None:
    """A debug session needs a reason, ends by itself, stands in the audit; a device's words cannot steer the terminal."""
    assert rookery("device", "debug", "gate-south", "--for", "60").code == 2
    answer = rookery("-o", "json", "device", "debug", "gate-south", "--for", "60", "--reason", "blurred at dusk")
    assert (answer.code, json.loads(answer.out)["log_level"]) == (0, "debug")
    lines = rookery("device", "logs", "gate-north", "--level", "warning")
    assert [line.split()[2] for line in lines.out.splitlines()[1:]] == ["warning", "error"]
    audit = json.loads(rookery("-o", "json", "audit", "list").out)["items"]
    assert any(entry["what"] == "debug.begin" and entry["who"] == NAME for entry in audit)
    assert "127.0.0.1" in rookery("audit", "list").out


def test_rollouts_dry_created_paused_watched_aborted(rookery, fleet: SeededFleet) -> None:
    dry = rookery("-o", "json", "rollout", "create", "yard@2", "--group", "yard", "--stages", "50%,100%", "--dry-run")
    assert dry.code == 0, dry.err
    assert [stage["devices"] for stage in json.loads(dry.out)["stages"]] == [2, 2]
    before = rookery("-o", "name", "rollout", "list").out
    assert fleet.paused_rollout in before
    assert rookery("rollout", "create", "yard@2", "--stages", "50%,20%").code == 2
    assert rookery("rollout", "create", "yard@2", "--device", "nobody").code == 1
    made = rookery("-o", "name", "rollout", "create", "yard@2", "--device", "dock-1").out.strip()
    assert rookery("rollout", "pause", made).code == 0
    watched = rookery("rollout", "watch", made)
    assert (watched.code, "paused by ada" in watched.err) == (1, True)
    status = rookery("rollout", "status", made)
    assert "dock-1" in status.out
    assert rookery("rollout", "resume", made).code == 0
    assert rookery("rollout", "watch", made, "--timeout", "1").code == 7
    assert rookery("rollout", "abort", made).code == 0
    assert rookery("rollout", "abort", made).code == 5
    shown = json.loads(rookery("-o", "json", "rollout", "status", made).out)["devices"][0]
    assert rollouts_cli._state(shown) == shown["state"]
    assert rollouts_cli._state(shown | {"state": "committed", "behaviour_unseen": True}) == "committed, behaviour unseen"


def test_detections_experiments_and_alerts(rookery, fleet: SeededFleet, workplace: Path) -> None:
    found = json.loads(rookery("-o", "json", "detection", "list", "--verdict", "disagree").out)["items"]
    assert [item["crops"][0]["verdict"]["label"] for item in found] == ["cart"]
    assert rookery("detection", "crop", found[0]["id"], "crop.jpg").code == 0
    assert (workplace / "crop.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert rookery("detection", "crop", "nothing", "none.jpg").code == 3
    experiment = json.loads(rookery("-o", "json", "experiment", "list").out)["items"][0]
    assert "yard@2" in rookery("experiment", "show", experiment["id"]).out
    alerts = rookery("-o", "name", "alert", "list").out.split()
    assert rookery("alert", "acknowledge", alerts[0]).code == 0


def test_a_long_list_of_detections_is_fetched_page_by_page(
    rookery, fleet: SeededFleet, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events than the server gives at once: each comes once, and the list ends."""
    monkeypatch.setenv("ROOKERY_CONFIG", str(workplace / "config.toml"))
    monkeypatch.setattr(detections, "PAGE", 4)
    for limit, wanted in (("50", 6), ("5", 5)):
        done = CliRunner().invoke(rookery_command, ["-o", "json", "detection", "list", "--limit", limit])
        assert done.exit_code == 0, done.output
        assert len({item["id"] for item in json.loads(done.stdout)["items"]}) == wanted


def test_a_viewer_may_look_and_not_touch(rookery, signed_in: OperatorSite, fleet: SeededFleet, tmp_path: Path) -> None:
    signed_in.add_operator("vera", role="viewer")
    own = {"ROOKERY_CONFIG": str(tmp_path / "vera.toml")}
    arguments = ("login", "--server", signed_in.url, "--name", "vera", "--password-stdin")
    assert rookery(*arguments, stdin=PASSWORD, **own).code == 0
    assert rookery("device", "list", **own).code == 0
    answer = rookery("claim", "create", **own)
    assert (answer.code, "operator" in answer.err) == (4, True)


def test_unusual_settings_are_sentences(rookery, tmp_path: Path, site: OperatorSite) -> None:
    """A damaged configuration file, one that cannot be read, an unknown context: each says what to do."""
    broken = tmp_path / "broken.toml"
    broken.write_text("use = [")
    answer = rookery("device", "list", ROOKERY_CONFIG=str(broken))
    assert (answer.code, "mend or remove the file" in answer.err) == (1, True)
    assert rookery("-c", "nowhere", "device", "list").code == 2
    assert rookery("fly").code == 2
    if os.geteuid():
        broken.chmod(0)
        assert rookery("device", "list", ROOKERY_CONFIG=str(broken)).code == 1
