"""mosquitto beside the server: its configuration, and what changes in it when a device is revoked.

Devices come with their certificate (common name = user name = client id, so nobody can take another's session); the server's own
processes come over a loopback listener with a password. The ACL gives each device its own branch and nothing else.
"""

import base64
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from fleet_server.settings import BROKER_USER, Settings
from ota.durable_disk import make_folder, write_whole
from ota.wire.topics import ROOT, UP_CHANNELS

_HASH_ROUNDS = 101
"""mosquitto's own default for PBKDF2-HMAC-SHA512; the password is 192 random bits, so stretching adds nothing."""


def find_mosquitto() -> str | None:
    """The mosquitto program, or None. Debian puts it where ordinary users' PATH does not look."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def write_configuration(settings: Settings) -> Path:
    """All files that mosquitto needs, under ``mosquitto/``; answers the configuration's path."""
    folder = settings.data_dir / "mosquitto"
    make_folder(folder, 0o700)
    if not settings.broker_password_file.exists():
        write_whole(settings.broker_password_file, secrets.token_urlsafe(24).encode() + b"\n", 0o600)
    password = settings.broker_password_file.read_text().strip()
    write_whole(folder / "passwd", f"{BROKER_USER}:{_hashed(password, secrets.token_bytes(12))}\n".encode(), 0o600)
    if not (folder / "acl").exists():
        write_acl(settings, [])
    path = folder / "mosquitto.conf"
    write_whole(path, _configuration(settings, folder).encode(), 0o600)
    return path


def write_acl(settings: Settings, revoked_devices: Iterable[str]) -> None:
    """Who may read and write what; revoked devices nothing, also on a connection that is open (after SIGHUP)."""
    lines = [f"user {BROKER_USER}", f"topic readwrite {ROOT.split('/', maxsplit=1)[0]}/#"]
    for device in revoked_devices:
        lines += [f"user {device}", "topic deny #"]
    # The channels by name: below a "#" one board could keep as many retained messages as the broker has memory.
    lines += [f"pattern write {ROOT}/%u/up/{channel}" for channel in UP_CHANNELS]
    lines.append(f"pattern read {ROOT}/%u/down/#")
    write_whole(settings.data_dir / "mosquitto" / "acl", "\n".join(lines).encode() + b"\n", 0o600)


def _configuration(settings: Settings, folder: Path) -> str:
    pki = settings.pki_dir
    everywhere = settings.listens_everywhere
    lines = [
        "per_listener_settings false",
        "allow_anonymous false",
        f"password_file {folder / 'passwd'}",
        f"acl_file {folder / 'acl'}",
        "persistence true",
        f"persistence_location {folder}/",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "max_inflight_messages 1000",  # the default of 20 would cap a batch that is acknowledged after the commit
        "max_queued_messages 100000",
        "message_size_limit 300000",
        f"listener {settings.broker_port}" + ("" if everywhere else f" {settings.host}"),
        f"cafile {pki / 'ca.pem'}",
        f"certfile {pki / 'server.crt'}",
        f"keyfile {pki / 'server.key'}",
        f"crlfile {pki / 'crl.pem'}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "tls_version tlsv1.2",
        f"listener {settings.broker_inside_port} 127.0.0.1",
    ]
    if os.geteuid() == 0:  # else it becomes user mosquitto, who may not read these files
        lines.insert(0, "user root")
    return "\n".join(lines) + "\n"


def _hashed(password: str, salt: bytes) -> str:
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS)
    return f"$7${_HASH_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
