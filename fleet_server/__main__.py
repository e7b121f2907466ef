"""``rookery-server``: the fleet server and what is done to it on its own machine. Exit: 0 well, 1 failed, 2 change it."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from fleet_server import door_verbs, pki_verbs_disk
from fleet_server.accounts import service as accounts
from fleet_server.assemble import make_context
from fleet_server.audit import service as audit
from fleet_server.audit.local_linux import at_the_machine
from fleet_server.check_disk import check
from fleet_server.database import Database
from fleet_server.doors_http import DOORS, serve
from fleet_server.errors import OperatorError, ServerError, SettingsError
from fleet_server.ingest import worker
from fleet_server.migrate import migrate, revision
from fleet_server.restored_disk import reconcile
from fleet_server.secret_files_disk import with_secrets
from fleet_server.settings import Settings, apply, from_environment, holds_password
from fleet_server.supervise import new_setup_link, run, running_url
from ota.durable_disk import write_whole
from ota.redaction import log_redacted
from ota.trust.errors import TrustError

_FLAGS = {
    "host": "address that both doors listen on (127.0.0.1); every address: name --device-host, too",
    "device-host": "name or address under which devices reach this machine",
    "operator-port": "port of pages and API (8080); 0: a free one",
    "device-port": "port of the device door (8443); 0: a free one",
    "broker": "auto: mosquitto where it is installed; none",
    "broker-port": "port of the broker for devices; 0: a free one",
    "operator-tls": "auto: plain HTTP on a loopback address, else this server's own certificate; off, own, files",
    "operator-hosts": "names, separated by commas, under which browsers reach the operator door",
    "database": "SQLite or PostgreSQL URL without a password (SQLite in the data folder); one with a password comes by "
                "ROOKERY_DATABASE_URL_FILE, a systemd credential database-url, or ROOKERY_DATABASE_URL: arguments are no secret",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; never shows a stack trace for what an operator can put right."""
    parsed = _parser().parse_args(arguments)
    os.umask(0o077)  # crops and password hashes are nobody else's, whatever folder we were given
    level = os.environ.get("ROOKERY_LOG_LEVEL", "info").upper()
    log_redacted("%(asctime)s %(levelname)s %(name)s %(message)s", logging.getLevelNamesMapping().get(level, logging.INFO))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if level != "DEBUG":  # "No signature for keyid" of a rotated key is no news, least of all between the lines of an answer
        logging.getLogger("tuf").setLevel(logging.WARNING)
    try:
        if parsed.verb == "openapi":
            return door_verbs.print_description()
        return _dispatch(parsed, _settings(parsed))
    except ServerError as error:
        print(f"rookery-server: {error.detail}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return 2 if isinstance(error, OperatorError) else 1
    except TrustError as error:
        print(f"rookery-server: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"rookery-server: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2


def _dispatch(parsed: argparse.Namespace, settings: Settings) -> int:
    if parsed.verb == "run":
        return run(settings)
    if parsed.verb == "worker":
        return _work(settings)
    if parsed.verb in DOORS:
        serve(parsed.verb, parsed.fd, settings)
        return 0
    if parsed.verb == "nginx":
        return door_verbs.print_nginx(parsed, settings)
    if parsed.verb == "check":
        return check(settings)
    if parsed.verb == "reconcile" and settings.data_dir.is_dir():
        return reconcile(settings)
    if not settings.data_dir.is_dir():
        raise OperatorError(f"{settings.data_dir} is not there", "`rookery-server run --data DIR` makes it")
    if parsed.verb == "pki":
        return pki_verbs_disk.run(parsed, settings)
    database = Database(settings.database)
    try:
        if parsed.verb == "migrate":
            return _migrate(database)
        if parsed.verb == "token":
            return _make_token(parsed, database)
        if parsed.verb == "recover":
            return _recover(parsed, settings, database)
        link = new_setup_link(settings, database, time.time())
        if link is None:
            raise OperatorError("the first admin exists already", "sign in, or let an admin add you")
        _note(database, "setup-link.make", "setup-link", {"for": "the first admin"})
        print(link)
        return 0
    finally:
        database.dispose()


def _migrate(database: Database) -> int:
    before = revision(database)
    after = migrate(database)
    if before and before != after:
        _note(database, "database.migrate", "database", {"revision": after}, {"revision": before})
    print(f"the database is at revision {after}")
    return 0


def _note(database: Database, what: str, target: str, after: dict[str, str], before: dict[str, str] | None = None) -> None:
    with database.write() as session:
        audit.record(session, who=at_the_machine(), what=what, target=target, before=before, after=after, now_s=time.time())


def _make_token(parsed: argparse.Namespace, database: Database) -> int:
    actor = accounts.Actor(at_the_machine(), "", time.time())
    with database.write() as session:
        grant = accounts.machine_grant(session, actor, name=parsed.name, role=parsed.role, ttl_s=parsed.hours * 3600)
        write_whole(Path(parsed.out), grant.token.encode() + b"\n", 0o600)  # before the commit: what cannot be kept is not made
    print(f"a token for {parsed.name} ({parsed.role}) is in {parsed.out}")
    return 0


def _recover(parsed: argparse.Namespace, settings: Settings, database: Database) -> int:
    actor = accounts.Actor(at_the_machine(), "", time.time())
    with database.write() as session:
        link = accounts.recover(session, actor, parsed.name, enable=parsed.enable)
    # The server that runs knows its address; this verb's own flags do, where none runs.
    print(f"{running_url(settings.data_dir) or settings.operator_url}{link.path}")
    print("works once, within the hour: sets a new password, removes the second factor, ends all that was open", file=sys.stderr)
    return 0


def _work(settings: Settings) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    context = make_context(settings)
    try:
        worker.main(context, stop)
    finally:
        context.database.dispose()
    return 0


def _settings(parsed: argparse.Namespace) -> Settings:
    environment = with_secrets(os.environ)
    if parsed.data:
        environment["ROOKERY_DATA_DIR"] = parsed.data
    given = {flag.replace("-", "_"): getattr(parsed, flag.replace("-", "_"), None) for flag in _FLAGS}
    given["database_url"] = given.pop("database")
    if holds_password(given["database_url"] or ""):
        raise SettingsError(
            "--database holds a password, which everybody on this machine can read in the list of processes",
            "put the URL into a file of mode 600 and name it: ROOKERY_DATABASE_URL_FILE; then change that password",
        )
    return apply(from_environment(environment), {name: value for name, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rookery-server", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    texts = {
        "run": "serve: both doors, the worker and the broker",
        "worker": "only the worker: ingest, rollouts, alerts, verification",
        "migrate": "bring the database to this version",
        "setup-link": "print a new one-time link for the first admin",
        "token": "make an API token for a machine, here on the server",
        "recover": "print a one-time link that lets somebody in again who lost password or second factor",
        "check": "look whether everything that a server needs is there",
        "reconcile": "after a restore from backup: pause rollouts, sign above what devices have seen",
    }
    for verb, text in texts.items():
        made = verbs.add_parser(verb, help=text, description=text)
        made.add_argument("--data", metavar="DIR", help="the server's data folder (or ROOKERY_DATA_DIR)")
        for flag, meaning in _FLAGS.items():
            made.add_argument(f"--{flag}", help=meaning, metavar="N" if "port" in flag else "TEXT")
        if verb == "recover":
            made.add_argument("name", metavar="NAME", help="whose way back in it is")
            made.add_argument("--enable", action="store_true", help="enable the account, too, where it is disabled")
        if verb == "token":
            made.add_argument("--name", required=True, help="the machine's own name")
            made.add_argument("--role", required=True, help="viewer, operator, releaser, security or admin")
            made.add_argument("--hours", type=float, default=24.0, help="until it ends (24)")
            made.add_argument("--out", required=True, metavar="FILE", help="where the token goes (0600)")
    pki_verbs_disk.add(verbs)
    door_verbs.add(verbs)
    for door in DOORS:  # the supervisor starts them; no help line
        made = verbs.add_parser(door)
        made.add_argument("--fd", type=int, required=True)
        made.add_argument("--data")
    return parser


if __name__ == "__main__":
    sys.exit(main())
