"""Root at work in a folder of the agent's: ``sudo rookery-agent local-install`` on a board whose agent is a user of its own."""

import os
from pathlib import Path

import pytest

from device_agent import local_install_disk
from device_agent.owner_linux import as_owner
from tests.fakes.release_fleet import ReleaseFleet

AGENT = 12345
"""A user that nobody has: to root any number will do."""


def _who() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), sorted(os.getgroups())


def test_what_root_makes_there_is_the_agents_and_root_is_root_again(tmp_path: Path) -> None:
    """Whoever is not root stays who he is; so does root in a folder of root's."""
    before = _who()
    with as_owner(tmp_path):
        assert _who() == before
    if before[0] != 0:
        return
    os.chown(tmp_path, AGENT, AGENT)
    with as_owner(tmp_path):
        assert _who()[:2] == (AGENT, AGENT)
    with pytest.raises(RuntimeError), as_owner(tmp_path):
        raise RuntimeError
    assert _who() == before


def test_the_machine_runs_as_the_agent_and_the_stick_is_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent could not read its own state after an owner had used sudo: it began anew from what its slots say.

    The file in the inbox stays the one of whoever put it there: that is the board's authority for it.
    """
    fleet = ReleaseFleet(tmp_path / "fleet")
    first, _ = fleet.publish("1")
    bundle, assigned = fleet.publish("2", model="yard-2", counter=2)
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "policy.toml").write_text("local_install = true")
    config = tmp_path / "agent.toml"
    config.write_text(
        f'policy = "policy.toml"\n[agent]\ndata_dir = "data"\n[server]\nurl = "https://127.0.0.1:1"\nca_file = "ca.pem"\n'
        f'[factory]\nbundle = "{first}"\nroot = "{fleet.root_file}"\n[[camera]]\nname = "yard"\nsource = "rendered:7:day"\n'
    )
    wanted = os.geteuid()
    if wanted == 0:
        wanted = AGENT
        os.chown(data, AGENT, AGENT)
    seen: list[int] = []
    monkeypatch.setattr(local_install_disk, "open_folder", lambda data, stack: seen.append(os.geteuid()))
    monkeypatch.setattr(local_install_disk, "_something_to_fall_back_to", lambda settings: seen.append(os.geteuid()))
    monkeypatch.setattr(local_install_disk, "_carry_out", lambda *_: seen.append(os.geteuid()) or 0)
    assert local_install_disk.run_local_install(config, bundle, wait_s=1.0) == 0
    assert seen == [wanted] * 3
    (file,) = [path for path in (data / "inbox").iterdir() if path.name.startswith(assigned.sha256)]
    assert file.stat().st_uid == os.geteuid()
    assert (data / "inbox").stat().st_uid == wanted
