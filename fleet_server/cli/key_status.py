"""``rookery key status``: every role with its keys, threshold, version and end; what waits for signatures; what ends soon."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.errors import CliError
from fleet_server.cli.output import clock, print_items, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from ota.trust.ceremony import Ceremony


def talk_of_ends(expires_s: Mapping[str, float]) -> None:
    """Say which signed metadata ends soon or has ended: every verb that reads metadata calls this. ``expires_s`` by role."""
    from ota.trust.expiry_warnings import expiry_warnings

    for one in expiry_warnings(expires_s, time.time()):
        talk(f"warning: {one.text}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--offline", is_flag=True, help="Ask no server: only what FOLDER says.")
@pass_session
def status(session: Session, folder: Path | None, offline: bool) -> None:
    """Show who may sign what, how many must, which versions there are, when they end, and what waits for signatures.

    Roles and keys are FOLDER's (trust, where that is there); versions and ends of what the server signs or publishes are its own.
    """
    from fleet_server.cli.key_ceremony import read, tell_waiting
    from ota.trust.expiry_warnings import warn_before_s

    where = folder or Path("trust")
    made = read(where) if folder is not None or where.is_dir() else None
    server = {} if offline else _server(session, needed=made is None)
    items = _items(made, server)
    now_s = time.time()
    ends = {item["role"]: item["expires_s"] for item in items if item["expires_s"]}
    columns = [
        ("role", lambda item: item["role"]),
        ("version", lambda item: item["version"]),
        ("needs", lambda item: f"{item['threshold']} of {len(item['keys'])}" if item["keys"] else None),
        ("keys", lambda item: ", ".join(one["name"] or one["keyid"][:12] for one in item["keys"])),
        ("expires", lambda item: clock(item["expires_s"]) if item["expires_s"] else None),
        ("left", lambda item: f"{max(0, int((item['expires_s'] - now_s) // 86_400))} d" if item["expires_s"] else None),
        ("soon", lambda item: bool(item["expires_s"]) and item["expires_s"] - now_s < warn_before_s(item["role"])),
    ]
    print_items(items, columns, session.output, "role")
    if made is not None and (made.drafts() or any(not one.complete for one in made.waiting())):
        tell_waiting(where, made)
    for problem in server.get("problems", []):
        talk(f"server: {problem}")
    talk_of_ends(ends)


def _server(session: Session, *, needed: bool) -> dict[str, Any]:
    try:
        found = session.client().get("/trust")
    except CliError as error:
        if needed:
            raise
        talk(f"the server was not asked ({error.message}): only what the folder says")
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _items(made: "Ceremony | None", server: Mapping[str, Any]) -> list[dict[str, Any]]:
    versions: dict[str, Any] = {**server.get("versions", {}), **server.get("channels", {})}
    ends: dict[str, Any] = dict(server.get("expires_s", {}))
    if made is None:
        return [{"role": role, "version": version, "threshold": None, "keys": [], "expires_s": ends.get(role)}
                for role, version in versions.items()]  # fmt: skip
    from ota.trust.ceremony import all_roles, role_keys

    own = {"root": made.root.signed, "targets": made.targets.signed}
    items = []
    for role in all_roles(made.targets.signed):
        found = role_keys(made.root.signed, made.targets.signed, role)
        assert found is not None
        keys = [{"keyid": keyid, "name": made.people.get(keyid, "")} for keyid in found.keys]
        here = own.get(role)
        # What the folder holds may be ahead of the server (not pushed yet) or behind it: each is shown by its own place.
        version = here.version if here is not None else versions.get(role)
        expires_s = here.expires.timestamp() if here is not None else ends.get(role)
        items.append({"role": role, "version": version, "threshold": found.threshold, "keys": keys, "expires_s": expires_s})
    return items
