"""``rookery alert``: what needs a person."""

import click

from fleet_server.cli.output import ago, print_items, talk
from fleet_server.cli.session import Session, pass_session, segment


@click.group()
def alert() -> None:
    """What needs a person."""


@alert.command("list")
@click.option("--all", "every", is_flag=True, help="Also those that ended by themselves.")
@pass_session
def list_alerts(session: Session, every: bool) -> None:
    """List open alerts."""
    columns = [
        ("id", lambda item: item["id"]),
        ("kind", lambda item: item["kind"]),
        ("about", lambda item: item.get("subject")),
        ("since", lambda item: ago(item.get("opened_s"))),
        ("text", lambda item: item.get("text")),
    ]
    print_items(session.client().get("/alerts", open=None if every else "true")["items"], columns, session.output)


@alert.command()
@click.argument("alert_id", metavar="ID")
@pass_session
def acknowledge(session: Session, alert_id: str) -> None:
    """Say that somebody is on it."""
    session.client().post(f"/alerts/{segment(alert_id)}/acknowledge")
    talk(f"alert {alert_id} acknowledged")
