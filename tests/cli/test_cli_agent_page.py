"""The page that says how an agent is released, followed as it stands: its bundle.toml makes a bundle of kind ``agent``."""

import re
from pathlib import Path

from click.testing import CliRunner

from fleet_server.cli.main import cli
from ota.bundle.reader_disk import open_bundle
from tests.fakes.wheels import thin_agent

PAGE = Path(__file__).parents[2] / "docs" / "agent-updates.md"


def test_the_pages_bundle_toml_makes_a_release_of_an_agent(tmp_path: Path) -> None:
    """Somebody copies the file out of the page, fills the folder that it names with wheels, and types the page's command."""
    spec = re.search(r"^```toml\n(.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert spec is not None
    folder = tmp_path / "agent"
    wheels = folder / re.search(r'^wheels = "(.+?)"', spec[1], re.MULTILINE)[1]
    wheels.mkdir(parents=True)
    (folder / "bundle.toml").write_text(spec[1])
    version = re.search(r'^version = "(.+?)"', spec[1], re.MULTILINE)[1]
    for name, data in thin_agent(version).items():
        (wheels / name).write_bytes(data)
    out = tmp_path / "out.rookery"
    done = CliRunner().invoke(cli, ["bundle", "build", str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    manifest = open_bundle(out).manifest
    assert (manifest.kind, manifest.release) == ("agent", f"rookery-agent@{version}")
    assert [(one.id, one.abi, one.machines) for one in manifest.variants] == [("pi-64", "cp311", ["aarch64"])]
    assert f"rookery bundle push rookery-agent-{version}.rookery" in PAGE.read_text()
    assert f"rookery rollout create rookery-agent@{version}" in PAGE.read_text()
