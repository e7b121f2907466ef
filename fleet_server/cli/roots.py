"""``rookery root``: the first names of the verbs of the ceremony, which stand under ``rookery key`` now. They stay."""

from pathlib import Path

import click

from fleet_server.cli.key_ceremony import FOLDER, create, read, sign
from fleet_server.cli.key_push import online, push
from fleet_server.cli.output import print_one
from fleet_server.cli.session import Session, pass_session


@click.group()
def root() -> None:
    """The same as 'rookery key create, sign, status, push, online'."""


@root.command()
@click.argument("folder", type=FOLDER)
@pass_session
def show(session: Session, folder: Path) -> None:
    """Show how far the signing has come."""
    made = read(folder)
    body = {"folder": str(folder), **{one.document: one.tell(made.people) for one in made.waiting()}}
    print_one(body, list(body.items()), session.output, "folder")


root.add_command(create)
root.add_command(sign)
root.add_command(push)
root.add_command(online, "online-keys")
