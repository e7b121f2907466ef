"""``rookery key push`` and ``online``: what passes between a ceremony's folder and the server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.errors import CONFLICT, CliError
from fleet_server.cli.key_ceremony import FOLDER, read, trust_errors
from fleet_server.cli.key_files import write_file
from fleet_server.cli.output import talk
from fleet_server.cli.session import Session, pass_session, segment

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client
    from ota.trust.ceremony import Ceremony

ONLINE = ("snapshot", "timestamp", "assignment")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--next", "following", multiple=True, type=click.Choice(ONLINE),
              help="Have the server make the next key of this role, to be named by 'rookery key rotate' (repeat).")  # fmt: skip
@pass_session
def online(session: Session, file: Path, following: tuple[str, ...]) -> None:
    """Save the server's public online keys, to carry them to the offline machine."""
    client = session.client()
    if following:
        client.post("/trust/online-keys", {"roles": list(following)})
    trust = client.get("/trust")
    body = {**trust["online_keys"], "next": trust.get("next_online_keys", {})}
    write_file(file, (json.dumps(body, indent=1) + "\n").encode())
    talk(f"online keys saved as {file}")
    for role in following:
        what = f"rookery key rotate {role} FOLDER --online {file}"
        talk(f"the next {role} key is made; it counts once this is signed and pushed: {what}")


@click.command()
@click.argument("folder", type=FOLDER)
@pass_session
def push(session: Session, folder: Path) -> None:
    """Give the server what was signed; it takes only what enough of the right keys signed.

    A server that was restored from an older backup is given the versions that it has lost, out of FOLDER's history.
    """
    from ota.trust.ceremony import delegated_signing, role_keys
    from ota.trust.ceremony_disk import enforce

    made = read(folder)
    client = session.client()
    trust = client.get("/trust")
    short = [one for one in made.waiting() if not one.complete]
    if top := [one for one in short if one.document.split()[0] in ("root", "targets")]:
        hint = f"more must sign: rookery key sign {folder} --key REFERENCE"
        raise CliError(CONFLICT, "\n".join(one.tell(made.people) for one in top), hint)
    if made.in_force:
        _catch_up(client, folder, made, trust)
    early = []
    if made.next_targets is not None:
        # A role that is signed anew by a key that stays goes first: then there is no moment in which boards find nothing valid.
        early = [
            name for name, one in made.delegated.items()
            if role_keys(made.root.signed, made.targets.signed, name) and delegated_signing(name, one, made.targets).complete
        ]  # fmt: skip
    for name in early:
        publish_delegated(client, folder, made, name)
    if body := _body(made):
        answer = client.publish("/trust/root", body)
        with trust_errors():
            enforce(folder, made)
        talk(f"root version {answer['root_version']} is in force; devices are given {folder / 'root.json'}")
        talk(f"targets version {made.targets.signed.version} are in force")
    elif not made.delegated:
        talk(f"nothing waits in {folder}: root {made.root.signed.version} and targets {made.targets.signed.version} are in force")
    for name in [one for one in made.delegated if one not in early]:
        if delegated_signing(name, made.delegated[name], made.targets).complete:
            publish_delegated(client, folder, made, name)
        else:
            talk(f"not pushed: {delegated_signing(name, made.delegated[name], made.targets).tell(made.people)}")


def publish_delegated(client: "Client", folder: Path, made: "Ceremony", name: str) -> None:
    """Publish the signed draft of a channel or of the policy role, and forget the draft."""
    from ota.plain_disk import read_plain
    from ota.trust.ceremony_disk import forget_draft
    from ota.trust.roles import POLICY

    draft = made.delegated[name]
    texts = [read_plain(path).decode() for path in sorted((folder / POLICY).glob("*.toml"))] if name == POLICY else []
    client.publish(f"/channels/{segment(name)}/metadata", {"metadata": json.loads(draft.to_bytes()), "manifests": texts})
    forget_draft(folder, name)
    talk(f"{name} version {draft.signed.version} is published")


def _body(made: "Ceremony") -> dict[str, Any]:
    root = made.next_root if made.in_force else made.root
    targets = made.next_targets if made.in_force else made.targets
    body = {} if root is None else {"root": json.loads(root.to_bytes())}
    return body if targets is None else body | {"targets": json.loads(targets.to_bytes())}


def _catch_up(client: "Client", folder: Path, made: "Ceremony", trust: dict[str, Any]) -> None:
    from ota.trust.ceremony_disk import root_chain, targets_history

    roots, tops = root_chain(folder), {one.signed.version: one.to_bytes() for one in targets_history(folder)}
    has_root = int(trust["root_version"]) if trust["initialised"] else 0
    has_targets = int(trust.get("versions", {}).get("targets", 0)) if trust["initialised"] else 0
    newest_root, newest_targets = made.root.signed.version, made.targets.signed.version
    lost = [version for version in range(has_root + 1, newest_root + 1) if version in roots]
    lost_targets = [version for version in range(has_targets + 1, newest_targets + 1) if version in tops]
    # In pairs, oldest first: where a new root names other signers of the targets, the two must go together.
    for at in range(max(len(lost), len(lost_targets))):
        body = {}
        if at < len(lost):
            body["root"] = json.loads(roots[lost[at]])
        if at < len(lost_targets):
            body["targets"] = json.loads(tops[lost_targets[at]])
        client.publish("/trust/root", body)
        given = ", ".join(f"{name} {one['signed']['version']}" for name, one in body.items())
        talk(f"the server was behind: given back {given}")
