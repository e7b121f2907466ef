"""``rookery-server check``: looks whether everything that a server needs is there, and says what is not."""

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fleet_server import broker_disk, migrate
from fleet_server.assemble import bucket
from fleet_server.database import Database
from fleet_server.enrolment import authorities_disk, authority_x509
from fleet_server.errors import ServerError
from fleet_server.releases import seen
from fleet_server.secret_files_disk import mode_problem, secret_paths
from fleet_server.settings import SECRETS, Settings
from fleet_server.startable_disk import problems
from ota.trust.expiry_warnings import expiry_warnings
from ota.trust.repository_disk import Repository

LOW_DISK_BYTES = 512 * 1024 * 1024
KEY_BYTES = 32
"""Of each secret that the server makes for itself."""


def check(settings: Settings, say: Callable[[str], None] = print) -> int:
    """Print one line per finding; answers 0 when nothing is wrong, else 1. Changes nothing."""
    findings = {
        "settings": _settings, "keys": _keys, "database": _database, "certificates": _certificates, "blob store": _blobs,
        "releases": _releases, "disk": _disk, "broker": _broker, "secrets": _secrets, "operator door": _operator_door,
    }  # fmt: skip
    if not settings.data_dir.is_dir():
        say(f"wrong  data folder: {settings.data_dir} is not there; `rookery-server run --data DIR` makes it")
        return 1
    wrong = 0
    for name, look in findings.items():
        ok, text = look(settings)
        wrong += not ok
        say(f"{'ok   ' if ok else 'wrong'}  {name}: {text}")
    return 1 if wrong else 0


def _settings(settings: Settings) -> tuple[bool, str]:
    wrong = [f"{error.detail}: {error.hint}" if error.hint else error.detail for error in problems(settings, time.time())]
    return not wrong, "; ".join(wrong) or "a server can start with them"


def _keys(settings: Settings) -> tuple[bool, str]:
    # What is missing here the next start makes anew: said before, because a backup may still hold the old one.
    wrong = []
    for name in ("web-secret", "factor-key", *(["blob-secret"] if settings.blob_store == "disk" else [])):
        try:
            length = (settings.data_dir / "keys" / name).stat().st_size
        except OSError as error:
            wrong.append(f"keys/{name} is missing ({error.strerror}): put it back, the next start makes another")
        else:
            if length != KEY_BYTES:
                wrong.append(f"keys/{name} holds {length} bytes and no key: put it back, or remove it and start")
    if any("factor-key" in one for one in wrong):
        wrong.append("with another factor-key nobody's second factor is known any more (docs/operations.md, Secrets)")
    return not wrong, "; ".join(wrong) or "all there"


def _file_of(settings: Settings) -> Path | None:
    # SQLite makes the file that it is asked about.
    try:
        url = make_url(settings.database)
    except ArgumentError:
        return None
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _database(settings: Settings) -> tuple[bool, str]:
    file = _file_of(settings)
    if file is not None and not file.is_file():
        return False, f"{file} is not there: put it back; `rookery-server run` makes an empty one"
    try:
        database = Database(settings.database)
    except ServerError as error:
        return False, error.detail
    try:
        has, needs = migrate.revision(database), migrate.newest()
    except SQLAlchemyError as error:
        return False, f"does not answer: {str(error).splitlines()[0]}"
    finally:
        database.dispose()
    if has != needs:
        return False, f"is at revision {has or 'none'}, this version needs {needs}: rookery-server migrate"
    return True, f"answers, revision {has}"


def _certificates(settings: Settings) -> tuple[bool, str]:
    return certificate_findings(settings.pki_dir, time.time())


def certificate_findings(pki: Path, now_s: float) -> tuple[bool, str]:
    """Whether authorities, the server's certificate and the revocation lists are in force, and what should be done with them."""
    now = datetime.fromtimestamp(now_s, UTC)
    try:
        loaded = authorities_disk.load(pki)
        server = authorities_disk.read_certificate(pki / "server.crt")
        lists = x509.load_pem_x509_crl((pki / "crl.pem").read_bytes())
    except ServerError as error:
        return False, error.detail
    except (OSError, ValueError) as error:
        return False, f"cannot be read: {error}"
    wrong, notes = [], []
    signing = loaded.signers[0].certificate
    if server.not_valid_after_utc <= now:
        wrong.append("the server's certificate has expired: start the server, which renews it")
    if signing.not_valid_after_utc <= now:
        wrong.append("the issuing authority has ended: rookery-server pki next, then pki switch")
    if (lists.next_update_utc or now) <= now:
        wrong.append("the revocation list has ended, the broker refuses every device: start the server, which issues it daily")
    elif (signing.not_valid_after_utc - now).days < authority_x509.AUTHORITY_WARN_DAYS:
        notes.append(f"the issuing authority ends in {(signing.not_valid_after_utc - now).days} days: rookery-server pki next")
    here = [f"{name}.key" for name in loaded.standing.roots if (pki / f"{name}.key").exists()]
    if here:
        notes.append(f"{', '.join(here)} lies here, and only a new authority needs it: keep it off this machine")
    if loaded.standing.next or loaded.standing.old:
        notes.append("a roll-over is under way: rookery-server pki status")
    days = (min(server.not_valid_after_utc, signing.not_valid_after_utc) - now).days
    return not wrong, "; ".join([*wrong, *([] if wrong else [f"valid for {days} days"]), *notes])


def _blobs(settings: Settings) -> tuple[bool, str]:
    try:
        store = bucket(settings)
        if store is not None:
            store.stat("check/probe/probe/probe")
    except (ServerError, OSError) as error:
        return False, str(error)
    folder = settings.data_dir / "blobs"
    if store is None and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return False, f"{folder} is not there, or not ours to write: put it back; `rookery-server run` makes an empty one"
    return True, "answers" if store is not None else "on this disk"


def _releases(settings: Settings) -> tuple[bool, str]:
    repository = Repository(settings.data_dir / "tuf", settings.data_dir / "keys", time.time)
    status = repository.status()
    if not status.initialised:
        return True, "no root was uploaded yet"
    wrong = [*status.problems, *_seen(settings, repository)]
    ends = [one.text for one in expiry_warnings(status.expires_s, time.time()) if not one.expired]
    return not wrong, "; ".join([*wrong, *ends]) or f"root {status.root_version}, {len(status.channels)} channels"


def _seen(settings: Settings, repository: Repository) -> list[str]:
    file = _file_of(settings)
    if file is not None and not file.is_file():
        return []
    try:
        database = Database(settings.database)
    except ServerError:
        return []  # the database has a finding of its own
    try:
        with database.read() as session:
            return seen.standing(session, repository.versions()).texts
    except SQLAlchemyError:
        return []
    finally:
        database.dispose()


def _secrets(settings: Settings) -> tuple[bool, str]:
    paths = secret_paths(settings.data_dir)
    files = [Path(value) for value in (os.environ.get(f"ROOKERY_{name.upper()}_FILE") for name in SECRETS) if value]
    wrong = [problem for problem in map(mode_problem, [*paths, *files]) if problem]
    return not wrong, "; ".join(f"{one} (chmod 600)" for one in wrong) or f"{len(paths)} files, their owner's alone"


def _operator_door(settings: Settings) -> tuple[bool, str]:
    if settings.s3_endpoint_url.startswith("http:"):
        return True, "TLS as it should be; but s3_endpoint_url is plain http: pictures cross the network in the clear"
    return True, {"off": "plain HTTP on this machine alone", "own": "TLS, by this server's own authority"}.get(
        settings.operator_tls_kind, "TLS, by your files"
    ) if not settings.operator_proxy else "behind a proxy with TLS"


def _disk(settings: Settings) -> tuple[bool, str]:
    free = shutil.disk_usage(settings.data_dir).free
    return free > LOW_DISK_BYTES, f"{free // 2**20} MiB free"


def _broker(settings: Settings) -> tuple[bool, str]:
    if settings.broker == "none":
        return True, "none wanted: devices use HTTPS alone"
    found = broker_disk.find_mosquitto()
    return True, found or "mosquitto is not installed: devices use HTTPS alone, and hear of news only when they ask"
