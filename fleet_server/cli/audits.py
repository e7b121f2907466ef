"""``rookery audit``: who did what, and when."""

import click

from fleet_server.cli.output import clock, print_items
from fleet_server.cli.session import Session, pass_session


@click.group()
def audit() -> None:
    """Who did what, and when."""


@audit.command("list")
@pass_session
def list_audit(session: Session) -> None:
    """List the audit, newest first."""
    columns = [
        ("time", lambda item: clock(item["at_s"])),
        ("who", lambda item: item["who"]),
        ("what", lambda item: item["what"]),
        ("target", lambda item: item.get("target")),
        ("from", lambda item: item.get("origin")),
    ]
    print_items(session.client().get("/audit")["items"], columns, session.output)
