"""Secrets of the settings, from where they may lie: a file that is named, or a systemd credential. Never from arguments."""

import os
import stat
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from fleet_server.errors import SettingsError
from fleet_server.settings import SECRETS, Settings

MAX_BYTES = 64 * 1024


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy of the environment with each secret's ROOKERY_<NAME> filled in from its file or credential.

    ROOKERY_<NAME>_FILE goes before the credential (``LoadCredential=database-url:…``), and ROOKERY_<NAME> beside a file is
    refused: one of them is not the one that was meant. Raises SettingsError.
    """
    found = dict(environment)
    known = {field.name for field in fields(Settings)}
    for name in SECRETS:
        variable = f"ROOKERY_{name.upper()}"
        file = found.get(f"{variable}_FILE")
        if name not in known or (found.get(variable) and not file):
            continue
        if file and found.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set", "keep the file, drop the variable")
        credentials = found.get("CREDENTIALS_DIRECTORY")
        credential = Path(credentials, name.replace("_", "-")) if credentials else None
        if file:
            found[variable] = read_secret(Path(file), variable)
        elif credential is not None and credential.exists():
            found[variable] = _text(credential, variable)  # systemd has seen to who may read it
    return found


def read_secret(path: Path, what: str) -> str:
    """The one line of a file; SettingsError where it cannot be read, or others on this machine could read it too."""
    problem = mode_problem(path)
    if problem is not None:
        raise SettingsError(f"{what}: {problem}", f"chmod 600 {path}")
    return _text(path, what)


def _text(path: Path, what: str) -> str:
    try:
        data = path.read_bytes()[: MAX_BYTES + 1]
        text = data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{what}: {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if not text or len(data) > MAX_BYTES or "\n" in text:
        raise SettingsError(f"{what}: {path} does not hold one line")
    return text


def mode_problem(path: Path) -> str | None:
    """Why this file does not keep its secret: readable or writable by others than its owner; None when it does, or is not there.

    Of a systemd credential systemd itself has seen to that, by an access list that the mode does not show.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and path.is_relative_to(credentials):
        return None
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if stat.S_IMODE(mode) & 0o077:
        return f"{path} has mode {stat.S_IMODE(mode):04o}: others on this machine may read or change it"
    return None


def secret_paths(data_dir: Path) -> list[Path]:
    """Every file of the data folder that holds a secret of the server, those that are there."""
    patterns = ("setup-link", "keys/*", "pki/**/*.key", "mosquitto/inside-password", "mosquitto/passwd", "database.sqlite3*")
    return [path for pattern in patterns for path in sorted(data_dir.glob(pattern)) if path.is_file()]
