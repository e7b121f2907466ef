"""``rookery-server check`` says what ``run`` would refuse and changes nothing; every setting is described, and bounded."""

import os
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from fleet_server.assemble import make_secrets
from fleet_server.check_disk import check
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.errors import SettingsError
from fleet_server.migrate import migrate
from fleet_server.settings import SECRETS, Settings, apply, from_environment, to_environment
from fleet_server.startable_disk import check_startable

ROOT = Path(__file__).resolve().parents[3]
WRONG = [
    ("device_door_mode", "prxy", "device_door_mode"),
    ("require_second_factor", "boss", "is no role"),
    ("oidc_issuer", "ftp://x", "oidc_issuer"),
    ("host", "0.0.0.0", "listens on every address"),
    ("broker", "rabbit", "neither auto nor none"),
    ("blob_store", "s4://x", "neither 'disk' nor s3"),
    ("operator_tls", "maybe", "operator_tls"),
    ("outgoing_hosts", "http://x", "outgoing_hosts"),
]


def described(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def stopped(tmp_path: Path) -> Settings:
    """A server's folder as a start makes it, and nobody runs over it."""
    settings = Settings(data_dir=tmp_path / "data", broker="none")
    (tmp_path / "data" / "blobs").mkdir(parents=True)
    make_secrets(settings)
    authority_x509.prepare(settings.pki_dir, ["localhost"], time.time())
    database = Database(settings.database)
    migrate(database)
    database.dispose()
    (settings.data_dir / "database.sqlite3").chmod(0o600)
    return settings


def test_check_says_what_is_gone_and_makes_nothing(stopped: Settings) -> None:
    """The folder was copied back without keys/factor-key: said while the backup is at hand, and before a start makes another."""
    lines: list[str] = []
    before = described(stopped.data_dir)
    assert check(stopped, lines.append) == 0, lines
    assert described(stopped.data_dir) == before
    keys = stopped.data_dir / "keys"
    for name in ("factor-key", "web-secret", "blob-secret"):
        old = (keys / name).read_bytes()
        (keys / name).unlink()
        before = described(stopped.data_dir)
        assert check(stopped, lines.append) == 1
        assert f"wrong  keys: keys/{name} is missing" in "\n".join(lines[-10:])
        assert ("second factor is known" in "\n".join(lines[-10:])) == (name == "factor-key")
        (keys / name).write_bytes(b"")
        assert check(stopped, lines.append) == 1, "an empty key signs what everybody can sign"
        (keys / name).unlink()
        assert described(stopped.data_dir) == before
        (keys / name).write_bytes(old)
        (keys / name).chmod(0o600)
    for gone in ("database.sqlite3", "blobs"):
        (stopped.data_dir / gone).rename(stopped.data_dir.parent / gone)
        before = described(stopped.data_dir)
        assert check(stopped, lines.append) == 1
        assert "is not there" in "\n".join(lines[-10:])
        assert described(stopped.data_dir) == before
        (stopped.data_dir.parent / gone).rename(stopped.data_dir / gone)
    assert check(stopped, lines.append) == 0, lines[-10:]


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=[name for name, _, _ in WRONG])
def test_check_refuses_the_settings_that_run_refuses(stopped: Settings, name: str, value: str, said: str) -> None:
    """Somebody mistypes a variable, asks ``check`` before the restart, and is told; the start would have said the same."""
    settings = apply(stopped, {name: value})
    lines: list[str] = []
    assert check(settings, lines.append) == 1
    assert [line for line in lines if line.startswith("wrong  settings: ") and said in line], lines
    with pytest.raises(SettingsError, match=re.escape(said)) as caught:
        check_startable(settings, time.time())
    assert caught.value.detail in "\n".join(lines)


def test_run_asks_the_same_list_before_it_makes_anything(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROOKERY_")}
    done = subprocess.run(
        [sys.executable, "-m", "fleet_server", "run", "--data", str(tmp_path / "data")], capture_output=True, text=True,
        env=environment | {"ROOKERY_REQUIRE_SECOND_FACTOR": "boss"}, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, "is no role" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("session_ttl_s", "nan"), ("session_ttl_s", "-1"), ("revocation_poll_s", "inf"), ("certificate_days", "-5"),
        ("certificate_days", "0"), ("certificate_days", "9.5"), ("crop_retention_days", "1e300"), ("operator_port", "70000"),
        ("device_threads", "0"), ("waiting_boards", "-1"), ("upload_bytes_per_day", "9" * 40), ("claim_ttl_s", "-inf"),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    """A session that lasts ``nan`` seconds never ends, and a certificate of -5 days never begins."""
    with pytest.raises(SettingsError, match=f"ROOKERY_{name.upper()}"):
        from_environment({"ROOKERY_DATA_DIR": str(tmp_path), f"ROOKERY_{name.upper()}": text})


def test_what_is_read_is_what_was_handed_on(tmp_path: Path) -> None:
    settings = apply(Settings(data_dir=tmp_path), {"session_ttl_s": "0.5", "broker_port": "65535", "signed_requests": "yes"})
    assert (settings.session_ttl_s, settings.broker_port, settings.signed_requests) == (0.5, 65535, True)
    assert from_environment(to_environment(settings)) == settings


def test_every_setting_stands_in_one_table_with_its_default(tmp_path: Path) -> None:
    """Who looks for a variable finds it in docs/settings.md, and no page calls one by a name that nobody can set."""
    page = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(ROOKERY_[A-Z0-9_]+)` \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    settings = Settings(data_dir=tmp_path)
    assert [name for name, _, _ in rows] == [f"ROOKERY_{one.name.upper()}" for one in fields(Settings)]
    for name, default, text in rows:
        assert len(text) > 10, name
        value = getattr(settings, name.removeprefix("ROOKERY_").lower())
        shown = ["no", "yes"][value] if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
        assert default == (f"`{shown}`" if shown and name != "ROOKERY_DATA_DIR" else "–"), name
    ours = [one.name for one in fields(Settings) if "_" in one.name]
    for other in [*(ROOT / "docs" / name for name in ("operations.md", "security.md", "quickstart.md")), ROOT / "README.md"]:
        found = set(re.findall(r"`([a-z0-9_]+)`", other.read_text())) & set(ours)
        assert not found, f"{other.name} names {sorted(found)} without ROOKERY_"


def test_the_servers_unit_has_a_line_for_each_secret() -> None:
    unit = (ROOT / "deploy" / "systemd" / "rookery-server.service").read_text()
    assert {name.replace("_", "-") for name in SECRETS} <= set(re.findall(r"^#?LoadCredential=([a-z-]+):", unit, re.MULTILINE))
