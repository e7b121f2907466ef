"""``rookery enrolment``: the boards that ask to join."""

from typing import Any

import click

from fleet_server.cli.errors import PARTIAL, CliError
from fleet_server.cli.output import Row, ago, print_items, talk
from fleet_server.cli.session import Session, pass_session

BATCH = 200
"""As many as the server decides in one request."""


@click.group()
def enrolment() -> None:
    """The boards that ask to join: list, accept, reject.

    Before you accept one, compare the fingerprint of its key with what the board itself says: rookery-agent doctor, or its log.
    """


def _note(item: Row) -> str:
    if item.get("same_serial"):
        return f"its serial number is {item['same_serial']}'s"
    return str(item.get("reason") or "")


@enrolment.command("list")
@click.option("--state", type=click.Choice(["pending", "accepted", "rejected"]), help="[default: all, those that wait first]")
@click.option("-q", "--query", metavar="TEXT", help="Part of a serial number, id, address or key.")
@pass_session
def list_enrolments(session: Session, state: str | None, query: str | None) -> None:
    """List the boards that ask, with what a person needs to decide."""
    columns = [
        ("id", lambda item: item["id"]),
        ("state", lambda item: item["state"]),
        ("serial", lambda item: item.get("serial")),
        ("board", lambda item: item.get("profile")),
        ("from", lambda item: item.get("origin")),
        ("asked", lambda item: ago(item.get("asked_s"))),
        ("by", lambda item: "claim" if item.get("claim") else "rule" if item.get("rule") else "no claim"),
        ("key", lambda item: item.get("fingerprint")),
        ("note", _note),
    ]
    print_items(session.client().items("/enrolments", state=state, q=query), columns, session.output)


@enrolment.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everybody", is_flag=True, help="Every board that waits now; asks first.")
@click.option("--group", default="", metavar="NAME", help="Group that they join (else as their claim says, else default).")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def accept(session: Session, ids: tuple[str, ...], everybody: bool, group: str, yes: bool) -> None:
    """Let boards in."""
    chosen = _chosen(session, ids, everybody)
    if everybody and chosen and not yes:
        if not session.ask:
            raise click.UsageError("--all asks before it lets everybody in; say --yes where nobody can answer")
        click.confirm(f"Let in all {len(chosen)} boards that wait?", abort=True, err=True)
    _decide(session, chosen, {"accept": True, "group": group})


@enrolment.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everybody", is_flag=True, help="Every board that waits now.")
@click.option("--reason", default="", help="The board is told; it stands in the audit.")
@pass_session
def reject(session: Session, ids: tuple[str, ...], everybody: bool, reason: str) -> None:
    """Refuse boards; their next request is told so."""
    _decide(session, _chosen(session, ids, everybody), {"accept": False, "reason": reason})


def _chosen(session: Session, ids: tuple[str, ...], everybody: bool) -> list[str]:
    if bool(ids) == everybody:
        raise click.UsageError("name the requests (rookery enrolment list), or say --all")
    if ids:
        return list(ids)
    return [item["id"] for item in session.client().items("/enrolments", state="pending")]


def _decide(session: Session, ids: list[str], body: dict[str, Any]) -> None:
    client, items = session.client(), []
    for start in range(0, len(ids), BATCH):
        items += client.post("/enrolments/decide", {**body, "enrolments": ids[start : start + BATCH]})["items"]
    columns = [
        ("request", lambda item: item["enrolment"]),
        ("now", lambda item: item["state"] or "unchanged"),
        ("device", lambda item: item["device"]),
        ("problem", lambda item: item["problem"]),
    ]
    print_items(items, columns, session.output, "enrolment")
    failed = sum(bool(item["problem"]) for item in items)
    talk(f"{len(items) - failed} of {len(items)} decided")
    if failed:
        raise CliError(PARTIAL, f"{failed} could not be decided")
