"""``rookery-server pki``: the authorities of this server, and the names under which it is reached. Works beside a running server.

Each verb changes files in ``pki/``; doors and supervisor see that by themselves. What was done stands in the audit.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from fleet_server.audit import service as audit
from fleet_server.audit.local_linux import at_the_machine
from fleet_server.database import Database
from fleet_server.enrolment import authority_rollover_x509, living
from fleet_server.errors import ConflictError, InvalidError, OperatorError, SettingsError, UnavailableError
from fleet_server.places_disk import MOST, Places, read_places
from fleet_server.revocation import Revocations
from fleet_server.settings import Settings
from fleet_server.settings_checks import check_device_host

Say = Callable[[str], None]
SHOWN_DEVICES = 20


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    top = verbs.add_parser("pki", help="authorities and names of this server: roll them over", description=__doc__)
    steps = top.add_subparsers(dest="step", required=True, metavar="STEP")
    texts = {
        "status": "every authority with its end, and where boards are told to come",
        "next": "make the next issuing authority; from then on both are taken",
        "switch": "sign with the next authority from now on, the server's own certificate too",
        "retire": "let the old authorities go, once no device lives on their certificates",
        "server": "name and certify the server's addresses, the wanted one first; without --host: forget them",
    }
    for step, text in texts.items():
        made = steps.add_parser(step, help=text, description=text)
        made.add_argument("--data", metavar="DIR", help="the server's data folder (or ROOKERY_DATA_DIR)")
        made.add_argument("--database", metavar="URL", help="PostgreSQL URL without a password, as `run` was given it")
        if step == "next":
            made.add_argument("--root-key", metavar="FILE", type=Path, help="where the key of the root lies today (pki/root.key);"
                              " a locked key's passphrase comes by ROOKERY_PASSPHRASE")  # fmt: skip
            made.add_argument("--new-root", action="store_true", help="below a new root, which the present one signs across")
        if step == "retire":
            made.add_argument("--force", action="store_true", help="though devices hang on it: they must enrol anew")
        if step == "server":
            made.add_argument("--host", dest="places", action="append", default=[], metavar="HOST[:PORT]",
                              help="a name or address under which devices reach this server; several times: several")  # fmt: skip


def run(parsed: argparse.Namespace, settings: Settings, say: Say = print) -> int:
    """Do one step; answers the exit code. ServerError where it cannot be done."""
    if not (settings.pki_dir / "ca.pem").exists():
        raise OperatorError(f"{settings.pki_dir} holds no authority", "`rookery-server run --data DIR` makes it")
    database, now_s = Database(settings.database), time.time()
    try:
        return _STEPS[parsed.step](parsed, settings, database, now_s, say)
    except (ConflictError, InvalidError) as error:  # to a person at the machine: change something, exit 2
        raise OperatorError(error.detail, error.hint) from None
    except SQLAlchemyError as error:
        raise UnavailableError("the database does not answer", str(error).splitlines()[0]) from None
    finally:
        database.dispose()


def _status(_parsed: argparse.Namespace, settings: Settings, database: Database, now_s: float, say: Say) -> int:
    for line in authority_rollover_x509.status(settings.pki_dir):
        end = datetime.fromtimestamp(line.not_after_s, UTC).date().isoformat()
        key = "" if line.part != "root" else " · its key lies here: take it away" if line.key_here else " · its key is not here"
        say(f"{line.part:8} {line.file:12} {line.name}, until {end}{key}")
    places = read_places(settings.pki_dir)
    say(f"server   {', '.join(places.hosts)}")
    say(f"told     {', '.join(places.told) or 'nothing: boards come to where they were sent'}")
    old = _hanging(settings, database, now_s)
    if old:
        say(f"{len(old)} devices live on certificates of an old authority: {_named(old)}")
    return 0


def _next(parsed: argparse.Namespace, settings: Settings, database: Database, now_s: float, say: Say) -> int:
    words = os.environ.get("ROOKERY_PASSPHRASE", "").encode() or None
    made = authority_rollover_x509.begin_next(
        settings.pki_dir, now_s, root_key=parsed.root_key, password=words, new_root=parsed.new_root
    )
    _note(settings, database, "pki.next", made, now_s)
    say(f"{made} is the next issuing authority: doors and boards take what either signs; nothing is signed by it yet")
    if parsed.new_root:
        root = next(line for line in authority_rollover_x509.status(settings.pki_dir) if line.part == "root")
        say(f"{root.file} is its root, signed across by the old one; take {root.file}.key off this machine")
    say("then: rookery-server pki switch")
    return 0


def _switch(_parsed: argparse.Namespace, settings: Settings, database: Database, now_s: float, say: Say) -> int:
    old, new = authority_rollover_x509.switch(settings.pki_dir, now_s)
    _note(settings, database, "pki.switch", new, now_s)
    left = _hanging(settings, database, now_s)
    say(f"{new} signs from now on; what {old} signed is taken until it is retired")
    say(f"{len(left)} devices live on its certificates; each gets a new one at its next renewal" if left else
        "no device lives on its certificates")  # fmt: skip
    return 0


def _retire(parsed: argparse.Namespace, settings: Settings, database: Database, now_s: float, say: Say) -> int:
    left = _hanging(settings, database, now_s)
    if left and not parsed.force:
        raise OperatorError(
            f"{len(left)} devices live on certificates of an old authority: {_named(left)}",
            "wait until they have renewed (at two thirds of a certificate's life) or expired, or shut them out by --force",
        )
    gone = authority_rollover_x509.retire(settings.pki_dir, now_s)
    _note(settings, database, "pki.retire", ",".join(gone), now_s, left=left)
    say(f"retired: {', '.join(gone)}; what they signed is refused from now on")
    return 0


def _server(parsed: argparse.Namespace, settings: Settings, database: Database, now_s: float, say: Say) -> int:
    if len(parsed.places) > MOST:
        raise SettingsError(f"boards are told {MOST} addresses at most")
    for place in parsed.places:
        host = Places(told=(_whole(place),)).hosts[0]
        check_device_host(Settings(data_dir=settings.data_dir, device_host=host))
    before = read_places(settings.pki_dir)
    after = authority_rollover_x509.name_server(settings.pki_dir, now_s, tuple(dict.fromkeys(parsed.places)))
    _note(settings, database, "pki.server", ",".join(after.told), now_s, before=list(before.told))
    say(f"the server's certificate names {', '.join(after.hosts)}")
    say(f"boards are told: {', '.join(after.told)}" if after.told else "boards are told nothing: they stay where they are")
    return 0


_STEPS = {"status": _status, "next": _next, "switch": _switch, "retire": _retire, "server": _server}


def _whole(place: str) -> str:
    try:
        _ = Places(told=(place,)).hosts
    except ValueError as error:
        raise SettingsError(f"--host {place[:80]!r}: {error}", "HOST or HOST:PORT, such as fleet.example.org:8443") from None
    return place


def _hanging(settings: Settings, database: Database, now_s: float) -> list[str]:
    with database.read() as session:
        found = living.newest_living(session, now_s)
    return authority_rollover_x509.hanging(settings.pki_dir, found)


def _named(devices: list[str]) -> str:
    more = len(devices) - SHOWN_DEVICES
    return ", ".join(devices[:SHOWN_DEVICES]) + (f" and {more} more" if more > 0 else "")


def _note(settings: Settings, database: Database, what: str, target: str, now_s: float, **details: object) -> None:
    """Into the audit; and a revocation list for every authority at once: without its list an authority's devices are refused."""
    Revocations(replace(settings, broker="none")).refresh(database, now_s)  # the broker's files are the supervisor's
    with database.write() as session:
        audit.record(session, who=at_the_machine(), what=what, target=target, now_s=now_s, after=details)
