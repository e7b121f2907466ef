"""Where secrets come from, where they are never shown, and how each is made anew."""

import configparser
import os
import re
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy

from fleet_server.alerts import service as alerts
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.errors import ConflictError, SettingsError
from fleet_server.operator_tls_x509 import OperatorTls, check_files
from fleet_server.secret_files_disk import mode_problem, read_secret, secret_paths, with_secrets
from fleet_server.settings import SECRETS, Settings, apply, from_environment, holds_password, to_environment
from ota.redaction import redact

ROOT = Path(__file__).resolve().parents[3]
URL = "postgresql://rookery:hunter22hunter22@db.example/fleet"


def secret_file(folder: Path, text: str = URL, mode: int = 0o600, name: str = "database-url") -> Path:
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def test_a_secret_comes_from_a_file_a_credential_or_the_environment(tmp_path: Path) -> None:
    base = {"ROOKERY_DATA_DIR": str(tmp_path)}
    file = secret_file(tmp_path)
    folder = tmp_path / "credentials"
    folder.mkdir()
    secret_file(folder, "postgresql://credential:aaaaaaaa@db/x", 0o440)
    assert from_environment(with_secrets({**base, "ROOKERY_DATABASE_URL_FILE": str(file)})).database == URL
    credential = {**base, "CREDENTIALS_DIRECTORY": str(folder)}
    assert from_environment(with_secrets(credential)).database == "postgresql://credential:aaaaaaaa@db/x"
    assert from_environment(with_secrets({**credential, "ROOKERY_DATABASE_URL": "sqlite:////x"})).database == "sqlite:////x"
    assert from_environment(with_secrets({**credential, "ROOKERY_DATABASE_URL_FILE": str(file)})).database == URL
    assert with_secrets(base) == base
    secret_file(tmp_path, URL.replace("hunter22", "changed0"))  # rotated: the next start reads the new one
    assert "changed0" in from_environment(with_secrets({**base, "ROOKERY_DATABASE_URL_FILE": str(file)})).database


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (URL, 0o644, "mode 0644"),
        (URL, 0o620, "mode 0620"),
        ("", 0o600, "one line"),
        ("a\nb", 0o600, "one line"),
        ("x" * 70_000, 0o600, "one line"),
    ],
)
def test_a_file_that_keeps_no_secret_is_refused_without_saying_it(tmp_path: Path, text: str, mode: int, why: str) -> None:
    file = secret_file(tmp_path, text, mode)
    with pytest.raises(SettingsError, match=why) as caught:
        read_secret(file, "ROOKERY_DATABASE_URL")
    assert "hunter22" not in caught.value.detail + caught.value.hint
    with pytest.raises(SettingsError, match="cannot be read"):
        read_secret(tmp_path / "none", "ROOKERY_DATABASE_URL")
    with pytest.raises(SettingsError, match="both set"):
        with_secrets({"ROOKERY_DATABASE_URL": URL, "ROOKERY_DATABASE_URL_FILE": str(file)})


def test_settings_print_no_secret_and_hand_none_on(tmp_path: Path) -> None:
    settings = apply(Settings(data_dir=tmp_path), {name: URL for name in SECRETS if hasattr(Settings, name)})
    assert "hunter22" not in repr(settings) + str(settings)
    assert "hunter22" not in str(to_environment(settings))
    plain = apply(Settings(data_dir=tmp_path), {"database_url": "postgresql://rookery@/fleet?host=/run/postgresql"})
    assert to_environment(plain)["ROOKERY_DATABASE_URL"] == plain.database_url
    for url, holds in (
        (URL, True),
        ("sqlite:////x", False),
        ("postgresql://u@h/d", False),
        ("postgresql://h/d?password=x", True),
    ):
        assert holds_password(url) == holds


def test_a_wrong_database_url_is_refused_without_saying_it() -> None:
    """A slip in the URL must not write its password into the log."""
    for url in (URL.replace("postgresql", "mysql"), "postgresql://u:hunter22hunter22@h:port/x"):
        with pytest.raises(SettingsError) as caught:
            Database(url)
        assert "hunter22" not in caught.value.detail + caught.value.hint + str(caught.value)


def test_the_help_says_where_a_password_goes() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "fleet_server", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "400"},
    ).stdout
    assert "ROOKERY_DATABASE_URL_FILE" in said
    assert "arguments are no secret" in said


def test_the_password_of_the_database_is_changed_in_one_file(postgres_database_url: str, tmp_path: Path) -> None:
    """A real PostgreSQL: the role's password is changed there, then in the file; the next start comes in with the new one. The
    cluster of these tests trusts everybody, so what is shown is that the file's word reaches the driver."""
    made = sqlalchemy.make_url(postgres_database_url)
    for password in ("first-password", "second-password"):
        url = made.set(password=password).render_as_string(hide_password=False)
        file = secret_file(tmp_path, url)
        settings = from_environment(with_secrets({"ROOKERY_DATA_DIR": str(tmp_path), "ROOKERY_DATABASE_URL_FILE": str(file)}))
        database = Database(settings.database)
        try:
            assert database.engine.url.password == password
            with database.engine.connect() as connection:
                assert connection.exec_driver_sql("select 1").scalar() == 1
            assert password not in repr(database.engine)
        finally:
            database.dispose()


def test_a_webhooks_secret_address_is_changed_by_a_new_one(sqlite_database: Database) -> None:
    """The receiver gives out a new address: the new one is added, the old one removed, what waits for the old one is dropped."""
    with sqlite_database.write() as session:
        old = alerts.add_webhook(session, "https://hooks.example.org/old-secret", who="ann", now_s=1.0)
        with pytest.raises(ConflictError):
            alerts.add_webhook(session, "https://hooks.example.org/old-secret", who="ann", now_s=1.0)
        alerts.add_webhook(session, "https://hooks.example.org/new-secret", who="ann", now_s=2.0)
        alerts.remove_webhook(session, old.id, who="ann", now_s=3.0)
        assert [one.url for one in alerts.webhooks(session)] == ["https://hooks.example.org/new-secret"]


def test_files_of_an_administrator_are_checked_in_words(tmp_path: Path, settings: Settings) -> None:
    for name in ("one", "other"):
        authority_x509.prepare(tmp_path / name, ["fleet.example"], time.time())
    good = replace(settings, operator_certificate=str(tmp_path / "one/server.crt"), operator_key=str(tmp_path / "one/server.key"))
    Path(good.operator_key).chmod(0o600)
    check_files(good, time.time())
    check_files(settings, time.time())
    for given, why in (
        (replace(good, operator_key=str(tmp_path / "other/server.key")), "not the key of"),
        (replace(good, operator_key=str(tmp_path / "none")), "No such file"),
        (replace(good, operator_certificate=str(ROOT / "README.md")), "no PEM"),
    ):
        with pytest.raises(SettingsError, match=why):
            check_files(given, time.time())
    with pytest.raises(SettingsError, match="ended"):
        check_files(good, time.time() + 400 * 365 * 86_400.0)
    Path(good.operator_key).chmod(0o640)
    with pytest.raises(SettingsError, match="mode 0640"):
        check_files(good, time.time())


def test_a_renewed_pair_is_taken_up_and_half_a_pair_is_not(tmp_path: Path) -> None:
    """certbot replaces two files, one after the other: in between the old pair serves."""
    for name in ("old", "new"):
        authority_x509.prepare(tmp_path / name, ["fleet.example"], time.time())
    crt, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    crt.write_bytes((tmp_path / "old/server.crt").read_bytes())
    key.write_bytes((tmp_path / "old/server.key").read_bytes())
    door = OperatorTls(crt, key)
    before = door._tls
    door._look_again()
    assert door._tls is before
    crt.write_bytes((tmp_path / "new/server.crt").read_bytes())
    os.utime(crt, ns=(1, 1))
    door._look_again()
    assert door._tls is before
    key.write_bytes((tmp_path / "new/server.key").read_bytes())
    os.utime(key, ns=(2, 2))
    door._look_again()
    assert door._tls is not before
    crt.unlink()
    door._look_again()
    assert door._tls is not before


def test_loose_modes_are_found(tmp_path: Path) -> None:
    for name in (
        "keys/web-secret",
        "pki/server.key",
        "mosquitto/inside-password",
        "setup-link",
        "database.sqlite3",
        "pki/ca.pem",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        path.chmod(0o640)
    found = {str(path.relative_to(tmp_path)) for path in secret_paths(tmp_path) if mode_problem(path)}
    assert found == {"keys/web-secret", "pki/server.key", "mosquitto/inside-password", "setup-link", "database.sqlite3"}
    assert mode_problem(tmp_path / "none") is None


@pytest.mark.parametrize(
    "line",
    [
        "GET /setup?token=SECRETSECRET HTTP/1.1",
        "claim rkc_SECRETSECRETSECRET used",
        '{"password": "SECRETSECRET"}',
        "{'token': 'SECRETSECRET'}",
        "Cookie: rookery_session=SECRETSECRET; theme=dark",
        "set-cookie: __Host-rookery_session=SECRETSECRET; Path=/",
        "X-Rookery-Proxy: SECRETSECRET",
        "postgresql://u:SECRETSECRET@db/x",
        "PUT /blobs/k?expires=1&signature=SECRETSECRET",
        "('authorization', 'Bearer SECRETSECRET')",
        "otpauth://totp/Rookery:ada?secret=SECRETSECRET&issuer=x",
        "GET /callback?code=SECRETSECRET&state=SECRETSECRET",
        "-----BEGIN PRIVATE KEY-----\nSECRETSECRET",
        "passphrase: SECRETSECRET",
        "https://store/k?X-Amz-Signature=SECRETSECRET&X-Amz-Credential=SECRET/1",
    ],
)
def test_these_leave_a_line(line: str) -> None:
    assert "SECRET" not in redact(line), redact(line)


@pytest.mark.parametrize(
    "line",
    [
        "device gate-north enrolled by claim c-12345",
        "rollout r-1234 of yard@2 paused: 2 of 10 failed",
        "token.local of build machine",
        "GET /api/v1/devices?limit=50 200",
        "2 passwords were wrong for ada",
        "operator door https://fleet.example:8080",
    ],
)
def test_these_stay(line: str) -> None:
    assert redact(line) == line


UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_names_commands_that_exist_keeps_no_secret_and_gives_up_what_it_does_not_need(unit: Path) -> None:
    text = unit.read_text()
    parser = configparser.RawConfigParser(strict=False, allow_no_value=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    service = parser["Service"]
    command = service["ExecStart"]
    assert command.endswith(" run") or "-m device_agent.launcher --config" in command
    assert not re.search(r"(?i)(password|secret|token|key)=[^%/\s]", text)
    for name, wanted in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "UMask": "0077",
        "LimitCORE": "0",
        "CapabilityBoundingSet": "",
        "RestrictNamespaces": "yes",
        "StateDirectoryMode": "0700",
        "LockPersonality": "yes",
        "SystemCallArchitectures": "native",
    }.items():
        assert service[name] == wanted, f"{unit.name}: {name}"
    assert service["User"] not in ("root", "")
    known = {name.replace("_", "-") for name in SECRETS} | {"aws", "operator.key", "webhook-secret"}
    assert set(re.findall(r"LoadCredential=([a-z.-]+):/", text)) <= known
    assert stat.S_IMODE(unit.stat().st_mode) & 0o111 == 0
